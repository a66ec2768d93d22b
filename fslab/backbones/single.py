"""A Stable Diffusion in one file as a backbone: the same passes, its parts read from the file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fslab.backbones.checkpoint import Checkpoint
from fslab.backbones.components import Components
from fslab.backbones.diffusion import Diffusion
from fslab.backbones.families import Encoder, family
from fslab.backbones.families.unet import check_configs
from fslab.backbones.understood import class_named
from fslab.backbones.weights import load_tokenizer
from fslab.parts import Part, versioned
from fslab.records import FslabError
from fslab.weights import place_of, source_of
from fslab.weights.parts import small_files

CLIPS = (
    "openai/clip-vit-large-patch14",
    "openai/clip-vit-base-patch32",
    "laion/CLIP-ViT-B-32-laion2B-s34B-b79K",
)
"""CLIPs whose tokenizer is the one that Stable Diffusion was trained with."""


@versioned(1)
class SingleFile(Diffusion):
    """A Stable Diffusion 1.x, 2.x or SDXL in one *.safetensors file.

    Configurations ship with fslab. The files hold no tokenizer: it is one in a folder `tokenizer/`
    beside the file, else that of a CLIP in the hub's cache, since all these models were trained
    with the words of OpenAI's CLIP.
    """

    components: FileComponents

    def _open(self) -> FileComponents:
        return FileComponents(self.folder, self.device, self.random, self.encoder)

    def _own_name(self) -> str:
        return self.folder.stem

    def _check(self) -> None:
        check_configs(self.folder, *map(self.components.config, ("unet", "vae")))


class FileComponents(Components):
    """What a model in one file consists of."""

    @cached_property
    def checkpoint(self) -> Checkpoint:
        """The file, checked."""
        return Checkpoint(self.folder)

    def _family(self) -> Part:
        return family.find(self.checkpoint.config("unet")["_class_name"])

    def config(self, part: str) -> Mapping[str, Any]:
        """Return a part's configuration, which ships with fslab."""
        return self.checkpoint.config(part)

    def has(self, part: str) -> bool:
        """Return whether the file holds a part."""
        return part in self.checkpoint.parts

    def files(self, parts: Sequence[str]) -> list[Path]:
        """Return the file, and those of the tokenizer."""
        return [self.folder, *small_files(self._tokens)]

    @property
    def latent_files(self) -> Sequence[Path]:
        """The files of weights that latents depend on."""
        return super().latent_files if self.encoder else [self.folder]

    def weights(self, part: str, dtype: torch.dtype) -> nn.Module:
        """Load a part's weights from the file."""
        found: nn.Module = self.checkpoint.load(part, dtype)
        return found

    def check_shapes(self, wanted: Mapping[str, tuple[int, ...]]) -> None:
        """Refuse weights of other shapes than the UNet's, by the file's header."""
        self.checkpoint.check_fits("unet", wanted)

    def text_config(self, encoder: str) -> Mapping[str, Any]:
        """Return a text encoder's configuration."""
        return self.config(encoder)

    def words(self, name: str, about: Encoder) -> Any:
        """Load a tokenizer with CLIP's words, and say what it fills a prompt up with."""
        tokenizer = load_tokenizer(class_named(about.tokenizer), self._tokens)
        tokenizer.pad_token = self.checkpoint.pads[name]
        return tokenizer

    @cached_property
    def _tokens(self) -> Path:
        """The folder of a tokenizer with CLIP's words."""
        for beside in (self.folder.parent / "tokenizer", self.folder.parent / "clip"):
            if beside.is_dir():
                return beside
        for name in CLIPS:
            place = place_of(source_of(name, "clip"))
            if place and not any(fault.part == "tokenizer" for fault in place.faults):
                return place.folder
        raise FslabError(
            f"{self.folder} holds no tokenizer, and there is no CLIP on this machine to take one "
            "from; put a model's tokenizer/ beside it, or fetch a CLIP: `fslab fetch sd15` does"
        )
