"""Feature maps in colours that may be compared: fitted once over them, not map by map."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from fslab.plots.draw import components
from fslab.vectors import as_colours


def colours_together(maps: Mapping[str, np.ndarray]) -> dict[str, tuple[np.ndarray, float]]:
    """Return each map's colours, u8 [h, w, 3], and the share of its variance that they carry.

    maps: f32 [C, h, w] by path, or by `path@timestep`. Maps of one layer lie in one space: their
    principal components and the stretch of their colours are fitted once over all of them. Layers
    have a space each: the components of each further one are turned so that cells at the same
    place of the picture come as near as they can to the first layer's (orthogonal Procrustes;
    Schoenemann 1966). Then a thing has like colours in all maps, as far as they agree on it.
    """
    layers: dict[str, list[str]] = {}
    for path in maps:
        layers.setdefault(path.partition("@")[0], []).append(path)
    found: dict[str, tuple[np.ndarray, float]] = {}
    first: np.ndarray | None = None
    for paths in layers.values():
        cells = [maps[path].reshape(len(maps[path]), -1).T for path in paths]
        scores, _ = components(np.concatenate(cells))
        grid = maps[paths[0]].shape[1:]
        start = scores[: len(cells[0])].reshape(*grid, 3)
        first = start if first is None else first
        scores = scores @ _turn(start, first)
        drawn, ends = as_colours(scores), np.cumsum([len(each) for each in cells])[:-1]
        parts = zip(paths, np.split(drawn, ends), np.split(scores, ends), cells, strict=True)
        for path, colours, along, own in parts:
            found[path] = colours.reshape(*maps[path].shape[1:], 3), _share(along, own)
    return found


def _turn(scores: np.ndarray, goal: np.ndarray) -> np.ndarray:
    """Return the rotation f64 [3, 3] that brings [h, w, 3] nearest to another map's scores."""
    h, w = scores.shape[:2]
    down, across = (
        (np.arange(own) * 2 + 1) * other // (2 * own)
        for own, other in zip((h, w), goal.shape[:2], strict=True)
    )
    there = goal[np.ix_(down, across)].reshape(-1, 3)
    left, _, right = np.linalg.svd(scores.reshape(-1, 3).T @ (there - there.mean(0)))
    turned: np.ndarray = left @ right
    return turned


def _share(scores: np.ndarray, cells: np.ndarray) -> float:
    """Return the part of the variance between a map's own cells that its three scores have."""
    total = float(cells.astype(np.float64).var(0).sum())
    return float(scores.var(0).sum()) / total if total > 0 else 1.0
