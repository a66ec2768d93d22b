"""Features to segments: the cells' clusters, then the pixels'."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from fslab.cluster.bounds import check_bytes
from fslab.cluster.cells import FINDS_K, GRAPHS, METHODS, best_by_silhouette
from fslab.cluster.joining import coordinates, join, shape_of
from fslab.cluster.merging import aggregate, merge_maps
from fslab.cluster.pixels import assign_pixels, lowest, means, nearest, without_gaps
from fslab.parts import versioned
from fslab.process import stage
from fslab.records import (
    Clustering,
    Features,
    FslabError,
    Segments,
    check_kind,
    check_numbers,
)


@versioned(1)
@stage
def cluster(features: Features, settings: Clustering, candidates: int = 0) -> Segments:
    """Return segments at the picture's own size.

    candidates: how many classes the caption named, for k_is="candidates". Cells get labels
    from the method; a pixel takes the cluster whose mean is nearest to its features, which
    are interpolated between cells, or with upsample="nearest" its cell's label. With "merge" a
    pixel takes the segment whose interpolated attention is strongest there.
    Clusters that no pixel takes are dropped, so ids stay without gaps. settings.also: the same
    for other values of K, in `others`.
    Raises FslabError where K does not fit the number of cells, for numbers that are not finite, by
    their layer's name, and where "merge" is given features that are no self-attention; OutOfMemory,
    which is one, where the clustering would take more memory than is free.
    """
    check_kind(features, Features, "features")
    for layer, value in features.items():
        check_numbers(value, f"{features.name}: layer {layer!r}")
    if not features:
        raise FslabError(f"{features.name}: there are no features to cluster")
    check_bytes(features, settings)
    if settings.method == "merge":
        return Segments(without_gaps(_merged(features, settings)))
    joined = (coordinates if _pays(features, settings) else join)(features, settings)
    first, *others = (
        Segments(_segmented(joined, features, replace(settings, k=k, also=()), candidates))
        for k in (settings.k, *settings.also)
    )
    return replace(first, others=tuple(others))


def _pays(features: Features, settings: Clustering) -> bool:
    """Tell whether fewer coordinates save more than they cost: a graph's edges are one product of
    the cells, which is dear only where cells are enlarged."""
    _, h, w = shape_of(features, settings)
    enlarged = any(value[0].size < h * w for value in features.values())
    return enlarged or settings.method not in GRAPHS


def _segmented(
    joined: np.ndarray, features: Features, settings: Clustering, candidates: int
) -> np.ndarray:
    cells = joined.reshape(len(joined), -1).T
    labels = _label(cells, features.name, settings, candidates)
    if settings.upsample == "nearest":
        return without_gaps(nearest(labels.reshape(joined.shape[1:]), features.size))
    return without_gaps(assign_pixels(joined, means(cells, labels), features.size))


def kmeans(features: Features, k: int = 4, **settings: Any) -> Segments:
    """Cluster by seeded k-means (Euclidean, k-means++); settings as in `Clustering`."""
    return cluster(features, Clustering(method="kmeans", k=k, **settings))


def agglomerative(features: Features, k: int = 4, **settings: Any) -> Segments:
    """Cluster by Ward's agglomeration; settings as in `Clustering`."""
    return cluster(features, Clustering(method="agglomerative", k=k, **settings))


def spectral(features: Features, k: int = 4, **settings: Any) -> Segments:
    """Cluster by the eigenvectors of the cells' graph; settings as in `Clustering`."""
    return cluster(features, Clustering(method="spectral", k=k, **settings))


def ncut(features: Features, tau: float = 0.5, **settings: Any) -> Segments:
    """Cut the cells' graph while a cut costs less than tau; settings as in `Clustering`."""
    return cluster(features, Clustering(method="ncut", tau=tau, **settings))


def merge(features: Features, threshold: float = 1.0, **settings: Any) -> Segments:
    """Merge self-attention maps nearer than a threshold; settings as in `Clustering`."""
    return cluster(features, Clustering(method="merge", threshold=threshold, **settings))


def _label(cells: np.ndarray, name: str, settings: Clustering, candidates: int) -> np.ndarray:
    if settings.method in FINDS_K:
        return METHODS[settings.method](cells, 0, settings)
    k = settings.k + (candidates if settings.k_is == "candidates" else 0)
    highest = len(cells) - (settings.k_is == "silhouette")  # which is for cells with company
    if not 1 <= k <= highest:
        raise FslabError(
            f"{name}: K is {k}; these features have {len(cells)} cells, so K is 1 to {highest}"
        )
    if settings.k_is == "silhouette":
        return best_by_silhouette(cells, settings)
    return METHODS[settings.method](cells, k, settings)


def _merged(features: Features, settings: Clustering) -> np.ndarray:
    maps = aggregate(features.maps, settings.grid)
    merged = merge_maps(maps, settings.anchors, settings.rounds, settings.threshold)
    if settings.upsample == "nearest":
        return nearest(merged.argmax(0), features.size)
    return lowest(-merged, features.size)
