"""Vision transformers of transformers: DINOv2, ViT and CLIP's image tower."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from fslab.backbones.base import Backbone
from fslab.backbones.listing import MetaListing
from fslab.backbones.probabilities import fold_layer, sources, with_derived
from fslab.backbones.weights import fingerprint, load_finite, seeded
from fslab.records import Extraction, FslabError, Picture
from fslab.tap import tap
from fslab.weights import files_of, name_of
from fslab.weights.parts import check_files
from fslab.weights.trust import check_shapes, read_config

FAMILIES = {
    "dinov2": ("Dinov2Model", "Dinov2Config"),
    "dinov2_with_registers": ("Dinov2WithRegistersModel", "Dinov2WithRegistersConfig"),
    "vit": ("ViTModel", "ViTConfig"),
    "clip": ("CLIPVisionModel", "CLIPVisionConfig"),
    "clip_vision_model": ("CLIPVisionModel", "CLIPVisionConfig"),
}
"""Model type in config.json -> the model's and the configuration's class."""


class VisionTransformer(MetaListing, Backbone):
    """A transformers folder of a vision transformer; its default layer is the last one."""

    def __init__(
        self,
        folder: Path,
        name: str = "",
        resolution: int | None = None,
        device: torch.device | str = "cpu",
        random: int | None = None,
    ) -> None:
        self.folder, self.device, self.random = folder, torch.device(device), random
        self.name = name or name_of(folder)
        config = read_config(folder)
        kind = config.get("model_type")
        if kind not in FAMILIES:
            raise FslabError(
                f"{folder} holds a {kind!r} model; fslab reads {', '.join(FAMILIES)} "
                "and Stable Diffusion folders"
            )
        self._kind, self._config = kind, config.get("vision_config") or config
        self.multiple = _pixels(folder, self._config, "patch_size", 16)
        self.resolution = resolution or _pixels(folder, self._config, "image_size", 224)
        if random is None:
            check_files(folder)
        self._nets: dict[torch.dtype, nn.Module] = {}

    @cached_property
    def fingerprint(self) -> str:
        """Name of the weights, the configuration and the colour statistics."""
        statistics = [list(map(float, part)) for part in self._statistics]
        return fingerprint(
            files_of(self.folder) if self.random is None else (),
            self.store,
            config=self._config,
            statistics=statistics,
            random=self.random,
        )

    @property
    def default_layers(self) -> tuple[str, ...]:
        """The last layer with a spatial output: the final norm where the class token shares it."""
        return (self.layers()[-1].path,)

    @torch.no_grad()
    def run(
        self,
        picture: Picture,
        size: tuple[int, int],
        wanted: Mapping[int, Sequence[str]],
        settings: Extraction,
    ) -> dict[tuple[str, int], Tensor]:
        """Return the wanted maps; see `Backbone.run`."""
        strides = {path: layer.stride for path, layer in self.layers_by_path().items()}
        dtype = self.dtype(settings.precision)
        pixels = self.prepare(picture, size).to(self.device, dtype)
        net = self._net(dtype)
        found = {}
        for timestep, paths in wanted.items():
            with tap(net, *sources(paths, net), stop=True) as tapped:
                self._call(net, pixels)
            seen = with_derived(tapped, paths, net)
            for path in paths:
                found[path, timestep] = fold_layer(seen, path, size, strides[path]).float().cpu()
        return found

    def prepare(self, picture: Picture, size: tuple[int, int]) -> Tensor:
        """Return a picture as f32 [1, 3, H, W], resized bicubically, in the model's colours."""
        image = Image.fromarray(picture.pixels)
        if picture.size != size:
            image = image.resize(size[::-1], Image.Resampling.BICUBIC)
        mean, std = self._statistics
        array = (np.asarray(image, dtype=np.float32) / 255.0 - mean) / std
        return torch.from_numpy(array.transpose(2, 0, 1).copy())[None]

    @cached_property
    def _statistics(self) -> tuple[np.ndarray, np.ndarray]:
        """Channel means and standard deviations, from preprocessor_config.json."""
        config = read_config(self.folder, "preprocessor_config.json")
        if "image_mean" not in config or "image_std" not in config:
            raise FslabError(
                f"{self.folder}/preprocessor_config.json names no image_mean and image_std"
            )
        return np.float32(config["image_mean"]), np.float32(config["image_std"])

    def _net(self, dtype: torch.dtype) -> nn.Module:
        if dtype not in self._nets:
            self._nets.clear()
            self._nets[dtype] = self._load(dtype).to(self.device).eval()
        return self._nets[dtype]

    def _load(self, dtype: torch.dtype) -> nn.Module:
        model, _ = self._classes()
        if self.random is not None:
            with seeded(self.random):
                return model(self._model_config()).to(dtype)
        return load_finite(model, self.folder, dtype)

    def _classes(self) -> tuple[Any, Any]:
        import transformers

        model, config = FAMILIES[self._kind]
        return getattr(transformers, model), getattr(transformers, config)

    def _model_config(self) -> Any:
        return self._classes()[1].from_dict(self._config)

    def _call(self, net: nn.Module, pixels: Tensor) -> object:
        """DINOv2 fits its position codes to any size by itself; the others ask to be told."""
        if self._kind.startswith("dinov2"):
            return net(pixels)
        return net(pixels, interpolate_pos_encoding=True)

    def _meta(self) -> tuple[nn.Module, Callable[[int], object]]:
        model, _ = self._classes()
        with torch.device("meta"):
            net = model(self._model_config()).eval()
        if self.random is None:
            shapes = {name: each.shape for name, each in net.state_dict().items()}
            check_shapes(check_files(self.folder), shapes)
        return net, lambda side: self._call(net, torch.empty(1, 3, side, side, device="meta"))


def _pixels(folder: Path, config: Mapping[str, Any], name: str, otherwise: int) -> int:
    value = config.get(name, otherwise)
    if not isinstance(value, int) or value < 1:
        raise FslabError(f"{folder}/config.json has the {name} {value!r}; it is a number of pixels")
    return value
