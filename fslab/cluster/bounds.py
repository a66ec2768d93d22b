"""How much memory a clustering takes at most: known before it begins."""

from __future__ import annotations

from fslab.cluster.joining import grid_of, shape_of
from fslab.records import (
    CellClustering,
    Clustering,
    Features,
    KClustering,
    KMeans,
    Merging,
    Spectral,
)
from fslab.room import check_room, spoken

PER_NUMBER = 32
"""Bytes for each coordinate of each cell: joined, as rows, in f64, and the method's own copies."""


def check_bytes(features: Features, settings: Clustering) -> None:
    """Refuse a clustering that would take more memory than is free: OutOfMemory."""
    h, w = grid_of(features, settings)
    needed, least = bytes_of(features, settings), bytes_of(features, KMeans(grid=settings.grid))
    advice = "set clustering.grid to fewer cells"
    if least < needed:
        advice += f", or clustering.method to 'kmeans', which takes {spoken(least)}"
    what = f"{features.name}: clustering by {settings.method!r} of {h} x {w} = {h * w} cells"
    check_room(needed, what, advice)


def bytes_of(features: Features, settings: Clustering) -> int:
    """Return the most bytes that a clustering takes beside its features."""
    h, w = grid_of(features, settings)
    cells = h * w
    if isinstance(settings, Merging):  # f32 maps, of the finest layer as it comes and on the grid
        finest = max(int(value[0].size) for value in features.values())
        return cells * (20 * max(finest, cells) + 40 * min(settings.anchors**2, cells))
    if not isinstance(settings, CellClustering):
        return 0
    vectors = 0
    if isinstance(settings, Spectral):
        vectors = min(max((settings.k, *settings.also)), cells)
    change_of_basis = 6 * sum(value.nbytes for value in features.values())
    by_silhouette = isinstance(settings, KClustering) and settings.k_is == "silhouette"
    numbers = PER_NUMBER * shape_of(features, settings)[0] + 48 * vectors
    numbers += settings.facts.bytes_per_pair * cells
    return change_of_basis + (1 << 28 if by_silhouette else 0) + cells * numbers
