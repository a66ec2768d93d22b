"""Components and centres of many pictures' cells, and what one picture's cells are in them."""

from __future__ import annotations

import warnings
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import NMF, PCA, non_negative_factorization
from sklearn.exceptions import ConvergenceWarning

from fslab.cluster.cells import kmeans
from fslab.cluster.joining import join
from fslab.cluster.pixels import assign_pixels, means
from fslab.process import stage
from fslab.records import (
    Components,
    Decomposition,
    Extraction,
    Features,
    FslabError,
    KMeans,
    LabelMap,
    check_kind,
    check_numbers,
)
from fslab.records.base import described, is_array

_ROUNDS = 500
"""Updates of a factorisation at most; one that has not settled by then is taken as it is."""


class _Fitted(NamedTuple):
    """vectors f [N, C or 2C], mean f [C], and the cells' values in them f [cells, N]."""

    vectors: np.ndarray
    mean: np.ndarray
    values: np.ndarray


def joined_cells(features: Features, normalise: Literal["none", "l2"] = "none") -> np.ndarray:
    """Return a picture's layers side by side on the finest grid: f32 [C, h, w].

    Raises FslabError for numbers that are not finite, by their layer's name.
    """
    check_kind(features, Features, "features")
    if not features:
        raise FslabError(f"{features.name}: there are no features")
    for layer, value in features.items():
        check_numbers(value, f"{features.name}: layer {layer!r}")
    return join(features, KMeans(normalise=normalise))


def some_cells(joined: np.ndarray, most: int, seed: int, picture: str) -> NDArray[np.float32]:
    """Return at most so many cells of a map [C, h, w], in their order: f32 [cells, C].

    picture: its digest, which together with the seed draws them: a picture gives the same cells
    whatever other pictures there are.
    """
    cells = joined.reshape(len(joined), -1).T
    if len(cells) > most:
        generator = np.random.default_rng([seed, int(picture[:16], 16)])
        cells = cells[np.sort(generator.choice(len(cells), most, replace=False))]
    return np.array(cells, np.float32)


@stage
def fit_components(
    cells: NDArray[np.float32],
    how: Decomposition = "pca",
    count: int = 3,
    seed: int = 0,
    extract: Extraction | None = None,
    normalise: Literal["none", "l2"] = "none",
    pictures: int = 1,
) -> Components:
    """Return what cells f32 [N, C] have in common, in `count` components at most.

    how: "pca", whose signs make the largest loading positive; "nmf", non-negative factorisation
    (Lee and Seung, Nature 1999) of channels above and below 0 side by side, since features have
    both signs, begun by NNDSVDa; "kmeans", centres, those of most cells first. seed: of k-means.
    extract, normalise, pictures: where the cells are from, which the record keeps.
    Raises FslabError for fewer cells than components, more components than channels where they are
    directions, and numbers that are not finite.
    """
    check_numbers(cells, "cells")
    if cells.ndim != 2:
        raise FslabError(f"cells are {described(cells)}; they must be f32 [N, C]")
    if isinstance(count, bool) or not isinstance(count, (int, np.integer)) or count < 1:
        raise FslabError(f"count is {count!r}; it must be a whole number from 1 up")
    most = len(cells) if how == "kmeans" else min(cells.shape)
    if count > most:
        raise FslabError(
            f"count is {count}, and {len(cells)} cells of {cells.shape[1]} channels have {most} "
            f"components of {how!r} at most; take fewer, or more pictures"
        )
    fitted = _fitted(cells, how, int(count), seed)
    low, high = np.percentile(fitted.values, (1, 99), axis=0).astype(np.float32)
    return Components(
        how, fitted.vectors.astype(np.float32), fitted.mean.astype(np.float32), low, high,
        _explained(cells, how, fitted), extract or Extraction(), normalise, pictures, len(cells),
    )  # fmt: skip


def _fitted(cells: np.ndarray, how: Decomposition, count: int, seed: int) -> _Fitted:
    nothing = np.zeros(cells.shape[1])
    if how == "pca":
        model = PCA(count, svd_solver="covariance_eigh").fit(cells.astype(np.float64))
        largest = np.abs(model.components_).argmax(1)
        signs = np.where(model.components_[np.arange(count), largest] < 0, -1.0, 1.0)
        vectors = model.components_ * signs[:, None]
        return _Fitted(vectors, model.mean_, (cells - model.mean_) @ vectors.T)
    if how == "nmf":
        nmf = NMF(count, init="nndsvda", max_iter=_ROUNDS)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            values = nmf.fit_transform(_sides(cells))
        return _Fitted(nmf.components_, nothing, values)
    if how == "kmeans":
        labels = kmeans(cells, KMeans(k=count, seed=seed))
        order = np.argsort(-np.bincount(labels)[np.unique(labels)], kind="stable")
        vectors = means(cells, labels)[order]
        return _Fitted(vectors, nothing, _squared(vectors, cells))
    raise FslabError(f"components are by {how!r}; take 'pca', 'nmf' or 'kmeans'")


