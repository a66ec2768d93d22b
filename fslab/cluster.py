"""From features to class-agnostic segments: cells are clustered, pixels follow."""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import numpy as np
import torch
from sklearn.cluster import AgglomerativeClustering, KMeans
from sklearn.exceptions import ConvergenceWarning
from torch.nn.functional import interpolate

from fslab.records import Clustering, Features, FslabError, Segments


def join(features: Features, settings: Clustering) -> np.ndarray:
    """Return all layers side by side on one grid: f32 [C, h, w].

    The grid is that of the finest layer, or `settings.grid` cells on its longer side; maps
    are resized to it bilinearly. With normalise="l2" each cell of each layer gets unit
    length first; `settings.position` adds the cell's row and column.
    """
    maps = [
        unit_length(value) if settings.normalise == "l2" else value for value in features.values()
    ]
    if not maps:
        raise FslabError(f"{features.name}: there are no features to cluster")
    size = _grid(maps, settings.grid)
    joined = np.concatenate([resize(value, size) for value in maps])
    if settings.position:
        spread = float(np.sqrt(joined.var(axis=(1, 2)).sum()))
        joined = np.concatenate([joined, settings.position * spread * position(size)])
    return joined


def position(size: tuple[int, int]) -> np.ndarray:
    """Return each cell's row and column, f32 [2, h, w], of one standard deviation together."""
    rows, columns = np.mgrid[: size[0], : size[1]].astype(np.float32)
    longer = max(size)
    centred = np.stack([(rows - rows.mean()) / longer, (columns - columns.mean()) / longer])
    return centred / max(float(np.sqrt(centred.var(axis=(1, 2)).sum())), 1e-6)


def unit_length(value: np.ndarray) -> np.ndarray:
    """Return a map [C, h, w] with every cell's channels scaled to length 1."""
    return value / np.maximum(np.linalg.norm(value, axis=0, keepdims=True), 1e-8)


def resize(value: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return a map [C, h, w] bilinearly resized to `size`, as f32; unchanged if it fits."""
    if value.shape[1:] == size:
        return value.astype(np.float32, copy=False)
    source = torch.from_numpy(np.array(value, dtype=np.float32))[None]
    return interpolate(source, size, mode="bilinear", align_corners=False)[0].numpy()


def cluster(features: Features, settings: Clustering, candidates: int = 0) -> Segments:
    """Return segments at the picture's own size.

    candidates: how many classes the caption named, for k_is="candidates". Cells get labels
    from the method; a pixel takes the cluster whose mean is nearest to its features, which
    are interpolated between cells, or with upsample="nearest" its cell's label.
    Clusters that no pixel takes are dropped, so ids stay without gaps.
    Raises FslabError where K is larger than the number of cells.
    """
    joined = join(features, settings)
    cells = joined.reshape(len(joined), -1).T
    k = settings.k + (candidates if settings.k_is == "candidates" else 0)
    if not 1 <= k <= len(cells):
        raise FslabError(
            f"{features.name}: K is {k}; these features have {len(cells)} cells, "
            f"so K is 1 to {len(cells)}"
        )
    labels = METHODS[settings.method](cells, k, settings)
    if settings.upsample == "nearest":
        found = _nearest(labels.reshape(joined.shape[1:]), features.size)
    else:
        found = assign_pixels(joined, _means(cells, labels), features.size)
    return Segments(_without_gaps(found))


def kmeans(features: Features, k: int = 4, **settings: object) -> Segments:
    """Cluster by seeded k-means (Euclidean, k-means++); settings as in `Clustering`."""
    return cluster(features, Clustering(method="kmeans", k=k, **settings))


def agglomerative(features: Features, k: int = 4, **settings: object) -> Segments:
    """Cluster by Ward's agglomeration; settings as in `Clustering`."""
    return cluster(features, Clustering(method="agglomerative", k=k, **settings))


def assign_pixels(joined: np.ndarray, means: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return each pixel's nearest mean, int64 [H, W], by features interpolated to `size`.

    Squared distance less the pixel's own norm, |m|^2 - 2 m.x, is linear in x, and bilinear
    weights sum to 1: so K distance maps are interpolated instead of C channels, with the
    same result and C / K of the memory.
    """
    channels, h, w = joined.shape
    distances = (means**2).sum(1)[:, None] - 2 * means @ joined.reshape(channels, -1)
    return resize(distances.reshape(-1, h, w), size).argmin(0)


def _kmeans_labels(cells: np.ndarray, k: int, settings: Clustering) -> np.ndarray:
    model = KMeans(k, n_init=settings.restarts, random_state=settings.seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer distinct cells than K
        return model.fit_predict(cells)


def _ward_labels(cells: np.ndarray, k: int, settings: Clustering) -> np.ndarray:
    if k == len(cells):
        return np.arange(k)
    return AgglomerativeClustering(k, linkage="ward").fit_predict(cells)


METHODS: Mapping[str, object] = {"kmeans": _kmeans_labels, "agglomerative": _ward_labels}


def _means(cells: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return np.stack([cells[labels == label].mean(0) for label in np.unique(labels)])


def _grid(maps: list[np.ndarray], longer: int | None) -> tuple[int, int]:
    h, w = max((value.shape[1:] for value in maps), key=lambda shape: shape[0] * shape[1])
    if longer is None:
        return h, w
    scale = longer / max(h, w)
    return max(round(h * scale), 1), max(round(w * scale), 1)


def _nearest(labels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    rows = np.arange(size[0]) * labels.shape[0] // size[0]
    columns = np.arange(size[1]) * labels.shape[1] // size[1]
    return labels[np.ix_(rows, columns)]


def _without_gaps(labels: np.ndarray) -> np.ndarray:
    _, dense = np.unique(labels, return_inverse=True)
    return dense.reshape(labels.shape).astype(np.int32)
