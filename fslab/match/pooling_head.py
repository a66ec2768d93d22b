"""Regions by an attention-pooling head, where a vision tower has no class token."""

from __future__ import annotations

from typing import Any

from torch import Tensor

_LEAST = 1e-30
"""The least share of a patch that counts: it weighs nothing beside a patch that is covered."""


def read(model: Any, pixels: Tensor) -> list[Tensor]:
    """Pass pictures, [B, 3, H, W], through the tower; return the patches of each, [P, D]."""
    tower = model.vision_model
    return list(tower(pixels, interpolate_pos_encoding=True).last_hidden_state)


def encode(model: Any, read: Tensor, covered: Tensor) -> Tensor:
    """Return what the head makes of regions, [N, D]; covered: shares of patches, f32 [N, P].

    The head's probe attends to a patch in proportion to its share (TextRegion, Xiao et al. 2025,
    with masks of 0 and 1). A region that covers no patch at all reads the whole picture.
    """
    head, patches = model.vision_model.head, read[None]
    bias = covered.clamp_min(_LEAST).log().to(read)
    probes = head.probe.expand(1, len(covered), -1)
    pooled = head.attention(probes, patches, patches, attn_mask=bias, need_weights=False)[0]
    vectors: Tensor = pooled + head.mlp(head.layernorm(pooled))
    return vectors[0]
