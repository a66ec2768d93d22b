"""A network of one's own as a backbone: any torch module, its layers by their modules' paths."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fslab.backbones.base import DERIVED, Backbone, Layer
from fslab.backbones.listing import Shapes, spatial_layers
from fslab.backbones.timeless import Timeless, resized
from fslab.backbones.weights import UNBUILT, one_at_a_time
from fslab.devices import checked_device
from fslab.heads import count_heads
from fslab.keys import content
from fslab.parts import identity, versioned
from fslab.process import ordinary
from fslab.records import Extraction, FslabError, Picture, digest_of
from fslab.records.base import described
from fslab.tap import PROBABILITIES, alone

Prepare = Callable[[np.ndarray], Tensor]
"""Makes what the network takes, f32 [3, h, w], of pixels u8 [h, w, 3] at the size it sees."""


def from_module(
    net: nn.Module,
    prepare: Prepare,
    *,
    resolution: int,
    multiple: int,
    extra_tokens: int = 0,
    fixed: bool = False,
    layers: Sequence[str] = (),
    name: str = "",
    device: str | None = None,
) -> Backbone:
    """Return a backbone of a torch module, such as one of timm's: `Lab("mini", backbone=it)`.

    net: called with pictures f32 [B, 3, h, w]; a copy of it, as it is now, in eval mode, is kept.
    prepare: pixels u8 [h, w, 3], resized bicubically to what the network sees, to f32 [3, h, w] of
    that size: scaling and normalising. resolution: the shorter side that it sees, in pixels;
    multiple: what both sides are multiples of, the patch or the whole stride. extra_tokens: those
    before the picture's in a sequence, a class token and registers, which are left out of maps.
    fixed: the network takes a square of `resolution` alone, and pictures are squashed into it.
    layers: paths or patterns that are read where none is named; the last one if left out.

    A layer is a module that outputs maps [B, C, h, w] or tokens [B, N, C], with the picture's
    tokens last and row by row; heads, `.probs`, `.input` and `lab.edit` work as for other networks.
    Results are kept by the weights' content, the code of the module's classes, their settings, and
    the source of `prepare`. Raises FslabError for what is no module, for a network that does not
    take such pictures, and for layers of another number of tokens than is said.
    """
    return OwnNetwork(
        net, prepare, resolution, multiple, extra_tokens, fixed, layers,
        name or type(net).__name__, device,
    )  # fmt: skip


@versioned(1)
class OwnNetwork(Timeless):
    """A torch module as a backbone; see `from_module`."""

    def __init__(
        self,
        net: nn.Module,
        prepare: Prepare,
        resolution: int,
        multiple: int,
        extra_tokens: int,
        fixed: bool,
        layers: Sequence[str],
        name: str,
        device: str | None,
    ) -> None:
        _check(net, prepare, resolution, multiple, extra_tokens)
        self.name, self.device = name, torch.device(checked_device(device))
        self.resolution, self.multiple = resolution, multiple
        self._prepare, self._extra, self._fixed = prepare, extra_tokens, fixed
        self._defaults = (layers,) if isinstance(layers, str) else tuple(layers)
        try:
            own = copy.deepcopy(net)
        except (RuntimeError, TypeError) as error:
            raise FslabError(
                f"{name} cannot be copied ({' '.join(str(error).split())}); give a module whose "
                "tensors are parameters or buffers"
            ) from error
        self._own = own.to(self.device, torch.float32).eval().requires_grad_(False)
        self._halves: dict[torch.dtype, nn.Module] = {}

    @cached_property
    def fingerprint(self) -> str:
        """Name of the weights' content, the classes' code and settings, and `prepare`'s source."""
        tensors = dict(self._own.named_parameters()) | dict(self._own.named_buffers())
        weights = content({path: each.detach().cpu().numpy() for path, each in tensors.items()})
        built = [
            [path, identity(type(each)), _settings(each)]
            for path, each in self._own.named_modules()
        ]
        how = [self.multiple, self._extra, self._fixed, identity(self._prepare)]
        return digest_of({"weights": weights, "built": built, "how": how})

    @property
    def default_layers(self) -> tuple[str, ...]:
        """Those that were given, else the last one that a module outputs."""
        plain = [each.path for each in self.layers() if not each.path.endswith(DERIVED)]
        return self._defaults or (plain[-1],)

    def input_size(self, picture: Picture, settings: Extraction) -> tuple[int, int]:
        """Return the height and width that the network sees; see `Backbone.input_size`."""
        if not self._fixed:
            return super().input_size(picture, settings)
        if settings.resolution not in (0, None, self.resolution):
            raise FslabError(
                f"{self.name} takes {self.resolution} x {self.resolution} pixels alone; leave out "
                f"resolution={settings.resolution}"
            )
        return self.resolution, self.resolution

    def layers(self) -> tuple[Layer, ...]:
        """List the modules that output maps or tokens of a picture, in firing order."""
        if self.listing is None:
            with one_at_a_time, alone(self._own), ordinary():
                found = self._of_one_size() if self._fixed else self._of_two_sizes()
            if not any(not each.path.endswith(DERIVED) for each in found):
                raise FslabError(
                    f"no module of {self.name} outputs a map [B, C, h, w], or tokens [B, N, C], of "
                    f"a picture's cells; multiple is {self.multiple} and extra_tokens "
                    f"{self._extra}: are they the network's?"
                )
            self.listing = found
        return self.listing

    def _of_two_sizes(self) -> tuple[Layer, ...]:
        side = max(round(self.resolution / self.multiple), 2) * self.multiple
        run, step = self._square, self.multiple
        found = spatial_layers(self._own, run, side, step, self.resolution)
        shapes = Shapes(self._own, partial(run, side)).outputs
        for layer in found:
            shape = shapes.get(layer.path, [()] * (layer.entry + 1))[layer.entry]
            if len(shape) == 3:
                self._check_tokens(layer, shape[1], (side // layer.stride) ** 2)
        return found

    def _check_tokens(self, layer: Layer, tokens: int, cells: int) -> None:
        extra = tokens - cells
        if extra not in (0, self._extra):
            raise FslabError(
                f"{layer.path!r} of {self.name} outputs {tokens} tokens for {cells} cells of "
                f"{layer.stride} x {layer.stride} pixels, and extra_tokens is {self._extra}; if "
                f"the first {extra} are class tokens or registers, say extra_tokens={extra}"
            )

    def _of_one_size(self) -> tuple[Layer, ...]:
        side, grid = self.resolution, self.resolution // self.multiple
        shapes, found = Shapes(self._own, partial(self._square, side)), []
        counts = (grid**2, grid**2 + self._extra)
        for path, entries in shapes.outputs.items():
            query, key = shapes.attention.get(path, ((), ()))
            if query and query[0] == 1 and query[2] == key[2] and query[2] in counts:
                found.append(Layer(path + PROBABILITIES, grid**2, self.multiple, 0))
            for entry, shape in enumerate(entries):
                if stride := _stride_in(shape, side, counts, self.multiple):
                    channels = shape[1] if len(shape) == 4 else shape[2]
                    found.append(Layer(path, channels, stride, entry))
                    break
        return tuple(replace(layer, heads=self._heads(layer.path)) for layer in found)

    def _heads(self, path: str) -> int:
        place = path.removesuffix(PROBABILITIES)
        return count_heads(self._own, place, place != path)

    def _square(self, side: int) -> object:
        """Pass a grey square, to see which shapes modules output."""
        grey = np.full((side, side, 3), 128, np.uint8)
        try:
            return self._own(self.prepare(Picture(grey, self.name), (side, side)).to(self.device))
        except FslabError:
            raise
        except UNBUILT as error:
            other = "" if self._fixed else "; one that takes a single size needs fixed=True"
            raise FslabError(
                f"{self.name} does not take pictures f32 [1, 3, {side}, {side}]: "
                f"{' '.join(str(error).split())[:300]}{other}"
            ) from error

    def prepare(self, picture: Picture, size: tuple[int, int]) -> Tensor:
        """Return a picture as the network takes it, f32 [1, 3, h, w]."""
        found = self._prepare(resized(picture, size))
        if isinstance(found, np.ndarray):
            found = torch.from_numpy(found)
        shape = list(found.shape) if isinstance(found, Tensor) else described(found)
        if not isinstance(found, Tensor) or not found.is_floating_point():
            raise FslabError(f"prepare gave {shape}; it must give a tensor f32 [3, h, w]")
        wanted = [3, *size]
        if shape not in (wanted, [1, *wanted]):
            raise FslabError(
                f"prepare gave {shape} of pixels [{size[0]}, {size[1]}, 3]; it must give {wanted}: "
                "no resizing, no cropping, colours first"
            )
        return found.reshape(1, *wanted).detach().float()

    def _net(self, dtype: torch.dtype) -> nn.Module:
        if dtype == torch.float32:
            return self._own
        with one_at_a_time:
            if dtype not in self._halves:
                self._halves = {dtype: copy.deepcopy(self._own).to(dtype)}
            return self._halves[dtype]

    def _meta(self) -> tuple[nn.Module, Callable[[int], object]]:
        return self._own, self._square

    @property
    def _whence(self) -> str:
        return self.name

    def _call(self, net: nn.Module, pixels: Tensor) -> object:
        return net(pixels)

    def _folded(self, layer: Layer, value: Tensor, row: int, size: tuple[int, int]) -> Tensor:
        cells = (size[0] // layer.stride) * (size[1] // layer.stride)
        shape = tuple(value.shape)
        places = shape[2] * shape[3] if len(shape) == 4 else shape[-2]
        if row >= shape[0] or (not layer.path.endswith(PROBABILITIES) and places < cells):
            raise FslabError(
                f"{layer.path!r} of {self.name} outputs {list(shape)} of a picture of {size[0]} x "
                f"{size[1]} pixels, in which there are {cells} cells of {layer.stride} x "
                f"{layer.stride}; read it at another size, or another layer"
            )
        return super()._folded(layer, value, row, size)


def _check(net: object, prepare: object, resolution: int, multiple: int, extra: int) -> None:
    if not isinstance(net, nn.Module):
        raise FslabError(f"net is {described(net)}; give a torch.nn.Module")
    if not any(True for _ in net.parameters()):
        raise FslabError(f"{type(net).__name__} has no parameters; give a network with weights")
    if not callable(prepare):
        raise FslabError(
            f"prepare is {described(prepare)}; give a function of pixels u8 [h, w, 3] that returns "
            "a tensor f32 [3, h, w]"
        )
    given = {"resolution": (resolution, 1), "multiple": (multiple, 1), "extra_tokens": (extra, 0)}
    for what, (value, least) in given.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise FslabError(f"{what} is {value!r}; it must be a whole number from {least} up")
    if resolution % multiple:
        raise FslabError(f"resolution is {resolution}, which is no multiple of {multiple}")


def _stride_in(
    shape: tuple[int, ...], side: int, counts: tuple[int, int], patch: int
) -> int | None:
    """Return the stride of a map, or of tokens, of a square; None for what is neither."""
    if len(shape) == 4 and shape[2] == shape[3] and 1 < shape[2] <= side:
        return None if side % shape[2] else side // shape[2]
    return patch if len(shape) == 3 and shape[1] in counts else None


_OF_TORCH = frozenset(vars(nn.Module())) | {"training"}


def _settings(module: nn.Module) -> Any:
    """Return what a module keeps beside its tensors and parts, as plain data or by its code."""
    own = {name: each for name, each in vars(module).items() if name not in _OF_TORCH}
    return {name: _said(each, f"{type(module).__name__}.{name}") for name, each in own.items()}


_PLAIN = (bool, int, float, complex, str, bytes, torch.dtype, torch.device)


def _said(value: Any, where: str) -> Any:
    """Return a setting as plain data; FslabError for what nothing tells from others."""
    if value is None or isinstance(value, _PLAIN):
        return repr(value)
    if isinstance(value, (list, tuple)):
        return [_said(each, where) for each in value]
    if isinstance(value, (set, frozenset)):
        return sorted(str(_said(each, where)) for each in value)
    if isinstance(value, Mapping):
        return [[_said(name, where), _said(each, where)] for name, each in value.items()]
    if isinstance(value, Tensor):
        return content({"": value.detach().cpu().numpy()})
    if isinstance(value, np.ndarray) and not value.dtype.hasobject:
        return content({"": value})
    if callable(value) and not isinstance(value, nn.Module):
        return identity(value)
    if hasattr(value, "__dict__") and not isinstance(value, nn.Module):
        return [identity(type(value)), _said(vars(value), where)]
    raise FslabError(
        f"{where} is {described(value)}, by which nothing tells this network from another; results "
        "are kept by what made them: make it a number, a text, a tensor or a submodule"
    )
