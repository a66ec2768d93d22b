"""From what was tapped to maps: a module's output or input, and where attention looks.

Networks compute attention in one call that keeps no probabilities. The tap computes them from the
queries and keys of that call, so they are those that count and nothing in a network is replaced.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fslab.backbones.base import Layer, Order
from fslab.records import FslabError
from fslab.tap import ATTENTION, FROM_TEXT, PROBABILITIES


def check_read(seen: dict[str, Tensor], paths: Sequence[str]) -> dict[str, Tensor]:
    """Return what was tapped; FslabError for attention that was not called as it should be."""
    for path in paths:
        if path not in seen:
            raise FslabError(
                f"{path} was not read: the pass asked for no scaled_dot_product_attention there; "
                "leave the library's own attention processor and backend in place"
            )
    return seen


def cut(matrix: Tensor, layer: Layer, size: tuple[int, int], order: Order) -> Tensor:
    """Return what a layer keeps of where an attention looks, [B, queries, keys].

    The picture's rows and columns (PATH.probs), its rows and text's columns (PATH.to_text), or
    text's rows and its columns (PATH.from_text). What the cells give to other tokens has no place
    among probabilities: where there are any, they sum to less than 1.
    """
    rows, cells = matrix.shape[1], (size[0] // layer.stride) * (size[1] // layer.stride)
    own = _place(rows, cells, order.attended)
    others = torch.ones(rows, dtype=torch.bool, device=matrix.device)
    others[own] = False
    if layer.whole.endswith(FROM_TEXT):
        return matrix[:, others][:, :, own].clone()
    found = matrix[:, own]
    if layer.whole.endswith(PROBABILITIES):
        found = found[:, :, own]
    elif bool(others.any()):  # else text is all that there is
        found = found[:, :, others]
    return found if found.numel() == matrix.numel() else found.clone()  # and let the rest go


def fold_layer(value: Tensor, layer: Layer, size: tuple[int, int], order: Order) -> Tensor:
    """Return what was tapped of a layer, a batch of one, as a map [C, h, w].

    A map as it is; of tokens the picture's, laid out row by row; of what was cut of an attention
    the picture's cells, with a channel for each key, or for each of text's tokens that looks.
    """
    if value.ndim == 4:
        return value[0]
    h, w = size[0] // layer.stride, size[1] // layer.stride
    if layer.whole.endswith(FROM_TEXT):
        return value[0].reshape(-1, h, w)
    tokens = value[0]
    if not layer.whole.endswith(ATTENTION):
        tokens = tokens[_place(len(tokens), h * w, order.tokens)]
    return tokens.transpose(0, 1).reshape(-1, h, w)


def _place(tokens: int, cells: int, order: str) -> slice:
    return slice(0, cells) if order == "first" else slice(tokens - cells, tokens)
