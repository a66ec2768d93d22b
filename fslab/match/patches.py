"""CLIP over a picture once, and of that pass a vector for any region."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from fslab.match.matcher import Matcher, middle, unit
from fslab.process import ordinary
from fslab.records import FslabError, Picture

if TYPE_CHECKING:
    from transformers.models.clip.modeling_clip import CLIPEncoderLayer


class Patches:
    """A picture's patches in every layer of CLIP's vision tower, and regions read from them.

    A region has a mask class token (Ding, Wang and Tu, "Open-Vocabulary Universal Image
    Segmentation with MaskCLIP", ICML 2023; here without the parts that they train): it starts as
    CLIP's class token, and in each layer attends to itself and to the patches, to a patch in
    proportion to the share of it that the region covers. Nothing attends to it, so the patches
    stay what CLIP makes of the whole picture, and a region that is all of a square picture gets
    CLIP's own vector of it. Views hide what surrounds a region; these tokens have it as context.

    The whole frame is seen, its shorter side as CLIP's input and the other in proportion, with
    positions interpolated; only of a picture eight times as long as wide the ends are cut off.
    The pass is made at the first question and kept.
    """

    def __init__(self, picture: Picture, matcher: Matcher) -> None:
        self._picture = picture
        self._matcher = matcher

    @ordinary()
    def encode(self, masks: Sequence[np.ndarray] | np.ndarray) -> np.ndarray:
        """Return f32 [N, D] of unit length for masks of the picture, bool [H, W] each.

        Raises FslabError for a mask of another size.
        """
        size = self._picture.size
        if sizes := {np.shape(mask) for mask in masks} - {size}:
            raise FslabError(f"a mask is {min(sizes)}; those of {self._picture.name} are {size}")
        if not len(masks):
            return np.empty((0, self._matcher.model.config.projection_dim), np.float32)
        return self._encode(np.stack([middle(mask) for mask in masks]))

    @torch.inference_mode()
    def _encode(self, masks: np.ndarray) -> np.ndarray:
        model = self._matcher.model
        start, layers = self._read
        given = torch.from_numpy(masks.astype(np.float32))[:, None]
        covered = F.adaptive_avg_pool2d(given, self._grid).flatten(1)
        bias = covered.log().to(start)
        tokens = start.expand(len(masks), -1)
        for layer, (keys, values) in zip(model.vision_model.encoder.layers, layers, strict=True):
            tokens = _pass(layer, tokens, keys, values, bias)
        pooled = model.visual_projection(model.vision_model.post_layernorm(tokens))
        return unit(pooled.float().cpu().numpy())

    @cached_property
    def _grid(self) -> tuple[int, int]:
        """Rows and columns of patches."""
        config = self._matcher.model.config.vision_config
        rows, columns = middle(self._picture.pixels).shape[:2]
        cells = config.image_size // config.patch_size
        shorter = min(rows, columns)
        return round(cells * rows / shorter), round(cells * columns / shorter)

    @cached_property
    def _read(self) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        """Return the class token, [1, D], and each layer's keys and values of the patches."""
        return next(_readings([self]))


def read_together(several: Sequence[Patches]) -> None:
    """Make the pass over pictures that were not read yet, for those of one grid at once."""
    grids: dict[tuple[int, int], list[Patches]] = {}
    for each in several:
        if "_read" not in vars(each):
            grids.setdefault(each._grid, []).append(each)
    for alike in grids.values():
        for each, read in zip(alike, _readings(alike), strict=True):
            vars(each)["_read"] = read


@torch.inference_mode()
def _readings(alike: Sequence[Patches]) -> Iterator[tuple[Tensor, list[tuple[Tensor, Tensor]]]]:
    """Yield what `Patches._read` is for pictures of one grid, of one pass."""
    model, processor = alike[0]._matcher.model, alike[0]._matcher.image_processor
    height, width = (side * model.config.vision_config.patch_size for side in alike[0]._grid)
    given = processor(
        images=[Image.fromarray(middle(each._picture.pixels)) for each in alike],
        size={"height": height, "width": width}, do_center_crop=False, return_tensors="pt",
    )  # fmt: skip
    pixels = given["pixel_values"].to(model.device, model.dtype)
    states = model.vision_model(
        pixels, interpolate_pos_encoding=True, output_hidden_states=True
    ).hidden_states
    for place in range(len(alike)):
        layers = []
        for layer, state in zip(model.vision_model.encoder.layers, states[:-1], strict=True):
            patches, attention = layer.layer_norm1(state[place, 1:]), layer.self_attn
            layers.append(
                (
                    _heads(attention.k_proj(patches), attention.num_heads),
                    _heads(attention.v_proj(patches), attention.num_heads),
                )
            )
        yield states[0][place, :1], layers


def _pass(
    layer: CLIPEncoderLayer, tokens: Tensor, keys: Tensor, values: Tensor, bias: Tensor
) -> Tensor:
    """Return tokens, [N, D], after a layer in which each sees itself and the patches.

    keys, values: [heads, P, D / heads]; bias: [N, P], what is added to a patch's logit.
    """
    attention = layer.self_attn
    normed = layer.layer_norm1(tokens)
    asked, own_key, own_value = (
        _heads(part(normed), attention.num_heads)
        for part in (attention.q_proj, attention.k_proj, attention.v_proj)
    )
    asked = asked * asked.shape[-1] ** -0.5
    own = (asked * own_key).sum(-1, keepdim=True)
    weights = torch.cat([asked @ keys.mT + bias, own], -1).softmax(-1)
    seen = weights[..., :-1] @ values + weights[..., -1:] * own_value
    tokens = tokens + attention.out_proj(seen.transpose(0, 1).flatten(1))
    turned: Tensor = tokens + layer.mlp(layer.layer_norm2(tokens))
    return turned


def _heads(states: Tensor, heads: int) -> Tensor:
    """Turn [N, D] into [heads, N, D / heads]."""
    parted: Tensor = states.unflatten(-1, (heads, -1))
    return parted.transpose(0, 1)
