"""What one image adds to every figure, counted in one pass."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, cast

import numpy as np

from fslab.parts import call, qualified, versioned
from fslab.records import Confusion, FslabError, Segments, void_of
from fslab.score.contours import Contours, TruthContours
from fslab.score.count import (
    best_overlaps,
    confusion,
    hungarian_classes,
    oracle_classes,
    overlaps_of,
    regrouped,
)

TALLIES = ("named", "named_with_void", "oracle", "hungarian")
CONTOURS = ("named_boundary", "boundary")
PARTS = (*TALLIES, *CONTOURS)
"""What is counted of every picture that has it; a metric may count more (`Count`)."""

_OWN = "own"
"""Where a stored score has what metrics count by themselves, by their names."""


@dataclass(frozen=True)
class Count:
    """What a metric counts of one picture by itself, beside `PARTS`.

    part: the name that an `ImageScore` has it by, which is the metric's. of: the labels that are
    looked at. function: `function(truth, labels, names)` of a truth u8 or u16 [H, W], of the guess
    likewise or the segments int32 [H, W], and of the classes' names returns finite numbers, as many
    and in such a shape as the metric's sums read.
    """

    part: str
    of: Literal["guess", "segments"]
    function: Callable[..., Any]

    def numbers(self, truth: np.ndarray, labels: np.ndarray, names: Sequence[str]) -> np.ndarray:
        """Return what the function counts, f64; FslabError for what are no finite numbers."""
        found = call(self.function, truth, labels, names)
        by = f"{qualified(self.function)}, which counts for the metric {self.part!r},"
        try:
            numbers = np.array(found, np.float64)
        except (TypeError, ValueError) as error:
            raise FslabError(f"{by} returned {type(found).__name__}; give numbers") from error
        if not numbers.size or not np.isfinite(numbers).all():
            raise FslabError(f"{by} returned {found!r:.60}; give finite numbers, one at least")
        return numbers


@dataclass(frozen=True, eq=False)
class Tally:
    """A confusion by the cells that are not zero: int64 [n, 3] of truth, guess and pixels.

    A picture shows few of 80 classes, so thousands of pictures fit where their full tables
    would not.
    """

    cells: np.ndarray
    names: tuple[str, ...]

    @classmethod
    def of(cls, confusion: Confusion) -> Tally:
        """Return the cells of a confusion, row by row."""
        rows, columns = np.nonzero(confusion.counts)
        cells = np.stack([rows, columns, confusion.counts[rows, columns]], axis=1)
        return cls(cells, confusion.names)

    def confusion(self) -> Confusion:
        """Return the full table, int64 [K, K]."""
        counts = np.zeros((len(self.names), len(self.names)), np.int64)
        counts[self.cells[:, 0], self.cells[:, 1]] = self.cells[:, 2]
        return Confusion(counts, self.names)


@dataclass(frozen=True, eq=False)
class ImageScore:
    """What one image adds to every figure; a part that was not computed is None or empty.

    parts: tallies of the guessed label map ("named"), of the same with the truth's void pixels
    as background ("named_with_void"), and of the segments named by the truth ("oracle",
    "hungarian"); contours of the guess and of the segments against the truth's
    ("named_boundary", "boundary"); and, by a metric's name, what it counts by itself, f64.
    overlaps: (class, best IoU) of each region.
    """

    parts: Mapping[str, Tally | Contours | np.ndarray] = field(default_factory=dict)
    overlaps: tuple[tuple[int, float], ...] = ()

    @property
    def named(self) -> Confusion | None:
        """The guess's confusion."""
        return self._confusion("named")

    @property
    def oracle(self) -> Confusion | None:
        """The confusion of segments that take their majority class."""
        return self._confusion("oracle")

    @property
    def hungarian(self) -> Confusion | None:
        """The confusion of segments matched one to one to the truth's classes."""
        return self._confusion("hungarian")

    @property
    def boundary(self) -> Contours | None:
        """The segments' contours against the truth's."""
        found = self.parts.get("boundary")
        return found if isinstance(found, Contours) else None

    @property
    def named_boundary(self) -> Contours | None:
        """The guess's contours against the truth's."""
        found = self.parts.get("named_boundary")
        return found if isinstance(found, Contours) else None

    def to_dict(self) -> dict[str, Any]:
        """Return a small JSON-able dict: confusions as [row, column, count] of what occurs."""
        parts: dict[str, Any] = {}
        own: dict[str, Any] = {}
        for key, part in self.parts.items():
            if isinstance(part, np.ndarray):
                own[key] = part.tolist()
            else:
                parts[key] = part.cells.tolist() if isinstance(part, Tally) else part.to_list()
        parts["overlaps"] = [list(pair) for pair in self.overlaps]
        return {**parts, **({_OWN: own} if own else {})}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], names: Sequence[str]) -> ImageScore:
        """Return the score that `to_dict` gave, to the last bit.

        A part that the dict lacks was not computed: it is None, and a figure that needs it says
        so. Results written before a part existed read the same way.
        """
        tallies = {key: _tally_of(data[key], names) for key in TALLIES if key in data}
        contours = {key: Contours.from_list(data[key]) for key in CONTOURS if key in data}
        own = {key: np.array(part, np.float64) for key, part in data.get(_OWN, {}).items()}
        pairs = tuple((int(label), float(overlap)) for label, overlap in data["overlaps"])
        return cls({**tallies, **contours, **own}, pairs)

    def tally(self, part: str) -> Tally:
        """Return a part that counts pixels by class."""
        return cast("Tally", self.parts[part])

    def contours(self, part: str) -> Contours:
        """Return a part that counts contours."""
        return cast("Contours", self.parts[part])

    def counts(self, part: str) -> np.ndarray:
        """Return what the metric of that name counted by itself, f64."""
        return cast("np.ndarray", self.parts[part])

    def _confusion(self, part: str) -> Confusion | None:
        found = self.parts.get(part)
        return found.confusion() if isinstance(found, Tally) else None


