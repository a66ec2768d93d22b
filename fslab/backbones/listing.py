"""Which layers a network has: found by passing two sizes through it, without any numbers."""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fslab.backbones.base import Backbone, Layer
from fslab.backbones.probabilities import with_probabilities
from fslab.backbones.weights import UNBUILT
from fslab.records import FslabError
from fslab.tap import tap


def spatial_layers(
    net: nn.Module, run: Callable[[int], object], side: int, multiple: int
) -> tuple[tuple[Layer, ...], frozenset[str]]:
    """Find a network's spatial layers by passing two sizes through it, on the meta device.

    Returns them, and the modules that are called with a tensor beside their input: an attention
    whose scores are not of its queries and keys alone is among them.

    run: calls `net` for a square picture of that side, in pixels. A layer is spatial if its
    output grows with the picture; text-side and time-side layers do not. A module that is called
    more than once in a pass, such as a block's shared activation, has no output of its own.
    """
    other = side + multiple
    (small, steered), (large, _) = _shapes(net, run, side), _shapes(net, run, other)
    found = []
    for path, shape in small.items():
        stride = _stride(shape, large[path], side, other) if path in large else None
        if stride:
            found.append(Layer(path, shape[1] if len(shape) == 4 else shape[2], stride))
    return tuple(found), steered


def _shapes(
    net: nn.Module, run: Callable[[int], object], side: int
) -> tuple[dict[str, tuple[int, ...]], frozenset[str]]:
    """Return the shape that each module outputs once, and the modules that more than one steers."""
    calls: Counter[str] = Counter()
    steered = set()

    def count(path: str, inputs: tuple[Any, ...], named: Mapping[str, Any]) -> None:
        calls.update([path])
        if sum(map(_holds_tensor, (*inputs, *named.values()))) > 1:
            steered.add(path)

    with ExitStack() as hooks, torch.no_grad(), tap(net, "*") as seen:
        for path, module in net.named_modules():
            hook = module.register_forward_hook(
                lambda _, inputs, named, output, path=path: count(path, inputs, named),
                with_kwargs=True,
            )
            hooks.callback(hook.remove)
        run(side)
    shapes = {path: tuple(output.shape) for path, output in seen.items() if calls[path] == 1}
    return shapes, frozenset(steered)


def _holds_tensor(value: object) -> bool:
    if isinstance(value, (tuple, list)):
        return any(map(_holds_tensor, value))
    return isinstance(value, torch.Tensor)


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


class MetaListing(Backbone):
    """A backbone whose network can be built on the meta device, by which its layers are listed.

    folder: where the network's configuration lies, for the message where it cannot be built.
    """

    folder: Path

    @abstractmethod
    def _meta(self) -> tuple[nn.Module, Callable[[int], object]]:
        """Return the network without numbers, and what runs it on a square of a side."""

    def layers(self) -> tuple[Layer, ...]:
        """List the layers with a spatial output; see `Backbone.layers`."""
        if self.listing is None:
            try:
                net, run = self._meta()
                found, steered = spatial_layers(net, run, self._listing_side(), self.multiple)
            except FslabError:
                raise
            except UNBUILT as error:
                reason = " ".join(str(error).split())
                raise FslabError(
                    f"{self.folder} describes no network that can be built: {reason}"
                ) from error
            self.listing = with_probabilities(found, self.resolution, steered)
        return self.listing

    def _listing_side(self) -> int:
        return max(round(self.resolution / self.multiple), 2) * self.multiple
