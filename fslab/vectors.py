"""Vectors and their lengths."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def unit(
    vectors: NDArray[np.floating], axis: int = -1, least: float = 1e-12
) -> NDArray[np.floating]:
    """Return vectors f [..., D, ...], D along an axis, scaled to Euclidean length 1.

    least: what a shorter vector is divided by instead, so that one without length stays zero.
    """
    lengths = np.linalg.norm(vectors, axis=axis, keepdims=True)
    scaled: NDArray[np.floating] = vectors / np.maximum(lengths, least)
    return scaled
