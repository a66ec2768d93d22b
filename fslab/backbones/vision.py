"""Plain vision transformers, all that transformers has: DINO, SigLIP, MAE, CLIP's tower, others."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor, nn

from fslab.backbones.colours import Colours, read_colours
from fslab.backbones.timeless import Timeless, resized
from fslab.backbones.towers import Tower
from fslab.backbones.weights import fingerprint, load_finite, one_at_a_time, seeded
from fslab.parts import versioned
from fslab.records import Picture
from fslab.weights import files_of, name_of
from fslab.weights.parts import check_files
from fslab.weights.trust import check_shapes, read_config


@versioned(1)
class VisionTransformer(Timeless):
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
        self._tower = Tower(folder)
        config = read_config(folder)
        self._config = config.get("vision_config") or config
        self.multiple = self._tower.multiple
        self.resolution = resolution or self._tower.resolution
        if random is None:
            check_files(folder)
        self._nets: dict[torch.dtype, nn.Module] = {}

    @cached_property
    def fingerprint(self) -> str:
        """Name of the weights, the configuration and the colour statistics."""
        return fingerprint(
            files_of(self.folder) if self.random is None else (),
            self.store,
            config=self._config,
            statistics=self._colours.named(),
            random=self.random,
        )

    @property
    def default_layers(self) -> tuple[str, ...]:
        """The last layer with a spatial output: the final norm where the class token shares it."""
        return (self.layers()[-1].path,)

    @property
    def _whence(self) -> Path:
        return self.folder

    def _call(self, net: nn.Module, pixels: Tensor) -> object:
        return self._tower.call(net, pixels)

    def prepare(self, picture: Picture, size: tuple[int, int]) -> Tensor:
        """Return a picture as f32 [1, 3, H, W], resized bicubically, in the model's colours."""
        array = self._colours.of(resized(picture, size))
        return torch.from_numpy(array.transpose(2, 0, 1).copy())[None]

    @cached_property
    def _colours(self) -> Colours:
        return read_colours(self.folder)

    def _net(self, dtype: torch.dtype) -> nn.Module:
        with one_at_a_time:
            if dtype not in self._nets:
                self._nets.clear()
                self._nets[dtype] = self._load(dtype).to(self.device).eval()
            return self._nets[dtype]

    def _load(self, dtype: torch.dtype) -> nn.Module:
        tower = self._tower
        net: nn.Module
        if self.random is not None:
            with seeded(self.random):
                net = tower.model(tower.settings()).to(dtype).eval()
        else:
            with seeded(0):  # what no layer reads, a pooler that the folder lacks, is drawn
                net = load_finite(
                    tower.model, self.folder, dtype, needed=self._needed, config=tower.settings()
                )
        tower.check_order(net)
        return net

    def _needed(self, tensor: str) -> bool:
        """Tell whether a layer reads a tensor of the network; poolers and heads come after all."""
        return tensor.rpartition(".")[0] in self._entered

    @cached_property
    def _entered(self) -> frozenset[str]:
        return self._tower.entered_before(self.layers()[-1].path)

    def _meta(self) -> tuple[nn.Module, Callable[[int], object]]:
        net = self._tower.on_meta()
        if self.random is None:
            shapes = {name: each.shape for name, each in net.state_dict().items()}
            check_shapes(check_files(self.folder), shapes)
        return net, lambda side: self._tower.call(net, torch.empty(1, 3, side, side, device="meta"))
