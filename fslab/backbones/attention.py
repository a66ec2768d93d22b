"""Where a word looks: how much the cells of a picture attend to it inside a diffusion network.

Source of the reading: DAAM (Tang et al., ACL 2023).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from fslab.backbones.base import Layer, LayersByPath, TextBackbone, pick_layers
from fslab.backbones.reading import fold_layer
from fslab.heads import whole_of
from fslab.parts import versioned
from fslab.process import ordinary, stage
from fslab.records import Extraction, FslabError, Picture
from fslab.tap import TO_TEXT

_BEGINNING, _BETWEEN = "a photo of a ", " and a "
"""What stands before and between the words of a prompt that only lists them."""


@stage
def word_attention(
    backbone: TextBackbone,
    picture: Picture,
    size: tuple[int, int],
    words: Sequence[str],
    settings: Extraction,
    compounds: Mapping[str, Sequence[str]] | None = None,
    nouns: Sequence[str] = (),
) -> Tensor:
    """Return how much each cell attends to each word of the prompt: f32 [words, h, w], 0..1.

    A cell's attention is a softmax over the prompt's tokens, and where picture and text attend
    together over both; a word's is the sum over its own tokens, averaged over heads, noise draws,
    timesteps and layers, on the grid of the finest.
    settings.layers: patterns of cross-attention queries (paths that end in attn2.to_q), or of what
    cells give to text (paths that end in to_text); "#3" behind one for that head alone.
    compounds: by word, phrases of the prompt that hold it and mean something else ("hot dog").
    nouns: nouns that follow each other there ("dog house"), whose parts are the last choice.
    Raises FslabError for a word that the prompt does not hold, and for other layers.
    """
    asked = (picture, words, settings, compounds, nouns)
    return word_attentions(backbone, [asked], size)[0]


@versioned(1)
@ordinary()
@torch.no_grad()
def word_attentions(
    backbone: TextBackbone,
    asked: Sequence[tuple[Any, ...]],
    size: tuple[int, int],
    most: int = 1,
) -> list[Tensor]:
    """Return `word_attention` for each of its arguments asked, `most` passes at once.

    asked: (picture, words, settings), with compounds and nouns if there are any. All pictures are
    seen at one size, and their settings differ in the prompt at most.
    """
    settings = asked[0][2]
    layers = text_layers(settings.layers, backbone.layers())
    columns = [_columns_of(backbone, *how) for _, *how in asked]
    paths = [layer.path for layer in layers]
    found: list[dict[str, list[Tensor]]] = [{path: [] for path in paths} for _ in asked]
    given = [(picture, each) for picture, _, each, *_ in asked]
    steps = dict.fromkeys(settings.timesteps, paths)
    for place, _, seen in backbone.passes(given, size, steps, most):
        for layer in layers:
            weights = fold_layer(seen[layer.path], layer, size, backbone.order)
            picked = torch.stack([weights[each].sum(0) for each in columns[place]])
            found[place][layer.path].append(picked)
    return [_mean_over(each) for each in found]


def text_layers(patterns: Sequence[str], layers: Sequence[Layer]) -> list[Layer]:
    """Return where cells look at text, by cross-attention's queries or by their own paths."""
    by_path = LayersByPath((layer.path, layer) for layer in layers)
    picked = pick_layers(patterns, layers)
    found = [_to_text(layer) for layer in picked]
    for path, asked in zip(found, [layer.path for layer in picked], strict=True):
        if whole_of(path) not in by_path:
            raise FslabError(
                f"{asked!r} is not a cross-attention query and shows no attention to text; paths "
                f"of such queries end in attn2.to_q, and of any attention to text in {TO_TEXT}"
            )
    return [by_path[path] for path in dict.fromkeys(found)]


def _to_text(layer: Layer) -> str:
    """Return where a query's cells, or one head's, look at text; a path that says so as it is."""
    if layer.whole.endswith(TO_TEXT):
        return layer.path
    return layer.whole.removesuffix(".to_q") + TO_TEXT + layer.path.removeprefix(layer.whole)


