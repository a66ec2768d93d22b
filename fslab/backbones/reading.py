"""From what was tapped to maps: a module's output or input, and where attention looks.

Networks compute attention in one call that keeps no probabilities. The tap computes them from the
queries and keys of that call, so they are those that count and nothing in a network is replaced.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from fslab.backbones.base import ATTENTION, FROM_TEXT, TO_TEXT, Layer, Order
from fslab.records import FslabError
from fslab.tap import PROBABILITIES


def sources(paths: Sequence[str]) -> tuple[str, ...]:
    """Return what to tap for layers: of all that is read of an attention, one whole matrix."""
    return tuple(dict.fromkeys(map(_source, paths)))


def with_derived(seen: Mapping[str, Tensor], paths: Sequence[str]) -> dict[str, Tensor]:
    """Return what was tapped by the layers' own paths; FslabError for attention that was not."""
    for path in paths:
        if _source(path) not in seen:
            raise FslabError(
                f"{path} was not read: the pass asked for no scaled_dot_product_attention there; "
                "leave the library's own attention processor and backend in place"
            )
    return {path: seen[_source(path)] for path in paths}


def _source(path: str) -> str:
    stem = next((path.removesuffix(each) for each in ATTENTION if path.endswith(each)), None)
    return path if stem is None else stem + PROBABILITIES


def fold_layer(value: Tensor, layer: Layer, size: tuple[int, int], order: Order) -> Tensor:
    """Return what was tapped of a layer, a batch of one, as a map [C, h, w].

    A map as it is; of tokens the picture's, laid out row by row; of an attention's matrix
    [1, queries, keys] the picture's rows and columns (PATH.probs), its rows and text's columns
    (PATH.to_text), or text's rows and its columns (PATH.from_text). What the cells give to other
    tokens has no place among probabilities: where there are any, they sum to less than 1.
    """
    if value.ndim == 4:
        return value[0]
    h, w = size[0] // layer.stride, size[1] // layer.stride
    if not layer.path.endswith(ATTENTION):
        tokens = value[0, _place(value.shape[1], h * w, order.tokens)]
        return tokens.transpose(0, 1).reshape(-1, h, w)
    matrix = value[0]
    own = _place(len(matrix), h * w, order.attended)
    others = torch.ones(len(matrix), dtype=torch.bool, device=matrix.device)
    others[own] = False
    if layer.path.endswith(FROM_TEXT):
        return matrix[others][:, own].reshape(-1, h, w)
    rows = matrix[own]
    if layer.path.endswith(PROBABILITIES):
        rows = rows[:, own]
    elif layer.path.endswith(TO_TEXT) and bool(others.any()):  # else text is all that there is
        rows = rows[:, others]
    return rows.transpose(0, 1).reshape(-1, h, w)


def _place(tokens: int, cells: int, order: str) -> slice:
    return slice(0, cells) if order == "first" else slice(tokens - cells, tokens)
