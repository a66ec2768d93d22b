"""Where k-means begins: scikit-learn's k-means++ to the last bit, without its repeated work.

For f32 cells scikit-learn turns all of them into f64, and sums their squares, again for each
candidate of each start. Here that is done once for all starts; the draws, the order of each sum
and the size of each product of matrices are its own, so that the centres are bit for bit the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cached_property

import numpy as np

LARGEST = 1 << 28
"""Bytes of cells in f64 above which they are not kept: scikit-learn's own way needs fewer."""


class Seeding:
    """k-means++ (Arthur and Vassilvitskii, SODA 2007) for f32 cells, as KMeans takes as `init`."""

    def __call__(
        self, cells: np.ndarray, k: int, random_state: np.random.RandomState
    ) -> np.ndarray:
        """Return k of the cells f32 [N, C] as first centres, [k, C]; the same cells at each call.

        Of 2 + log k cells, each drawn with a chance that grows with its squared distance to the
        centres so far, the next centre is the one that leaves the least of these distances.
        """
        self._cells = cells
        trials = 2 + int(np.log(k))
        weights = np.ones(len(cells), cells.dtype)
        first = random_state.choice(len(cells), p=weights / weights.sum())
        chosen, nearest = [first], self._distances([first])
        left = nearest @ weights
        for _ in range(1, k):
            drawn = random_state.uniform(size=trials) * left
            tried = np.searchsorted(np.cumsum(nearest), drawn)
            np.clip(tried, None, nearest.size - 1, out=tried)
            found = self._distances(tried)
            np.minimum(nearest, found, out=found)
            rest = found @ weights[:, None]
            best = rest.argmin()
            chosen.append(tried[best])
            left, nearest = rest[best], found[best]
        return cells[chosen]

    def _distances(self, rows: np.ndarray | list[int]) -> np.ndarray:
        """Return the squared distances of some cells to all, f32 [rows, N], through f64."""
        wide, squares = self._wide
        given, own = wide[rows], squares[rows, None]
        found = np.empty((len(given), len(wide)), np.float32)
        for part in self._parts(len(given)):
            d = -2 * (given @ wide[part].T)
            d += own
            d += squares[part]
            found[:, part] = d
        return np.maximum(found, 0, out=found)

    @cached_property
    def _wide(self) -> tuple[np.ndarray, np.ndarray]:
        wide = self._cells.astype(np.float64)
        return wide, np.einsum("ij,ij->i", wide, wide)

    def _parts(self, rows: int) -> Iterator[slice]:
        """Yield scikit-learn's slices: how a product is cut may move its last bits."""
        count, channels = self._cells.shape
        memory = max(((rows + count) * channels + rows * count) / 10, 10 * 2**17)
        size = max(int(-channels + math.sqrt(channels**2 + memory)), 1)
        for start in range(0, count, size):
            yield slice(start, min(start + size, count))


def fits(cells: np.ndarray) -> bool:
    """Return whether cells are what `Seeding` is for: f32, and few enough to be kept in f64."""
    return cells.dtype == np.float32 and 2 * cells.nbytes <= LARGEST
