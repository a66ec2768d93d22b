"""Sharpen a label map on its picture's edges: dense CRF, pixel-adaptive mask refinement."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fslab.records import FslabError, LabelMap, Picture, Refinement

_LEAST = 1e-4
"""The least belief that a CRF starts from: its energy, a logarithm, has to be finite."""

_AROUND = [(row, column) for row in (-1, 0, 1) for column in (-1, 0, 1)]


def refine(picture: Picture, labels: LabelMap, recipe: Refinement) -> LabelMap:
    """Return the label map moved to the picture's edges; names and scores carry over.

    "crf": one two-label CRF for each class present, as the authors' released code runs one a
    mask; a pixel belongs to the class whose CRF gives it the highest probability, if that is
    above one half, and to the background where no class claims it.
    "crf-joint": one CRF over the labels present, the background among them, which costs one
    pass instead of one a class and settles overlaps inside the model.
    "pamr": pixel-adaptive mask refinement over the labels present.
    The last two start from the map's beliefs where it has them, from its labels otherwise.
    A map with one label only is returned as it is. Raises FslabError if the sizes differ.
    """
    if picture.size != labels.size:
        raise FslabError(
            f"{picture.name} is {picture.size} and its label map is {labels.size}; "
            "both have the height and width of one picture"
        )
    voted = bool(labels.beliefs) and recipe.method != "crf"
    present = np.array(list(labels.beliefs)) if voted else np.unique(labels.labels)
    if recipe.method == "none" or len(present) == 1:
        return labels
    indices = np.searchsorted(present, labels.labels)
    if recipe.method == "crf":
        sharp = _crf_each(picture.pixels, indices, present, recipe)
    elif recipe.method == "crf-joint":
        unary = _belief_energy(labels) if voted else _label_energy(indices, recipe)
        sharp = present[_dense_crf(picture.pixels, unary, recipe).argmax(0)]
    else:
        masks = list(labels.beliefs.values()) if voted else indices == _column(len(present))
        masks = np.asarray(masks, np.float32)
        soft = pamr(picture.pixels, masks, recipe.iterations, recipe.dilations)
        sharp = present[soft.argmax(0)]
    return LabelMap(sharp.astype(np.uint8), labels.names, labels.scores)


def crf(picture: Picture, labels: LabelMap, **settings: Any) -> LabelMap:
    """Refine with one joint CRF; settings are those of `Refinement`, such as `iterations=5`."""
    known = [entry.name for entry in fields(Refinement)]
    for name in settings:
        if name not in known:
            raise FslabError(f"crf has no setting {name!r}; it has {', '.join(known)}")
    return refine(picture, labels, Refinement(**{"method": "crf-joint", **settings}))


def _crf_each(
    pixels: np.ndarray, indices: np.ndarray, present: np.ndarray, recipe: Refinement
) -> np.ndarray:
    classes = np.flatnonzero(present != 0)
    claims = np.stack(
        [
            _dense_crf(pixels, _label_energy((indices == index).astype(int), recipe), recipe)[1]
            for index in classes
        ]
    )
    return np.where(claims.max(0) > 0.5, present[classes][claims.argmax(0)], 0)


def _column(count: int) -> np.ndarray:
    return np.arange(count)[:, None, None]


def _label_energy(indices: np.ndarray, recipe: Refinement) -> np.ndarray:
    """Return each label's energy at each pixel, f32 [L, pixels], of labels that may be wrong.

    Label 0 is a label like any other: `zero_unsure` would let the background mean "unknown".
    """
    from pydensecrf.utils import unary_from_labels

    return unary_from_labels(indices, int(indices.max()) + 1, recipe.certainty, zero_unsure=False)


def _belief_energy(labels: LabelMap) -> np.ndarray:
    """Return each label's energy at each pixel, f32 [L, pixels], of the map's own beliefs."""
    beliefs = np.stack(list(labels.beliefs.values()))
    return -np.log(np.clip(beliefs, _LEAST, 1)).reshape(len(beliefs), -1).astype(np.float32)


def _dense_crf(pixels: np.ndarray, unary: np.ndarray, recipe: Refinement) -> np.ndarray:
    """Return f32 [L, H, W], the probabilities of labels 0..L-1 after mean-field inference.

    Source: Kraehenbuehl and Koltun, NIPS 2011, through pydensecrf.
    """
    from pydensecrf.densecrf import DenseCRF2D

    height, width = pixels.shape[:2]
    count = len(unary)
    field = DenseCRF2D(width, height, count)
    field.setUnaryEnergy(np.ascontiguousarray(unary))
    field.addPairwiseGaussian(sxy=recipe.gaussian_sxy, compat=recipe.gaussian_compat)
    field.addPairwiseBilateral(
        sxy=recipe.bilateral_sxy,
        srgb=recipe.bilateral_srgb,
        rgbim=np.array(pixels, order="C"),
        compat=recipe.bilateral_compat,
    )
    return np.array(field.inference(recipe.iterations), np.float32).reshape(count, height, width)


@torch.inference_mode()
def pamr(
    pixels: np.ndarray,
    masks: np.ndarray,
    iterations: int = 10,
    dilations: Sequence[int] = (1, 2, 4, 8, 12, 24),
) -> np.ndarray:
    """Return soft masks, f32 [K, H, W], spread over pixels of like colour.

    Pixel-adaptive mask refinement (Araslanov and Roth, CVPR 2020): each step replaces a pixel
    by the mean of its eight neighbours at every dilation, weighted by the softmax of
    -|colour difference| / (0.1 standard deviation), averaged over the three channels, where
    the deviation is that of the neighbours and the pixel itself. The picture's rim repeats.
    """
    if not dilations or min(dilations) < 1:
        raise FslabError(f"dilations are {dilations!r}; they are whole numbers from 1 up")
    height, width = pixels.shape[:2]
    # A neighbour beyond the rim is the rim's own pixel, so reaching past the picture is no gain.
    reach = min(max(dilations), max(height, width))
    steps = [min(step, reach) for step in dilations]
    weights = _affinities(torch.from_numpy(pixels.astype(np.float32)).permute(2, 0, 1), steps)
    soft = torch.from_numpy(np.ascontiguousarray(masks, dtype=np.float32))
    for _ in range(iterations):
        around = _neighbours(soft, steps)
        soft = sum(weight * near for weight, near in zip(weights, around, strict=True))
    return soft.numpy()


def _affinities(colours: Tensor, steps: Sequence[int]) -> Tensor:
    """Return weights f32 [8 x steps, H, W] that sum to 1 at each pixel; colours are [3, H, W]."""
    count = 9 * len(steps)
    mean = sum(_neighbours(colours, steps, centre=True)) / count
    squares = sum((near - mean) ** 2 for near in _neighbours(colours, steps, centre=True))
    spread = 1e-8 + 0.1 * (squares / (count - 1)).sqrt()
    closeness = [-((near - colours).abs() / spread).mean(0) for near in _neighbours(colours, steps)]
    return torch.stack(closeness).softmax(0)


def _neighbours(maps: Tensor, steps: Sequence[int], centre: bool = False) -> Iterator[Tensor]:
    """Yield [C, H, W] maps moved by each step in eight directions; views of one padded copy."""
    height, width = maps.shape[-2:]
    rim = max(steps)
    padded = torch.nn.functional.pad(maps[None], (rim,) * 4, mode="replicate")[0]
    for step in steps:
        for row, column in _AROUND:
            if row or column or centre:
                top, left = rim + row * step, rim + column * step
                yield padded[:, top : top + height, left : left + width]
