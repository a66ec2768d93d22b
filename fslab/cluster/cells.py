"""Cells [N, C] to labels [N], by method; K is given, or chosen by silhouette."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping

import numpy as np
from sklearn import config_context
from sklearn.cluster import AgglomerativeClustering, KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import silhouette_score

from fslab.cluster.graph import affinity, recursive_cut, spectral_embedding
from fslab.cluster.seeding import Seeding, fits
from fslab.records import Clustering

Method = Callable[[np.ndarray, int, Clustering], np.ndarray]


def _kmeans_labels(cells: np.ndarray, k: int, settings: Clustering) -> np.ndarray:
    init = Seeding() if fits(cells) else "k-means++"  # the same centres, to the last bit
    model = KMeans(k, init=init, n_init=settings.restarts, random_state=settings.seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer distinct cells than K
        labels: np.ndarray = model.fit_predict(cells)
    return labels


def _ward_labels(cells: np.ndarray, k: int, settings: Clustering) -> np.ndarray:
    if k == len(cells):
        return np.arange(k)
    labels: np.ndarray = AgglomerativeClustering(k, linkage="ward").fit_predict(cells)
    return labels


def _spectral_labels(cells: np.ndarray, k: int, settings: Clustering) -> np.ndarray:
    rows = spectral_embedding(affinity(cells, settings.alpha), k)
    return _kmeans_labels(rows, k, settings)


def _cut_labels(cells: np.ndarray, k: int, settings: Clustering) -> np.ndarray:
    return recursive_cut(affinity(cells, settings.alpha), settings.tau)


METHODS: Mapping[str, Method] = {
    "kmeans": _kmeans_labels,
    "agglomerative": _ward_labels,
    "spectral": _spectral_labels,
    "ncut": _cut_labels,
}
"""Clusterings of cells; "merge" works on whole attention maps instead."""

AT_ONCE = 64
"""MiB of distances between cells that a silhouette has at once: all of 2,896 cells, else rows."""

GRAPHS = ("spectral", "ncut")
"""Methods that look at cells once, for the edges of their graph."""

FINDS_K = ("ncut", "merge")
"""Methods that find K for each picture by themselves."""


def best_by_silhouette(cells: np.ndarray, settings: Clustering) -> np.ndarray:
    """Return the labels int64 [N] of the K from 2 to settings.k with the highest silhouette.

    A cell's silhouette compares its mean distance to its own cluster with that to the nearest
    other one (Rousseeuw, J. Comput. Appl. Math. 1987). Among equals the smallest K wins; cells
    that are all alike are one cluster.
    """
    best, highest = np.zeros(len(cells), np.int64), -np.inf
    for k in range(2, settings.k + 1):
        labels = METHODS[settings.method](cells, k, settings)
        if len(np.unique(labels)) < 2:
            continue
        with config_context(working_memory=AT_ONCE):
            silhouette = silhouette_score(cells, labels)
        if silhouette > highest:
            best, highest = labels, silhouette
    return best
