"""A label map moved to its picture's edges, by the method of a recipe."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fslab.parts import versioned
from fslab.process import stage
from fslab.records import (
    FslabError,
    LabelMap,
    Picture,
    Refinement,
    check_kind,
    check_numbers,
)
from fslab.refine.adaptive import pamr
from fslab.refine.dense import dense_crf, label_energy, mask_crfs

_LEAST = 1e-4
"""The least belief that a CRF starts from: its energy, a logarithm, has to be finite."""

_ROUNDED = 1e-3
"""So far beyond 0 and 1 a probability may be by rounding, in half precision too."""


@versioned(1)
@stage
def refine(picture: Picture, labels: LabelMap, recipe: Refinement, device: str = "cpu") -> LabelMap:
    """Return the label map moved to the picture's edges; names and scores carry over.

    "crf": one two-label CRF for each class present, as the authors' released code runs one a
    mask, here all over one lattice; a pixel belongs to the class whose CRF gives it the highest
    probability, if that is above one half, and to the background where no class claims it.
    "crf-joint": one CRF over the labels present, the background among them, which costs one
    pass instead of one a class and settles overlaps inside the model.
    "pamr": pixel-adaptive mask refinement over the labels present, on a device of torch's.
    The last two start from the map's beliefs where it has them, from its labels otherwise.
    A map with one label only is returned as it is. Raises FslabError if the sizes differ, and as
    `dense_crf` does.
    """
    check_kind(picture, Picture, "picture")
    check_kind(labels, LabelMap, "labels")
    if picture.size != labels.size:
        raise FslabError(
            f"{picture.name} is {picture.size} and its label map is {labels.size}; "
            "both have the height and width of one picture"
        )
    _check_beliefs(labels, picture.name)
    voted = bool(labels.beliefs) and recipe.method != "crf"
    present = np.array(list(labels.beliefs)) if voted else np.unique(labels.labels)
    if recipe.method == "none" or len(present) == 1:
        return labels
    indices = np.searchsorted(present, labels.labels)
    if recipe.method == "crf":
        sharp = _crf_each(picture, indices, present, recipe)
    elif recipe.method == "crf-joint":
        unary = _belief_energy(labels) if voted else label_energy(indices, recipe)
        sharp = present[dense_crf(picture, unary, recipe).argmax(0)]
    else:
        masks = list(labels.beliefs.values()) if voted else indices == _column(len(present))
        masks = np.asarray(masks, np.float32)
        soft = pamr(picture.pixels, masks, recipe.iterations, recipe.dilations, device)
        sharp = present[soft.argmax(0)]
    return LabelMap(sharp.astype(np.uint8), labels.names, labels.scores)


def _check_beliefs(labels: LabelMap, name: str) -> None:
    """Refuse beliefs that are no probabilities, and a label that has none beside others' own."""
    for label, belief in labels.beliefs.items():
        check_numbers(belief, f"{name}: the belief in label {label}")
        least, most = float(belief.min()), float(belief.max())
        if least < -_ROUNDED or most > 1 + _ROUNDED:
            raise FslabError(
                f"{name}: the belief in label {label} goes from {least:.3g} to {most:.3g}; it is a "
                "probability, from 0 to 1"
            )
    lacking = set(np.unique(labels.labels).tolist()).difference(labels.beliefs)
    if labels.beliefs and lacking:
        raise FslabError(
            f"{name}: its label map has beliefs in {sorted(map(int, labels.beliefs))}, and none in "
            f"{sorted(lacking)}, which is in it; give one in each label, or none at all"
        )


def crf(picture: Picture, labels: LabelMap, **settings: Any) -> LabelMap:
    """Refine with one joint CRF; settings are those of `Refinement`, such as `iterations=5`."""
    known = [entry.name for entry in fields(Refinement)]
    for name in settings:
        if name not in known:
            raise FslabError(f"crf has no setting {name!r}; it has {', '.join(known)}")
    return refine(picture, labels, Refinement(**{"method": "crf-joint", **settings}))


def _crf_each(
    picture: Picture, indices: np.ndarray, present: np.ndarray, recipe: Refinement
) -> np.ndarray:
    classes = np.flatnonzero(present != 0)
    claims = mask_crfs(picture, indices == classes[:, None, None], recipe)
    return np.where(claims.max(0) > 0.5, present[classes][claims.argmax(0)], 0)


def _column(count: int) -> np.ndarray:
    return np.arange(count)[:, None, None]


def _belief_energy(labels: LabelMap) -> np.ndarray:
    """Return each label's energy at each pixel, f32 [L, pixels], of the map's own beliefs."""
    beliefs: NDArray[np.float32] = np.stack(list(labels.beliefs.values()))
    return -np.log(np.clip(beliefs, _LEAST, 1)).reshape(len(beliefs), -1).astype(np.float32)
