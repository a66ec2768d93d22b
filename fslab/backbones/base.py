"""What every backbone offers: its layers, and one pass over a picture that reads some of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from fslab.backbones.precision import dtype_of
from fslab.heads import HEAD, check_head, parted, whole_of
from fslab.records import Extraction, FslabError, Picture, Precision
from fslab.store import Store
from fslab.tap import ATTENTION, INPUT, unknown_layer

LONGEST = 4
"""A side is at most this many times the other when the aspect is kept; beyond, it is squeezed."""


@dataclass(frozen=True)
class Layer:
    """One layer with a spatial output: module path, channels, stride in picture pixels.

    entry: which of the things that the module returns it is. heads: how many it has, each of them
    a layer of its own, "PATH#0" and so on, that is not listed; 0 for what has none.
    """

    path: str
    channels: int
    stride: int
    entry: int = 0
    heads: int = 0

    @property
    def whole(self) -> str:
        """The path of the layer that this is a head of, or its own."""
        return whole_of(self.path)

    def head(self, name: str) -> Layer:
        """Return one head as a layer; FslabError for one that is not there."""
        path = f"{self.path}{HEAD}{name}"
        check_head(path, self.heads)
        channels = self.channels if self.path.endswith(ATTENTION) else self.channels // self.heads
        return Layer(path, channels, self.stride, self.entry)


class LayersByPath(dict[str, Layer]):
    """Layers by their path; a head's path gives that head."""

    def __missing__(self, path: str) -> Layer:
        whole, head = parted(path)
        if head is None:
            raise KeyError(path)
        return self[whole].head(head)


@dataclass(frozen=True)
class Order:
    """Where a picture's tokens stand among others, at the end or the beginning.

    tokens: in a sequence that a module takes or outputs; attended: inside attention, which may
    join the sequences in another order. The others are text's, or a class token and registers.
    """

    tokens: Literal["first", "last"] = "last"
    attended: Literal["first", "last"] = "last"


class Backbone(ABC):
    """A network, or a descriptor, that turns a picture into named maps.

    name: what tables call it. resolution: its own shorter side, in pixels. multiple: what
    both sides are multiples of. timestep: the default; None where time has no meaning.
    precision: what it computes in where a recipe names none.
    batches: whether several pictures pass at once, by `run_many`.
    imposed: clustering settings that its features need whatever a recipe says. listing: its
    layers once they are known, so that they are listed once. store: keeps digests of weights.
    reads_text: whether it is a `TextBackbone`. has_unet: whether its layers are called as in
    diffusers' UNets. order: where a picture's tokens stand among others.
    """

    name: str
    resolution: int
    multiple: int
    device: torch.device | str = "cpu"
    timestep: int | None = None
    precision: Precision = "fp32"
    batches: bool = False
    listing: tuple[Layer, ...] | None = None
    store: Store | None = None
    imposed: Mapping[str, Any] = {}
    reads_text: bool = False
    has_unet: bool = False
    order: Order = Order()

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """Name of the weights' content; reading it loads no model."""

    @abstractmethod
    def layers(self) -> tuple[Layer, ...]:
        """List the layers with a spatial output, in firing order; loads no weights."""

    @property
    @abstractmethod
    def default_layers(self) -> tuple[str, ...]:
        """Patterns of the layers that are read where a recipe names none."""

    @abstractmethod
    def run(
        self,
        picture: Picture,
        size: tuple[int, int],
        wanted: Mapping[int, Sequence[str]],
        settings: Extraction,
    ) -> dict[tuple[str, int], Tensor]:
        """Return the maps f32 [C, h, w] of `wanted` (timestep -> layer paths) by (path, timestep).

        size: the height and width that the network sees, from `input_size`.
        """

    def run_many(
        self,
        pictures: Sequence[Picture],
        size: tuple[int, int],
        wanted: Mapping[int, Sequence[str]],
        settings: Extraction,
        most: int,
    ) -> list[dict[tuple[str, int], Tensor]]:
        """Return what `run` does of each picture, up to `most` passes' worth at once."""
        return [self.run(picture, size, wanted, settings) for picture in pictures]

    def input_size(self, picture: Picture, settings: Extraction) -> tuple[int, int]:
        """Return the height and width, in pixels, that the network sees of a picture.

        The shorter side becomes the resolution and the aspect is kept, unless the recipe says
        squash; both are rounded to multiples of the network's whole stride.
        """
        side = settings.resolution or self.resolution
        height, width = picture.size
        scale = side / min(height, width)
        wished = (side, side) if settings.squash else (height * scale, width * scale)
        longest = LONGEST * side
        rows, columns = (
            max(round(min(wish, longest) / self.multiple), 1) * self.multiple for wish in wished
        )
        return rows, columns

    def dtype(self, precision: str | None) -> torch.dtype:
        """Return what a recipe's precision means here; None is the backbone's own."""
        return dtype_of(precision or self.precision, self.device)

    def layers_by_path(self) -> LayersByPath:
        """Return the layers by their path, and their heads by theirs."""
        return LayersByPath((layer.path, layer) for layer in self.layers())