@versioned(1)
def score_image(
    truth: np.ndarray,
    names: Sequence[str],
    guess: np.ndarray | None = None,
    segments: Segments | None = None,
    contours: bool = True,
    counts: Sequence[Count] = (),
) -> ImageScore:
    """Count one image: a guess, u8 or u16 [H, W], by names; segments by what truth makes of them.

    Every figure there is can be made of the result, so an image is looked at once. contours:
    whether boundary figures are wanted; they take most of the time. counts: what metrics count by
    themselves, beside. Raises FslabError as `confusion` does.
    """
    parts: dict[str, Tally | Contours | np.ndarray] = {}
    if guess is not None:
        counted = confusion(truth, guess, names)
        parts["named"] = Tally.of(counted)
        parts["named_with_void"] = Tally.of(_with_void(counted, truth, guess))
    overlaps = ()
    if segments is not None:
        tallies, overlaps = _segment_parts(truth, names, segments)
        parts |= tallies
    if contours:
        traced = TruthContours(truth)
        if guess is not None:
            parts["named_boundary"] = traced.against(guess)
        if segments is not None:
            parts["boundary"] = traced.against(segments.labels)
    looked = {"guess": guess, "segments": None if segments is None else segments.labels}
    for each in counts:
        labels = looked[each.of]
        if labels is not None:
            parts[each.part] = each.numbers(truth, labels, names)
    return ImageScore(parts, overlaps)


def _with_void(counted: Confusion, truth: np.ndarray, guess: np.ndarray) -> Confusion:
    """Return the confusion with void pixels as the truth's background.

    There a guess that is not a class, such as 255, is background too.
    """
    known = len(counted.names)
    void = np.bincount(guess[truth == void_of(truth)], minlength=known)
    counts = counted.counts.copy()
    counts[0] += void[:known]
    counts[0, 0] += void[known:].sum()
    return Confusion(counts, counted.names)


def _segment_parts(
    truth: np.ndarray, names: Sequence[str], segments: Segments
) -> tuple[dict[str, Tally], tuple[tuple[int, float], ...]]:
    table = overlaps_of(segments, truth, names)
    best, matched = oracle_classes(table), hungarian_classes(table, segments)
    tallies = {
        "oracle": Tally.of(regrouped(table, best, names)),
        "hungarian": Tally.of(regrouped(table, matched, names)),
    }
    return tallies, best_overlaps(table)


def _tally_of(cells: Sequence[Sequence[int]], names: Sequence[str]) -> Tally:
    return Tally(np.array(cells, np.int64).reshape(-1, 3), tuple(names))
