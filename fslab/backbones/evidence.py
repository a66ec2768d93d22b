"""Where words look, read with more care: what competes, which heads and layers count, and spread.

Own code, from the descriptions of GoCA (CVPR 2026) and FA-Seg (2026); what they leave open is said
where it is settled here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, interpolate

from fslab.backbones.attention import text_layers, word_columns
from fslab.backbones.base import Layer, LayersByPath, TextBackbone
from fslab.backbones.grids import shares_of_grids, spread_over_grids
from fslab.backbones.reading import fold_layer
from fslab.heads import whole_of
from fslab.parts import versioned
from fslab.process import ordinary
from fslab.records import Extraction, FslabError, Picture, Reading
from fslab.tap import FROM_TEXT, PROBABILITIES, TO_TEXT

_LEAST = 1e-12
"""What a sum is at least before anything is divided by it."""


@dataclass
class _Looks:
    """What one layer gave, summed over passes: words f32 [words, h, w], those beside behind those
    asked for, and its self-attention f32 [cells, cells] where that is read."""

    words: Tensor
    cells: Tensor | None = None

    def add(self, other: _Looks) -> None:
        self.words += other.words
        if self.cells is not None and other.cells is not None:
            self.cells += other.cells

    @property
    def grid(self) -> tuple[int, int]:
        return self.words.shape[1], self.words.shape[2]


@versioned(1)
@ordinary()
@torch.no_grad()
def word_readings(
    backbone: TextBackbone,
    asked: Sequence[tuple[Picture, Sequence[str], Extraction, Reading]],
    size: tuple[int, int],
    most: int = 1,
) -> list[Tensor]:
    """Return where each one's words look, f32 [words, h, w] of 0..1, `most` passes at once.

    asked: (picture, words, settings, reading), as `fslab.backbones.word_attentions` takes them;
    the prompt, or the reading's own, holds the reading's words beside, whose maps come behind the
    words'. All pictures are seen at one size; settings differ in the prompt at most, and readings
    in words beside and in their own prompt.

    Heads come first, then layers and passes are averaged on the grid of the finest layer, and the
    maps are blurred, scaled and spread. Raises FslabError for layers that show no attention to
    text, and where what the reading asks for is not there: heads' outputs outside
    cross-attention, a self-attention beside a layer, queries of a UNet for a prompt of its own.
    """
    settings, reading = asked[0][2:]
    listed = LayersByPath((layer.path, layer) for layer in backbone.layers())
    layers = text_layers(settings.layers, backbone.layers())
    cells = {}
    if reading.spread or reading.layers == "likeness":
        cells = {layer.path: self_attention_beside(layer, listed) for layer in layers}
    if reading.heads == "agreement":
        check_cross(layers, listed)
    if reading.said:
        check_queries(backbone, layers)
    sources = {layer.path: _sources(layer, listed, reading) for layer in layers}
    paths = [each.path for some in sources.values() for each in some]
    paths += dict.fromkeys(each.path for each in cells.values())
    columns = [_columns(backbone, *one[1:]) for one in asked]
    found: list[dict[str, _Looks]] = [{} for _ in asked]
    steps = dict.fromkeys(settings.timesteps, paths)
    given = [(picture, part) for picture, _, part, _ in asked]
    for place, _, seen in backbone.passes(given, size, steps, most):
        for layer in layers:
            some = sources[layer.path]
            each = [fold_layer(seen[one.path], one, size, backbone.order) for one in some]
            maps = torch.stack(each).float()
            said = _said(*asked[place][2:])
            if reading.said:
                maps = _answers(backbone, maps[0], layer.path, said)
            weights = _weights(backbone, maps, layer.path, said, reading.heads)
            looks = _Looks(_of_words(maps, weights, columns[place], reading.over))
            if layer.path in cells:
                looks.cells = seen[cells[layer.path].path][0].float()
            _sum_up(found[place], layer.path, looks)
    passes = len(settings.timesteps) * settings.draws
    return [
        _together(list(each.values()), passes, reading)[: len(words)].cpu()
        for each, (_, words, *_) in zip(found, asked, strict=True)
    ]


def _sum_up(found: dict[str, _Looks], path: str, looks: _Looks) -> None:
    """Add what a layer gave to what it gave in passes before."""
    if path in found:
        found[path].add(looks)
    else:
        found[path] = looks


def self_attention_beside(layer: Layer, listed: Mapping[str, Layer]) -> Layer:
    """Return where cells look at cells next to where they look at text, as a layer.

    In a transformer block of a UNet or PixArt that is attn1 before attn2; where text and picture
    attend jointly, the same attention. Raises FslabError where there is none.
    """
    place = layer.whole.removesuffix(TO_TEXT)
    stem = place.removesuffix("attn2")
    for path in (place + PROBABILITIES, f"{stem}attn1{PROBABILITIES}"):
        if path in listed:
            return listed[path]
    raise FslabError(
        f"{layer.path!r} has no self-attention beside it that shows where it looks; leave the "
        "reading's spread at 0 and its layers at 'mean'"
    )


def check_cross(layers: Sequence[Layer], listed: Mapping[str, Layer]) -> None:
    """Refuse layers whose heads output what comes of text and picture together."""
    joint = [each.path for each in layers if each.whole.removesuffix(TO_TEXT) + FROM_TEXT in listed]
    if joint:
        raise FslabError(
            f"{joint[0]!r} attends to text and picture together, so what its heads output is not "
            "of the text alone; heads='agreement' needs cross-attention, take heads='mean'"
        )


def _heads(layer: Layer) -> list[Layer]:
    """Return a layer's heads as layers; a head, and what has none, as it is."""
    return [layer.head(str(number)) for number in range(layer.heads)] or [layer]


