"""Vectors: their lengths, and colours that show them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_SIDE = 48
"""So many cells a map that is glanced at has on a side."""

_FITTED = 16
"""So many of them, on a side, say what its components are."""


def unit(
    vectors: NDArray[np.floating], axis: int = -1, least: float = 1e-12
) -> NDArray[np.floating]:
    """Return vectors f [..., D, ...], D along an axis, scaled to Euclidean length 1.

    least: what a shorter vector is divided by instead, so that one without length stays zero.
    """
    lengths = np.linalg.norm(vectors, axis=axis, keepdims=True)
    scaled: NDArray[np.floating] = vectors / np.maximum(lengths, least)
    return scaled


def as_colours(scores: np.ndarray) -> np.ndarray:
    """Return f64 [N, 3] as u8 [N, 3], each column stretched from its 1st to 99th percentile."""
    low, high = np.percentile(scores, (1, 99), axis=0)
    flat = high - low < 1e-12
    stretched = np.where(flat, 0.5, (scores - low) / np.where(flat, 1, high - low))
    drawn: NDArray[np.uint8] = np.rint(255 * stretched.clip(0, 1)).astype(np.uint8)
    return drawn


def glance(value: NDArray[np.floating]) -> NDArray[np.uint8] | None:
    """Return a map f [C, h, w] as colours u8 [h', w', 3], at most 48 cells on a side.

    What `fslab.plots.pca_colours` shows, in milliseconds: of larger maps every n-th cell, in
    components of 256 of them at most; one channel is grey. None for a map that is not finite.
    """
    channels = len(value)
    shown = _thinned(value, _SIDE)
    cells = shown.reshape(channels, -1).T.astype(np.float64)
    fitted = _thinned(shown, _FITTED).reshape(channels, -1).T.astype(np.float64)
    if not np.isfinite(cells).all():
        return None
    mean = fitted.mean(0)
    away = fitted - mean
    # Of cells by cells, which are few, where there may be thousands of channels.
    along = np.linalg.eigh(away @ away.T)[1][:, : -min(3, channels) - 1 : -1]
    loadings = unit(along.T @ away)
    largest = np.abs(loadings).argmax(1)
    loadings[loadings[np.arange(len(loadings)), largest] < 0] *= -1
    scores = (cells - mean) @ loadings.T
    scores = np.pad(
        scores, ((0, 0), (0, 3 - scores.shape[1])), "edge" if channels == 1 else "constant"
    )
    return as_colours(scores).reshape(*shown.shape[1:], 3)


def _thinned(value: NDArray[np.floating], side: int) -> NDArray[np.floating]:
    rows, columns = (-(-length // side) for length in value.shape[1:])
    return value[:, ::rows, ::columns]
