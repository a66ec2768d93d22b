"""Families of diffusion networks, each in a module of its own, by their networks' class."""

from fslab.backbones.families import (
    flux,
    flux2,
    lumina2,
    pixart,
    qwen_image,
    sana,
    sd3,
    unet,
    z_image,
)
from fslab.backbones.families.base import Encoder, Family, Text, family

__all__ = [
    "Encoder", "Family", "Text", "family", "flux", "flux2", "lumina2", "pixart", "qwen_image",
    "sana", "sd3", "unet", "z_image",
]  # fmt: skip
