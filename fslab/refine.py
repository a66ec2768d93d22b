"""Sharpen a label map on its picture's edges: dense CRF, pixel-adaptive mask refinement."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fslab.records import FslabError, LabelMap, Picture, Refinement

_AROUND = [(row, column) for row in (-1, 0, 1) for column in (-1, 0, 1)]


def refine(picture: Picture, labels: LabelMap, recipe: Refinement) -> LabelMap:
    """Return the label map moved to the picture's edges; names and scores carry over.

    "crf": one two-label CRF for each class present, as the authors' released code runs one a
    mask; a pixel belongs to the class whose CRF gives it the highest probability, if that is
    above one half, and to the background where no class claims it.
    "crf-joint": one CRF over the labels present, the background among them, which costs one
    pass instead of one a class and settles overlaps inside the model.
    "pamr": pixel-adaptive mask refinement over the labels present.
    A map with one label only is returned as it is. Raises FslabError if the sizes differ.
    """
    if picture.size != labels.size:
        raise FslabError(
            f"{picture.name} is {picture.size} and its label map is {labels.size}; "
            "both have the height and width of one picture"
        )
    present, indices = np.unique(labels.labels, return_inverse=True)
    if recipe.method == "none" or len(present) == 1:
        return labels
    indices = indices.reshape(labels.size)
    if recipe.method == "crf":
        sharp = _crf_each(picture.pixels, indices, present, recipe)
    elif recipe.method == "crf-joint":
        sharp = present[_dense_crf(picture.pixels, indices, recipe).argmax(0)]
    else:
        masks = (indices[None] == np.arange(len(present))[:, None, None]).astype(np.float32)
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
        [_dense_crf(pixels, (indices == index).astype(int), recipe)[1] for index in classes]
    )
    return np.where(claims.max(0) > 0.5, present[classes][claims.argmax(0)], 0)


def _dense_crf(pixels: np.ndarray, indices: np.ndarray, recipe: Refinement) -> np.ndarray:
    """Return f32 [L, H, W], the probabilities of labels 0..L-1 after mean-field inference.

    Source: Kraehenbuehl and Koltun, NIPS 2011, through pydensecrf. Label 0 is a label like any
    other: `zero_unsure` would let the background mean "unknown".
    """
    from pydensecrf.densecrf import DenseCRF2D
    from pydensecrf.utils import unary_from_labels

    height, width = indices.shape
    count = int(indices.max()) + 1
    field = DenseCRF2D(width, height, count)
    field.setUnaryEnergy(unary_from_labels(indices, count, recipe.certainty, zero_unsure=False))
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
