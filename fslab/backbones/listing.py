"""Which layers a network has: found by passing two sizes through it, without any numbers."""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fslab.backbones.base import QUERIES, Backbone, Layer
from fslab.backbones.weights import UNBUILT
from fslab.heads import count_heads
from fslab.records import FslabError
from fslab.tap import ATTENTION, FROM_TEXT, INPUT, PROBABILITIES, TO_TEXT, attending, entries_of

Shape = tuple[int, ...]


class Shapes:
    """What one pass shows of each module, in the order in which modules output.

    outputs: the shape of each entry, () where it is not a tensor. inputs: the first tensor's shape.
    attention: of the modules that ask for attention themselves, the shapes of queries and keys.
    """

    def __init__(self, net: nn.Module, run: Callable[[], object]) -> None:
        self.outputs: dict[str, list[Shape]] = {}
        self.inputs: dict[str, Shape] = {}
        self.attention: dict[str, tuple[Shape, Shape]] = {}
        self._calls: Counter[str] = Counter()
        modules = {path: module for path, module in net.named_modules() if path}
        listeners = {each: partial(self._attended, path) for path, each in modules.items()}
        with ExitStack() as hooks, torch.no_grad():
            for path, module in modules.items():
                keep = partial(self._called, path)
                hooks.callback(module.register_forward_hook(keep, with_kwargs=True).remove)
            hooks.enter_context(attending(listeners))
            run()
        for path, calls in self._calls.items():
            if calls > 1:  # a shared activation has no output of its own
                for found in (self.outputs, self.inputs, self.attention):
                    found.pop(path, None)

    def _called(self, path: str, _: Any, inputs: Any, named: Any, output: Any) -> None:
        self._calls.update([path])
        self.outputs[path] = [_shape(each) for each in entries_of(output)]
        given = [_shape(each) for each in (*inputs, *named.values())]
        self.inputs[path] = next(filter(None, given), ())

    def _attended(self, path: str, query: Any, key: Any, *_: Any, **__: Any) -> None:
        self.attention[path] = tuple(query.shape), tuple(key.shape)


def _shape(value: object) -> Shape:
    return tuple(value.shape) if isinstance(value, torch.Tensor) else ()


def spatial_layers(
    net: nn.Module,
    run: Callable[[int], object],
    side: int,
    step: int,
    resolution: int,
    text: int | None = None,
) -> tuple[Layer, ...]:
    """Find a network's spatial layers by passing two sizes through it, on the meta device.

    run: calls `net` for a square picture of that side, in pixels. A layer is spatial if what it
    outputs, or one entry of that, grows with the picture; text-side and time-side layers do not.
    A module that is called more than once in a pass has no output of its own. Before a query
    projection stands its input (PATH.input), and before an attention where it looks: from cells to
    cells (PATH.probs), to text (PATH.to_text) and from text to cells (PATH.from_text).
    resolution: of the square whose cells are counted as channels of PATH.probs. text: tokens that
    a text has; None where the network reads none.
    """
    sides = side, side + step
    small, large = (Shapes(net, partial(run, each)) for each in sides)
    found: list[Layer] = []
    for path, entries in small.outputs.items():
        if path not in large.outputs:
            continue
        if path in small.attention:
            pairs = small.attention[path], large.attention[path]
            found += _attentions(path, *pairs, sides, resolution, text)
        if path.rpartition(".")[2] in QUERIES:
            one = _layer(path + INPUT, small.inputs[path], large.inputs[path], sides)
            found += [one] if one else []
        for place, shapes in enumerate(zip(entries, large.outputs[path], strict=True)):
            if one := _layer(path, *shapes, sides, place):
                found.append(one)
                break
    return tuple(replace(layer, heads=_heads(net, layer.path)) for layer in found)


def _heads(net: nn.Module, path: str) -> int:
    """Return how many heads a layer has."""
    if path.endswith(INPUT):
        return 0
    place = path.removesuffix(next((each for each in ATTENTION if path.endswith(each)), ""))
    return count_heads(net, place, place != path)


def _layer(
    path: str, shape: Shape, larger: Shape, sides: tuple[int, int], entry: int = 0
) -> Layer | None:
    stride = _stride(shape, larger, *sides)
    return Layer(path, shape[1 if len(shape) == 4 else 2], stride, entry) if stride else None


def _attentions(
    path: str,
    small: tuple[Shape, Shape],
    large: tuple[Shape, Shape],
    sides: tuple[int, int],
    resolution: int,
    text: int | None,
) -> Iterator[Layer]:
    """Yield what can be read of an attention: windows, and keys that are pooled, are left out."""
    (query, key), (more_queries, more_keys) = small, large
    batch = query[0] == more_queries[0] == 1
    stride = _stride((1, *query[2:]), (1, *more_queries[2:]), *sides) if batch else None
    if stride is None:
        return
    cells = (resolution // stride) ** 2
    if key[2] == query[2] and more_keys[2] == more_queries[2]:
        yield Layer(path + PROBABILITIES, cells, stride)
        if text is not None and query[2] > (sides[0] // stride) ** 2:
            yield Layer(path + TO_TEXT, text, stride)
            yield Layer(path + FROM_TEXT, text, stride)
    elif text is not None and key[2] == more_keys[2]:
        yield Layer(path + TO_TEXT, text, stride)


def _stride(shape: Shape, larger: Shape, side: int, other: int) -> int | None:
    """Return the stride that explains both shapes, or None where the output is not a map."""
    if len(shape) != len(larger):
        return None
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


class MetaListing(Backbone):
    """A backbone whose network can be built on the meta device, by which its layers are listed.

    folder: where the network's configuration lies, for the message where it cannot be built.
    """

    folder: Path

    @abstractmethod
    def _meta(self) -> tuple[nn.Module, Callable[[int], object]]:
        """Return the network without numbers, and what runs it on a square of a side."""

    def _text_tokens(self) -> int | None:
        """Return how many tokens a text has that the network reads; None where it reads none."""
        return None

    def _listing_step(self) -> int:
        """Return the pixels between the sides of the two squares that are passed."""
        return self.multiple

    def layers(self) -> tuple[Layer, ...]:
        """List the layers with a spatial output; see `Backbone.layers`."""
        if self.listing is None:
            try:
                net, run = self._meta()
                side, step = self._listing_side(), self._listing_step()
                how = side, step, self.resolution, self._text_tokens()
                self.listing = spatial_layers(net, run, *how)
            except FslabError:
                raise
            except UNBUILT as error:
                reason = " ".join(str(error).split())
                raise FslabError(
                    f"{self.folder} describes no network that can be built: {reason}"
                ) from error
        return self.listing

    def _listing_side(self) -> int:
        return max(round(self.resolution / self.multiple), 2) * self.multiple
