"""The permutohedral lattices of one picture: built once, they filter any number of maps over it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np

from fslab.refine import embedding, filtering
from fslab.refine.lanes import BLOCK
from fslab.refine.reach import Term, elevation, radices

ROWS = 64
"""The most rows of a tile: with `BLOCK` columns, six corners a pixel are below 2**16."""

_SHARE = 1 << 16
"""Points below which blurring in several threads costs more than it saves."""

Crew = Callable[..., list[Any]]
"""Calls a function with the bounds of equal shares of so many things, each of at least so many."""

Spend = Callable[[int], None]
"""Told how many bytes are taken next; it may raise."""


_Found = list[tuple[np.ndarray, np.ndarray]]
"""A tile's keys and the mass at each, by lattice."""


@contextmanager
def crew_of(threads: int) -> Iterator[Crew]:
    """Give threads of its own to a lattice, none where one thread does the work."""

    def work(
        pool: ThreadPoolExecutor | None, task: Callable[..., Any], count: int, least: int = 1
    ) -> list[Any]:
        parts = max(min(threads, count // least), 1)
        cuts = [count * part // parts for part in range(parts + 1)]
        return list((pool.map if pool else map)(task, cuts[:-1], cuts[1:]))

    if threads == 1:
        yield partial(work, None)
    else:
        with ThreadPoolExecutor(threads) as pool:
            yield partial(work, pool)


@dataclass
class Lattice:
    """Two lattices over one picture of N pixels: of places and colours, and of places alone.

    tiles: i64 [tiles, 4], top, bottom, left and right of each. corners: u16 [N, 9], each pixel's
    six in the first and three in the second, counted from its tile's first slot; weights: f32
    [N, 9], their shares, divided by the root of the filtered ones. starts: i64 [2, tiles + 1],
    where each tile's slots begin. homes: u32 [slots], the point that each is. around: each
    lattice's neighbours, u32 [axes, points, 2]; where there is none, the row behind all points.
    """

    size: tuple[int, int]
    tiles: np.ndarray
    corners: np.ndarray
    weights: np.ndarray
    starts: np.ndarray
    homes: np.ndarray
    around: tuple[np.ndarray, ...]

    @classmethod
    def of(cls, pixels: np.ndarray, terms: Sequence[Term], crew: Crew, spend: Spend) -> Lattice:
        """Build both over pixels u8 [H, W, 3]; the terms have five widths, then two."""
        height, width = pixels.shape[:2]
        tiles = _tiles(height, width)
        spend(height * width * filtering.CORNERS * 6)
        corners = np.empty((height * width, filtering.CORNERS), np.uint16)
        weights = np.empty((height * width, filtering.CORNERS), np.float32)
        grids = [_Grid.of(term, pixels) for term in terms]
        task = partial(_embed, pixels, tiles, grids, corners, weights)
        found = [tile for share in crew(task, len(tiles)) for tile in share]
        starts, homes, places, mass = _unite(found, spend)
        spend(sum(map(len, places)) * 8 * len(grids[0].strides))
        around = _around(places, grids)
        lattice = cls((height, width), tiles, corners, weights, starts, homes, around)
        lattice._normalise(mass, crew, spend)
        return lattice

    @property
    def points(self) -> int:
        """How many points both have together."""
        return sum(near.shape[1] for near in self.around)

    def blur(
        self, sums: np.ndarray, values: np.ndarray, spare: np.ndarray,
        scales: Sequence[float], crew: Crew,
    ) -> None:  # fmt: skip
        """Blur what pixels gave their slots along all axes, times each lattice's scale.

        sums: f32 [slots, 4]. Written: values f32 [points + 1, 4], whose last row is 0 before, as
        that of spare is, which is room.
        """
        first = 0
        for near, (start, end), scale in zip(
            self.around, self.starts[:, [0, -1]], scales, strict=True
        ):
            count = near.shape[1]
            one, other = (spare, values) if len(near) % 2 else (values, spare)
            filtering.merge(sums, self.homes, start, end, one, first, first + count)
            for axis, along in enumerate(near):
                factor = np.float32(scale if axis == len(near) - 1 else 1)
                task = partial(filtering.blur, one, other, along, factor, first)
                crew(task, count, _SHARE)
                one, other = other, one
            first += count

    def _normalise(self, mass: np.ndarray, crew: Crew, spend: Spend) -> None:
        """Divide the weights, so that filtering is normalised as pydensecrf does it by default."""
        spend(16 * (len(mass) + 2 * self.points))
        sums = np.zeros((len(mass), 4), np.float32)
        sums[:, 0] = mass
        values, spare = np.zeros((2, self.points + 1, 4), np.float32)
        self.blur(sums, values, spare, (1.0, 1.0), crew)
        task = partial(
            filtering.normalise, self.tiles, self.starts, self.size[1], self.corners, self.weights,
            self.homes, values,
        )  # fmt: skip
        crew(task, len(self.tiles))


@dataclass(frozen=True)
class _Grid:
    """How one lattice's coordinates are reckoned, and packed into keys."""

    sizes: np.ndarray
    scales: np.ndarray
    strides: np.ndarray
    step: int

    @classmethod
    def of(cls, term: Term, pixels: np.ndarray) -> _Grid:
        ranges = radices(term, pixels)
        units = [math.prod(ranges[:axis]) for axis in range(len(ranges))]
        return cls(
            np.array([min(size, 1e30) for size in term.sizes], np.float32),
            np.array(elevation(len(ranges)), np.float32),
            np.array([*((len(ranges) + 1) * unit for unit in units), 0], np.int64),
            sum(units),
        )


def _tiles(height: int, width: int) -> np.ndarray:
    """Return tiles of about one size, i64 [tiles, 4], which depend on the picture's size alone."""
    cuts = [
        [length * part // parts for part in range(parts + 1)]
        for length, parts in ((height, -(-height // ROWS)), (width, -(-width // BLOCK)))
    ]
    downs, rights = (list(pairwise(each)) for each in cuts)
    return np.array([(*down, *right) for down in downs for right in rights], np.int64)


def _embed(
    pixels: np.ndarray, tiles: np.ndarray, grids: Sequence[_Grid], corners: np.ndarray,
    weights: np.ndarray, start: int, end: int,
) -> list[_Found]:  # fmt: skip
    """Return each tile's keys and the mass at each, by lattice; corners and weights are written."""
    flat, most = pixels.reshape(-1, 3), ROWS * BLOCK * 6
    keys, mass = np.empty(most, np.int64), np.empty(most, np.float32)
    table = np.empty(1 << (2 * most).bit_length(), np.uint32)
    found = []
    for tile in tiles[start:end]:
        by_lattice = []
        for grid, column in zip(grids, (0, 6), strict=True):
            count = embedding.embed(
                flat, pixels.shape[1], tile, grid.sizes, grid.scales, grid.strides, grid.step,
                corners, weights, column, keys, mass, table,
            )  # fmt: skip
            by_lattice.append((keys[:count].copy(), mass[:count].copy()))
        found.append(by_lattice)
    return found


def _unite(
    found: Sequence[_Found], spend: Spend
) -> tuple[np.ndarray, np.ndarray, list[np.ndarray], np.ndarray]:
    """Return where slots start, the point that each is, the points' keys, and the slots' mass."""
    starts, first = np.zeros((2, len(found) + 1), np.int64), 0
    homes, places, masses = [], [], []
    for number in range(2):
        keys, mass = zip(*(tile[number] for tile in found), strict=True)
        starts[number] = np.cumsum([starts[0, -1], *map(len, keys)])
        spend(int(starts[number, -1] - starts[number, 0]) * 48)
        points, home = np.unique(np.concatenate(keys), return_inverse=True)
        homes.append((home + first).astype(np.uint32))
        places.append(points)
        masses.append(np.concatenate(mass))
        first += len(points)
    return starts, np.concatenate(homes), places, np.concatenate(masses)


def _around(places: Sequence[np.ndarray], grids: Sequence[_Grid]) -> tuple[np.ndarray, ...]:
    """Return each lattice's neighbours, u32 [axes, points, 2], of its sorted keys."""
    none, first, found = sum(map(len, places)), 0, []
    for points, grid in zip(places, grids, strict=True):
        near = np.full((len(grid.strides), len(points), 2), none, np.uint32)
        embedding.meet(points, grid.step, grid.strides, first, near)
        found.append(near)
        first += len(points)
    return tuple(found)
