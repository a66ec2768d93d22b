"""Regions by mask class tokens, in the layers of a vision tower that has a class token."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

Read = tuple[Tensor, list[tuple[Tensor, Tensor]]]
"""A picture's class token as it enters, [1, D], and each layer's keys and values of its patches."""


def read(model: Any, pixels: Tensor) -> list[Read]:
    """Pass pictures, [B, 3, H, W], through the tower once."""
    several, tower = states(model, pixels), model.vision_model
    return [
        keys_and_values(tower, [state[place] for state in several]) for place in range(len(pixels))
    ]


def states(model: Any, pixels: Tensor) -> tuple[Tensor, ...]:
    """Return what enters each layer of the tower and leaves the last, [B, 1 + P, D] each."""
    tower = model.vision_model
    found: tuple[Tensor, ...] = tower(
        pixels, interpolate_pos_encoding=True, output_hidden_states=True
    ).hidden_states
    return found


def keys_and_values(tower: Any, states: list[Tensor]) -> Read:
    """Return what mask tokens read of one picture's states, [1 + P, D] each."""
    layers = []
    for layer, state in zip(tower.encoder.layers, states[:-1], strict=True):
        patches, attention = layer.layer_norm1(state[1:]), layer.self_attn
        layers.append(
            (
                _heads(attention.k_proj(patches), attention.num_heads),
                _heads(attention.v_proj(patches), attention.num_heads),
            )
        )
    return states[0][:1], layers


def encode(model: Any, read: Read, covered: Tensor) -> Tensor:
    """Return the projected tokens of regions, [N, D]; covered: shares of patches, f32 [N, P]."""
    tower, (start, layers) = model.vision_model, read
    bias = covered.log().to(start)
    tokens = start.expand(len(covered), -1)
    for layer, (keys, values) in zip(tower.encoder.layers, layers, strict=True):
        tokens = _pass(layer, tokens, keys, values, bias)
    projected: Tensor = model.visual_projection(tower.post_layernorm(tokens))
    return projected


def _pass(layer: Any, tokens: Tensor, keys: Tensor, values: Tensor, bias: Tensor) -> Tensor:
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
