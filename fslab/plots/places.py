"""Where a name goes: inside its mask, inside the picture, clear of the other names."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Box = tuple[float, float, float, float]

_SEARCHED = 96
"""The longer side, in cells, of the grid on which a mask's middle is looked for."""


def middle(mask: np.ndarray) -> tuple[int, int]:
    """Return the row and column deepest inside a mask, bool [H, W], that is not empty.

    The mask is worn away from its rim until one more round would leave nothing.
    """
    step = -(-max(mask.shape) // _SEARCHED)
    coarse = mask[::step, ::step]
    if not coarse.any():
        coarse, step = mask, 1
    while (worn := _worn(coarse)).any():
        coarse = worn
    rows, columns = np.nonzero(coarse)
    place = len(rows) // 2
    return int(rows[place]) * step, int(columns[place]) * step


def _worn(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the cells whose four neighbours are set too; beyond the picture nothing is."""
    padded = np.pad(mask, 1)
    around = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return mask & around


def spread(
    centres: Sequence[tuple[float, float]],
    sizes: Sequence[tuple[float, float]],
    within: tuple[float, float],
) -> list[Box]:
    """Return a box (top, left, bottom, right) a name, near its centre (row, column).

    sizes, within: heights and widths. A box that would cover an earlier one moves up or down,
    by as little as will do; where there is no room left it stays.
    """
    found: list[Box] = []
    for (row, column), (height, width) in zip(centres, sizes, strict=True):
        left = _inside(column - width / 2, width, within[1])
        shifts = sorted(range(-40, 41), key=abs)
        tops = [
            _inside(row - height / 2 + shift * height / 4, height, within[0]) for shift in shifts
        ]
        boxes = [(top, left, top + height, left + width) for top in tops]
        free = (box for box in boxes if not any(_overlap(box, other) for other in found))
        found.append(next(free, boxes[0]))
    return found


def _inside(start: float, length: float, limit: float) -> float:
    return max(0.0, min(start, limit - length))


def _overlap(one: Box, other: Box) -> bool:
    rows = one[0] < other[2] and other[0] < one[2]
    return rows and one[1] < other[3] and other[1] < one[3]
