"""Two pictures compared by their features: what is like a point, and who is whose nearest.

Features are compared by cosine after they are brought to the picture's size bilinearly, as DIFT
does (Tang et al., NeurIPS 2023). The cosines of several layers or timesteps are averaged.
"""

from __future__ import annotations

from collections.abc import Iterator
from numbers import Integral

import numpy as np
from numpy.typing import NDArray

from fslab.process import stage
from fslab.records import (
    Correspondence,
    Features,
    FslabError,
    Neighbours,
    Points,
    check_kind,
    check_numbers,
    points_of,
)
from fslab.vectors import unit

_LEAST = 1e-12
"""A feature's norm counts as at least this, so that one of zeros is like nothing."""

_BLOCK = 2**24
"""Cosines of cells that are held at a time: 64 MB."""


@stage
def correspond(
    a: Features, points: Points, b: Features, temperature: float = 0.0
) -> Correspondence:
    """Return where points of one picture are found in another, by the features of both.

    points: one pixel (row, column) of the first picture, or several. temperature: see
    `Correspondence.matches`. The cosines are those of features that were brought to either
    picture's size bilinearly, but no such map is made: what a pixel's feature is like follows from
    the four cells around it and their products. Raises FslabError for points outside, for
    pictures whose features are of different layers, and for features that are not finite.
    """
    for one in (a, b):
        check_kind(one, Features, "features")
    wanted = points_of(points, a.size, f"points of {a.name}")
    total = np.zeros((len(wanted), *b.size), np.float32)
    for from_a, from_b in _maps_of(a, b):
        vectors = unit(_at(from_a, wanted, a.size))
        total += _cosines(vectors, from_b, b.size)
    return Correspondence(wanted, (total / len(a)).astype(np.float32), temperature, b.name)


@stage
def mutual_neighbours(a: Features, b: Features, most: int | None = None) -> Neighbours:
    """Return the cells of two pictures that are each other's nearest by cosine.

    Known as best buddies (Dekel et al., CVPR 2015). The cells are those of the finest layer of
    either picture, to which the others are brought bilinearly. most: only so many, the most like.
    Raises FslabError as `correspond` does.
    """
    for one in (a, b):
        check_kind(one, Features, "features")
    if most is not None and (not isinstance(most, Integral) or most < 1):
        raise FslabError(f"most is {most!r}; it must be a whole number from 1 up, or None for all")
    maps = list(_maps_of(a, b))
    firsts, seconds = (_joined([pair[side] for pair in maps]) for side in (0, 1))
    ours, theirs, cosines = _nearest(_cells(firsts), _cells(seconds))
    mutual = np.flatnonzero(theirs[ours] == np.arange(len(ours)))
    mutual = mutual[np.argsort(-cosines[mutual], kind="stable")][:most]
    return Neighbours(
        _centres(mutual, firsts.shape[1:], a.size),
        _centres(ours[mutual], seconds.shape[1:], b.size),
        (cosines[mutual] / len(maps)).astype(np.float32),
        (len(ours), len(theirs)),
    )


def _maps_of(a: Features, b: Features) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield each layer's map of both pictures."""
    if list(a) != list(b):
        raise FslabError(
            f"{a.name} has features {', '.join(a)} and {b.name} {', '.join(b)}; two pictures are "
            "compared by the same layers"
        )
    for layer, ours in a.maps.items():
        theirs = b.maps[layer]
        for name, value in ((a.name, ours), (b.name, theirs)):
            check_numbers(value, f"{name}: layer {layer!r}")
        if len(ours) != len(theirs):
            raise FslabError(
                f"layer {layer!r} has {len(ours)} channels in {a.name} and {len(theirs)} in "
                f"{b.name}; a layer whose channels are the picture's own places compares no two "
                "pictures of different sizes"
            )
        yield ours, theirs


