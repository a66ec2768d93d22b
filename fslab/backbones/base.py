"""What every backbone offers: its layers, and one pass over a picture that reads some of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from fslab.records import Extraction, FslabError, Picture
from fslab.tap import tap, unknown_layer

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}

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
    imposed: clustering settings that its features need whatever a recipe says.
    """

    name: str
    resolution: int
    multiple: int
    timestep: int | None = None
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
        return tuple(
            max(round(min(wish, longest) / self.multiple), 1) * self.multiple for wish in wished
        )

    def layers_by_path(self) -> dict[str, Layer]:
        """Return the layers by their path."""
        return {layer.path: layer for layer in self.layers()}


def pick_layers(patterns: Sequence[str], layers: Sequence[Layer]) -> tuple[Layer, ...]:
    """Return the layers that any pattern fits, in the network's order.

    Raises FslabError for a pattern that fits no layer with a spatial output.
    """
    paths = [layer.path for layer in layers]
    for pattern in patterns:
        if not any(fnmatchcase(path, pattern) for path in paths):
            raise FslabError(unknown_layer(pattern, paths))
    return tuple(
        layer for layer in layers if any(fnmatchcase(layer.path, pattern) for pattern in patterns)
    )


def spatial_layers(
    net: nn.Module, run: Callable[[int], object], side: int, multiple: int
) -> tuple[Layer, ...]:
    """Find a network's spatial layers by passing two sizes through it, on the meta device.

    run: calls `net` for a square picture of that side, in pixels. A layer is spatial if its
    output grows with the picture; text-side and time-side layers do not. A module that is called
    more than once in a pass, such as a block's shared activation, has no output of its own.
    """
    other = side + multiple
    small, large = _shapes(net, run, side), _shapes(net, run, other)
    found = []
    for path, shape in small.items():
        stride = _stride(shape, large[path], side, other) if path in large else None
        if stride:
            found.append(Layer(path, shape[1] if len(shape) == 4 else shape[2], stride))
    return tuple(found)


def _shapes(net: nn.Module, run: Callable[[int], object], side: int) -> dict[str, tuple[int, ...]]:
    calls: Counter[str] = Counter()
    with ExitStack() as hooks, torch.no_grad(), tap(net, "*") as seen:
        for path, module in net.named_modules():
            count = module.register_forward_hook(lambda *_, path=path: calls.update([path]))
            hooks.callback(count.remove)
        run(side)
    return {path: tuple(output.shape) for path, output in seen.items() if calls[path] == 1}


def _stride(shape: tuple[int, ...], larger: tuple[int, ...], side: int, other: int) -> int | None:
    """Return the stride that explains both shapes, or None where the output is no map."""
    if len(shape) == 4 and shape[2] == shape[3] and shape[2] != larger[2]:
        stride = side // shape[2]
        return stride if (side, other) == (shape[2] * stride, larger[2] * stride) else None
    if len(shape) == 3 and shape[1] != larger[1]:
        for stride in range(1, side + 1):
            cells, more = (side // stride) ** 2, (other // stride) ** 2
            whole = side % stride == 0 and other % stride == 0
            if whole and more - cells == larger[1] - shape[1] and cells <= shape[1]:
                return stride
    return None


def fold(output: Tensor, size: tuple[int, int], stride: int) -> Tensor:
    """Return a batch of one as [C, h, w]: a map as it is, tokens laid out row by row.

    Tokens before the grid (class, registers) are left out.
    """
    if output.ndim == 4:
        return output[0]
    h, w = size[0] // stride, size[1] // stride
    tokens = output[0, output.shape[1] - h * w :]
    return tokens.transpose(0, 1).reshape(-1, h, w)


class MetaListing:
    """Layer listing for networks that can be built on the meta device; mix in before Backbone."""

    @cached_property
    def _listing(self) -> tuple[Layer, ...]:
        net, run = self._meta()
        return spatial_layers(net, run, self._listing_side(), self.multiple)

    def layers(self) -> tuple[Layer, ...]:
        """List the layers with a spatial output; see `Backbone.layers`."""
        return self._listing

    def _listing_side(self) -> int:
        return max(round(self.resolution / self.multiple), 2) * self.multiple
