"""The share of points that are found where they are: PCK, with its intervals over pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fslab.records import FslabError, KeypointPair
from fslab.records.base import described, is_array
from fslab.score.intervals import Difference, Interval, difference_of, intervals_of
from fslab.score.terms import Terms

NOTE = (
    "PCK@alpha: share of a pair's points that are found within alpha times the longer side of the "
    "object's box in the second picture; the mean over pairs"
)
"""The protocol in words."""


def keypoint_errors(matches: np.ndarray, pair: KeypointPair) -> NDArray[np.float64]:
    """Return how far from their truth points were found, f64 [N], 1 being the box's longer side.

    matches: [N, 2], (row, column) in the second picture. Raises FslabError where they are not as
    many as the pair's points.
    """
    if not is_array(matches) or matches.shape != pair.truth.shape:
        raise FslabError(
            f"matches are {described(matches)} for {len(pair.truth)} points; each has a (row, "
            "column)"
        )
    errors: NDArray[np.float64] = np.linalg.norm(matches - pair.truth, axis=1) / max(pair.box)
    return errors


@dataclass(frozen=True, eq=False)
class KeypointScore:
    """How far from their truth the points of each pair were found.

    errors: of each pair f64 [N], see `keypoint_errors`. Everything is computed from them, so any
    alpha can be asked for.
    """

    errors: tuple[NDArray[np.float64], ...]

    def __post_init__(self) -> None:
        if not self.errors or not all(len(each) for each in self.errors):
            raise FslabError("a pair without points has no score; there is one pair at least")

    def __repr__(self) -> str:
        return (
            f"KeypointScore({len(self.errors)} pairs, PCK@0.1 {100 * self.pck(0.1):.1f} %, "
            f"PCK@0.05 {100 * self.pck(0.05):.1f} %)"
        )

    @property
    def points(self) -> int:
        """Number of points in all pairs."""
        return sum(map(len, self.errors))

    def pck(self, alpha: float = 0.1) -> float:
        """Return the share of points within alpha of their truth, 0..1: the mean over pairs."""
        return self._terms(alpha).values()[0]

    def interval(self, alpha: float = 0.1, draws: int = 1000, seed: int = 0) -> Interval:
        """Return the 95 % percentile interval of `pck` over pairs drawn with replacement."""
        return intervals_of({"pck": self._terms(alpha)}, draws, seed)["pck"]

    def above(
        self, other: KeypointScore, alpha: float = 0.1, draws: int = 1000, seed: int = 0
    ) -> Difference:
        """Return how much this is above another score of the same pairs, with its interval.

        Both are drawn together, so what makes a pair hard for both cancels out. Raises FslabError
        where the two are not of the same pairs, as far as their numbers of points tell.
        """
        ours, theirs = (list(map(len, each.errors)) for each in (self, other))
        if ours != theirs:
            raise FslabError(
                f"{len(ours)} pairs of {self.points} points against {len(theirs)} of "
                f"{other.points}; give scores of the same pairs in one order"
            )
        return difference_of("pck", other._terms(alpha), self._terms(alpha), draws, seed)

    def only(self, chosen: Sequence[bool]) -> KeypointScore:
        """Return the score of some of the pairs, such as those that are mirrored."""
        picked = zip(self.errors, chosen, strict=True)
        return KeypointScore(tuple(errors for errors, wanted in picked if wanted))

    def _terms(self, alpha: float) -> Terms:
        if not 0 < alpha < float("inf"):
            raise FslabError(f"alpha is {alpha!r}; it must be a share of the box, such as 0.1")
        found = np.array([float((errors <= alpha).mean()) for errors in self.errors])
        none = np.zeros((len(found), 0))
        return Terms((), none, none, (found, np.ones(len(found))))
