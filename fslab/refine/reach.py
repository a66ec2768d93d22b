"""How far a picture reaches in a permutohedral lattice, which bounds what the lattice can hold."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

MOST_STEPS = 2**15 - 20
"""Coordinates up to which float32 still tells a pixel's place between two points, to 1/500."""


@dataclass(frozen=True)
class Term:
    """A Gaussian term of the energy: widths of columns, rows and three colours, and its weight.

    A term of two widths knows places only.
    """

    sizes: tuple[float, ...]
    weight: float


def elevation(d: int) -> list[float]:
    """Return what each feature is multiplied by (Adams, Baek and Davis 2010, page 5).

    The root is rounded to float32 first, as pydensecrf does it.
    """
    spread = float(np.float32(math.sqrt(2 / 3) * (d + 1)))
    return [spread / math.sqrt((axis + 1) * (axis + 2)) for axis in range(d)]


def reach(term: Term, pixels: np.ndarray) -> float:
    """Return the largest coordinate that pixels u8 [H, W, 3] can have in a term's lattice."""
    steps = _steps(term, pixels)
    return max(sum(steps), *((axis + 1) * step for axis, step in enumerate(steps)))


def holds(term: Term, pixels: np.ndarray) -> bool:
    """Tell whether a term's lattice can hold the pixels."""
    if not reach(term, pixels) < MOST_STEPS:
        return False
    return (len(term.sizes) + 1) * math.prod(radices(term, pixels)) < 2**62


def radices(term: Term, pixels: np.ndarray) -> list[int]:
    """Return how many steps of d + 1 are kept apart on each axis, in keys of 64 bits.

    All coordinates of a point are the same modulo d + 1, so that sums of coordinates times the
    products of these tell all points apart where each is a multiple of d + 1. Corners lie up to
    three such steps beyond the pixels, and neighbours one more.
    """
    steps = _steps(term, pixels)
    d, found = len(steps), []
    for axis in range(d):
        least = -axis * steps[axis - 1] if axis else 0.0
        spread = (sum(steps[axis:]) - least) / (d + 1) + 9
        found.append((d + 1) * math.ceil(spread / (d + 1)))
    return found


def _steps(term: Term, pixels: np.ndarray) -> list[float]:
    """Return how far each feature alone reaches, elevated."""
    height, width = pixels.shape[:2]
    most = (width, height, *[max(int(pixels.max()), 1)] * 3)
    scales = elevation(len(term.sizes))
    return [scale * far / size for scale, far, size in zip(scales, most, term.sizes, strict=False)]
