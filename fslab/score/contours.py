"""Contours: where labels change in the truth, and how much of that a guess finds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from math import floor, isqrt

import numpy as np

from fslab.records import void_of
from fslab.score.count import check_map, check_sizes

NEAR = 2
"""Pixels by which a contour may be off; the distance is Euclidean."""

SHARE = 0.0075
"""The image's diagonal times this: the tolerance of Martin et al. (PAMI 2004)."""

RIM = 5
"""Pixels into void to which labels are continued. VOC draws its rim five pixels wide, so its middle
is three from either side, and a little more where rims meet; anything deeper is not a rim."""

_DISK = np.array(
    sorted(
        (
            (down, right)
            for down in range(-RIM, RIM + 1)
            for right in range(-RIM, RIM + 1)
            if 0 < down**2 + right**2 <= RIM**2
        ),
        key=lambda offset: (offset[0] ** 2 + offset[1] ** 2, offset),
    )
)
"""Offsets within the rim's reach, nearest first: int64 [n, 2]."""

_AT_ONCE = 8
"""Offsets that are looked at in one go."""


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
    """The contours of one truth, u8 or u16 [H, W], to hold several label maps against.

    Void pixels have no label, and VOC's void lies just where the contours are. So a void pixel is
    given the label of the nearest pixel that counts, and every map that is compared is continued
    in the same way: what it says on void pixels plays no part, as in IoU, and a contour that
    runs anywhere inside the rim is the truth's own. Void deeper than 5 px has no contour.
    """

    def __init__(self, truth: np.ndarray) -> None:
        check_map(truth, "truth")
        radii = (NEAR**2, floor(SHARE**2 * sum(side**2 for side in truth.shape)))
        self._void = truth == void_of(truth)
        counted = ~self._void
        self._rows = _Rows(truth.shape, max(RIM, isqrt(max(radii))))
        self._pixels = int(np.count_nonzero(counted))
        self._known = self._rows.dilated(self._rows.packed(counted), RIM**2)
        rim = self._void & self._rows.unpacked(self._known)
        self._places, self._sources = _continuation(self._void, rim)
        self._radii = radii
        self._lines = self._trace(truth)
        self._zones = [self._rows.dilated(self._lines, radius) for radius in radii]

    def against(self, labels: np.ndarray) -> Contours:
        """Compare the contours of an integer map [H, W]; the numbers themselves mean nothing."""
        check_sizes(self._void.shape, labels.shape, "guess")
        lines = self._trace(labels)
        zones = [self._rows.dilated(lines, radius) for radius in self._radii]
        return Contours(
            pixels=self._pixels,
            guess=lines.bit_count(),
            truth=self._lines.bit_count(),
            guess_near=(lines & self._zones[0]).bit_count(),
            truth_near=(self._lines & zones[0]).bit_count(),
            guess_share=(lines & self._zones[1]).bit_count(),
            truth_share=(self._lines & zones[1]).bit_count(),
        )

    def _trace(self, labels: np.ndarray) -> int:
        """Return the pixels whose label is not that of the pixel to the right or below: bits."""
        filled, rows, known = labels.copy(), self._rows, self._known
        filled.ravel()[self._places] = labels.ravel()[self._sources]
        right = rows.packed(filled[:, 1:] != filled[:, :-1]) & (known << 1)
        below = rows.packed(filled[1:] != filled[:-1]) & (known << rows.stride)
        return (right | below) & known


class _Rows:
    """Masks of one size as whole numbers, a bit a pixel, which shift and join at once.

    After each row lie as many bits as the farthest shift, so that no row runs into the next. What
    a shift moves into them, or out of the picture, is not removed: such numbers are only ever
    held against others that have nothing there.
    """

    def __init__(self, shape: tuple[int, int], reach: int) -> None:
        self._shape, self.stride = shape, shape[1] + reach
        self._bytes = -(-shape[0] * self.stride // 8)

    def packed(self, mask: np.ndarray) -> int:
        """Return the bits of a mask, bool, that may lack the last row or column."""
        wide = np.zeros((self._shape[0], self.stride), bool)
        wide[: mask.shape[0], : mask.shape[1]] = mask
        return int.from_bytes(np.packbits(wide).tobytes(), "big")

    def unpacked(self, bits: int) -> np.ndarray:
        """Return the mask of bits, bool [H, W]."""
        inside = bits & ((1 << 8 * self._bytes) - 1)
        flat = np.unpackbits(np.frombuffer(inside.to_bytes(self._bytes, "big"), np.uint8))
        wide = flat[: self._shape[0] * self.stride].reshape(self._shape[0], self.stride)
        return wide[:, : self._shape[1]].astype(bool)

    def dilated(self, bits: int, radius_squared: int) -> int:
        """Return the pixels within a Euclidean distance, of the reach at most, of those set.

        A disk is a stack of rows, and the rows grow towards its middle: so a disk of radius r
        costs about 4 r shifts of the whole, less than a distance transform.
        """
        reach, wide, out, width = isqrt(radius_squared), bits, 0, 0
        for down in range(reach, -1, -1):
            for step in range(width + 1, (width := isqrt(radius_squared - down**2)) + 1):
                wide |= bits << step | bits >> step
            out |= wide << down * self.stride | wide >> down * self.stride
        return out


def boundary(truth: np.ndarray, labels: np.ndarray) -> Contours:
    """Compare where labels change in a truth, u8 or u16 [H, W], and in any label map.

    Class-agnostic: a contour pixel counts as found where the other map has one within the
    tolerance. Precision and recall of that kind are Martin et al.'s (PAMI 2004) and DAVIS's
    (Perazzi et al., CVPR 2016); like DAVIS, pixels are not paired one to one.
    """
    return TruthContours(truth).against(labels)


def _continuation(void: np.ndarray, rim: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return flat indices of void pixels near counted ones, and of the counted one nearest to each.

    rim: where the former are, bool [H, W]. Among equally near ones the upper, then the left one
    is taken. Offsets are tried some at a time, nearest first: most pixels need the first few.
    """
    width, stride = void.shape[1], void.shape[1] + 2 * RIM
    padded = np.pad(void, RIM, constant_values=True).ravel()
    places = np.flatnonzero(rim)
    starts = places + places // width * (2 * RIM) + RIM * (stride + 1)
    sources = np.empty_like(places)
    waiting = np.arange(places.size)
    offsets = _DISK @ np.array([stride, 1])
    for first in range(0, len(offsets), _AT_ONCE):
        if not waiting.size:
            break
        aimed = starts[waiting, None] + offsets[first : first + _AT_ONCE]
        counted = ~padded[aimed]
        nearest, rows = counted.argmax(1), np.arange(waiting.size)
        found = counted[rows, nearest]
        sources[waiting[found]] = aimed[rows[found], nearest[found]]
        waiting = waiting[~found]
    return places, sources - sources // stride * (2 * RIM) - RIM * (width + 1)
