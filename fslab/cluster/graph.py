"""Cells as a graph whose edges say how alike they are: normalised cuts and spectral clustering.

A cut's cost is the share of edges it severs, Ncut(A, B) = cut / assoc(A) + cut / assoc(B) (Shi
and Malik, PAMI 2000); the second generalised eigenvector of the graph's Laplacian is where the
cheapest cut would be if cells could be split.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh
from scipy.sparse.linalg import ArpackNoConvergence, eigsh

from fslab.vectors import unit

DENSE = 64
"""Below this many cells all eigenvectors at once cost less than an iteration for one."""


def affinity(cells: NDArray[np.floating], alpha: float) -> np.ndarray:
    """Return how alike cells [N, C] are: f64 [N, N], cosines brought to 0..1, to the power alpha.

    A high power leaves only close likeness standing, so that the many faint edges of a picture
    do not outweigh its few strong ones (Couairon et al., NeurIPS 2024).
    """
    scaled = unit(cells, least=1e-8)
    cosines = (scaled @ scaled.T).astype(np.float64)
    low, high = cosines.min(), cosines.max()
    alike = (cosines - low) / (high - low) if high > low else np.ones_like(cosines)
    np.fill_diagonal(alike, 1.0)  # a cell without length is like itself too
    edges: NDArray[np.float64] = alike**alpha
    return edges


def recursive_cut(graph: np.ndarray, tau: float) -> np.ndarray:
    """Cut a graph in two again and again while a cut costs less than tau: labels int64 [N].

    graph: affinities f64 [N, N]. How many parts there are is found, not given.
    """
    labels, count = np.zeros(len(graph), np.int64), 1
    waiting = [np.arange(len(graph))]
    while waiting:
        members = waiting.pop()
        side, cost = normalised_cut(graph[np.ix_(members, members)])
        if cost < tau:
            labels[members[side]], count = count, count + 1
            waiting += [members[side], members[~side]]
    return labels


def normalised_cut(graph: np.ndarray) -> tuple[np.ndarray, float]:
    """Return a cut of a graph f64 [N, N] as bool [N], and its cost; one cell costs infinity.

    Cells are put in the order of the second eigenvector, and every place in that order is tried
    as the cut, with running sums: one pass over the graph for all of them.
    """
    if len(graph) < 2:
        return np.zeros(len(graph), bool), float("inf")
    degrees = graph.sum(1)
    vector = leading_vectors(graph, 2)[:, 1] / np.sqrt(degrees)
    order = np.argsort(vector, kind="stable")
    ordered = graph[np.ix_(order, order)]
    volume = degrees[order].cumsum()
    within = np.cumsum(2 * np.tril(ordered, -1).sum(1) + ordered.diagonal())
    cut, left = (volume - within)[:-1], volume[:-1]
    cost = cut / left + cut / (volume[-1] - left)
    place = int(cost.argmin())
    side = np.zeros(len(graph), bool)
    side[order[: place + 1]] = True
    return side, float(cost[place])


def leading_vectors(graph: np.ndarray, count: int) -> np.ndarray:
    """Return the leading eigenvectors of the normalised graph D^-1/2 W D^-1/2: f64 [N, count].

    They are the last of the normalised Laplacian. The first is known, the root of the degrees;
    the others are found by Lanczos iteration (ARPACK) from a start of no chance, which is many
    times faster than all N at once. A vector's sign makes its largest entry positive.
    """
    first = np.sqrt(graph.sum(1))
    normal = graph / np.outer(first, first)
    if len(graph) < max(DENSE, 2 * count):
        vectors: NDArray[np.float64] = eigh(normal)[1][:, ::-1][:, :count]
    else:
        vectors = _lanczos(normal, count)
    peaks = np.abs(vectors).argmax(0)
    signed: NDArray[np.float64] = vectors * np.sign(vectors[peaks, np.arange(vectors.shape[1])])
    return signed


def _lanczos(normal: np.ndarray, count: int) -> NDArray[np.float64]:
    start = np.cos(np.arange(len(normal), dtype=np.float64))
    values: NDArray[np.float64]
    vectors: NDArray[np.float64]
    try:
        values, vectors = eigsh(normal, count, which="LA", v0=start, tol=1e-6)
    except ArpackNoConvergence:
        values, vectors = eigh(normal)
    return vectors[:, np.argsort(values)[::-1][:count]]


def spectral_embedding(graph: np.ndarray, count: int) -> NDArray[np.floating]:
    """Return each cell's row of the leading eigenvectors, at unit length: f64 [N, count].

    In these coordinates the parts of a graph are compact, whatever shape they have among the
    features (Ng, Jordan and Weiss, NIPS 2001).
    """
    return unit(leading_vectors(graph, count))
