"""Features to segments: the cells' clusters, then the pixels'."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from fslab.cluster.bounds import check_bytes
from fslab.cluster.cells import best_by_silhouette, labels_of, with_k
from fslab.cluster.joining import coordinates, grid_of, join
from fslab.cluster.pixels import assign_pixels, means, nearest, without_gaps
from fslab.parts import call, versioned
from fslab.process import stage
from fslab.records import (
    CellClustering,
    Clustering,
    Features,
    FslabError,
    KClustering,
    OwnClustering,
    Segments,
    check_kind,
    check_numbers,
    clustering,
)
from fslab.records.stages import whole_numbers


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
    their layer's name, where "merge" is given features that are not self-attention, and for what a
    function of somebody's own returns that is not segments; OutOfMemory, which is one, where the
    clustering would take more memory than is free.
    """
    check_kind(features, Features, "features")
    for layer, value in features.items():
        check_numbers(value, f"{features.name}: layer {layer!r}")
    if isinstance(settings, OwnClustering):
        found = call(settings.function, features, candidates=candidates)
        return _checked(found, features, settings)
    if not features:
        raise FslabError(f"{features.name}: there are no features to cluster")
    check_bytes(features, settings)
    if not isinstance(settings, CellClustering):
        return _checked(settings.run(features, settings), features, settings)
    joined = (coordinates if _pays(features, settings) else join)(features, settings)
    if settings.facts.finds_k or not isinstance(settings, KClustering):
        return Segments(_segmented(joined, features, settings, candidates))
    first, *others = (
        Segments(_segmented(joined, features, replace(settings, k=k, also=()), candidates))
        for k in (settings.k, *settings.also)
    )
    return replace(first, others=tuple(others))


def _checked(found: object, features: Features, settings: Clustering) -> Segments:
    """Return what a function made as segments of the picture, numbered without gaps."""
    try:
        if isinstance(found, Segments):
            segments = found
        else:
            segments = Segments(without_gaps(whole_numbers(found, "segments")))
    except FslabError as error:
        raise FslabError(
            f"{features.name}: {settings.method} did not return segments: {error}"
        ) from error
    if segments.size != features.size:
        raise FslabError(
            f"{features.name}: {settings.method} returned segments of {_size(segments.size)} "
            f"pixels; the picture has {_size(features.size)}"
        )
    return segments


def _size(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]}"


def _pays(features: Features, settings: CellClustering) -> bool:
    """Tell whether fewer coordinates save more than they cost: a graph's edges are one product of
    the cells, which is dear only where cells are enlarged."""
    h, w = grid_of(features, settings)
    enlarged = any(value[0].size < h * w for value in features.values())
    return enlarged or not settings.facts.graph


def _segmented(
    joined: np.ndarray, features: Features, settings: CellClustering, candidates: int
) -> np.ndarray:
    cells = joined.reshape(len(joined), -1).T
    labels = _label(cells, features.name, settings, candidates)
    if settings.upsample == "nearest":
        return without_gaps(nearest(labels.reshape(joined.shape[1:]), features.size))
    return without_gaps(assign_pixels(joined, means(cells, labels), features.size))


def kmeans(features: Features, k: int = 4, **settings: Any) -> Segments:
    """Cluster by seeded k-means (Euclidean, k-means++); settings as in `KMeans`."""
    return cluster(features, clustering.settings("kmeans", k=k, **settings))


def agglomerative(features: Features, k: int = 4, **settings: Any) -> Segments:
    """Cluster by Ward's agglomeration; settings as in `Agglomerative`."""
    return cluster(features, clustering.settings("agglomerative", k=k, **settings))


def spectral(features: Features, k: int = 4, **settings: Any) -> Segments:
    """Cluster by the eigenvectors of the cells' graph; settings as in `Spectral`."""
    return cluster(features, clustering.settings("spectral", k=k, **settings))


def ncut(features: Features, tau: float = 0.5, **settings: Any) -> Segments:
    """Cut the cells' graph while a cut costs less than tau; settings as in `NormalisedCut`."""
    return cluster(features, clustering.settings("ncut", tau=tau, **settings))


def merge(features: Features, threshold: float = 1.0, **settings: Any) -> Segments:
    """Merge self-attention maps nearer than a threshold; settings as in `Merging`."""
    return cluster(features, clustering.settings("merge", threshold=threshold, **settings))


def _label(cells: np.ndarray, name: str, settings: CellClustering, candidates: int) -> np.ndarray:
    if settings.facts.finds_k or not isinstance(settings, KClustering):
        return labels_of(cells, settings)
    k = settings.k + (candidates if settings.k_is == "candidates" else 0)
    highest = len(cells) - (settings.k_is == "silhouette")  # which is for cells with company
    if not 1 <= k <= highest:
        raise FslabError(
            f"{name}: K is {k}; these features have {len(cells)} cells, so K is 1 to {highest}"
        )
    if settings.k_is == "silhouette":
        return best_by_silhouette(cells, settings)
    return labels_of(cells, with_k(settings, k))
