"""Panoptic quality of things: how many are found, and how well, with intervals over pictures."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fslab.records import FslabError, Instances
from fslab.records.base import WIDE_VOID
from fslab.score.intervals import Difference, Interval, difference_of, intervals_of
from fslab.score.terms import Terms

Quality = Literal["pq", "sq", "rq"]

NOTE = (
    "PQ: a thing is found where one of its class overlaps it with IoU above 0.5; by class, the sum "
    "of these IoUs by found + half of the guessed and of the true things without partner, over the "
    "whole data set; mean over the classes of things that occur; void pixels left out"
)
"""The protocol in words (Kirillov et al., CVPR 2019)."""


def count_instances(truth: Instances, guess: Instances) -> NDArray[np.float64]:
    """Return what one picture adds by class, f64 [K, 4]: sum of IoUs, found, too much, missed.

    Void pixels of the truth are left out of a guess's area, and a guess of which more than half
    lies on them counts neither way. Raises FslabError for two sizes or vocabularies.
    """
    if truth.size != guess.size or truth.names != guess.names:
        raise FslabError(
            f"things of {truth.size} and {len(truth.names)} names against {guess.size} and "
            f"{len(guess.names)}; both belong to one picture and one vocabulary"
        )
    counts = np.zeros((len(truth.names), 4))
    common = _common(truth.things, guess.things, (truth.count, guess.count))
    shared, void = common[1:-1, 1:-1], common[-1, 1:-1]
    true, guessed = common[1:-1].sum(1), common[:, 1:-1].sum(0)
    union = true[:, None] + (guessed - void) - shared
    alike = np.equal.outer(np.array(truth.classes, int), np.array(guess.classes, int))
    overlap = np.where(alike, shared / np.maximum(union, 1), 0.0)
    rows, columns = np.nonzero(overlap > 0.5)
    for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
        counts[truth.classes[row], :2] += overlap[row, column], 1
    for column, label in enumerate(guess.classes):
        counts[label, 2] += column not in columns and void[column] <= guessed[column] / 2
    for row, label in enumerate(truth.classes):
        counts[label, 3] += row not in rows
    return counts


def _common(first: np.ndarray, second: np.ndarray, counts: tuple[int, int]) -> np.ndarray:
    """Return pixels in common, [1 + N + 1, 1 + M + 1]: of none, of each thing, of void."""
    one, other = (
        np.where(things == WIDE_VOID, count + 1, things).astype(np.int64)
        for things, count in zip((first, second), counts, strict=True)
    )
    width = counts[1] + 2
    cells = np.bincount((one * width + other).ravel(), minlength=(counts[0] + 2) * width)
    return cells.reshape(counts[0] + 2, width)


@dataclass(frozen=True, eq=False)
class InstanceScore:
    """What each picture adds to the panoptic quality of things, and the figures of all.

    names: the background first; counts: of each picture f64 [K, 4], see `count_instances`.
    """

    names: tuple[str, ...]
    counts: tuple[NDArray[np.float64], ...]

    def __post_init__(self) -> None:
        if not self.counts or any(each.shape != (len(self.names), 4) for each in self.counts):
            raise FslabError(
                f"a score of things needs counts [{len(self.names)}, 4] of one picture at least"
            )

    @classmethod
    def of(cls, pairs: Iterable[tuple[Instances, Instances]]) -> InstanceScore:
        """Return the score of pairs (truth, guess), which share a vocabulary."""
        names: tuple[str, ...] = ()
        counts = []
        for truth, guess in pairs:
            counts.append(count_instances(truth, guess))
            if names and truth.names != names:
                raise FslabError("things of two vocabularies have no score in common")
            names = truth.names
        return cls(names, tuple(counts))

    def __repr__(self) -> str:
        figures = ", ".join(
            f"{each.upper()} {100 * self.figure(each):.1f} %" for each in ("pq", "sq", "rq")
        )
        return f"InstanceScore({len(self.counts)} pictures, {figures})"

    def figure(self, quality: Quality = "pq") -> float:
        """Return PQ, or its parts: the mean IoU of what is found (SQ), the share found (RQ)."""
        return self._terms(quality).values()[0]

    def by_class(self, quality: Quality = "pq") -> dict[str, float]:
        """Return the figure of each class, NaN of one that does not occur."""
        return self._terms(quality).values()[1]

    def interval(self, quality: Quality = "pq", draws: int = 1000, seed: int = 0) -> Interval:
        """Return the 95 % percentile interval over pictures drawn with replacement."""
        return intervals_of({quality: self._terms(quality)}, draws, seed)[quality]

    def above(
        self, other: InstanceScore, quality: Quality = "pq", draws: int = 1000, seed: int = 0
    ) -> Difference:
        """Return how much this is above another score of the same pictures, with its interval."""
        if len(self.counts) != len(other.counts) or self.names != other.names:
            raise FslabError("two scores are compared over the same pictures and classes")
        return difference_of(quality, other._terms(quality), self._terms(quality), draws, seed)

    def _terms(self, quality: Quality) -> Terms:
        overlap, found, extra, missed = np.moveaxis(np.stack(self.counts)[:, 1:], 2, 0)
        whole = found + (extra + missed) / 2
        parts = {"pq": (overlap, whole), "sq": (overlap, found), "rq": (found, whole)}
        if quality not in parts:
            raise FslabError(f"quality is {quality!r}; it must be one of {', '.join(parts)}")
        return Terms(self.names[1:], *parts[quality])
