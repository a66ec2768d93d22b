"""Touching things of one class parted where self-attention of opposite neighbours differs.

The edges are TRACE's (Jo et al., ICLR 2026), written from its description: a cell whose left and
right neighbours, or whose upper and lower ones, look at different places lies between two things.
How regions are then parted is this package's own.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from fslab.cluster.joining import resize
from fslab.cluster.merging import SMALLEST, aggregate
from fslab.parts import versioned
from fslab.records import Features, FslabError, Instances, LabelMap, Parting, void_of
from fslab.records.base import WIDE_VOID


@versioned(1)
def edges(looks: Features) -> NDArray[np.float32]:
    """Return how strong an edge each cell is, f32 [h, w], on the finest layer's grid.

    looks: self-attention's probabilities, layers that end in ".probs", as `aggregate` takes them.
    An edge is the mean of KL(p || q) and KL(q || p) between the attention of the left and the right
    neighbour, plus the same of the upper and the lower one, in nats; at the picture's border a cell
    stands for its missing neighbour. Raises FslabError for a layer that is not self-attention.
    """
    return edges_of(aggregate(looks.maps))


def edges_of(attention: np.ndarray) -> NDArray[np.float32]:
    """Return what `edges` does of one map of attention, f32 [h, w, ...]; cells sum to 1."""
    h, w = attention.shape[:2]
    p = np.maximum(attention.reshape(h, w, -1), SMALLEST)
    log_p = np.log(p)
    found = np.zeros((h, w), np.float32)
    for axis, side in enumerate((h, w)):
        before = np.maximum(np.arange(side) - 1, 0)
        after = np.minimum(np.arange(side) + 1, side - 1)
        change = p.take(after, axis) - p.take(before, axis)
        logs = log_p.take(after, axis) - log_p.take(before, axis)
        found += (change * logs).sum(-1) / 2
    return found


def part(
    labels: LabelMap, strength: np.ndarray | None = None, settings: Parting | None = None
) -> Instances:
    """Return the things that each class's region is made of.

    strength: how strong an edge each pixel is, f32 [h, w] of any size, such as `edges` gives;
    without it nothing is cut. settings: `by`, `threshold` and `least` of them. Of a class the parts
    that are left between cuts are things, and each other pixel goes to the nearest of them in its
    own connected piece, or, where there is none, anywhere. A region that has no part large enough
    is one thing. Things are numbered by class, then from the top left. A thing has the score of its
    class. Void stays void.
    """
    how = settings or Parting(by="pieces")
    if how.by == "edges" and strength is None:
        raise FslabError(
            "parting by edges needs their strength, f32 [h, w]; see fslab.cluster.edges"
        )
    fine = None
    if how.by == "edges" and strength is not None:
        fine = resize(np.asarray(strength, np.float32)[None], labels.size)[0]
    void = void_of(labels.labels)
    things = np.where(labels.labels == void, WIDE_VOID, 0).astype(np.uint16)
    classes: list[int] = []
    for label in np.unique(labels.labels).tolist():
        if label in (0, void):
            continue
        region = labels.labels == label
        numbers = _parted(region, fine, how)
        things[region] = numbers[region] + len(classes)
        classes += [label] * int(numbers.max())
    scores = [labels.scores.get(labels.names[label]) for label in classes]
    known = tuple(float(score) for score in scores if score is not None)
    return Instances(
        things, tuple(classes), labels.names, known if len(known) == len(scores) else ()
    )


def _parted(region: np.ndarray, strength: np.ndarray | None, how: Parting) -> np.ndarray:
    """Return the number, from 1, of the thing that each pixel of a region belongs to."""
    if how.by == "classes":
        return region.astype(np.int64)
    pieces, _ = ndimage.label(region, _EIGHT)
    least = max(1, how.least * region.size)
    seeds = _large(pieces, least)
    if strength is not None:
        kept = strength <= np.quantile(strength[region], how.threshold)
        parts, _ = ndimage.label(region & kept)
        parts = _large(parts, least)
        whole = ~np.isin(pieces, np.unique(pieces[parts > 0]))  # pieces that are all edge
        seeds = np.where(whole & (seeds > 0), seeds + parts.max(), parts)
    if not seeds.any():
        return region.astype(np.int64)
    return _in_order(_nearest(seeds, pieces), region)


def _large(parts: np.ndarray, least: float) -> np.ndarray:
    """Return parts without those of fewer pixels."""
    sizes = np.bincount(parts.ravel())
    return np.where(sizes[parts] >= least, parts, 0)


def _nearest(seeds: np.ndarray, pieces: np.ndarray) -> np.ndarray:
    """Return the nearest seed of each pixel, of its own piece where that has one."""
    found = _nearest_of(seeds)
    for piece in np.unique(pieces[seeds > 0]):
        own = pieces == piece
        found[own] = _nearest_of(np.where(own, seeds, 0))[own]
    return found


def _nearest_of(seeds: np.ndarray) -> np.ndarray:
    places = ndimage.distance_transform_edt(seeds == 0, return_distances=False, return_indices=True)
    nearest: np.ndarray = seeds[tuple(places)]
    return nearest


def _in_order(numbers: np.ndarray, region: np.ndarray) -> np.ndarray:
    """Number the parts of a region from 1, as they come from the top left."""
    there, first, inverse = np.unique(numbers[region], return_index=True, return_inverse=True)
    rank = np.empty(len(there), np.int64)
    rank[np.argsort(first)] = np.arange(1, len(there) + 1)
    found = np.zeros(region.shape, np.int64)
    found[region] = rank[inverse]
    return found


_EIGHT = np.ones((3, 3), int)
"""Pixels that meet at a corner are of one piece."""
