"""Descriptors without a network: what colour alone can segment. Every table shows them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter
from torch import Tensor

from fslab.backbones.base import Backbone, Layer
from fslab.parts import versioned
from fslab.process import stage
from fslab.records import Extraction, Picture

STRIDE = 4
"""Cells are averages over 4 x 4 pixels, so that single pixels' noise plays no part."""


class Descriptor(Backbone):
    """A hand-made map a picture; its channels are scaled already, so clustering takes them raw."""

    resolution = 96
    multiple = STRIDE
    imposed: Mapping[str, object] = {"normalise": "none", "position": 0.0}
    channels: Mapping[str, int]

    @property
    def fingerprint(self) -> str:
        """The descriptor's name: it has no weights."""
        return self.name

    @property
    def default_layers(self) -> tuple[str, ...]:
        """Every map of the descriptor."""
        return tuple(self.channels)

    def layers(self) -> tuple[Layer, ...]:
        """List the maps."""
        return tuple(Layer(path, count, STRIDE) for path, count in self.channels.items())

    @stage
    def run(
        self,
        picture: Picture,
        size: tuple[int, int],
        wanted: Mapping[int, Sequence[str]],
        settings: Extraction,
    ) -> dict[tuple[str, int], Tensor]:
        """Return the wanted maps; see `Backbone.run`."""
        image = Image.fromarray(picture.pixels).resize(size[::-1], Image.Resampling.BOX)
        maps = {
            path: _cells(full) for path, full in self.describe(np.asarray(image) / 255.0).items()
        }
        return {(path, step): maps[path] for step, paths in wanted.items() for path in paths}

    @abstractmethod
    def describe(self, colour: np.ndarray) -> dict[str, np.ndarray]:
        """Return full-size maps [C, H, W] of a picture f64 [H, W, 3] in 0..1, by layer name."""


@versioned(1)
class Rgb(Descriptor):
    """Colour and position: RGB in 0..1, row and column in -0.5..0.5."""

    name = "rgb"
    channels: Mapping[str, int] = {"colour": 3, "position": 2}

    def describe(self, colour: np.ndarray) -> dict[str, np.ndarray]:
        """Return the two maps; see `Descriptor.describe`."""
        return {"colour": colour.transpose(2, 0, 1), "position": _position(colour.shape[:2])}


@versioned(1)
class Handmade(Descriptor):
    """What light does not change, and texture: a descriptor as good as a few lines get.

    chroma: log(R/G) and log(B/G), unchanged by the strength of the light; contrast: the local
    standard deviation of log luminance; luminance: its local mean; position. Each map is
    brought to one standard deviation, then weighted.
    """

    name = "handmade"
    channels: Mapping[str, int] = {"chroma": 2, "contrast": 1, "luminance": 1, "position": 2}
    weights: Mapping[str, float] = {
        "chroma": 1.0,
        "contrast": 0.7,
        "luminance": 0.5,
        "position": 0.7,
    }

    def describe(self, colour: np.ndarray) -> dict[str, np.ndarray]:
        """Return the four maps; see `Descriptor.describe`."""
        red, green, blue = np.log(colour.transpose(2, 0, 1) + 0.05)
        light = (red + green + blue) / 3
        mean = gaussian_filter(light, STRIDE)
        spread = np.sqrt(np.maximum(gaussian_filter(light**2, STRIDE) - mean**2, 0))
        maps = {
            "chroma": np.stack([red - green, blue - green]),
            "contrast": spread[None],
            "luminance": mean[None],
            "position": _position(colour.shape[:2]),
        }
        return {path: self.weights[path] * _standard(value) for path, value in maps.items()}


def _position(size: tuple[int, int]) -> np.ndarray:
    height, width = size
    longer = max(size)
    rows, columns = np.mgrid[:height, :width]
    return np.stack([(rows + 0.5 - height / 2) / longer, (columns + 0.5 - width / 2) / longer])


def _standard(value: np.ndarray) -> np.ndarray:
    centred = value - value.mean(axis=(1, 2), keepdims=True)
    scaled: NDArray[np.floating] = centred / max(float(np.sqrt((centred**2).mean())), 1e-6)
    return scaled


def _cells(full: np.ndarray) -> Tensor:
    """Average [C, H, W] over cells of STRIDE x STRIDE: f32 [C, H / STRIDE, W / STRIDE]."""
    channels, height, width = full.shape
    blocks = full.reshape(channels, height // STRIDE, STRIDE, width // STRIDE, STRIDE)
    return torch.from_numpy(blocks.mean(axis=(2, 4)).astype(np.float32))
