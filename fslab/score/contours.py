"""Contours: where labels change in the truth, and how much of that a guess finds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from math import floor, isqrt

import numpy as np

from fslab.records import VOID
from fslab.score.count import check_map, check_sizes

NEAR = 2
"""Pixels by which a contour may be off; the distance is Euclidean."""

SHARE = 0.0075
"""The image's diagonal times this: the tolerance of Martin et al. (PAMI 2004)."""

RIM = 5
"""Pixels into void to which labels are continued. VOC draws its rim five pixels wide, so its middle
is three from either side, and a little more where rims meet; deeper than this is no rim."""

_DISK = sorted(
    (
        (down, right)
        for down in range(-RIM, RIM + 1)
        for right in range(-RIM, RIM + 1)
        if 0 < down**2 + right**2 <= RIM**2
    ),
    key=lambda offset: (offset[0] ** 2 + offset[1] ** 2, offset),
)
"""Offsets within the rim's reach, nearest first."""


@dataclass(frozen=True)
class Contours:
    """Contour pixels of one image, and how many of them have the other contour near.

    pixels: how many pixels of the image count at all; guess, truth: contour pixels of each;
    guess_near, truth_near: those within 2 px; guess_share, truth_share: those within 0.75 % of
    the image's diagonal.
    """

    pixels: int
    guess: int
    truth: int
    guess_near: int
    truth_near: int
    guess_share: int
    truth_share: int

    def figures(self, relative: bool = False) -> tuple[float, float, float]:
        """Return precision, recall and their harmonic mean F, 0..1.

        Where neither side has a contour all are 1; where one has none all are 0. Where no pixel
        counts they are NaN: such an image has no say.
        """
        if not self.pixels:
            return (float("nan"),) * 3
        if not self.guess or not self.truth:
            return (float(self.guess == self.truth),) * 3
        hits = (
            (self.guess_share, self.truth_share) if relative else (self.guess_near, self.truth_near)
        )
        precision, recall = hits[0] / self.guess, hits[1] / self.truth
        total = precision + recall
        return precision, recall, 2 * precision * recall / total if total else 0.0

    def to_list(self) -> list[int]:
        """Return the seven counts in order, for JSON."""
        return list(astuple(self))

    @classmethod
    def from_list(cls, counts: Sequence[int]) -> Contours:
        """Return what `to_list` gave."""
        return cls(*map(int, counts))


class TruthContours:
    """The contours of one truth, u8 [H, W], to hold several label maps against.

    Void pixels have no label, and VOC's void lies just where the contours are. So a void pixel is
    given the label of the nearest pixel that counts, and every map that is compared is continued
    in the same way: what it says on void pixels plays no part, as in IoU, and a contour that
    runs anywhere inside the rim is the truth's own. Void deeper than 5 px has no contour.
    """

    def __init__(self, truth: np.ndarray) -> None:
        check_map(truth, "truth")
        self._void = truth == VOID
        self._near_counted = ~self._void | dilated(~self._void, RIM**2)
        self._places, self._sources = _continuation(self._void, self._near_counted)
        self._radii = (NEAR**2, floor(SHARE**2 * sum(side**2 for side in truth.shape)))
        self._lines = self._trace(truth)
        self._zones = [dilated(self._lines, radius) for radius in self._radii]

    def against(self, labels: np.ndarray) -> Contours:
        """Compare the contours of an integer map [H, W]; the numbers themselves mean nothing."""
        check_sizes(self._void.shape, labels.shape, "guess")
        lines = self._trace(labels)
        zones = [dilated(lines, radius) for radius in self._radii]
        return Contours(
            pixels=_size(~self._void),
            guess=_size(lines),
            truth=_size(self._lines),
            guess_near=_size(lines & self._zones[0]),
            truth_near=_size(self._lines & zones[0]),
            guess_share=_size(lines & self._zones[1]),
            truth_share=_size(self._lines & zones[1]),
        )

    def _trace(self, labels: np.ndarray) -> np.ndarray:
        """Return the pixels whose label is not that of the pixel to the right or below: bool."""
        filled, known = labels.copy(), self._near_counted
        filled.ravel()[self._places] = labels.ravel()[self._sources]
        lines = np.zeros(labels.shape, bool)
        lines[:, :-1] = (filled[:, 1:] != filled[:, :-1]) & known[:, 1:] & known[:, :-1]
        lines[:-1] |= (filled[1:] != filled[:-1]) & known[1:] & known[:-1]
        return lines


def boundary(truth: np.ndarray, labels: np.ndarray) -> Contours:
    """Compare where labels change in a truth, u8 [H, W] with 255 for void, and in any label map.

    Class-agnostic: a contour pixel counts as found where the other map has one within the
    tolerance. Precision and recall of that kind are Martin et al.'s (PAMI 2004) and DAVIS's
    (Perazzi et al., CVPR 2016); like DAVIS, pixels are not paired one to one.
    """
    return TruthContours(truth).against(labels)


def dilated(lines: np.ndarray, radius_squared: int) -> np.ndarray:
    """Return the pixels within a Euclidean distance of those that are set: bool [H, W].

    A disk is a stack of rows, and the rows grow towards its middle: so a disk of radius r costs
    about 4 r passes over the image, less than a distance transform.
    """
    height, reach = lines.shape[0], isqrt(radius_squared)
    wide, out, width = lines.copy(), np.zeros_like(lines), 0
    for down in range(reach, -1, -1):
        for step in range(width + 1, (width := isqrt(radius_squared - down**2)) + 1):
            wide[:, step:] |= lines[:, :-step]
            wide[:, :-step] |= lines[:, step:]
        kept = max(height - down, 0)
        out[down:] |= wide[:kept]
        out[:kept] |= wide[down:]
    return out


def _size(mask: np.ndarray) -> int:
    return int(np.count_nonzero(mask))


def _continuation(void: np.ndarray, near: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return flat indices of void pixels near counted ones, and of the counted one nearest to each.

    Among equally near ones the upper, then the left one is taken.
    """
    width, stride = void.shape[1], void.shape[1] + 2 * RIM
    padded = np.pad(void, RIM, constant_values=True).ravel()
    places = np.flatnonzero(void & near)
    starts = places + places // width * (2 * RIM) + RIM * (stride + 1)
    sources = np.empty_like(places)
    waiting = np.arange(places.size)
    for down, right in _DISK:
        if not waiting.size:
            break
        aimed = starts.take(waiting) + (down * stride + right)
        still = padded.take(aimed)
        found = np.flatnonzero(~still)
        sources[waiting.take(found)] = aimed.take(found)
        waiting = waiting.take(np.flatnonzero(still))
    return places, sources - sources // stride * (2 * RIM) - RIM * (width + 1)
