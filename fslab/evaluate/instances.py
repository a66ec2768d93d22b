"""How well things are told apart, where the truth tells them apart."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from fslab.cluster import part
from fslab.datasets import VOC, Dataset, read_things
from fslab.lab import Lab
from fslab.records import WIDE_VOID, Instances, LabelMap, Parting, Picture, Recipe, Vocabulary
from fslab.score import InstanceScore

COLOUR_SIGMA = 1.5
"""Pixels that `colour_edges` smooths by."""


def score_instances(
    lab: Lab,
    data: Dataset | Iterable[tuple[Picture, Instances]],
    recipe: str | Recipe | None = None,
    vocabulary: Vocabulary = VOC,
    strength: Callable[[Picture], np.ndarray] | None = None,
    **settings: Any,
) -> InstanceScore:
    """Part the named pixels of each picture as `Lab.instances` does, and score the things.

    data: pictures with their true things, or a data set that `read_things` reads. recipe: whose
    named pixels are parted, with the true classes as candidates; None for those of the truth, void
    among them named as the nearest pixel, so that the parting alone is scored. vocabulary: of the
    things' names. strength: gives other edges than the lab's, such as `colour_edges`. settings: as
    in `Lab.instances`.
    """
    pairs = data if not isinstance(data, Dataset) else _pairs(data)
    found = []
    for picture, truth in pairs:
        labels = filled(truth)
        if recipe is not None:
            candidates = [truth.names[label] for label in dict.fromkeys(truth.classes)]
            labels = lab.segment(picture, recipe, vocabulary, candidates).labels
        if strength is None:
            guess = lab.instances(picture, labels, **settings)
        else:
            guess = part(labels, strength(picture), Parting(**settings))
        found.append((truth, guess))
    return InstanceScore.of(found)


def colour_edges(picture: Picture) -> NDArray[np.float32]:
    """Return how fast a picture's colours change, f32 [H, W]: what edges without a network are.

    The lengths of the gradients of the three channels, each smoothed by a Gaussian of
    `COLOUR_SIGMA` pixels, are added.
    """
    channels = np.moveaxis(picture.pixels.astype(np.float32), 2, 0)
    lengths = [ndimage.gaussian_gradient_magnitude(one, COLOUR_SIGMA) for one in channels]
    found: NDArray[np.float32] = np.sum(lengths, 0)
    return found


def filled(truth: Instances) -> LabelMap:
    """Return the classes of true things with each void pixel named as the nearest that counts."""
    labels = truth.labels.labels
    void = truth.things == WIDE_VOID
    if void.any() and not void.all():
        places = ndimage.distance_transform_edt(void, return_distances=False, return_indices=True)
        labels = labels[tuple(places)]
    return LabelMap(labels, truth.names)


def _pairs(data: Dataset) -> Iterable[tuple[Picture, Instances]]:
    return ((sample.picture(), read_things(sample, data.vocabulary)) for sample in data)
