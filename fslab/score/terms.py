"""Figures as ratios of sums over images: so that images can be summed, and drawn again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import fsum

import numpy as np
from numpy.typing import NDArray

from fslab.score.image import ImageScore


@dataclass(frozen=True, eq=False)
class Terms:
    """What each image adds to a figure and to its values by class (or by side of a contour).

    hits, sizes: f64 [N, C]; the value of a column is sum(hits) / sum(sizes) over images, NaN
    where nothing was counted. whole: the same two, f64 [N], for the figure itself; where it is
    None the figure is the mean over the columns that have a value.
    """

    names: tuple[str, ...]
    hits: np.ndarray
    sizes: np.ndarray
    whole: tuple[np.ndarray, np.ndarray] | None = None

    def values(self) -> tuple[float, dict[str, float]]:
        """Return the figure over all images, and its values; sums do not depend on order."""
        hits, sizes = (np.array([fsum(column) for column in part.T]) for part in self._columns())
        ratios = _ratio(hits, sizes)
        by_name = dict(zip(self.names, ratios[: len(self.names)].tolist(), strict=True))
        return float(self._figure(ratios)), by_name

    def resampled(self, weights: np.ndarray) -> np.ndarray:
        """Return the figure of each row of weights, f64 [D, N], how often an image counts: [D]."""
        hits, sizes = (weights @ part for part in self._columns())
        return self._figure(_ratio(hits, sizes))

    def _columns(self) -> tuple[np.ndarray, np.ndarray]:
        if self.whole is None:
            return self.hits, self.sizes
        hits, sizes = self.whole
        return np.column_stack((self.hits, hits)), np.column_stack((self.sizes, sizes))

    def _figure(self, ratios: np.ndarray) -> np.ndarray:
        return mean_of_known(ratios) if self.whole is None else ratios[..., -1]


def over_all_pixels(per_image: Sequence[ImageScore], part: str) -> Terms:
    """Sum over images, divide once."""
    names, cells = _cells(per_image, part)
    hits, truth, guess = _sums(cells, len(per_image), len(names))
    return Terms(names, hits, truth + guess - hits)


def over_object_pixels(per_image: Sequence[ImageScore], part: str) -> Terms:
    """Sum over images with the truth's background as void; its column stays, as misses."""
    names, cells = _cells(per_image, part)
    hits, truth, guess = _sums(cells[cells[:, 1] > 0], len(per_image), len(names))
    return Terms(names[1:], hits[:, 1:], (truth + guess - hits)[:, 1:])


def by_image(per_image: Sequence[ImageScore], part: str) -> Terms:
    """Average over the classes of each image's truth, then over images."""
    names, cells = _cells(per_image, part)
    hits, truth, guess = _sums(cells, len(per_image), len(names))
    iou = np.where(truth > 0, _ratio(hits, truth + guess - hits), np.nan)
    return Terms(names, *_known(iou), _known(mean_of_known(iou)))


def by_region(per_image: Sequence[ImageScore], part: str) -> Terms:
    """Average the best overlaps over all regions of all images."""
    names = per_image[0].tally(part).names
    best, regions = np.zeros((2, len(per_image), len(names)))
    for row, image in enumerate(per_image):
        for label, overlap in image.overlaps:
            best[row, label], regions[row, label] = overlap, 1
    return Terms(names[1:], best[:, 1:], regions[:, 1:], (best.sum(1), regions.sum(1)))


def by_contour(per_image: Sequence[ImageScore], part: str) -> Terms:
    """Average precision, recall and F within 2 px over images."""
    return _contours(per_image, part, relative=False)


def by_contour_relative(per_image: Sequence[ImageScore], part: str) -> Terms:
    """Average precision, recall and F within 0.75 % of each image's diagonal over images."""
    return _contours(per_image, part, relative=True)


def mean_of_known(values: np.ndarray) -> np.ndarray:
    """Average the finite values of the last axis; NaN where there is none."""
    known = np.isfinite(values)
    return _ratio(np.where(known, values, 0.0).sum(-1), known.sum(-1).astype(np.float64))


def _contours(per_image: Sequence[ImageScore], part: str, relative: bool) -> Terms:
    figures = np.array([image.contours(part).figures(relative) for image in per_image])
    hits, sizes = _known(figures)
    return Terms(("precision", "recall"), hits[:, :2], sizes[:, :2], (hits[:, 2], sizes[:, 2]))


def _cells(per_image: Sequence[ImageScore], part: str) -> tuple[tuple[str, ...], np.ndarray]:
    """Return the names, and int64 [n, 4] of image, truth, guess and pixels."""
    tallies = [image.tally(part) for image in per_image]
    images = np.repeat(np.arange(len(tallies)), [len(tally.cells) for tally in tallies])
    cells = np.concatenate([tally.cells for tally in tallies])
    return tallies[0].names, np.column_stack([images, cells])


def _sums(
    cells: np.ndarray, images: int, classes: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return each image's pixels by class where both agree, of the truth, of the guess: [N, K]."""
    both = cells[cells[:, 1] == cells[:, 2]]

    def summed(part: np.ndarray, side: int) -> np.ndarray:
        places = part[:, 0] * classes + part[:, side]
        sums = np.bincount(places, part[:, 3], minlength=images * classes)
        return sums.reshape(images, classes)

    return summed(both, 1), summed(cells, 1), summed(cells, 2)


def _known(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return values with 0 for NaN, and 1 where there is one, else 0: to be summed over images."""
    known = np.isfinite(values)
    return np.where(known, values, 0.0), known.astype(np.float64)


def _ratio(hits: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    unknown = np.full(np.shape(hits), np.nan)
    ratios: NDArray[np.float64] = np.divide(hits, sizes, unknown, where=sizes > 0)
    return ratios
