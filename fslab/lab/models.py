"""The models of a lab, each loaded at its first use, and the names of their weights."""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from fslab.lab.presets import (
    DIFFUSION_FILES,
    PRESETS,
    TEXT_SIDE_FILES,
    Preset,
    find_preset,
)
from fslab.records import FslabError
from fslab.store import Store

if TYPE_CHECKING:
    from fslab.backbones import Backbone
    from fslab.captions import Captioner
    from fslab.match import Matcher

RANDOM_SEED = 0
"""The seed of the untrained weights of backbone "random"."""


class Models:
    """What a lab loads; see `Lab` for the arguments."""

    def __init__(
        self,
        preset: str | os.PathLike[str] = "mini",
        backbone: str | os.PathLike[str] | None = None,
        store: str | os.PathLike[str] | Store | None = None,
        device: str | None = None,
    ) -> None:
        self.preset: Preset = find_preset(preset)
        self.store = store if isinstance(store, Store) else Store(store)
        if backbone is not None and not os.fspath(backbone).strip():
            raise FslabError("backbone is empty; give a folder, rgb, handmade or random")
        self._backbone_source = os.fspath(backbone) if backbone is not None else None
        self._device = device

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.preset.name!r}, backbone={self._backbone_source!r})"

    @property
    def specification(self) -> tuple[str, str | None, str, str]:
        """What opens the same lab in another process and another folder: `Lab(*these)`.

        Preset, backbone, store and device as plain text, paths absolute.
        """
        from fslab.backbones.open import DESCRIPTORS

        preset, backbone, store = self.preset, self._backbone_source, self.store.location
        named = PRESETS.get(preset.name) == preset
        if backbone and backbone not in (*DESCRIPTORS, "random"):
            backbone = _absolute(backbone) if Path(backbone).expanduser().is_dir() else backbone
        return (
            preset.name if named else _absolute(preset.diffusion),
            backbone,
            store if ":" in store else _absolute(store),
            self.device,
        )

    @cached_property
    def device(self) -> str:
        """The device that models run on: the one asked for, else CUDA, MPS or the CPU."""
        if self._device is not None:
            return self._device
        import torch

        if torch.cuda.is_available():
            return "cuda"
        return "mps" if torch.backends.mps.is_available() else "cpu"

    @cached_property
    def backbone(self) -> Backbone:
        """What features come from."""
        from fslab.backbones import open_backbone

        if self._backbone_source in (None, "random"):
            return self._open_diffusion(random=RANDOM_SEED if self._backbone_source else None)
        return open_backbone(self._backbone_source, device=self.device)

    @cached_property
    def text_model(self) -> Backbone:
        """The preset's own diffusion model, whose text encoder compares nouns and classes."""
        if self._backbone_source is None:
            return self.backbone
        return self._open_diffusion()

    @cached_property
    def captioner(self) -> Captioner:
        """The preset's BLIP."""
        from fslab.captions import load_captioner

        return load_captioner(self._captioner_folder, self.device)

    @cached_property
    def matcher(self) -> Matcher:
        """The preset's CLIP."""
        from fslab.match import load_matcher

        return load_matcher(self._clip_folder, self.device)

    @cached_property
    def text_fingerprint(self) -> str:
        """Name of the text side's weights: BLIP, CLIP and the diffusion model's text encoder."""
        parts = [self.captioner_fingerprint, self.clip_fingerprint]
        if self.preset.words == "diffusion":
            parts.append(self.text_model.fingerprint)
        return "-".join(parts)

    def _open_diffusion(self, random: int | None = None) -> Backbone:
        from fslab.backbones import open_backbone

        preset = self.preset
        name = preset.name if random is None else f"{preset.name} (random weights)"
        size = f"{preset.gigabytes} GB with BLIP and CLIP" if preset.gigabytes else ""
        return open_backbone(
            preset.diffusion, name, size, DIFFUSION_FILES, preset.resolution,
            preset.timestep, preset.layers, self.device, random,
        )  # fmt: skip

    @cached_property
    def _captioner_folder(self) -> Path:
        from fslab.backbones import locate

        return locate(self.preset.captioner, "1 GB", TEXT_SIDE_FILES)

    @cached_property
    def _clip_folder(self) -> Path:
        from fslab.backbones import locate

        return locate(self.preset.clip, "0.6 GB", TEXT_SIDE_FILES)

    @cached_property
    def captioner_fingerprint(self) -> str:
        """Name of BLIP's weights, tokenizer and processor."""
        return _print_of(self._captioner_folder)

    @cached_property
    def clip_fingerprint(self) -> str:
        """Name of CLIP's weights, tokenizer and processor."""
        return _print_of(self._clip_folder)


def _absolute(path: str) -> str:
    return str(Path(path).expanduser().absolute())


def _print_of(folder: Path) -> str:
    """Name the content of a text-side model: weights, configuration, tokenizer, processor."""
    from fslab.backbones.trust import weight_files
    from fslab.backbones.weights import fingerprint

    small = sorted(path for path in folder.glob("*") if path.suffix in (".json", ".txt"))
    return fingerprint([*weight_files(folder), *small])
