"""A Stable Diffusion in one file as a backbone: the same passes, its parts read from the file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fslab.backbones.checkpoint import Checkpoint
from fslab.backbones.diffusion import StableDiffusion, check_configs
from fslab.backbones.weights import fingerprint, load_tokenizer
from fslab.parts import versioned
from fslab.records import FslabError
from fslab.weights import place_of, source_of
from fslab.weights.parts import small_files

CLIPS = (
    "openai/clip-vit-large-patch14", "openai/clip-vit-base-patch32",
    "laion/CLIP-ViT-B-32-laion2B-s34B-b79K",
)  # fmt: skip
"""CLIPs whose tokenizer is the one that Stable Diffusion was trained with."""


@versioned(1)
class SingleFile(StableDiffusion):
    """A Stable Diffusion 1.x, 2.x or SDXL in one *.safetensors file.

    Configurations ship with fslab. The files hold no tokenizer: it is one in a folder `tokenizer/`
    beside the file, else that of a CLIP in the hub's cache, since all these models were trained
    with the words of OpenAI's CLIP.
    """

    def _open(self) -> None:
        self._checkpoint = Checkpoint(self.folder)
        self._config, self._vae_config, self._scheduler_config = map(
            self._checkpoint.config, ("unet", "vae", "scheduler")
        )
        check_configs(self.folder, self._config, self._vae_config)

    def _own_name(self) -> str:
        return self.folder.stem

    @cached_property
    def fingerprint(self) -> str:
        """Name of the file's content, of fslab's settings for it, and of the tokenizer."""
        parts = self._parts_read(self._checkpoint.parts)
        return self._print_of(parts, random=self.random, **self._named_encoder())

    @cached_property
    def words_fingerprint(self) -> str:
        """Name of the same without what only a pass depends on; the file is one all the same."""
        return self._print_of([part for part in self._checkpoint.parts if part.startswith("text")])

    def _vae_files(self) -> Sequence[Path]:
        return [self.folder] if self.encoder is None else super()._vae_files()

    def _print_of(self, parts: Sequence[str], **settings: Any) -> str:
        configs = {part: self._checkpoint.config(part) for part in (*parts, "scheduler")}
        files = [self.folder, *small_files(self._tokens)]
        return fingerprint(files, self.store, configs=configs, **settings)

    def _load_weights(self, name: str, dtype: torch.dtype) -> nn.Module:
        part: nn.Module = self._checkpoint.load(name, dtype)
        return part

    def _check_shapes(self, wanted: Mapping[str, tuple[int, ...]]) -> None:
        self._checkpoint.check_fits("unet", wanted)

    def _text_config(self, part: str) -> Mapping[str, Any]:
        return self._checkpoint.config(part)

    def _load_tokenizer(self, name: str) -> Any:
        from transformers import CLIPTokenizer

        tokenizer = load_tokenizer(CLIPTokenizer, self._tokens)
        tokenizer.pad_token = self._checkpoint.pads[name]
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
