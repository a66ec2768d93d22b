"""Mean-field inference of dense CRFs over one picture: all masks and labels in one pass."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from fslab.refine import filtering
from fslab.refine.lattice import Lattice, Spend, crew_of
from fslab.refine.reach import Term

_NEVER = np.float32(-1e30)
"""The log odds of a channel that is there only to make four, and shall never win."""


def infer(
    pixels: np.ndarray, odds: np.ndarray, terms: Sequence[Term], iterations: int,
    together: bool, threads: int, spend: Spend,
) -> np.ndarray:  # fmt: skip
    """Return log odds f32 [C, H, W] after mean-field inference (Kraehenbuehl and Koltun 2011).

    pixels: u8 [H, W, 3]. odds: log odds before, f32 [C, H, W]: of labels 1 to C against label 0
    of one CRF (together), or of C CRFs of two labels each. terms: of places and colours, then of
    places. spend: told before memory is taken. The result is the same to the last bit for any
    number of threads, which are its own and end with it.

    A channel holds the label's probability less that of label 0: filtering is linear, so that one
    channel is enough for two labels.
    """
    with crew_of(threads) as crew:
        lattice = Lattice.of(np.array(pixels, order="C"), terms, crew, spend)
        groups, slots = -(-len(odds) // 4), len(lattice.homes)
        spend(16 * groups * (odds[0].size + 2 * slots + 2 * lattice.points) + 5 * odds.nbytes)
        lanes = _to_lanes(odds, _NEVER if together else np.float32(0))
        held, sums = np.empty((2, groups * slots, 4), np.float32)
        values, spare = np.zeros((2, groups, lattice.points + 1, 4), np.float32)
        advance = partial(
            filtering.advance, lattice.tiles, lattice.starts, lattice.size[1], lattice.corners,
            lattice.weights, lattice.homes, values, held, sums, lanes, together,
        )  # fmt: skip
        for _ in range(iterations):
            crew(partial(advance, False), len(lattice.tiles))
            for group, share in enumerate(sums.reshape(groups, slots, 4)):
                scales = [term.weight for term in terms]
                lattice.blur(share, values[group], spare[group], scales, crew)
        crew(partial(advance, True), len(lattice.tiles))
    return _from_lanes(lanes, odds.shape)


def _to_lanes(maps: np.ndarray, rest: np.float32) -> np.ndarray:
    """Return maps f32 [C, H, W] as f32 [groups, H x W, 4], filled up with the rest."""
    groups = -(-len(maps) // 4)
    lanes = np.full((groups, maps[0].size, 4), rest, np.float32)
    for number, plane in enumerate(maps):
        lanes[number // 4, :, number % 4] = plane.ravel()
    return lanes


def _from_lanes(lanes: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    maps = np.empty(shape, np.float32)
    for number, plane in enumerate(maps):
        plane.ravel()[:] = lanes[number // 4, :, number % 4]
    return maps