def _sources(layer: Layer, listed: Mapping[str, Layer], reading: Reading) -> list[Layer]:
    """Return what a layer's maps are made of: its heads, or the queries for another prompt."""
    if not reading.said:
        return _heads(layer)
    return [listed[layer.whole.removesuffix(TO_TEXT) + ".to_q"]]


def check_queries(backbone: TextBackbone, layers: Sequence[Layer]) -> None:
    """Refuse layers whose queries cannot meet the keys of another prompt than the pass has."""
    if not backbone.has_unet:
        raise FslabError(
            f"{backbone.name} has no UNet, whose cells' queries could meet the keys of a prompt of "
            "the words' own; leave the reading's said, or matching.attention_pass, as it is"
        )
    if parts := [layer.path for layer in layers if layer.path != layer.whole]:
        raise FslabError(
            f"{parts[0]!r} is one head, and a prompt of the words' own is read of whole layers; "
            f"name {whole_of(parts[0])!r}"
        )


def _said(settings: Extraction, reading: Reading) -> Extraction:
    """Return settings whose prompt is the one that the words are read in."""
    return replace(settings, prompt=reading.said) if reading.said else settings


def _answers(backbone: TextBackbone, queries: Tensor, path: str, settings: Extraction) -> Tensor:
    """Return how cells answer a prompt's tokens, f32 [heads, tokens, h, w], softmax over these.

    queries: f32 [C, h, w], of a pass with whatever prompt.
    """
    place = path.removesuffix(TO_TEXT)
    attention: Any = backbone.module(place, settings.precision)
    states = backbone.text_states(settings.prompt, settings.precision)
    with backbone.edited_module(f"{place}.to_k", settings.precision) as to_k:
        keys = to_k(states)[0].float()
    heads = attention.heads
    keys = keys.reshape(len(keys), heads, -1).transpose(0, 1)
    cells = queries.reshape(heads, -1, queries.shape[1] * queries.shape[2])
    answers = torch.softmax(keys @ cells * attention.scale, 1)
    return answers.reshape(heads, -1, *queries.shape[1:])


def _columns(
    backbone: TextBackbone, words: Sequence[str], settings: Extraction, reading: Reading
) -> list[list[int]]:
    """Return the places of each word's tokens in their prompt, of those beside too."""
    if isinstance(words, str) or not words:
        raise FslabError(f"words are {words!r}; give a list of at least one word")
    every = [*words, *reading.beside]
    if reading.over == "words" and len(every) < 2:
        raise FslabError(
            f"{every[0]!r} is the prompt's only word, which has all attention that goes to words; "
            "with over='words' give words beside it, or take over='text'"
        )
    prompt = _said(settings, reading).prompt
    return [word_columns(backbone, prompt, word, every) for word in every]


def _weights(
    backbone: TextBackbone, maps: Tensor, path: str, settings: Extraction, how: str
) -> Tensor:
    """Return what heads weigh at each cell, f32 [heads, h, w], sums 1; maps: [heads, tokens, h, w].

    By agreement it is the inner product of a head's output, in the network's channels, with that
    of all heads together; one that turns away from them all weighs nothing.
    """
    if how == "mean" or len(maps) == 1:
        return torch.full((len(maps), *maps.shape[2:]), 1 / len(maps), device=maps.device)
    place = path.removesuffix(TO_TEXT)
    states = backbone.text_states(settings.prompt, settings.precision)
    with backbone.edited_module(f"{place}.to_v", settings.precision) as to_v:
        if to_v.get_parameter("weight").shape[1] != states.shape[-1]:
            raise FslabError(
                f"{path!r} reads text that the network has projected before, so what its heads "
                "output is not known from the prompt alone; take heads='mean'"
            )
        values: Tensor = to_v(states)[0].float()
    onwards = backbone.module(f"{place}.to_out", settings.precision).get_parameter("0.weight")
    onwards = onwards.float()
    values = values.reshape(len(values), len(maps), -1).permute(1, 0, 2)
    onwards = onwards.reshape(len(onwards), len(maps), -1).permute(1, 2, 0)
    given = values @ onwards  # [heads, tokens, C]: what a token gives by a head
    cells = maps.flatten(2).transpose(1, 2)
    total = torch.zeros(cells.shape[1], given.shape[2], device=maps.device)
    for one, other in zip(cells, given, strict=True):
        total += one @ other
    agreement = torch.stack(
        [((one @ other) * total).sum(1) for one, other in zip(cells, given, strict=True)]
    ).clamp(min=0)
    shares = agreement / agreement.sum(0, keepdim=True).clamp(min=_LEAST)
    return shares.reshape(len(maps), *maps.shape[2:])


