"""From a name or a folder to a backbone."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence

from fslab.backbones.base import Backbone
from fslab.backbones.baselines import Handmade, Rgb
from fslab.backbones.diffusion import StableDiffusion
from fslab.backbones.vision import VisionTransformer
from fslab.backbones.weights import locate
from fslab.store import Store
from fslab.weights import name_of

DESCRIPTORS = {"rgb": Rgb, "handmade": Handmade}


def open_backbone(
    source: str | os.PathLike[str],
    name: str = "",
    resolution: int | None = None,
    timestep: int = 0,
    layers: Sequence[str] = (),
    device: str = "cpu",
    random: int | None = None,
    store: Store | None = None,
    without: Collection[str] = (),
) -> Backbone:
    """Open a descriptor by name, or a model by folder or by an id in the hub's cache.

    name: what tables call it, the hub's id or the folder's name if empty. resolution, timestep,
    layers: defaults of the preset. store: keeps digests of weights, so that they are read once.
    without: parts whose weights the caller has no use for. Raises FslabError where there are no
    weights, or none that fslab reads.
    """
    if source in DESCRIPTORS:
        return DESCRIPTORS[source]()
    folder = locate(source, "backbone", without)
    name = name or name_of(folder)
    if (folder / "unet").is_dir():
        found = StableDiffusion(folder, name, resolution, timestep, layers, device, random)
    else:
        found = VisionTransformer(folder, name, resolution, device, random)
    found.store = store
    return found
