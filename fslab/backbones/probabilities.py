"""Self-attention probabilities as layers: where each cell of a picture looks in that picture.

The networks compute attention in one fused call that keeps no probabilities. They are had again
from what the query and key projections output, so nothing inside a network is replaced.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import torch
from torch import Tensor, nn

from fslab.backbones.base import PROBABILITIES, Layer, fold

PROJECTIONS = {"to_k": "to_q", "k_proj": "q_proj"}
"""What diffusers and transformers call an attention's key and query projection."""


def with_probabilities(
    layers: Sequence[Layer], side: int, steered: Collection[str] = ()
) -> tuple[Layer, ...]:
    """Return the layers, and after each self-attention's projections its probabilities.

    side: the pixels of a square picture, to count the keys: a map has a channel for each. An
    attention is to itself where its keys grow with the picture; text's do not, and are no layer.
    steered: modules that take more than their input. What such an attention looks at is not told
    by its projections: rotary positions turn them (DINOv3), or a bias is added (BEiT).
    """
    by_path = {layer.path: layer for layer in layers}
    pairs = {_partner(path): path for path in by_path if _partner(path) in by_path}
    pairs |= {key: query for query, key in pairs.items()}
    listed, seen = [], set()
    for layer in layers:
        listed.append(layer)
        seen.add(layer.path)
        parent = layer.path.rpartition(".")[0]
        if pairs.get(layer.path) in seen and parent not in steered:
            listed.append(Layer(parent + PROBABILITIES, (side // layer.stride) ** 2, layer.stride))
    return tuple(listed)


def _partner(path: str) -> str:
    """Return the query projection that belongs to a key projection; "" for any other layer."""
    parent, _, name = path.rpartition(".")
    return f"{parent}.{PROJECTIONS[name]}" if name in PROJECTIONS else ""


def sources(paths: Sequence[str], net: nn.Module) -> tuple[str, ...]:
    """Return the modules to tap for layers: two projections for probabilities, else itself."""
    found = []
    for path in paths:
        found += _projections(path, net) if path.endswith(PROBABILITIES) else [path]
    return tuple(dict.fromkeys(found))


def with_derived(
    seen: Mapping[str, Tensor], paths: Sequence[str], net: nn.Module
) -> dict[str, Tensor]:
    """Return what the tapped modules output, and of `paths` the probabilities made from it."""
    found = dict(seen)
    for path in paths:
        if path.endswith(PROBABILITIES):
            query, key = (seen[module] for module in _projections(path, net))
            attention = net.get_submodule(path.removesuffix(PROBABILITIES))
            found[path] = attention_probabilities(query, key, *heads_and_scale(attention))
    return found


def attention_probabilities(query: Tensor, key: Tensor, heads: int, scale: float) -> Tensor:
    """Return softmax(q k' scale) averaged over heads: f32 [B, queries, keys].

    query, key: [B, tokens, heads * channels]. Head by head: all at once need `heads` times the
    memory, gigabytes for the finest layer of Stable Diffusion.
    """
    q, k = (each.float().unflatten(-1, (heads, -1)).transpose(1, 2) for each in (query, key))
    total = torch.zeros(len(q), q.shape[2], k.shape[2], device=q.device)
    for head in range(heads):
        total += (q[:, head] @ k[:, head].transpose(1, 2) * scale).softmax(-1)
    return total / heads


def heads_and_scale(attention: nn.Module) -> tuple[int, float]:
    """Return an attention's number of heads and the factor of its scores."""
    names = ("heads", "num_heads", "num_attention_heads")
    heads = next(getattr(attention, name) for name in names if hasattr(attention, name))
    names = ("scale", "scaling")
    return heads, next(getattr(attention, name) for name in names if hasattr(attention, name))


def fold_layer(seen: Mapping[str, Tensor], path: str, size: tuple[int, int], stride: int) -> Tensor:
    """Return a layer's map [C, h, w] as `fold`; of probabilities the grid's keys alone.

    What a vision transformer's cells give to its class token has no place on the grid: there a
    cell's probabilities sum to less than 1.
    """
    value = fold(seen[path], size, stride)
    if path.endswith(PROBABILITIES):
        return value[len(value) - value.shape[1] * value.shape[2] :]
    return value


def _projections(path: str, net: nn.Module) -> list[str]:
    parent = path.removesuffix(PROBABILITIES)
    children = {name for name, _ in net.get_submodule(parent).named_children()}
    return [
        f"{parent}.{name}"
        for key, query in PROJECTIONS.items()
        if key in children
        for name in (query, key)
    ]
