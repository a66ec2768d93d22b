"""A label map moved to its picture's edges, by the method of a recipe."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fslab.datasets import PictureLike, read
from fslab.parts import call, versioned
from fslab.process import stage
from fslab.records import (
    FslabError,
    JointCrf,
    LabelMap,
    MaskCrfs,
    OwnRefinement,
    Pamr,
    Picture,
    RandomWalk,
    Refinement,
    Unrefined,
    check_kind,
    check_numbers,
)
from fslab.refine.adaptive import pamr
from fslab.refine.dense import dense_crf, label_energy, mask_crfs
from fslab.refine.walking import walk

_LEAST = 1e-4
"""The least belief that a CRF starts from: its energy, a logarithm, has to be finite."""

_ROUNDED = 1e-3
"""So far beyond 0 and 1 a probability may be by rounding, in half precision too."""


@versioned(1)
@stage
def refine(
    picture: PictureLike, labels: LabelMap, recipe: Refinement, device: str = "cpu"
) -> LabelMap:
    """Return the label map moved to the picture's edges; names and scores carry over.

    "crf": one two-label CRF for each class present, as the authors' released code runs one a
    mask, here all over one lattice; a pixel belongs to the class whose CRF gives it the highest
    probability, if that is above one half, and to the background where no class claims it.
    "crf-joint": one CRF over the labels present, the background among them, which costs one
    pass instead of one a class and settles overlaps inside the model.
    "pamr": pixel-adaptive mask refinement over the labels present, on a device of torch's.
    "walk": a random walk on the picture with the beliefs as its prior.
    The last three start from the map's beliefs where it has them, from its labels otherwise, and
    all four return a map with one label as it is. Raises FslabError if the sizes differ, for what
    a function of somebody's own returns that is not a label map, and as `dense_crf` does.
    """
    picture = read(picture)
    check_kind(labels, LabelMap, "labels")
    if picture.size != labels.size:
        raise FslabError(
            f"{picture.name} is {picture.size} and its label map is {labels.size}; "
            "both have the height and width of one picture"
        )
    _check_beliefs(labels, picture.name)
    if isinstance(recipe, OwnRefinement):
        found = call(recipe.function, picture, labels, device=device)
    else:
        found = call(recipe.run, picture, labels, recipe, device=device)
    return _checked(found, picture, labels, recipe)


def unrefined(picture: Picture, labels: LabelMap, settings: Unrefined) -> LabelMap:
    """Return the label map as it is."""
    return labels


def by_mask(picture: Picture, labels: LabelMap, settings: MaskCrfs) -> LabelMap | np.ndarray:
    """Return labels [H, W] by one CRF for each class present."""
    present = np.unique(labels.labels)
    if len(present) == 1:
        return labels
    indices = np.searchsorted(present, labels.labels)
    classes = np.flatnonzero(present != 0)
    claims = mask_crfs(picture, indices == classes[:, None, None], settings)
    return np.where(claims.max(0) > 0.5, present[classes][claims.argmax(0)], 0)


def jointly(picture: Picture, labels: LabelMap, settings: JointCrf) -> LabelMap | np.ndarray:
    """Return labels [H, W] by one CRF over all labels present."""
    present = _present(labels)
    if len(present) == 1:
        return labels
    if labels.beliefs:
        unary = _belief_energy(labels)
    else:
        unary = label_energy(np.searchsorted(present, labels.labels), settings)
    sharp: np.ndarray = present[dense_crf(picture, unary, settings).argmax(0)]
    return sharp


def adaptively(
    picture: Picture, labels: LabelMap, settings: Pamr, device: str
) -> LabelMap | np.ndarray:
    """Return labels [H, W] by pixel-adaptive refinement of the masks of all labels present."""
    present = _present(labels)
    if len(present) == 1:
        return labels
    soft = pamr(picture.pixels, _masks(labels), settings.iterations, settings.dilations, device)
    sharp: np.ndarray = present[soft.argmax(0)]
    return sharp


def by_walk(picture: Picture, labels: LabelMap, settings: RandomWalk) -> LabelMap | np.ndarray:
    """Return labels [H, W] by a random walk with the beliefs in all labels present as its prior."""
    present = _present(labels)
    if len(present) == 1:
        return labels
    soft = walk(
        picture.pixels,
        _masks(labels),
        grid=settings.grid,
        sharpness=settings.sharpness,
        trust=settings.trust,
        iterations=settings.iterations,
    )
    sharp: np.ndarray = present[soft.argmax(0)]
    return sharp


def _masks(labels: LabelMap) -> np.ndarray:
    """Return beliefs in all labels present, f32 [L, H, W]; of a map that has none, its masks."""
    voted = list(labels.beliefs.values())
    return np.asarray(voted or labels.labels == _present(labels)[:, None, None], np.float32)


def _present(labels: LabelMap) -> np.ndarray:
    """Return the labels that a refinement chooses from."""
    return np.array(list(labels.beliefs)) if labels.beliefs else np.unique(labels.labels)


def _checked(found: Any, picture: Picture, labels: LabelMap, recipe: Refinement) -> LabelMap:
    """Return what a refinement made as a label map of the picture; FslabError for anything else."""
    by = f"{picture.name}: {recipe.method}"
    if not isinstance(found, LabelMap):
        try:
            found = LabelMap(found, labels.names, labels.scores)
        except FslabError as error:
            raise FslabError(f"{by} did not return a label map: {error}") from error
    if found.size != picture.size:
        raise FslabError(f"{by} returned labels of {found.size}; the picture is {picture.size}")
    most = int(found.labels.max())
    if most >= len(found.names) and most > int(labels.labels.max()):
        raise FslabError(
            f"{by} returned label {most}, and there are names for 0 to {len(found.names) - 1}"
        )
    return found


def _check_beliefs(labels: LabelMap, name: str) -> None:
    """Refuse beliefs that are not probabilities, and a label that has none beside others' own."""
    for label, belief in labels.beliefs.items():
        check_numbers(belief, f"{name}: the belief in label {label}")
        least, most = float(belief.min()), float(belief.max())
        if least < -_ROUNDED or most > 1 + _ROUNDED:
            raise FslabError(
                f"{name}: the belief in label {label} goes from {least:.3g} to {most:.3g}; it must "
                "be a probability, from 0 to 1"
            )
    lacking = set(np.unique(labels.labels).tolist()).difference(labels.beliefs)
    if labels.beliefs and lacking:
        raise FslabError(
            f"{name}: its label map has beliefs in {sorted(map(int, labels.beliefs))}, and none in "
            f"{sorted(lacking)}, which is in it; give one in each label, or none at all"
        )


def crf(picture: PictureLike, labels: LabelMap, **settings: Any) -> LabelMap:
    """Refine with a CRF a mask, as `Lab.refine` does; settings are those of `MaskCrfs`.

    method: another refinement, such as "crf-joint", with its settings.
    """
    return refine(picture, labels, Refinement.of(**settings))


def _belief_energy(labels: LabelMap) -> np.ndarray:
    """Return each label's energy at each pixel, f32 [L, pixels], of the map's own beliefs."""
    beliefs: NDArray[np.float32] = np.stack(list(labels.beliefs.values()))
    return -np.log(np.clip(beliefs, _LEAST, 1)).reshape(len(beliefs), -1).astype(np.float32)
