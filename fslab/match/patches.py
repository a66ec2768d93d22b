"""CLIP over a picture once, and of that pass a vector for any region."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F

from fslab.datasets import PictureLike, read
from fslab.match.last_block import LastBlock
from fslab.match.matcher import Matcher, middle
from fslab.process import ordinary
from fslab.records import FslabError, Picture
from fslab.vectors import unit

_AT_ONCE = 16
"""Windows in one pass, to bound memory."""


class Window(NamedTuple):
    """A part of a picture's patches, and CLIP's pass over it."""

    rows: slice
    columns: slice
    block: LastBlock


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
        self._passed: dict[tuple[float, float], list[Window]] = {}

    @property
    def picture(self) -> Picture:
        """The picture."""
        return self._picture

    def grid(self, scale: float = 1.0) -> tuple[int, int]:
        """Return rows and columns of patches, the shorter side so many of CLIP's own input."""
        config = self._matcher.model.config.vision_config
        cells = scale * (config.image_size // config.patch_size)
        rows, columns = middle(self._picture.pixels).shape[:2]
        shorter = min(rows, columns)
        return max(round(cells * rows / shorter), 1), max(round(cells * columns / shorter), 1)

    @ordinary()
    @torch.inference_mode()
    def windows(self, scale: float, window: float = 0.0) -> list[Window]:
        """Return passes over the picture, or over its windows, up to the tower's last block.

        scale, window: sides in sides of CLIP's own input, see `fslab.records.Matching`. Raises
        FslabError where the matcher's family has no class token.
        """
        if (scale, window) not in self._passed:
            self._passed[scale, window] = self._pass(self.grid(scale), self._cells(window))
        return self._passed[scale, window]

    def _pass(self, grid: tuple[int, int], side: int) -> list[Window]:
        model, family = self._matcher.model, self._matcher.family
        patch = model.config.vision_config.patch_size
        (pixels,) = _pixels([self], grid)
        places = list(itertools.product(_spans(grid[0], side), _spans(grid[1], side)))
        cut = [pixels[:, _times(rows, patch), _times(columns, patch)] for rows, columns in places]
        blocks: list[LastBlock] = []
        for start in range(0, len(cut), _AT_ONCE):
            blocks += family.last_blocks(model, torch.stack(cut[start : start + _AT_ONCE]))
        return [Window(*place, block) for place, block in zip(places, blocks, strict=True)]

    def _cells(self, times: float) -> int:
        """Return how many patches are so many sides of CLIP's own input."""
        config = self._matcher.model.config.vision_config
        cells: int = config.image_size // config.patch_size
        return round(times * cells)

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
        return self.grid()

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
    return matcher.family.read(matcher.model, _pixels(alike, alike[0]._grid))


def _pixels(alike: Sequence[Patches], grid: tuple[int, int]) -> torch.Tensor:
    """Return pictures as the tower takes them, of so many patches, [B, 3, H, W]."""
    matcher = alike[0]._matcher
    patch = matcher.model.config.vision_config.patch_size
    height, width = (side * patch for side in grid)
    given = matcher.image_processor(
        images=[Image.fromarray(middle(each.picture.pixels)) for each in alike],
        size={"height": height, "width": width}, do_center_crop=False, return_tensors="pt",
    )  # fmt: skip
    pixels: torch.Tensor = given["pixel_values"].to(matcher.model.device, matcher.model.dtype)
    return pixels


def _spans(cells: int, window: int) -> list[slice]:
    """Return where windows of so many cells lie on a side, a third of one apart; all for 0."""
    if not 0 < window < cells:
        return [slice(0, cells)]
    step, last = max(round(window / 3), 1), cells - window
    return [slice(start, start + window) for start in (*range(0, last, step), last)]


def _times(span: slice, patch: int) -> slice:
    return slice(span.start * patch, span.stop * patch)
