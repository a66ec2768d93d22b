"""Self-attention maps merged into segments: DiffSeg's idea (Tian et al., CVPR 2024).

Cells of one thing look at the same places, so their attention maps are alike as distributions:
maps are averaged with all those that are near, until few are left, and each is a segment.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from fslab.cluster.joining import common_grid, resize
from fslab.cluster.pixels import lowest, nearest
from fslab.records import Features, FslabError, Merging

SMALLEST = 1e-12
"""Probabilities below are raised to it, so that their logarithm is a number."""


def merged(features: Features, settings: Merging) -> np.ndarray:
    """Return each pixel's segment, whole numbers [H, W], of a picture's self-attention maps."""
    maps = aggregate(features.maps, settings.grid)
    found = merge_maps(maps, settings.anchors, settings.rounds, settings.threshold)
    if settings.upsample == "nearest":
        return nearest(found.argmax(0), features.size)
    return lowest(-found, features.size)


def aggregate(layers: Mapping[str, np.ndarray], longer: int | None = None) -> np.ndarray:
    """Return the mean attention map of each cell, on the finest layer's grid: f32 [h, w, h, w].

    layers: probabilities f32 [keys, h, w] by name, of one or several resolutions. Keys are
    interpolated and each map is brought to sum 1; queries are repeated; a layer weighs as much
    as its grid's side. longer: the cells of the grid's longer side, None for the finest.
    Raises FslabError for a layer that is not self-attention.
    """
    _check_maps(layers)
    shapes = [value.shape[1:] for value in layers.values()]
    grid = common_grid(shapes, longer)
    total = np.zeros((*grid, *grid), np.float32)
    sides = [np.sqrt(h * w) for h, w in shapes]
    for value, (h, w), side in zip(layers.values(), shapes, sides, strict=True):
        maps = resize(value.reshape(h * w, -1).T.reshape(-1, h, w), grid)
        maps = maps / np.maximum(maps.sum(axis=(1, 2), keepdims=True), SMALLEST)
        rows, columns = np.arange(grid[0]) * h // grid[0], np.arange(grid[1]) * w // grid[1]
        total += maps.reshape(h, w, *grid)[np.ix_(rows, columns)] * np.float32(side / sum(sides))
    return total


def merge_maps(maps: np.ndarray, anchors: int, rounds: int, threshold: float) -> np.ndarray:
    """Merge attention maps f32 [h, w, h, w] into segments' maps f32 [K, h, w]; K is found.

    anchors: cells of an even grid, `anchors` by `anchors`, start a segment each. In the first
    round an anchor takes the mean of all maps nearer than the threshold; in each further round
    segments nearer than it become one. Nearness is the symmetric Kullback-Leibler divergence.
    """
    grid = maps.shape[:2]
    flat = maps.reshape(len(maps) * grid[1], -1)
    places = np.ravel_multi_index(np.ix_(*(_even(side, anchors) for side in grid)), grid).ravel()
    near = (divergence(flat[places], flat) < threshold).astype(np.float32)
    merged = near @ flat / near.sum(1, keepdims=True)
    for _ in range(rounds - 1):
        merged = _merge_near(merged, threshold)
    return merged.reshape(-1, *grid)


def divergence(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the mean of KL(p || q) and KL(q || p), f32 [M, N], of distributions in rows.

    Written as products of matrices: (p - q)(log p - log q) summed is four dot products.
    """
    p, q = np.maximum(first, SMALLEST), np.maximum(second, SMALLEST)
    log_p, log_q = np.log(p), np.log(q)
    own = (p * log_p).sum(1)[:, None] + (q * log_q).sum(1)
    divergence: NDArray[np.floating] = np.maximum(own - p @ log_q.T - log_p @ q.T, 0) / 2
    return divergence


def _merge_near(maps: np.ndarray, threshold: float) -> np.ndarray:
    """Take segments in turn; each not yet taken becomes the mean of all that are near it."""
    near = divergence(maps, maps) < threshold
    np.fill_diagonal(near, True)  # rounding must not part a map from itself
    taken, merged = np.zeros(len(maps), bool), []
    for number in range(len(maps)):
        if not taken[number]:
            merged.append(maps[near[number]].mean(0))
            taken |= near[number]
    return np.stack(merged)


def _even(side: int, count: int) -> np.ndarray:
    """Return the middles of `count` equal parts of a side, or every cell of a shorter one."""
    count = min(count, side)
    return ((np.arange(count) + 0.5) * side / count).astype(int)


def _check_maps(layers: Mapping[str, np.ndarray]) -> None:
    for name, value in layers.items():
        channels, h, w = value.shape
        if channels != h * w or value.min() < 0:
            raise FslabError(
                f"merging needs self-attention maps, a channel for each cell (layers that end in "
                f".probs); {name} has {channels} channels on {h} x {w} cells"
            )
