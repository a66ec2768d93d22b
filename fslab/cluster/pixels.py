"""From cells to pixels."""

from __future__ import annotations

import numpy as np

from fslab.cluster.joining import resize

AT_ONCE = 1 << 25
"""Pixels of enlarged maps that are in memory together, where a picture has fewer."""


def assign_pixels(joined: np.ndarray, means: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return each pixel's nearest mean, int64 [H, W], by features interpolated to `size`.

    Squared distance less the pixel's own norm, |m|^2 - 2 m.x, is linear in x, and bilinear
    weights sum to 1: so K distance maps are interpolated instead of C channels, with the
    same result and C / K of the memory.
    """
    channels, h, w = joined.shape
    distances = (means**2).sum(1)[:, None] - 2 * means @ joined.reshape(channels, -1)
    return lowest(distances.reshape(-1, h, w), size)


def lowest(maps: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return which of maps f32 [K, h, w], resized to `size`, is lowest at each pixel, the first
    among equals: int64 [H, W]. A few maps are enlarged at a time, however many there are."""
    found, least = np.zeros(size, np.int64), np.full(size, np.inf, np.float32)
    step = max(AT_ONCE // found.size, 1)
    for start in range(0, len(maps), step):
        large = resize(maps[start : start + step], size)
        which = large.argmin(0)
        value = np.take_along_axis(large, which[None], 0)[0]
        lower = value < least
        found[lower], least[lower] = which[lower] + start, value[lower]
    return found


def means(cells: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the mean cell of each label, [labels, C]."""
    return np.stack([cells[labels == label].mean(0) for label in np.unique(labels)])


def nearest(labels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return each cell's label repeated over its pixels, [H, W].

    The same cells as OpenCV's INTER_NEAREST, which multiplies by the inverse of a float64 ratio:
    at a few sizes (98, 374) a pixel that begins a cell falls just short of it.
    """
    rows, columns = map(_cells_of, size, labels.shape)
    taken: np.ndarray = labels[np.ix_(rows, columns)]
    return taken


def at_cells(labels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return the label at the middle of each of h x w cells, [h, w], of labels [H, W]."""
    rows, columns = (
        ((np.arange(cells) + 0.5) * limit / cells).astype(int)
        for cells, limit in zip(size, labels.shape, strict=True)
    )
    taken: np.ndarray = labels[np.ix_(rows, columns)]
    return taken


def _cells_of(pixels: int, cells: int) -> np.ndarray:
    """Return the cell of each of a side's pixels, int64 [pixels]."""
    places = np.arange(pixels) * (1 / (pixels / cells))
    return np.minimum(places.astype(np.int64), cells - 1)


def without_gaps(labels: np.ndarray) -> np.ndarray:
    """Return labels renumbered from 0 without gaps, int32 [H, W]."""
    _, dense = np.unique(labels, return_inverse=True)
    return dense.reshape(labels.shape).astype(np.int32)
