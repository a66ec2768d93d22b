"""Cells [N, C] to labels [N], by method; K is given, or chosen by silhouette."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
from sklearn import config_context
from sklearn.cluster import AgglomerativeClustering
from sklearn.cluster import KMeans as KMeansModel
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import silhouette_score

from fslab.cluster.graph import affinity, recursive_cut, spectral_embedding
from fslab.cluster.seeding import Seeding, fits
from fslab.records import (
    Agglomerative,
    CellClustering,
    FslabError,
    KClustering,
    KMeans,
    NormalisedCut,
    Spectral,
)
from fslab.records.base import described, is_array


def kmeans(cells: np.ndarray, settings: KMeans) -> np.ndarray:
    """Cluster cells f32 [N, C] by seeded k-means: labels [N]."""
    init = Seeding() if fits(cells) else "k-means++"  # the same centres, to the last bit
    model = KMeansModel(settings.k, init=init, n_init=settings.restarts, random_state=settings.seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer distinct cells than K
        labels: np.ndarray = model.fit_predict(cells)
    return labels


def ward(cells: np.ndarray, settings: Agglomerative) -> np.ndarray:
    """Cluster cells f32 [N, C] by Ward's agglomeration: labels [N]."""
    if settings.k == len(cells):
        return np.arange(settings.k)
    labels: np.ndarray = AgglomerativeClustering(settings.k, linkage="ward").fit_predict(cells)
    return labels


def by_eigenvectors(cells: np.ndarray, settings: Spectral) -> np.ndarray:
    """Cluster cells f32 [N, C] by the eigenvectors of their graph: labels [N]."""
    return kmeans(spectral_embedding(affinity(cells, settings.alpha), settings.k), settings)


def by_cuts(cells: np.ndarray, settings: NormalisedCut) -> np.ndarray:
    """Cut the graph of cells f32 [N, C] while a cut is cheap: labels [N]."""
    return recursive_cut(affinity(cells, settings.alpha), settings.tau)


def labels_of(cells: np.ndarray, settings: CellClustering) -> np.ndarray:
    """Return what a method makes of cells f32 [N, C]: labels [N]; FslabError for anything else."""
    labels = settings.run(cells, settings)
    if not is_array(labels) or labels.dtype.kind not in "iu" or labels.shape != (len(cells),):
        raise FslabError(
            f"clustering {settings.method!r} returned {described(labels)}; it must return whole "
            f"numbers [{len(cells)}], a label for each cell"
        )
    return labels


AT_ONCE = 64
"""MiB of distances between cells that a silhouette has at once: all of 2,896 cells, else rows."""


def with_k(settings: KClustering, k: int) -> KClustering:
    """Return settings that ask for so many clusters and nothing else."""
    return replace(settings, k=k, k_is="fixed", also=())


def best_by_silhouette(cells: np.ndarray, settings: KClustering) -> np.ndarray:
    """Return the labels int64 [N] of the K from 2 to settings.k with the highest silhouette.

    A cell's silhouette compares its mean distance to its own cluster with that to the nearest
    other one (Rousseeuw, J. Comput. Appl. Math. 1987). Among equals the smallest K wins; cells
    that are all alike are one cluster.
    """
    best, highest = np.zeros(len(cells), np.int64), -np.inf
    for k in range(2, settings.k + 1):
        labels = labels_of(cells, with_k(settings, k))
        if len(np.unique(labels)) < 2:
            continue
        with config_context(working_memory=AT_ONCE):
            silhouette = silhouette_score(cells, labels)
        if silhouette > highest:
            best, highest = labels, silhouette
    return best
