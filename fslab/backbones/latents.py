"""From a picture to the latent that a Stable Diffusion's UNet reads, and the noise it is given."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fslab.records import Extraction, Picture


def prepare(picture: Picture, size: tuple[int, int], resize: str = "lanczos") -> Tensor:
    """Return a picture as f32 [1, 3, H, W] in [-1, 1], resized by one of Pillow's filters.

    "lanczos" as diffusers does; "bilinear" as torchvision's Resize does to a Pillow image.
    """
    image = Image.fromarray(picture.pixels)
    if picture.size != size:
        image = image.resize(size[::-1], Image.Resampling[resize.upper()])
    array = np.asarray(image, dtype=np.float32) / 255.0
    return 2.0 * torch.from_numpy(array.transpose(2, 0, 1).copy())[None] - 1.0


def to_scale(code: Tensor, config: Mapping[str, Any]) -> Tensor:
    """Return a VAE's latent [B, C, h, w] on the scale that its UNet was trained on.

    As diffusers' pipelines do: by the channels' own mean and deviation where the configuration has
    them (SDXL's), else by one shift (Stable Diffusion 3's) and one factor.
    """
    factor = config.get("scaling_factor", 0.18215)
    if config.get("latents_mean") is not None:
        mean, std = (
            torch.tensor(config[name]).view(1, -1, 1, 1).to(code)
            for name in ("latents_mean", "latents_std")
        )
        scaled: Tensor = (code - mean) * factor / std
        return scaled
    shift = config.get("shift_factor")
    moved: Tensor = (code - shift if shift else code) * factor
    return moved


def noises(shape: torch.Size, settings: Extraction) -> list[Tensor]:
    """Return the draws of noise f32 of a latent's shape, and after them the posterior's own draw.

    One generator gives them in this order, so the noise does not depend on the posterior.
    """
    generator = torch.Generator().manual_seed(settings.seed)
    return [torch.randn(shape, generator=generator) for _ in range(settings.draws + 1)]
