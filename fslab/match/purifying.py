"""Candidates whose places agree with where their cells look: classes that are not there go.

Own code, from the description of FreeCP (ICCV 2025), whose second part, which tells classes of one
place apart by a crop, is left out.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fslab.match.spreading import doubly_normalised
from fslab.parts import versioned

NORMALISATIONS = 3
"""Times that rows, then columns, of self-attention are brought to sum 1."""

PLACE = 0.4
"""Of its maximum: what a class's map exceeds inside the box that it is spread in."""

_LEAST = 1e-12
"""What a sum is at least before anything is divided by it."""


@versioned(1)
def consistency(maps: np.ndarray, looks: np.ndarray) -> NDArray[np.float64]:
    """Return how much each class's map agrees with itself spread by self-attention: f64 [T].

    maps: f32 [T, h, w] from 0 up, such as a softmax over classes. looks: self-attention
    f32 [h, w, h, w]. Its matrix is brought to one sum of rows and of columns, made symmetric and
    squared; within the box around what exceeds 0.4 of a map's maximum it spreads the map, which is
    then brought to 0 to 1. The agreement is sum(M R) / (sum M + sum R), from 0 to a half; the paper
    drops classes up to 0.15.
    """
    grid = maps.shape[1:]
    matrix = doubly_normalised(looks.reshape(grid[0] * grid[1], -1), NORMALISATIONS)
    matrix = (matrix + matrix.T) / 2
    matrix = matrix @ matrix
    return np.array([_agreement(one, matrix) for one in maps])


def _agreement(one: np.ndarray, matrix: np.ndarray) -> float:
    rows, columns = np.nonzero(one >= PLACE * one.max())
    inside = np.zeros(one.shape, np.float32)
    inside[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1] = 1
    spread = inside * (matrix @ (inside * one).ravel()).reshape(one.shape)
    spread = spread - spread.min()
    spread = spread / max(float(spread.max()), _LEAST)
    both = float(one.sum() + spread.sum())
    return float((one * spread).sum()) / max(both, _LEAST)
