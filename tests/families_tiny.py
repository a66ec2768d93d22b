"""A tiny model of every family of diffusion networks that fslab has, with mini's text side."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
import transformers_of_words
import transformers_tiny
from conftest import MINI
from models import save_diffusion

TINY: dict[str, Callable[[], Any]] = {
    "SD3Transformer2DModel": transformers_tiny.sd3,
    "FluxTransformer2DModel": transformers_tiny.schnell,
    "PixArtTransformer2DModel": transformers_tiny.pixart,
    "SanaTransformer2DModel": transformers_tiny.sana,
    "Flux2Transformer2DModel": transformers_of_words.flux2,
    "Lumina2Transformer2DModel": transformers_of_words.lumina2,
    "ZImageTransformer2DModel": transformers_of_words.z_image,
    "QwenImageTransformer2DModel": transformers_of_words.qwen_image,
}
"""What makes a pipeline, by the class of its network; their UNet is `save_diffusion`'s."""

CLASSES = ("UNet2DConditionModel", *TINY)


def save_whole(folder: Path, network: str) -> Path:
    """Save the model whose network is of a class, the same weights each time; return its folder.

    A Lab opens it as a preset of its own: mini's captioner and CLIP lie in it.
    """
    build = TINY.get(network)
    save = partial(save_diffusion, folder) if build is None else partial(_save, folder, build)
    save()
    for part in ("blip", "clip"):
        (folder / part).symlink_to(MINI / part, target_is_directory=True)
    return folder


def _save(folder: Path, build: Callable[[], Any]) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(11)
        pipe = build()
        for name, value in pipe.transformer.named_parameters():
            if "pad_token" in name:  # which Z-Image leaves as memory was
                torch.nn.init.normal_(value)
        pipe.save_pretrained(folder)