def _places(cells: int, pixels: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return between which two cells each pixel of a line lies, and the second one's weight f32."""
    at = ((np.arange(pixels) + 0.5) * cells / pixels - 0.5).clip(0, cells - 1)
    low = np.floor(at).astype(np.intp)
    return low, np.minimum(low + 1, cells - 1), (at - low).astype(np.float32)


def _at(value: np.ndarray, points: Points, size: tuple[int, int]) -> np.ndarray:
    """Return the features f32 [P, C] of pixels, interpolated between their four cells."""
    rows, columns = np.asarray(points).T
    top, bottom, down = (part[rows] for part in _places(value.shape[1], size[0]))
    left, right, across = (part[columns] for part in _places(value.shape[2], size[1]))
    upper = value[:, top, left] * (1 - across) + value[:, top, right] * across
    lower = value[:, bottom, left] * (1 - across) + value[:, bottom, right] * across
    found: np.ndarray = (upper * (1 - down) + lower * down).T
    return found


def _cosines(vectors: np.ndarray, value: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return the cosine of unit vectors [P, C] to each pixel's interpolated feature: [P, H, W]."""
    h, w = value.shape[1:]
    products = (vectors @ value.reshape(len(value), -1)).reshape(-1, h, w)
    dots = _resized(products, size)
    found: np.ndarray = dots / np.maximum(np.sqrt(_squares(value, size)), _LEAST)
    return found.clip(-1, 1)


def _resized(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Bring maps [N, h, w] to a size bilinearly."""
    top, bottom, down = _places(values.shape[1], size[0])
    left, right, across = _places(values.shape[2], size[1])
    across_rows = values[:, :, left] * (1 - across) + values[:, :, right] * across
    down = down[:, None]
    found: np.ndarray = across_rows[:, top] * (1 - down) + across_rows[:, bottom] * down
    return found


def _squares(value: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return the squared norm f32 [H, W] of the features as they are between cells.

    That of a mean of four vectors, from their products with each other: first along columns of
    cells, then along rows.
    """
    top, _, down = _places(value.shape[1], size[0])
    left, _, right = _places(value.shape[2], size[1])
    up, down = (1 - down)[:, None], down[:, None]
    cells, below, beside, crossing = _products(value)
    column = up**2 * cells[top] + 2 * up * down * below[top] + down**2 * cells[top + 1]
    between = up**2 * beside[top] + up * down * crossing[top] + down**2 * beside[top + 1]
    found: np.ndarray = (
        (1 - right) ** 2 * column[:, left]
        + 2 * (1 - right) * right * between[:, left]
        + right**2 * column[:, left + 1]
    )
    return found.clip(0)


def _products(value: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return products of the cells of a map with an edge of its last cells to the right and below.

    With themselves [h + 1, w + 1], with those below [h, w + 1], with those to the right [h + 1, w],
    and, of each square, the sum of the two across its corners [h, w].
    """
    last = np.ascontiguousarray(value.transpose(1, 2, 0))  # sums run over neighbours in memory
    cells = np.pad(last, ((0, 1), (0, 1), (0, 0)), mode="edge")

    def product(first: np.ndarray, second: np.ndarray) -> np.ndarray:
        found: np.ndarray = np.einsum("hwc,hwc->hw", first, second)
        return found

    crossing = product(cells[:-1, :-1], cells[1:, 1:]) + product(cells[:-1, 1:], cells[1:, :-1])
    beside = product(cells[:, :-1], cells[:, 1:])
    return product(cells, cells), product(cells[:-1], cells[1:]), beside, crossing


def _joined(maps: list[np.ndarray]) -> np.ndarray:
    """Return all layers' unit features behind each other, on the grid of the finest."""
    finest = max((value.shape[1:] for value in maps), key=lambda size: size[0] * size[1])
    resized = [value if value.shape[1:] == finest else _resized(value, finest) for value in maps]
    scaled = [unit(_cells(value)).T.reshape(len(value), *finest) for value in resized]
    return np.concatenate(scaled)


def _cells(value: np.ndarray) -> np.ndarray:
    """Return a map [C, h, w] as cells [h * w, C]."""
    return value.reshape(len(value), -1).T


def _nearest(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return each cell's nearest in the other picture, [N] and [M], and how like it is, [N]."""
    ours, cosines = np.zeros(len(a), np.intp), np.zeros(len(a), np.float32)
    theirs, best = np.zeros(len(b), np.intp), np.full(len(b), -np.inf, np.float32)
    step = max(1, _BLOCK // len(b))
    for start in range(0, len(a), step):
        alike = a[start : start + step] @ b.T
        ours[start : start + step] = alike.argmax(1)
        cosines[start : start + step] = alike.max(1)
        higher = alike.max(0) > best
        theirs[higher] = start + alike.argmax(0)[higher]
        best[higher] = alike.max(0)[higher]
    return ours, theirs, cosines


def _centres(
    cells: NDArray[np.intp], grid: tuple[int, ...], size: tuple[int, int]
) -> NDArray[np.float64]:
    """Return cells' centres f64 [N, 2] in pixels, as (row, column)."""
    rows, columns = np.divmod(cells, grid[1])
    centres: NDArray[np.float64] = np.stack(
        [(rows + 0.5) * size[0] / grid[0] - 0.5, (columns + 0.5) * size[1] / grid[1] - 0.5], 1
    )
    return centres
