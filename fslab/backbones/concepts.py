"""Where concepts are, by what attention outputs, where text and picture attend jointly.

Concepts pass as further tokens of the text's stream. They attend to the picture and to each other,
and nothing attends to them, so the picture and the prompt go as they would without. A cell is the
concept whose attention output is most like the cell's own. Own code; source of the idea:
ConceptAttention (Helbling et al., ICML 2025).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from fslab.backbones.attention import word_columns
from fslab.backbones.base import Layer, pick_layers
from fslab.backbones.diffusion import Diffusion
from fslab.backbones.words import PROMPT
from fslab.parts import versioned
from fslab.process import ordinary
from fslab.records import Extraction, FslabError, Picture
from fslab.tap import FROM_TEXT, TO_TEXT, Attending, alone, attending

_NAMES = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal")


@versioned(1)
@ordinary()
@torch.no_grad()
def concept_maps(
    backbone: Diffusion,
    picture: Picture,
    size: tuple[int, int],
    concepts: Sequence[str],
    settings: Extraction,
) -> Tensor:
    """Return how much each cell is each concept: f32 [concepts, h, w], which sum to 1.

    A concept is the mean attention output of its tokens, whose text states are those of
    "a photo of a {concept}". The products with the cells' outputs, of all heads together and before
    the output's projection, go through a softmax over concepts and are averaged over layers, noise
    draws and timesteps. settings.layers: patterns of joint attention (paths that end in to_text).
    Raises FslabError for fewer than two concepts and for networks without joint attention.
    """
    if isinstance(concepts, str) or len(concepts) < 2:
        raise FslabError(f"concepts are {concepts!r}; give two at least, which cells choose among")
    layers = _joint(backbone, settings.layers)
    dtype = backbone.dtype(settings.precision)
    states = [_own_states(backbone, each, settings.precision) for each in concepts]
    owner = torch.cat([torch.full((len(each),), at) for at, each in enumerate(states)])
    text = backbone.text(settings.prompt, dtype)
    more = torch.cat(states)[None]
    mask = (
        None if text.mask is None else torch.cat([text.mask, text.mask.new_ones(1, len(owner))], 1)
    )
    wider = replace(text, states=torch.cat([text.states, more], 1), mask=mask)
    h, w = size[0] // layers[0].stride, size[1] // layers[0].stride
    first = backbone.order.attended == "first"
    mode = _Aside(h * w, text.states.shape[1], len(owner), first, backbone.device)
    found: list[Tensor] = []
    keep = partial(_compare, mode, owner, found)
    net = backbone.network(settings.precision)
    listeners = {net.get_submodule(_stem(layer)): keep for layer in layers}
    for row in backbone.rows(picture, size, settings):
        said = (settings.prompt, *concepts)
        edited = backbone.edited_pass(net, [row], wider, size, settings, said)
        with edited, alone(net), attending(listeners, mode):
            backbone.call(net, [row], wider, size, dtype)
    return torch.stack(found).mean(0).reshape(-1, h, w).cpu()


def _stem(layer: Layer) -> str:
    return layer.path.removesuffix(TO_TEXT)


def _joint(backbone: Diffusion, patterns: Sequence[str]) -> list[Layer]:
    """Return where text and picture attend jointly, of the layers that patterns fit."""
    listed = backbone.layers_by_path()
    picked = pick_layers(patterns, backbone.layers())
    found = [each for each in picked if _stem(each) + FROM_TEXT in listed]
    if not found:
        raise FslabError(
            f"{backbone.name} has no attention of text and picture together among "
            f"{', '.join(patterns)}; concepts are read there (SD 3, FLUX), and elsewhere words by "
            "cross-attention"
        )
    return found


def _own_states(backbone: Diffusion, concept: str, precision: str | None) -> Tensor:
    """Return the text states of a concept's own tokens, [tokens, D]."""
    prompt = PROMPT.format(concept)
    return backbone.text_states(prompt, precision)[0, word_columns(backbone, prompt, concept)]


def _compare(mode: _Aside, owner: Tensor, found: list[Tensor], *_: object, output: Tensor) -> None:
    """Keep a softmax over concepts, [concepts, cells], of what an attention output."""
    tokens = output[0].transpose(0, 1).flatten(1).float()
    several = tokens[mode.concepts]
    means = [several[owner == at].mean(0) for at in range(int(owner.max()) + 1)]
    found.append((torch.stack(means) @ tokens[mode.picture].T).softmax(0))


class _Aside(Attending):
    """Lets the last tokens of the text's stream attend and not be attended to."""

    def __init__(
        self, cells: int, text: int, concepts: int, first: bool, device: torch.device
    ) -> None:
        super().__init__()
        self.total = cells + text + concepts
        start = cells if first else 0
        self.concepts = slice(start + text, start + text + concepts)
        self.picture = slice(0, cells) if first else slice(text + concepts, self.total)
        allowed = torch.ones(self.total, self.total, dtype=torch.bool, device=device)
        allowed[:, self.concepts] = False
        allowed[self.concepts] = False
        allowed[self.concepts, self.picture] = True
        allowed[self.concepts, self.concepts] = True
        self._allowed = allowed

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func is not scaled_dot_product_attention:
            return func(*args, **(kwargs or {}))
        named = {**dict(zip(_NAMES, args, strict=False)), **(kwargs or {})}
        if not named["query"].shape[2] == named["key"].shape[2] == self.total:
            return func(**named)
        output = func(**{**named, "attn_mask": self._with(named)})
        if self.entered:
            self.entered[-1](output=output)
        return output

    def _with(self, named: Mapping[str, Any]) -> Tensor:
        mask: Tensor | None = named.get("attn_mask")
        if mask is None:
            return self._allowed
        if mask.dtype == torch.bool:
            return mask & self._allowed
        return mask.masked_fill(~self._allowed, -torch.inf)