def _columns_of(
    backbone: TextBackbone,
    words: Sequence[str],
    settings: Extraction,
    compounds: Mapping[str, Sequence[str]] | None = None,
    nouns: Sequence[str] = (),
) -> list[list[int]]:
    """Return the places of each word's tokens in the prompt."""
    if isinstance(words, str) or not words:
        raise FslabError(f"words are {words!r}; give a list of at least one word")
    return [
        word_columns(
            backbone, settings.prompt, word, [*words, *(compounds or {}).get(word, ())], nouns
        )
        for word in words
    ]


def _mean_over(layers: Mapping[str, Sequence[Tensor]]) -> Tensor:
    """Return the mean over passes, then over layers on the grid of the finest."""
    maps = [torch.stack(list(each)).mean(0) for each in layers.values()]
    grid = max((each.shape[1:] for each in maps), key=lambda shape: shape[0] * shape[1])
    resized = [interpolate(each[None], grid, mode="bilinear", align_corners=False) for each in maps]
    return torch.cat(resized).mean(0).cpu()


def word_columns(
    backbone: TextBackbone,
    prompt: str,
    word: str,
    beside: Sequence[str] = (),
    nouns: Sequence[str] = (),
) -> list[int]:
    """Return the places of a word's tokens in the prompt.

    In "a photo of a hot dog and a dog" each word has its own place, "photo" too. In a prompt of
    another form it is the first mention that lies in none of the longer words `beside` it, and,
    where there is one, in none of the `nouns`.
    """
    found = _mention(prompt, word, beside, nouns)
    spans = backbone.token_spans(prompt)
    columns = [
        place for place, (a, b) in enumerate(spans) if a < b and a < found[1] and b > found[0]
    ]
    if not columns:
        raise FslabError(
            f"the word {word!r} lies beyond the {len(spans)} tokens of {prompt!r} that the text "
            "encoder reads; shorten the prompt"
        )
    return columns


def _mention(
    prompt: str, word: str, beside: Sequence[str], nouns: Sequence[str]
) -> tuple[int, int]:
    """Return where the prompt says a word; FslabError where it does not, or only in a longer."""
    longer = [each for each in beside if len(each) > len(word) and _mentions(each, word)]
    whole = [each for each in longer if _BETWEEN in each]  # "salt and a pepper"
    listed = [span for span in _listed(prompt) if prompt[slice(*span)].lower() == word.lower()]
    if free := _outside(listed, whole, prompt):
        return free[0]
    mentions = _mentions(prompt, word)
    if not mentions:
        raise FslabError(f"the prompt {prompt!r} does not hold the word {word!r}")
    free = _outside(mentions, (*longer, *nouns), prompt) or _outside(mentions, longer, prompt)
    if free:
        return free[0]
    raise FslabError(
        f"the prompt {prompt!r} holds the word {word!r} only as a part of {longer[0]!r}; ask for "
        "that, or give a prompt that says the word by itself"
    )


def _outside(
    spans: Sequence[tuple[int, int]], phrases: Sequence[str], prompt: str
) -> list[tuple[int, int]]:
    """Return the spans that lie in no mention of the phrases."""
    taken = [span for each in phrases for span in _mentions(prompt, each)]
    return [
        (start, end)
        for start, end in spans
        if not any(left <= start and end <= right for left, right in taken)
    ]


def _mentions(prompt: str, word: str) -> list[tuple[int, int]]:
    """Return where a text holds a word, whole, in any case."""
    if not word:
        return []
    found = re.finditer(rf"(?<!\w){re.escape(word)}(?!\w)", prompt, re.IGNORECASE)
    return [match.span() for match in found]


def _listed(prompt: str) -> list[tuple[int, int]]:
    """Return where the words of "a photo of a WORD and a WORD" stand; empty for other prompts."""
    if not prompt.startswith(_BEGINNING):
        return []
    places, start = [], len(_BEGINNING)
    for word in prompt[start:].split(_BETWEEN):
        places.append((start, start + len(word)))
        start += len(word) + len(_BETWEEN)
    return places