def _sides(cells: np.ndarray) -> np.ndarray:
    """Return how far cells [N, C] are above 0 and how far below, [N, 2C]."""
    return np.concatenate([np.maximum(cells, 0), np.maximum(-cells, 0)], 1)


def _squared(vectors: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """Return the squared distance of cells [N, C] to each of K vectors, [N, K]."""
    products = (vectors**2).sum(1) - 2 * cells @ vectors.T
    found: np.ndarray = np.maximum(products + (cells**2).sum(1)[:, None], 0)
    return found


def _explained(cells: np.ndarray, how: Decomposition, fitted: _Fitted) -> float:
    """Return which share of the cells' variance is explained."""
    total = float(((cells - cells.mean(0)) ** 2).sum(dtype=np.float64))
    if total <= 0:
        return 1.0
    if how == "pca":
        left = total - float((fitted.values**2).sum())
    elif how == "nmf":
        left = float(((_sides(cells) - fitted.values @ fitted.vectors) ** 2).sum(dtype=np.float64))
    else:
        left = float(fitted.values.min(1).sum(dtype=np.float64))
    return 1 - left / total


@stage
def in_components(features: Features, components: Components) -> NDArray[np.float32]:
    """Return what a picture's cells are in components: f32 [N, h, w] on the finest layer's grid.

    Of "pca" scores about the common mean, of "nmf" how much of each part a cell has, of "kmeans"
    the squared distance to each centre. Raises FslabError where the layers have other channels
    than those that were fitted.
    """
    joined = _like_fitted(features, components)
    channels, h, w = joined.shape
    cells = joined.reshape(channels, -1).T
    if components.how == "pca":
        values = (cells - components.mean) @ components.vectors.T
    elif components.how == "nmf":
        sides = _sides(cells).astype(np.float32)
        values, _, _ = non_negative_factorization(
            sides, H=components.vectors, n_components=len(components), update_H=False,
            max_iter=_ROUNDS,
        )  # fmt: skip
    else:
        values = _squared(components.vectors, cells)
    found: NDArray[np.float32] = values.T.reshape(-1, h, w).astype(np.float32)
    return found


@stage
def common_labels(features: Features, components: Components) -> LabelMap:
    """Return which component is each pixel's: labels 1 to N, at the picture's size.

    Label n is component n - 1 in every picture; 0 and void are on no pixel. Of "kmeans" it is the
    nearest centre, by features that are interpolated between cells, as `fslab.cluster.cluster` has
    it; of "nmf" the part that there is most of, each measured by what it reaches (`high`). "pca"
    has no parts and is refused.
    """
    if components.how == "pca":
        raise FslabError("principal components are no parts of pictures; take 'kmeans' or 'nmf'")
    if components.how == "kmeans":
        joined = _like_fitted(features, components)
        labels = assign_pixels(joined, components.vectors, features.size)
    else:
        values = in_components(features, components)
        amounts = values / np.maximum(components.high, 1e-12)[:, None, None]
        # the nearest of unit vectors is the one with the largest share
        labels = assign_pixels(amounts, np.eye(len(amounts), dtype=np.float32), features.size)
    names = ("none", *(f"cluster {number + 1}" for number in range(len(components))))
    return LabelMap(labels + 1, names)


def _like_fitted(features: Features, components: Components) -> np.ndarray:
    check_kind(components, Components, "components")
    joined = joined_cells(features, components.normalise)
    check_channels(features.name, joined, components.channels)
    return joined


def check_channels(name: str, joined: np.ndarray, channels: int) -> None:
    """Refuse a picture whose layers have other channels than another one's.

    Those of self-attention's probabilities are the picture's own cells.
    """
    if not is_array(joined) or len(joined) != channels:
        raise FslabError(
            f"{name} has {len(joined)} channels where other pictures have {channels}; layers whose "
            "channels are the picture's own places, such as probs, compare no pictures of "
            "different sizes"
        )