def _of_words(maps: Tensor, weights: Tensor, columns: Sequence[Sequence[int]], over: str) -> Tensor:
    """Return each word's map, f32 [words, h, w], of maps [heads, tokens, h, w] of all tokens."""
    if over == "words":
        content = sorted({column for each in columns for column in each})
        maps = maps / maps[:, content].sum(1, keepdim=True).clamp(min=_LEAST)
    mean = (maps * weights[:, None]).sum(0)
    return torch.stack([mean[list(each)].sum(0) for each in columns])


def _together(layers: Sequence[_Looks], passes: int, reading: Reading) -> Tensor:
    """Return one map a word of what all layers gave in so many passes."""
    grid = max((each.grid for each in layers), key=lambda shape: shape[0] * shape[1])
    shares = [1 / len(layers)] * len(layers)
    if reading.layers == "likeness":
        shares = _likeness(layers, grid)
    if reading.grids:
        shares = shares_of_grids([each.grid for each in layers], reading.grids, "reading.grids")
    maps = torch.zeros(len(layers[0].words), *grid, device=layers[0].words.device)
    for each, share in zip(layers, shares, strict=True):
        resized = interpolate(each.words[None], grid, mode="bilinear", align_corners=False)[0]
        maps += share / passes * resized
    if reading.blur:
        maps = _blurred(maps, reading.blur)
    if reading.scaled:
        least, most = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
        maps = (maps - least) / (most - least).clamp(min=_LEAST)
    if not reading.spread_grids:
        return _spread(maps, layers, shares, reading.spread) if reading.spread else maps
    cells = [(each.cells, each.grid) for each in layers if each.cells is not None]
    weights = shares_of_grids(
        [own for _, own in cells], reading.spread_grids, "reading.spread_grids"
    )
    return spread_over_grids(maps, cells, weights, reading.spread)


def _spread(maps: Tensor, layers: Sequence[_Looks], shares: Sequence[float], times: int) -> Tensor:
    """Return maps f32 [words, h, w] multiplied by the finest layers' mean self-attention."""
    cells = maps.shape[1] * maps.shape[2]
    looks = torch.zeros(cells, cells, device=maps.device)
    for each, share in zip(layers, shares, strict=True):
        if each.grid == maps.shape[1:] and each.cells is not None:
            looks += share * each.cells
    looks /= looks.sum(1, keepdim=True).clamp(min=_LEAST)
    flat = maps.flatten(1).T
    for _ in range(times):
        flat = looks @ flat
    return flat.T.reshape(maps.shape)


def _likeness(layers: Sequence[_Looks], grid: tuple[int, int]) -> list[float]:
    """Return what layers weigh, which sums to 1: by the likeness of where their cells look.

    The reference is the mean self-attention of the layers on the finest grid, and is pooled to the
    grid of a coarser one. What GoCA compares with is not in its description.
    """
    cells = [(each.cells, each.grid) for each in layers if each.cells is not None]
    reference = torch.zeros(grid[0] * grid[1], grid[0] * grid[1], device=cells[0][0].device)
    for each, own in cells:  # summed one by one: hundreds of megabytes each at true size
        if own == grid:
            reference += each
    found = []
    for each, own in cells:
        pooled = _pooled(reference, grid, own)
        lengths = pooled.norm() * each.norm()
        found.append(float((pooled * each).sum() / lengths.clamp(min=_LEAST)))
    return [each / sum(found) for each in found]


def _pooled(looks: Tensor, grid: tuple[int, int], coarser: tuple[int, int]) -> Tensor:
    """Return self-attention f32 [cells, cells] on a coarser grid, mean by mean."""
    if coarser == grid:
        return looks
    keys = adaptive_avg_pool2d(looks.reshape(-1, *grid), coarser).flatten(1)
    pooled: Tensor = adaptive_avg_pool2d(keys.T.reshape(-1, *grid), coarser).flatten(1).T
    return pooled


def _blurred(maps: Tensor, deviation: float) -> Tensor:
    blurred = [gaussian_filter(one, deviation) for one in maps.cpu().numpy()]
    return torch.from_numpy(np.stack(blurred)).to(maps.device)
