"""Segments as regions of one pass: each cell sees the values of its own segment alone.

Own code; sources of the ideas: CorrCLIP (Zhang et al., ICCV 2025), TextRegion (Xiao et al., 2025).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, normalize

from fslab.match.matcher import middle
from fslab.match.patches import Patches, Window
from fslab.parts import versioned
from fslab.process import ordinary
from fslab.records import Features, FslabError, KMeans, Matching, Segments
from fslab.vectors import unit

_UNIT = KMeans(normalise="l2")
"""How layers are joined: every cell of every layer has unit length."""

Cells = tuple[np.ndarray, np.ndarray]
"""A segment's cells: vectors f32 [n, D] of unit length, and how much each counts, f32 [n]."""


@dataclass(frozen=True, eq=False)
class RegionVectors:
    """What was read of a picture's segments.

    vectors: f32 [K, D] of unit length, the mean of each segment's cells. cells: each segment's own;
    one where the reading gives one a window.
    """

    vectors: np.ndarray
    cells: tuple[Cells, ...]


@versioned(1)
@ordinary()
@torch.inference_mode()
def read_regions(
    patches: Patches, segments: Segments, recipe: Matching, features: Features | None = None
) -> RegionVectors:
    """Read segments as `recipe.regions` says, in the pass over the picture that patches keep.

    A cell belongs to a segment by the share of it that the segment covers, and counts by it. With
    windows a cell is read in each that it lies in. What lies beyond the ends that are cut off a
    very long picture reads all of it. features: those that tell how like cells are; their layers
    have unit length and are resized to CLIP's grid. Raises FslabError where the recipe compares
    cells and there are none, where sizes differ, and for models without a class token.
    """
    like = _features(patches, features, recipe)
    windows = patches.windows(recipe.regions_scale, recipe.regions_window)
    masks = np.stack([middle(mask) for mask in segments.masks()]).astype(np.float32)
    grid = patches.grid(recipe.regions_scale)
    covered = adaptive_avg_pool2d(torch.from_numpy(masks)[:, None], grid)[:, 0]
    covered[covered.sum((1, 2)) == 0] = 1  # at the ends, cut off, of a very long picture
    scope = _merged(covered, like, recipe.regions_merge)
    counted = _apart(covered, like, recipe.regions_apart)
    found: list[list[tuple[Tensor, Tensor]]] = [[] for _ in range(segments.count)]
    for window in windows:
        here = slice(None), window.rows, window.columns
        parts = [each[here].flatten(1) for each in (covered, scope, counted)]
        near = None if like is None else like[here].flatten(1).T
        for place, vectors, shares in _in_window(window, parts, near, recipe):
            found[place].append((vectors.float().cpu(), shares))
    return _gathered(found)


def _in_window(
    window: Window, parts: list[Tensor], like: Tensor | None, recipe: Matching
) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Yield (segment, vectors [n, D], shares [n]) of the segments that a window shows."""
    covered, scope, counted = parts
    present = [place for place, each in enumerate(covered) if each.sum() > 0]
    if recipe.regions == "tokens":
        weights = scope if recipe.regions_merge else counted
        vectors = window.block.tokens(_summing_to_one(weights[present], covered[present]))
        for place, vector in zip(present, vectors, strict=True):
            yield place, vector[None], covered[place].sum()[None]
        return
    alike = None
    if like is not None and recipe.regions_sharpness:
        alike = torch.exp(recipe.regions_sharpness * (like @ like.T - 1))
    beside = None
    if recipe.regions_token:
        beside = recipe.regions_token * window.block.mask_tokens(covered[present])
    for at, place in enumerate(present):
        rows = covered[place] > 0
        seen = scope[place].expand(int(rows.sum()), -1)
        weights = seen if alike is None else alike[rows] * seen
        vectors = _cells(window, weights / weights.sum(1, keepdim=True), recipe)
        if beside is not None:
            vectors = normalize(vectors + beside[at], dim=-1)
        yield place, vectors, covered[place][rows]


def _cells(window: Window, weights: Tensor, recipe: Matching) -> Tensor:
    vectors = window.block.cells(weights)
    if recipe.regions_earlier:
        vectors = vectors + recipe.regions_earlier * window.block.earlier_cells(weights)
    return normalize(vectors, dim=-1)


def _summing_to_one(weights: Tensor, otherwise: Tensor) -> Tensor:
    """Return weights [K, P] as shares; a row without any has those of the other."""
    empty = weights.sum(1, keepdim=True) == 0
    kept = torch.where(empty, otherwise, weights)
    return kept / kept.sum(1, keepdim=True)


def _features(patches: Patches, features: Features | None, recipe: Matching) -> Tensor | None:
    """Return features on CLIP's grid, f32 [C, h, w], each cell of unit length."""
    if not recipe.reads_features:
        return None
    if features is None or not len(features):
        raise FslabError(
            f"matching.regions is {recipe.regions!r} and compares cells by the features that were "
            "clustered, and there are none; give features=..., or set regions_sharpness, "
            "regions_merge and regions_apart to 0"
        )
    if features.size != patches.picture.size:
        raise FslabError(
            f"{patches.picture.name} is {patches.picture.size} and the features are of a picture "
            f"of {features.size}; give those of this picture"
        )
    from fslab.cluster import join, resize, unit_length

    joined = join(features, _UNIT)
    size = patches.picture.size
    if middle(patches.picture.pixels).shape[:2] != size:
        joined = middle(resize(joined, size).transpose(1, 2, 0)).transpose(2, 0, 1)
    resized = resize(joined, patches.grid(recipe.regions_scale))
    return torch.from_numpy(unit_length(resized).astype(np.float32, copy=False))


def _merged(covered: Tensor, like: Tensor | None, near: float) -> Tensor:
    """Return what each segment's cells see, [K, h, w]: itself, and what it is joined with."""
    if like is None or not near:
        return covered
    from scipy.sparse.csgraph import connected_components

    means = normalize(_means(covered, like), dim=1)
    groups = connected_components(((1 - means @ means.T) < near).numpy(), directed=False)[1]
    joined = torch.stack([covered[torch.from_numpy(groups == each)].sum(0) for each in groups])
    return joined


def _apart(covered: Tensor, like: Tensor | None, least: float) -> Tensor:
    """Return segments' shares of cells, [K, h, w], without cells that are as like the rest."""
    if like is None or not least:
        return covered
    cells = like.flatten(1).T
    inside = cells @ _means(covered, like).T
    outside = cells @ _means(1 - covered, like).T
    kept = (inside - outside >= least).T.reshape(covered.shape)
    return covered * kept


def _means(covered: Tensor, like: Tensor) -> Tensor:
    """Return the mean of each segment's features, [K, C]; zero for one that covers nothing."""
    sums, mass = covered.flatten(1) @ like.flatten(1).T, covered.flatten(1).sum(1, keepdim=True)
    return sums / mass.clamp_min(1e-6)


def _gathered(found: list[list[tuple[Tensor, Tensor]]]) -> RegionVectors:
    cells = tuple(
        (torch.cat([each for each, _ in one]).numpy(), torch.cat([each for _, each in one]).numpy())
        for one in found
    )
    means = np.stack([(vectors * shares[:, None]).sum(0) for vectors, shares in cells])
    return RegionVectors(unit(means).astype(np.float32, copy=False), cells)
