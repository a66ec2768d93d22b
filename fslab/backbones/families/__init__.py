"""Families of diffusion networks, each in a module of its own, by their networks' class."""

from fslab.backbones.families import flux, pixart, sana, sd3, unet
from fslab.backbones.families.base import Encoder, Family, Text, family

__all__ = ["Encoder", "Family", "Text", "family", "flux", "pixart", "sana", "sd3", "unet"]
