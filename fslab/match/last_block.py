"""Regions from the values of the last block of a vision tower that has a class token."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from fslab.match import class_token


class LastBlock:
    """One pass over a picture, or a window of it, up to the tower's last block.

    states: what enters each block and leaves the last, [1 + P, D] each, the class token first.
    """

    def __init__(self, model: Any, states: list[Tensor]) -> None:
        self._model, self._states = model, states
        self._tower = model.vision_model
        self._block = self._tower.encoder.layers[-1]

    def cells(self, weights: Tensor) -> Tensor:
        """Return cells as means of values, f [N, D] of unit length; weights: f32 [N, P].

        A mean goes through the output's projection, the last norm and the projection into the
        space of texts: without the residual and the MLP of the block (CorrCLIP).
        """
        return self._seen(weights, self._values)

    def earlier_cells(self, weights: Tensor) -> Tensor:
        """Return the same of the mean of earlier blocks' outputs as the values."""
        return self._seen(weights, self._earlier_values)

    def tokens(self, weights: Tensor) -> Tensor:
        """Return the class token with such means of values in the last block, f [N, D]."""
        block = self._block
        seen = block.self_attn.out_proj(weights.to(self._dtype) @ self._values)
        tokens = self._states[-2][:1] + seen
        tokens = tokens + block.mlp(block.layer_norm2(tokens))
        return self._projected(tokens)

    def mask_tokens(self, covered: Tensor) -> Tensor:
        """Return mask class tokens, f [N, D]; covered: shares of patches, f32 [N, P]."""
        read = class_token.keys_and_values(self._tower, self._states)
        return normalize(class_token.encode(self._model, read, covered), dim=-1)

    @property
    def _dtype(self) -> torch.dtype:
        return self._states[-1].dtype

    def _seen(self, weights: Tensor, values: Tensor) -> Tensor:
        return self._projected(self._block.self_attn.out_proj(weights.to(self._dtype) @ values))

    def _projected(self, states: Tensor) -> Tensor:
        projected = self._model.visual_projection(self._tower.post_layernorm(states))
        return normalize(projected, dim=-1)

    @cached_property
    def _values(self) -> Tensor:
        return self._values_of(self._states[-2])

    @cached_property
    def _earlier_values(self) -> Tensor:
        return self._values_of(torch.stack(self._states)[earlier(len(self._states) - 1)].mean(0))

    def _values_of(self, states: Tensor) -> Tensor:
        values: Tensor = self._block.self_attn.v_proj(self._block.layer_norm1(states[1:]))
        return values


def read(model: Any, pixels: Tensor) -> list[LastBlock]:
    """Pass pictures, [B, 3, H, W], through the tower once."""
    states = class_token.states(model, pixels)
    return [LastBlock(model, [each[place] for each in states]) for place in range(len(pixels))]


def earlier(blocks: int) -> slice:
    """Return which states, of those that enter the blocks and leave the last, earlier blocks leave.

    Of twelve blocks the fifth to the ninth, five before the last three; in proportion of others.
    """
    stop = max(blocks - max(round(blocks / 4), 1), 1)
    start = max(stop - max(round(5 * blocks / 12), 1), 0)
    return slice(start + 1, stop + 1)
