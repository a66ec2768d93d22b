"""What is found of one picture's points in another picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from numbers import Real

import numpy as np
from numpy.typing import NDArray

from fslab.errors import FslabError
from fslab.html import line, table
from fslab.records.base import described, is_array
from fslab.records.stages import Picture

Point = tuple[int, int]
"""A pixel's (row, column), counted from 0 at the upper left."""

Points = Point | Sequence[Point] | NDArray[np.integer]
"""One pixel, or several."""


def points_of(given: Points, size: tuple[int, int], what: str) -> tuple[Point, ...]:
    """Return one point or several as a tuple of (row, column).

    size: height and width of their picture. Raises FslabError for what is no whole number, lies
    outside, or is no point at all.
    """
    try:
        found = np.asarray(given)
    except ValueError:  # of different lengths
        found = np.empty(0, np.intp)
    if found.dtype.kind not in "iu" or found.ndim not in (1, 2) or found.shape[-1] != 2:
        raise FslabError(
            f"{what} are {given!r}; give one pixel (row, column), or a list of them, in whole "
            "numbers"
        )
    found = found.reshape(-1, 2)
    for row, column in found.tolist():
        if not (0 <= row < size[0] and 0 <= column < size[1]):
            raise FslabError(
                f"{what}: {(row, column)} is outside; rows are 0 to {size[0] - 1}, columns 0 to "
                f"{size[1] - 1}"
            )
    return tuple((row, column) for row, column in found.tolist())


@dataclass(frozen=True, eq=False)
class Correspondence:
    """Where points of one picture are found in another.

    points: (row, column) of P pixels of the first picture; likeness: f32 [P, H, W], the cosine of
    each point's feature to the feature of every pixel of the other; temperature: how `matches` are
    read from it; name: the other picture's. `dataclasses.replace(found, temperature=0.05)` reads
    the same likeness otherwise.
    """

    points: tuple[Point, ...]
    likeness: NDArray[np.float32]
    temperature: float = 0.0
    name: str = "picture"

    def __post_init__(self) -> None:
        maps = self.likeness
        if not is_array(maps) or maps.dtype.kind != "f" or maps.ndim != 3 or 0 in maps.shape:
            raise FslabError(f"likeness is {described(maps)}; it must be f32 [P, H, W]")
        if len(self.points) != len(maps):
            raise FslabError(f"{len(self.points)} points with {len(maps)} maps; each has one")
        if not isinstance(self.temperature, Real) or not 0 <= self.temperature < float("inf"):
            raise FslabError(
                f"temperature is {self.temperature!r}; it must be 0 for the most "
                "like pixel, or more"
            )

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the other picture, in pixels."""
        return self.likeness.shape[1], self.likeness.shape[2]

    @property
    def cosines(self) -> NDArray[np.float32]:
        """The highest cosine of each point, f32 [P]."""
        highest: NDArray[np.float32] = self.likeness.max((1, 2))
        return highest

    @cached_property
    def matches(self) -> NDArray[np.float64]:
        """Each point's best match, f64 [P, 2], as (row, column) of the other picture.

        At temperature 0 the most like pixel, of equals the first in reading order. Above, the mean
        of all pixels' places weighted by the softmax of cosine / temperature, the soft-argmax
        (after the soft argmin of Kendall et al., ICCV 2017; for semantic matches SFNet, Lee et al.,
        CVPR 2019): it lies between pixels, and between two places that are alike.
        """
        flat = self.likeness.reshape(len(self.likeness), -1).astype(np.float64)
        best = np.stack(np.unravel_index(flat.argmax(1), self.size), 1).astype(np.float64)
        if self.temperature == 0:
            return best
        with np.errstate(over="ignore"):
            weights = np.exp((flat - flat.max(1, keepdims=True)) / self.temperature)
        weights = (weights / weights.sum(1, keepdims=True)).reshape(self.likeness.shape)
        rows, columns = (np.arange(side, dtype=np.float64) for side in self.size)
        return np.stack([weights.sum(2) @ rows, weights.sum(1) @ columns], 1)

    def __repr__(self) -> str:
        count = len(self.points)
        height, width = self.size
        return (
            f"Correspondence({count} point{'s' * (count > 1)} in {self.name!r}, {height} x {width})"
        )

    def _repr_html_(self) -> str:
        found = zip(self.points, self.matches, self.cosines, strict=True)
        return line(repr(self)) + table(
            [
                {
                    "point": f"{row}, {column}",
                    "match": f"{match[0]:.1f}, {match[1]:.1f}",
                    "highest cosine": f"{cosine:.3f}",
                }
                for (row, column), match, cosine in found
            ]
        )


@dataclass(frozen=True, eq=False)
class Neighbours:
    """Cells of two pictures that are each other's most like one, the most like first.

    first, second: f64 [N, 2], (row, column) of the cells' centres in pixels of either picture;
    cosines: f32 [N]; cells: how many cells each picture has, of which these are some.
    """

    first: NDArray[np.float64]
    second: NDArray[np.float64]
    cosines: NDArray[np.float32]
    cells: tuple[int, int]

    def __len__(self) -> int:
        return len(self.cosines)

    def __repr__(self) -> str:
        return f"Neighbours({len(self)} of {self.cells[0]} and {self.cells[1]} cells)"


@dataclass(frozen=True, eq=False)
class KeypointPair:
    """Two pictures of one object, and where points of the first are in the second.

    points: int [N, 2], (row, column) of pixels of the first picture; truth: f64 [N, 2], the same
    parts in the second, which may lie between pixels; box: height and width in pixels of the box
    around the object in the second; mirrored: whether it faces the other way there.
    """

    first: Picture
    second: Picture
    points: NDArray[np.int64]
    truth: NDArray[np.float64]
    box: tuple[int, int]
    mirrored: bool = False

    def __post_init__(self) -> None:
        points_of(self.points, self.first.size, f"points of {self.first.name}")
        if not is_array(self.truth) or self.truth.shape != self.points.shape:
            raise FslabError(
                f"{self.second.name}: truth is {described(self.truth)} for points "
                f"{list(self.points.shape)}; each point has its place, f64 [N, 2]"
            )
        if min(self.box) < 1:
            raise FslabError(
                f"{self.second.name}: box is {self.box}; it must be a height and a width"
            )

    def __repr__(self) -> str:
        sizes = " and ".join(" x ".join(map(str, each.size)) for each in (self.first, self.second))
        return f"KeypointPair({self.first.name!r}, {len(self.points)} points in {sizes})"
