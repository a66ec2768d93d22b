"""The mean field's steps over a picture's lattices: compiled loops.

N pixels, in tiles; each has nine corners, six in a lattice of five dimensions and three in one of
two. A tile's corners are its slots; slots of one place are one point of a lattice. Tiles and
points may be shared out among threads in any way: every number comes from the same operations in
the same order.
"""

from __future__ import annotations

import math

import numpy as np

from fslab.refine.lanes import BLOCK, add, compiled, load, store, zero

CORNERS = 9
"""Six of five dimensions, then three of two."""

_HALF, _ONE = np.float32(0.5), np.float32(1)
_ROUNDS = np.float32(3 * 2**22)
"""Added and taken away again, it rounds a float32 below 2**22 to the nearest whole number."""

_SERIES = tuple(
    np.float32(math.log(2) ** power / math.factorial(power)) for power in (6, 5, 4, 3, 2, 1, 0)
)
"""Of 2**x by powers of x."""


@compiled
def merge(sums, homes, start, end, values, first, last):
    """Sum up slots from start to end, f32 [slots, 4], into points from first to last."""
    values[first:last] = 0
    for slot in range(start, end):
        home = np.int64(homes[slot])
        store(values, home, add(load(values, home), _ONE, load(sums, slot)))


@compiled
def blur(values, blurred, around, scale, first, start, end):
    """Write scale x (1/2, 1, 1/2) along one axis, for points from start to end of a lattice."""
    for number in range(start, end):
        one, other = np.int64(around[number, 0]), np.int64(around[number, 1])
        near = add(load(values, one), _ONE, load(values, other))
        total = add(load(values, first + number), _HALF, near)
        store(blurred, first + number, add(zero(), scale, total))


@compiled
def normalise(tiles, starts, width, corners, weights, homes, mass, first, last):
    """Divide weights by the root of what the lattice makes of ones: symmetric normalisation."""
    for tile in range(first, last):
        top, bottom, left, right = tiles[tile]
        for row in range(top, bottom):
            for at in range(row * width + left, row * width + right):
                for lattice, start, end in ((0, 0, 6), (1, 6, CORNERS)):
                    total = np.float32(0)
                    for i in range(start, end):
                        home = homes[starts[lattice, tile] + corners[at, i]]
                        total += weights[at, i] * mass[home, 0]
                    norm = np.float32(1 / np.sqrt(total + 1e-20))
                    for i in range(start, end):
                        weights[at, i] *= norm


@compiled
def _power(x):
    """Return e**x for x of at most 0, to about 1e-7 of itself, and no less than e**-80."""
    doubled = np.float32(1.442695041) * max(x, np.float32(-80))
    whole = (doubled + _ROUNDS) - _ROUNDS
    rest = doubled - whole
    found = _SERIES[0]
    for factor in _SERIES[1:]:
        found = found * rest + factor
    return found * np.int32((np.int32(whole) + 127) << 23).view(np.float32)


@compiled
def _differ(odds, count):
    """Turn log odds of two labels into how much more likely one is than the other."""
    for i in range(count):
        size = abs(odds[i])
        rest = _power(-size if size < np.float32(80) else np.float32(-80))
        more = (_ONE - rest) / (_ONE + rest)
        if odds[i] >= 0:
            odds[i] = more
        elif odds[i] < 0:
            odds[i] = -more  # and what is no number stays that


@compiled
def _compete(odds, ones):
    """Turn log odds against label 0 into how much more likely than it each other label is."""
    flat, rows = odds.reshape(-1), len(odds)
    most, total = np.zeros(BLOCK, np.float32), np.empty(BLOCK, np.float32)
    for row in range(rows):
        one = max(flat[4 * row], flat[4 * row + 1])
        other = max(flat[4 * row + 2], flat[4 * row + 3])
        most[row % BLOCK] = max(most[row % BLOCK], max(one, other))
    for row in range(rows):
        store(odds, row, add(load(odds, row), -most[row % BLOCK], load(ones, 0)))
    for i in range(4 * rows):
        flat[i] = _power(flat[i]) if flat[i] <= 0 else np.float32(np.nan)
    for p in range(BLOCK):
        most[p] = total[p] = _power(-most[p])
    for row in range(rows):
        one, other = flat[4 * row] + flat[4 * row + 1], flat[4 * row + 2] + flat[4 * row + 3]
        total[row % BLOCK] += one + other
    for p in range(BLOCK):
        total[p] = _ONE / total[p]
        most[p] *= total[p]
    for row in range(rows):
        share = add(zero(), total[row % BLOCK], load(odds, row))
        store(odds, row, add(share, -most[row % BLOCK], load(ones, 0)))


@compiled
def advance(tiles, starts, width, corners, weights, homes, values, held, sums, odds, together, ends,
            first, last):  # fmt: skip
    """Take one step of the mean field in some tiles: filter, add, squash, and splat again.

    odds: f32 [groups, N, 4], each channel's energy below that of label 0, with which channels
    compete (together) or each with its own. values: f32 [groups, points + 1, 4]. Written: sums
    f32 [groups, slots, 4]; or, where the field ends here, the sums of energies into odds.
    """
    groups, slots, pixels, points = len(odds), len(homes), odds.shape[1], values.shape[1]
    near = np.zeros((groups * BLOCK, 4), np.float32)
    flat, ones = near.reshape(-1), np.ones((1, 4), np.float32)
    for tile in range(first, last):
        top, bottom, left, right = tiles[tile]
        n, one, other = right - left, starts[0, tile], starts[1, tile]
        for lattice in range(2):
            for group in range(groups):
                for slot in range(starts[lattice, tile], starts[lattice, tile + 1]):
                    home = group * points + np.int64(homes[slot])
                    store(held, group * slots + slot, load(values, home))
                    store(sums, group * slots + slot, zero())
        for row in range(top, bottom):
            at = row * width + left
            for group in range(groups):
                base = group * slots
                for p in range(n):
                    total = load(odds, group * pixels + at + p)
                    for i in range(6):
                        slot = base + one + np.int64(corners[at + p, i])
                        total = add(total, weights[at + p, i], load(held, slot))
                    for i in range(6, CORNERS):
                        slot = base + other + np.int64(corners[at + p, i])
                        total = add(total, weights[at + p, i], load(held, slot))
                    if ends:
                        store(odds, group * pixels + at + p, total)
                    else:
                        store(near, group * BLOCK + p, total)
            if ends:
                continue
            if together:
                _compete(near, ones)
            else:
                _differ(flat, 4 * groups * BLOCK)
            for group in range(groups):
                base = group * slots
                for p in range(n):
                    belief = load(near, group * BLOCK + p)
                    for i in range(6):
                        slot = base + one + np.int64(corners[at + p, i])
                        store(sums, slot, add(load(sums, slot), weights[at + p, i], belief))
                    for i in range(6, CORNERS):
                        slot = base + other + np.int64(corners[at + p, i])
                        store(sums, slot, add(load(sums, slot), weights[at + p, i], belief))
