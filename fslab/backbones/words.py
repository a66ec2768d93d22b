"""Words as features: how strongly each cell's cross-attention query answers a word's key.

This is the paper's last stage ("Attn", FreeSeg-Diff, Corradini et al. 2024): q k' times the
layer's scale, without the softmax, head by head.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fslab.backbones.attention import word_columns
from fslab.backbones.base import TextBackbone
from fslab.parts import versioned
from fslab.process import ordinary

PROMPT = "a photo of a {}"


@versioned(1)
@ordinary()
@torch.no_grad()
def word_keys(
    backbone: TextBackbone, layer: str, words: Sequence[str], precision: str | None = None
) -> Tensor:
    """Return each word's key at a cross-attention layer, times its scale: f32 [heads, words, D].

    layer: the path of its queries, which ends in attn2.to_q. A word is the mean text state of
    its own tokens in "a photo of a {word}". The released code means to pool a class's tokens too
    but takes the prompt's first ones, which stand before the class, and in a causal text encoder
    know nothing of it.
    """
    place = layer.removesuffix(".to_q")
    attention: Any = backbone.module(place, precision)
    states = torch.stack([_own_state(backbone, word, precision) for word in words])
    with backbone.edited_module(f"{place}.to_k", precision) as to_k:
        keys = to_k(states).float().reshape(len(words), attention.heads, -1)
    scaled: Tensor = keys.transpose(0, 1) * attention.scale
    return scaled.cpu()


def word_maps(query: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """Return one map a head and word, f32 [heads * words, h, w], of queries f32 [C, h, w].

    keys: from `word_keys`. The maps are linear in the queries, so queries that were averaged
    over noise draws give averaged maps.
    """
    heads, words, _ = keys.shape
    cells = query.reshape(heads, -1, query.shape[1] * query.shape[2])
    maps: NDArray[np.floating] = (keys @ cells).reshape(heads * words, *query.shape[1:])
    return maps.astype(np.float32, copy=False)


def _own_state(backbone: TextBackbone, word: str, precision: str | None) -> Tensor:
    prompt = PROMPT.format(word)
    columns = word_columns(backbone, prompt, word)
    return backbone.text_states(prompt, precision)[0, columns].mean(0)
