"""What every backbone offers: its layers, and one pass over a picture that reads some of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor

from fslab.backbones.precision import dtype_of
from fslab.records import Extraction, FslabError, Picture, Precision
from fslab.store import Store
from fslab.tap import unknown_layer

LONGEST = 4
"""A side is at most this many times the other when the aspect is kept; beyond, it is squeezed."""


@dataclass(frozen=True)
class Layer:
    """One layer with a spatial output: module path, channels, stride in picture pixels."""

    path: str
    channels: int
    stride: int


class Backbone(ABC):
    """A network, or a descriptor, that turns a picture into named maps.

    name: what tables call it. resolution: its own shorter side, in pixels. multiple: what
    both sides are multiples of. timestep: the default; None where time has no meaning.
    precision: what it computes in where a recipe names none.
    batches: whether several pictures pass at once, by `run_many`.
    imposed: clustering settings that its features need whatever a recipe says. listing: its
    layers once they are known, so that they are listed once. store: keeps digests of weights.
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

    def layers_by_path(self) -> dict[str, Layer]:
        """Return the layers by their path."""
        return {layer.path: layer for layer in self.layers()}


LAST = "last:"
PROBABILITIES = ".probs"
UNET_WORDS = frozenset(
    ("conv_in", "down_blocks", "mid_block", "up_blocks", "conv_out", "attn1", "attn2")
)
"""What the parts of a diffusers UNet are called, and of no vision transformer."""


def pick_layers(patterns: Sequence[str], layers: Sequence[Layer]) -> tuple[Layer, ...]:
    """Return the layers that any pattern fits, in the network's order.

    "last:" before a pattern picks the last layer that it fits: "last:down_blocks.*.attn1" is the
    encoder's last self-attention, however many blocks it has. Probabilities, gigabytes for fine
    layers, are picked only by a pattern that ends in "probs".
    Raises FslabError for a pattern that fits no layer with a spatial output.
    """
    paths = [layer.path for layer in layers]
    picked = {path for pattern in patterns for path in _fitting(pattern, paths)}
    return tuple(layer for layer in layers if layer.path in picked)


def _fitting(pattern: str, paths: Sequence[str]) -> list[str]:
    plain = pattern.removeprefix(LAST)
    wants_probabilities = plain.endswith(PROBABILITIES.lstrip("."))
    found = [
        path
        for path in paths
        if fnmatchcase(path, plain) and (wants_probabilities or not path.endswith(PROBABILITIES))
    ]
    if not found:
        raise FslabError(unknown_layer(plain, paths))
    return found[-1:] if pattern.startswith(LAST) else found


def written_for_unet(patterns: Sequence[str]) -> bool:
    """Return whether all patterns, of which there is one at least, name parts of a UNet."""
    words = [set(pattern.removeprefix(LAST).replace("*", ".").split(".")) for pattern in patterns]
    return bool(words) and all(each & UNET_WORDS for each in words)


def fold(output: Tensor, size: tuple[int, int], stride: int) -> Tensor:
    """Return a batch of one as [C, h, w]: a map as it is, tokens laid out row by row.

    Tokens before the grid (class, registers) are left out.
    """
    if output.ndim == 4:
        return output[0]
    h, w = size[0] // stride, size[1] // stride
    tokens = output[0, output.shape[1] - h * w :]
    return tokens.transpose(0, 1).reshape(-1, h, w)
