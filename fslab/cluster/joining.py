"""Layers side by side: one vector for each cell of a picture."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch.nn.functional import interpolate

from fslab.records import Clustering, Features


def join(features: Features, settings: Clustering) -> np.ndarray:
    """Return all layers side by side on one grid: f32 [C, h, w].

    The grid is that of the finest layer, or `settings.grid` cells on its longer side; maps
    are resized to it bilinearly. With normalise="l2" each cell of each layer gets unit
    length first; `settings.position` adds the cell's row and column.
    """
    maps = [
        unit_length(value) if settings.normalise == "l2" else value for value in features.values()
    ]
    size = common_grid([value.shape[1:] for value in maps], settings.grid)
    joined = np.concatenate([resize(value, size) for value in maps])
    if settings.position:
        spread = float(np.sqrt(joined.var(axis=(1, 2)).sum()))
        joined = np.concatenate([joined, settings.position * spread * position(size)])
    return joined


def position(size: tuple[int, int]) -> np.ndarray:
    """Return each cell's row and column, f32 [2, h, w], of one standard deviation together."""
    rows, columns = np.mgrid[: size[0], : size[1]].astype(np.float32)
    longer = max(size)
    centred = np.stack([(rows - rows.mean()) / longer, (columns - columns.mean()) / longer])
    return centred / max(float(np.sqrt(centred.var(axis=(1, 2)).sum())), 1e-6)


def unit_length(value: np.ndarray) -> np.ndarray:
    """Return a map [C, h, w] with every cell's channels scaled to length 1."""
    return value / np.maximum(np.linalg.norm(value, axis=0, keepdims=True), 1e-8)


def resize(value: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return a map [C, h, w] bilinearly resized to `size`, as f32; unchanged if it fits."""
    if value.shape[1:] == size:
        return value.astype(np.float32, copy=False)
    source = torch.from_numpy(np.array(value, dtype=np.float32))[None]
    return interpolate(source, size, mode="bilinear", align_corners=False)[0].numpy()


def common_grid(shapes: Sequence[tuple[int, int]], longer: int | None) -> tuple[int, int]:
    """Return the grid of the finest map, or one of `longer` cells on its longer side."""
    h, w = max(shapes, key=lambda shape: shape[0] * shape[1])
    if longer is None:
        return h, w
    scale = longer / max(h, w)
    return max(round(h * scale), 1), max(round(w * scale), 1)
