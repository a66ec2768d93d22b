"""From a name or a folder to a backbone."""

from __future__ import annotations

import os
from collections.abc import Sequence

from fslab.backbones.base import Backbone
from fslab.backbones.baselines import Handmade, Rgb
from fslab.backbones.diffusion import StableDiffusion
from fslab.backbones.vision import VisionTransformer
from fslab.backbones.weights import locate

DESCRIPTORS = {"rgb": Rgb, "handmade": Handmade}


def open_backbone(
    source: str | os.PathLike[str],
    name: str = "",
    size: str = "",
    fetch: Sequence[str] = (),
    resolution: int | None = None,
    timestep: int = 0,
    layers: Sequence[str] = (),
    device: str = "cpu",
    random: int | None = None,
) -> Backbone:
    """Open a descriptor by name, or a model by folder or by an id in the hub's cache.

    size and fetch: how large the weights are and which files of the hub they are, for the
    message where they are missing. resolution, timestep, layers: defaults of the preset.
    Raises FslabError where there are no weights, or none that fslab reads.
    """
    if source in DESCRIPTORS:
        return DESCRIPTORS[source]()
    folder = locate(source, size, fetch)
    name = name or folder.resolve().name
    if (folder / "unet").is_dir():
        return StableDiffusion(folder, name, resolution, timestep, layers, device, random)
    return VisionTransformer(folder, name, resolution, device, random)
