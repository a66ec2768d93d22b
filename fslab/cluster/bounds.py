"""How much memory a clustering takes at most: known before it begins."""

from __future__ import annotations

from fslab.cluster.joining import shape_of
from fslab.records import Clustering, Features
from fslab.room import check_room, spoken

PER_PAIR = {"kmeans": 0, "agglomerative": 9, "spectral": 25, "ncut": 34}
"""Bytes for each pair of cells: distances or edges in f64, as often as they are there at once."""

PER_NUMBER = 32
"""Bytes for each coordinate of each cell: joined, as rows, in f64, and the method's own copies."""


def check_bytes(features: Features, settings: Clustering) -> None:
    """Refuse a clustering that would take more memory than is free: OutOfMemory."""
    _, h, w = shape_of(features, settings)
    needed, least = bytes_of(features, settings), bytes_of(features, Clustering(grid=settings.grid))
    advice = "set clustering.grid to fewer cells"
    if least < needed:
        advice += f", or clustering.method to 'kmeans', which takes {spoken(least)}"
    what = f"{features.name}: clustering by {settings.method!r} of {h} x {w} = {h * w} cells"
    check_room(needed, what, advice)


def bytes_of(features: Features, settings: Clustering) -> int:
    """Return the most bytes that a clustering takes beside its features."""
    channels, h, w = shape_of(features, settings)
    cells = h * w
    if settings.method == "merge":  # f32 maps, of the finest layer as it comes and on the grid
        finest = max(int(value[0].size) for value in features.values())
        return cells * (20 * max(finest, cells) + 40 * min(settings.anchors**2, cells))
    vectors = min(max((settings.k, *settings.also)), cells) if settings.method == "spectral" else 0
    change_of_basis = 6 * sum(value.nbytes for value in features.values())
    silhouette = 1 << 28 if settings.k_is == "silhouette" else 0
    numbers = PER_NUMBER * channels + PER_PAIR[settings.method] * cells + 48 * vectors
    return change_of_basis + silhouette + cells * numbers