class TextBackbone(Backbone):
    """A backbone with a text encoder, whose features a prompt changes."""

    reads_text = True

    @property
    @abstractmethod
    def words_fingerprint(self) -> str:
        """Name of the text encoders and their tokenizers, which is all that words depend on."""

    @abstractmethod
    def text_states(self, prompt: str, precision: str | None = None) -> Tensor:
        """Return a prompt's text states [1, tokens, D] as the network reads them."""

    @abstractmethod
    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        """Return each text's mean token state, f32 [N, D]."""

    @abstractmethod
    def token_spans(self, prompt: str) -> list[tuple[int, int]]:
        """Return where in the prompt each token of its states stands, (0, 0) for those of none."""

    @abstractmethod
    def module(self, path: str, precision: str | None = None) -> nn.Module:
        """Return a module of the network."""

    @contextmanager
    def edited_module(self, path: str, precision: str | None = None) -> Iterator[nn.Module]:
        """Give a module to be called by itself, with what edits do to its output."""
        yield self.module(path, precision)

    @abstractmethod
    def passes(
        self,
        asked: Sequence[tuple[Picture, Extraction]],
        size: tuple[int, int],
        wanted: Mapping[int, Sequence[str]],
        most: int = 1,
    ) -> Iterator[tuple[int, int, dict[str, Tensor]]]:
        """Yield (place in `asked`, timestep, what its layers give by path) for each noise draw."""


UNET_BLOCKS = ("down_blocks.?", "mid_block", "up_blocks.?")
"""A diffusers UNet's blocks, as patterns of layers."""
LAST = "last:"
DERIVED = (*ATTENTION, INPUT)
QUERIES = ("to_q", "to_qkv", "to_qkv_mlp_proj", "q_proj", "query", "qkv")
"""What the libraries call an attention's query projection."""
UNET_WORDS = frozenset(
    ("conv_in", "down_blocks", "mid_block", "up_blocks", "conv_out", "attn1", "attn2")
)
"""What the parts of a diffusers UNet are called, and of no vision transformer."""


def pick_layers(patterns: Sequence[str], layers: Sequence[Layer]) -> tuple[Layer, ...]:
    """Return the layers that any pattern fits, in the network's order.

    "last:" before a pattern picks the last layer that it fits: "last:down_blocks.*.attn1" is the
    encoder's last self-attention, however many blocks it has. What is read beside modules' outputs
    is picked only by a pattern that ends like it: in "probs" (gigabytes for fine layers),
    "to_text", "from_text" or "input". "#3" behind a pattern picks that head of the layers that it
    fits, and "#*" each of their heads.
    Raises FslabError for a pattern that fits no layer with a spatial output, or no head.
    """
    picked: dict[str, dict[str, Layer]] = {}
    for pattern in patterns:
        whole, head = parted(pattern)
        fitting = layers if head is None else _with_heads(whole, head, layers)
        for layer in _fitting(whole, fitting):
            found = [layer] if head is None else _heads(layer, head)
            picked.setdefault(layer.path, {}).update((each.path, each) for each in found)
    return tuple(
        each for layer in layers for each in sorted(picked.get(layer.path, {}).values(), key=_place)
    )


def _place(layer: Layer) -> int:
    """Return where a layer stands among its heads: before them all."""
    head = parted(layer.path)[1]
    return -1 if head is None else int(head)


def _heads(layer: Layer, pattern: str) -> list[Layer]:
    names = map(str, range(layer.heads))
    return [layer.head(name) for name in names if fnmatchcase(name, pattern)]


def _with_heads(pattern: str, head: str, layers: Sequence[Layer]) -> list[Layer]:
    """Return the layers with such a head; FslabError where a pattern fits none of them."""
    found = [layer for layer in layers if _heads(layer, head)]
    fitting = _fitting(pattern.removeprefix(LAST), layers)
    if not any(layer in found for layer in fitting):
        most = max(fitting, key=lambda layer: layer.heads)
        check_head(f"{most.path}{HEAD}{head}", most.heads)
    return found


def _fitting(pattern: str, layers: Sequence[Layer]) -> list[Layer]:
    plain = pattern.removeprefix(LAST)
    others = tuple(each for each in DERIVED if not plain.endswith(each.lstrip(".")))
    found = [
        layer
        for layer in layers
        if fnmatchcase(layer.path, plain) and not layer.path.endswith(others)
    ]
    if not found:
        raise FslabError(unknown_layer(plain, [layer.path for layer in layers]))
    return found[-1:] if pattern.startswith(LAST) else found


def written_for_unet(patterns: Sequence[str]) -> bool:
    """Return whether all patterns, of which there is one at least, name parts of a UNet."""
    words = [
        set(whole_of(pattern).removeprefix(LAST).replace("*", ".").split("."))
        for pattern in patterns
    ]
    return bool(words) and all(each & UNET_WORDS for each in words)
