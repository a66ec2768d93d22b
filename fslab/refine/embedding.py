"""Where pixels lie in a permutohedral lattice: compiled loops.

Source: Adams, Baek and Davis, Fast High-Dimensional Filtering Using the Permutohedral Lattice,
Eurographics 2010, pages 4 to 6, with the order of operations of pydensecrf's float32.
"""

from __future__ import annotations

import numpy as np

from fslab.refine.lanes import BLOCK, compiled

_ONE = np.float32(1)
_ROUNDS = np.float32(3 * 2**22)
"""Added and taken away again, it rounds a float32 below 2**22 to the nearest whole number."""

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_NONE = np.uint32(2**32 - 1)


@compiled
def _elevate(spots, whole, rank, key, moved, scales, strides):
    """Place BLOCK points in their simplices; all rows are BLOCK long and lie one after another.

    spots f32: features, then what is left of each coordinate above the simplex's first corner.
    rank i32: how many coordinates have more left. key i64: of the first corner.
    """
    d = len(scales)
    down, up = _ONE / np.float32(d + 1), np.float32(d + 1)
    for p in range(BLOCK):
        whole[p] = 0
    for i in range(d, 0, -1):
        number = np.float32(i)
        for p in range(BLOCK):
            scaled = spots[(i - 1) * BLOCK + p] * scales[i - 1]
            spots[i * BLOCK + p] = whole[p] - number * scaled
            whole[p] += scaled
    for p in range(BLOCK):
        spots[p] = whole[p]
        moved[p] = key[p] = 0
    for i in range(d + 1):
        for p in range(BLOCK):
            nearest = (down * spots[i * BLOCK + p] + _ROUNDS) - _ROUNDS
            moved[p] += np.int32(nearest)
            whole[i * BLOCK + p] = nearest
            spots[i * BLOCK + p] -= nearest * up
            rank[i * BLOCK + p] = 0
    for i in range(d):
        for j in range(i + 1, d + 1):
            for p in range(BLOCK):
                less = np.int32(spots[i * BLOCK + p] < spots[j * BLOCK + p])
                rank[i * BLOCK + p] += less
                rank[j * BLOCK + p] += np.int32(1) - less
    for i in range(d + 1):
        for p in range(BLOCK):
            place = rank[i * BLOCK + p] + moved[p]
            turn = np.int32(place < 0) - np.int32(place > d)
            rank[i * BLOCK + p] = place + turn * np.int32(d + 1)
            key[p] += np.int64(np.int32(whole[i * BLOCK + p]) + turn) * strides[i]
            spots[i * BLOCK + p] = (spots[i * BLOCK + p] - np.float32(turn) * up) * down


@compiled
def _fill(table, size, points, count):
    """Enter the first `count` points in a table of `size` places, a power of two."""
    for at in range(size):
        table[at] = _NONE
    for number in range(count):
        table[_find(table, size, points, points[number])] = number


@compiled
def _find(table, size, points, key):
    """Return the place in the table where a key is, or may be entered."""
    last = np.uint64(size - 1)
    hashed = np.uint64(key) * _GOLDEN
    at = (hashed ^ (hashed >> np.uint64(32))) & last
    while table[at] != _NONE and points[table[at]] != key:
        at = (at + np.uint64(1)) & last
    return at


@compiled
def embed(
    pixels, width, tile, sizes, scales, strides, step, corners, weights, column, points, mass, table
):
    """Find a tile's corners in one lattice and their weights; return how many places they are.

    pixels: u8 [N, 3]; tile: i64 [4], its top, bottom, left and right; sizes: f32 [d], the widths
    that columns, rows and colours are divided by. Written, from `column` on: corners u16 [N, 9]
    and weights f32 [N, 9]. points: i64, the places' keys; mass: f32, the sum of weights at each.
    table: u32, room to find them.
    """
    d = len(scales)
    top, bottom, left, right = tile
    spots, whole = np.empty(6 * BLOCK, np.float32), np.empty(6 * BLOCK, np.float32)
    rank, moved = np.empty(6 * BLOCK, np.int32), np.empty(BLOCK, np.int32)
    keys, over, drop = np.empty(BLOCK, np.int64), np.empty(6, np.float32), np.empty(6, np.int64)
    count, size = 0, 4096
    _fill(table, size, points, 0)
    for row in range(top, bottom):
        for p in range(BLOCK):
            pixel = min(left + p, right - 1)
            spots[p] = np.float32(pixel) / sizes[0]
            spots[BLOCK + p] = np.float32(row) / sizes[1]
            for i in range(2, d):
                spots[i * BLOCK + p] = np.float32(pixels[row * width + pixel, i - 2]) / sizes[i]
        _elevate(spots, whole, rank, keys, moved, scales, strides)
        if 2 * (count + 6 * BLOCK) > size:
            while 2 * (count + 6 * BLOCK) > size:
                size *= 2
            _fill(table, size, points, count)
        for p in range(right - left):
            at = row * width + left + p
            for i in range(d + 1):
                over[rank[i * BLOCK + p]] = spots[i * BLOCK + p]
                drop[rank[i * BLOCK + p]] = strides[i]
            key = keys[p]
            for i in range(d + 1):
                if i == 0:
                    weight = over[d] + (_ONE - over[0])
                else:
                    weight = over[d - i] - over[d - i + 1]
                    key += step - drop[d - i + 1]
                place = _find(table, size, points, key)
                number = table[place]
                if number == _NONE:
                    number = np.uint32(count)
                    table[place], points[count], mass[count] = number, key, 0
                    count += 1
                mass[number] += weight
                weights[at, column + i] = weight
                corners[at, column + i] = number
    return count


@compiled
def meet(points, step, strides, first, around):
    """Find each point's two neighbours on each axis, of points sorted by key.

    around: u32 [axes, points, 2], counted from `first` on; it holds beforehand what means none.
    """
    for axis in range(len(strides)):
        other = 0
        for number in range(len(points)):
            key = points[number] + step - strides[axis]
            while other < len(points) and points[other] < key:
                other += 1
            if other < len(points) and points[other] == key:
                around[axis, number, 1] = first + other
                around[axis, other, 0] = first + number
