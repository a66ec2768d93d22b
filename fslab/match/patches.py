"""CLIP over a picture once, and of that pass a vector for any region."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F

from fslab.datasets import PictureLike, read
from fslab.match.matcher import Matcher, middle
from fslab.process import ordinary
from fslab.records import FslabError
from fslab.vectors import unit


class Patches:
    """A picture's patches in every layer of CLIP's vision tower, and regions read from them.

    A region has a mask class token (Ding, Wang and Tu, "Open-Vocabulary Universal Image
    Segmentation with MaskCLIP", ICML 2023; here without the parts that they train): it starts as
    CLIP's class token, and in each layer attends to itself and to the patches, to a patch in
    proportion to the share of it that the region covers. Nothing attends to it, so the patches
    stay what CLIP makes of the whole picture, and a region that is all of a square picture gets
    CLIP's own vector of it. Views hide what surrounds a region; these tokens have it as context.
    SigLIP has no class token: a region is what its pooling head makes of the patches, each
    weighted likewise.

    The whole frame is seen, its shorter side as CLIP's input and the other in proportion, with
    positions interpolated; only of a picture eight times as long as wide the ends are cut off.
    The pass is made at the first question and kept.
    """

    def __init__(self, picture: PictureLike, matcher: Matcher) -> None:
        self._picture = read(picture)
        self._matcher = matcher

    @ordinary()
    def encode(self, masks: Sequence[np.ndarray] | np.ndarray) -> np.ndarray:
        """Return f32 [N, D] of unit length for masks of the picture, bool [H, W] each.

        Raises FslabError for a mask of another size, and where the matcher's family has no mask
        tokens.
        """
        size = self._picture.size
        if sizes := {np.shape(mask) for mask in masks} - {size}:
            raise FslabError(f"a mask is {min(sizes)}; those of {self._picture.name} are {size}")
        if not len(masks):
            return np.empty((0, self._matcher.width), np.float32)
        return self._encode(np.stack([middle(mask) for mask in masks]))

    @torch.inference_mode()
    def _encode(self, masks: np.ndarray) -> np.ndarray:
        read = self._read  # before the masks: a family without mask tokens refuses
        given = torch.from_numpy(masks.astype(np.float32))[:, None]
        covered = F.adaptive_avg_pool2d(given, self._grid).flatten(1)
        vectors = self._matcher.family.encode(self._matcher.model, read, covered)
        return unit(vectors.float().cpu().numpy())

    @cached_property
    def _grid(self) -> tuple[int, int]:
        """Rows and columns of patches."""
        config = self._matcher.model.config.vision_config
        rows, columns = middle(self._picture.pixels).shape[:2]
        cells = config.image_size // config.patch_size
        shorter = min(rows, columns)
        return round(cells * rows / shorter), round(cells * columns / shorter)

    @cached_property
    def _read(self) -> Any:
        """Return what the matcher's family keeps of the picture's pass."""
        return _readings([self])[0]


def read_together(several: Sequence[Patches]) -> None:
    """Make the pass over pictures that were not read yet, for those of one grid at once."""
    grids: dict[tuple[int, int], list[Patches]] = {}
    for each in several:
        if "_read" not in vars(each):
            grids.setdefault(each._grid, []).append(each)
    for alike in grids.values():
        for each, reading in zip(alike, _readings(alike), strict=True):
            vars(each)["_read"] = reading


@torch.inference_mode()
def _readings(alike: Sequence[Patches]) -> list[Any]:
    """Return what `Patches._read` is for pictures of one grid, of one pass."""
    matcher = alike[0]._matcher
    patch = matcher.model.config.vision_config.patch_size
    height, width = (side * patch for side in alike[0]._grid)
    given = matcher.image_processor(
        images=[Image.fromarray(middle(each._picture.pixels)) for each in alike],
        size={"height": height, "width": width}, do_center_crop=False, return_tensors="pt",
    )  # fmt: skip
    pixels = given["pixel_values"].to(matcher.model.device, matcher.model.dtype)
    return matcher.family.read(matcher.model, pixels)
