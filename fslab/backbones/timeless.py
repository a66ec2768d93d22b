"""Networks in which time has no meaning: one pass a picture, whose layers are read by hooks."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from fslab.backbones.base import Layer
from fslab.backbones.edited import Editable
from fslab.backbones.reading import check_read, cut, fold_layer
from fslab.backbones.weights import check_finite
from fslab.process import ordinary, stage
from fslab.records import Extraction, Picture
from fslab.tap import tap


def resized(picture: Picture, size: tuple[int, int]) -> np.ndarray:
    """Return a picture's pixels u8 [h, w, 3], resized bicubically where it has another size."""
    image = Image.fromarray(picture.pixels)
    if picture.size != size:
        image = image.resize(size[::-1], Image.Resampling.BICUBIC)
    return np.array(image)


class Timeless(Editable):
    """A network that is passed once for a picture, at any timestep that is asked for."""

    batches = True

    @property
    @abstractmethod
    def _whence(self) -> Path | str:
        """What numbers that are not finite are said to come from."""

    @abstractmethod
    def prepare(self, picture: Picture, size: tuple[int, int]) -> Tensor:
        """Return a picture as the network takes it, f32 [1, 3, h, w]."""

    @abstractmethod
    def _net(self, dtype: torch.dtype) -> nn.Module:
        """Return the network with weights of a dtype."""

    @abstractmethod
    def _call(self, net: nn.Module, pixels: Tensor) -> object:
        """Pass pictures [B, 3, h, w] through the network."""

    @stage
    def run(
        self,
        picture: Picture,
        size: tuple[int, int],
        wanted: Mapping[int, Sequence[str]],
        settings: Extraction,
    ) -> dict[tuple[str, int], Tensor]:
        """Return the wanted maps; see `Backbone.run`."""
        return self.run_many([picture], size, wanted, settings, 1)[0]

    @ordinary()
    @torch.no_grad()
    def run_many(
        self,
        pictures: Sequence[Picture],
        size: tuple[int, int],
        wanted: Mapping[int, Sequence[str]],
        settings: Extraction,
        most: int,
    ) -> list[dict[tuple[str, int], Tensor]]:
        """Return what `run` does of each picture; see `Backbone.run_many`."""
        layers = self.layers_by_path()
        dtype = self.dtype(settings.precision)
        net = self._net(dtype)
        found: list[dict[tuple[str, int], Tensor]] = []
        for start in range(0, len(pictures), most):
            some = pictures[start : start + most]
            pixels = torch.cat([self.prepare(picture, size) for picture in some])
            maps: list[dict[tuple[str, int], Tensor]] = [{} for _ in some]
            for timestep, paths in wanted.items():
                entries = {path: layers[path].entry for path in paths}

                def pick(path: str, matrix: Tensor) -> Tensor:
                    return cut(matrix, layers[path], size, self.order)

                others = partial(self._others_of, net, size, dtype)
                with (
                    self.editing(net, len(some), others, (size, dtype)),
                    tap(net, *paths, stop=True, entries=entries, pick=pick) as tapped,
                ):
                    self._call(net, pixels.to(self.device, dtype))
                seen = check_read(check_finite(tapped, self._whence), paths)
                for row, one in enumerate(maps):
                    for path in paths:
                        value = self._folded(layers[path], seen[path], row, size)
                        one[path, timestep] = value.float().cpu()
            found += maps
        return found

    def _folded(self, layer: Layer, value: Tensor, row: int, size: tuple[int, int]) -> Tensor:
        """Return a picture's row of what a layer gave, as a map [C, h, w]."""
        return fold_layer(value[[row]], layer, size, self.order)

    def _others_of(
        self,
        net: nn.Module,
        size: tuple[int, int],
        dtype: torch.dtype,
        picture: Picture,
        paths: Sequence[str],
    ) -> dict[str, Tensor]:
        """Return what modules output for another picture."""
        with tap(net, *paths, stop=True, entries=self._entries(paths)) as seen:
            self._call(net, self.prepare(picture, size).to(self.device, dtype))
        return seen
