"""From a name or a folder to a backbone."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from fslab.backbones.base import Backbone
from fslab.backbones.baselines import Handmade, Rgb
from fslab.backbones.diffusion import Diffusion
from fslab.backbones.families import family
from fslab.backbones.single import SingleFile
from fslab.backbones.vision import VisionTransformer
from fslab.backbones.weights import locate
from fslab.devices import checked_device
from fslab.records import FslabError
from fslab.store import Store
from fslab.weights import name_of
from fslab.weights.parts import NETWORKS
from fslab.weights.single import is_single_file
from fslab.weights.trust import read_config

DESCRIPTORS = {"rgb": Rgb, "handmade": Handmade}


def open_backbone(
    source: str | os.PathLike[str],
    name: str = "",
    *,
    resolution: int | None = None,
    timestep: int = 0,
    layers: Sequence[str] = (),
    device: str = "cpu",
    random: int | None = None,
    store: Store | None = None,
    without: Collection[str] = (),
    encoder: Path | None = None,
) -> Backbone:
    """Open a descriptor by name, or a model by folder or by an id in the hub's cache.

    name: what tables call it, the hub's id or the folder's name if empty. resolution, timestep,
    layers: defaults of the preset. store: keeps digests of weights, so that they are read once.
    without: parts whose weights the caller has no use for. encoder: a folder of a tiny autoencoder
    in a diffusion model's VAE's place. Raises FslabError where there are no weights, or none that
    fslab reads, and for a device that is not there.
    """
    device, source = checked_device(device), os.fspath(source)
    if source in DESCRIPTORS:
        _check_has_vae(source, encoder)
        return DESCRIPTORS[source]()
    given: dict[str, Any] = {"resolution": resolution, "device": device, "random": random}
    if is_single_file(source):
        path = Path(source).expanduser()
        found = SingleFile(path, name, **given, timestep=timestep, layers=layers, encoder=encoder)
        found.store = store
        return found
    folder = locate(source, "backbone", without)
    name = name or name_of(folder)
    if any((folder / network).is_dir() for network in NETWORKS):
        found = Diffusion(folder, name, **given, timestep=timestep, layers=layers, encoder=encoder)
    else:
        _check_has_vae(name, encoder)
        _check_is_whole(folder)
        found = VisionTransformer(folder, name, **given)
    found.store = store
    return found


def _check_has_vae(name: str | os.PathLike[str], encoder: Path | None) -> None:
    if encoder is not None:
        raise FslabError(
            f"{os.fspath(name)} reads pictures without an encoder; {encoder} goes with a diffusion "
            "model"
        )


def _check_is_whole(folder: Path) -> None:
    """Refuse a folder that is a part of a diffusion model, or one without a network."""
    for part in ("prior", "decoder"):
        if (folder / part / "config.json").is_file():
            raise FslabError(
                f"{folder} holds a {part}/ and no {'/ and no '.join(NETWORKS)}/: it is a diffusion "
                f"model of another family (such as Wuerstchen); fslab knows {', '.join(family)}"
            )
    files, snapshots = sorted(folder.glob("*.safetensors")), sorted(folder.glob("snapshots/*/"))
    if snapshots:
        raise FslabError(
            f"{folder} is a repository of the hub's cache; give its id, or a snapshot within it: "
            f"{snapshots[0]}"
        )
    if not (folder / "config.json").is_file():
        if files:
            raise FslabError(
                f"{folder} holds no config.json and no {'/ and no '.join(NETWORKS)}/; for a model "
                f"in one file give the file: {files[0]}"
            )
        return
    kind, whole = read_config(folder).get("_class_name"), Path(os.path.abspath(folder)).parent
    if kind:
        raise FslabError(
            f"{folder} holds a {kind} alone, a part of a diffusion model; give the model's whole "
            f"folder in diffusers format, which holds it as one of its parts ({whole}?)"
        )
