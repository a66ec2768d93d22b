"""From pictures to features, each map computed once: the store is asked before any model."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np

from fslab.backbones import Backbone, Layer, pick_layers
from fslab.process import ordinary, stage
from fslab.records import Extraction, Features, FslabError, Picture, digest_of
from fslab.store import Store


def complete(settings: Extraction, backbone: Backbone) -> Extraction:
    """Fill in the backbone's own layers, timestep, resolution and precision where none is named.

    Raises FslabError for timesteps asked of a backbone in which time has no meaning.
    """
    if backbone.timestep is None and settings.timesteps not in ((), (0,)):
        raise FslabError(
            f"{backbone.name} has no timesteps; leave them out, not {list(settings.timesteps)}"
        )
    return replace(
        settings,
        layers=settings.layers or backbone.default_layers,
        timesteps=settings.timesteps or (backbone.timestep or 0,),
        resolution=settings.resolution or backbone.resolution,
        precision=settings.precision or backbone.precision,
    )


@stage
def extract(picture: Picture, settings: Extraction, backbone: Backbone, store: Store) -> Features:
    """Return the wanted layers' maps f32 [C, h, w], from the store or in one pass a timestep.

    Layers of one timestep that are missing share a pass, which ends after the last of them.
    Raises FslabError for an unknown layer or timestep.
    """
    if not isinstance(picture, Picture):
        kind = type(picture).__name__
        raise FslabError(f"picture is {kind}; give a Picture: fslab.read(path) or Picture(pixels)")
    settings = complete(settings, backbone)
    size = backbone.input_size(picture, settings)
    paths = _paths(settings, backbone, store)
    pairs = [(path, timestep) for timestep in settings.timesteps for path in paths]
    keys = {pair: _key(picture, settings, backbone, size, *pair) for pair in pairs}
    found = {pair: entry["map"] for pair in pairs if (entry := store.get(keys[pair]))}
    wanted: dict[int, list[str]] = {}
    for path, timestep in pairs:
        if (path, timestep) not in found:
            wanted.setdefault(timestep, []).append(path)
    if wanted:
        maps = backbone.run(picture, size, wanted, settings)
        for pair, value in maps.items():
            found[pair] = np.ascontiguousarray(value.numpy())
            found[pair].setflags(write=False)  # as the store gives them
            store.put(keys[pair], {"map": found[pair]})
    several = len(settings.timesteps) > 1
    maps = {f"{path}@{step}" if several else path: found[path, step] for path, step in pairs}
    return Features(maps, picture.size, picture.name)


@ordinary()
def listed_layers(backbone: Backbone, store: Store) -> tuple[Layer, ...]:
    """Return the backbone's layers, from the store if they were listed before."""
    if backbone.listing is None:
        backbone.listing = _filed_layers(backbone, store)
    return backbone.listing


def _filed_layers(backbone: Backbone, store: Store) -> tuple[Layer, ...]:
    key = digest_of(["layers-4", backbone.fingerprint, backbone.resolution])
    entry = store.get(key)
    if entry is None:
        layers = backbone.layers()
        paths = json.dumps([layer.path for layer in layers]).encode()
        shapes = np.array([(layer.channels, layer.stride) for layer in layers])
        store.put(key, {"paths": np.frombuffer(paths, np.uint8), "shapes": shapes})
        return layers
    paths = json.loads(entry["paths"].tobytes())
    return tuple(Layer(*one) for one in zip(paths, *entry["shapes"].T.tolist(), strict=True))


def _paths(settings: Extraction, backbone: Backbone, store: Store) -> tuple[str, ...]:
    return tuple(
        layer.path for layer in pick_layers(settings.layers, listed_layers(backbone, store))
    )


def _key(
    picture: Picture,
    settings: Extraction,
    backbone: Backbone,
    size: tuple[int, int],
    path: str,
    timestep: int,
) -> str:
    """Name a map by what changes its numbers: weights, pixels, size and the pass's settings."""
    timeless = backbone.timestep is None
    pass_settings = {} if timeless else {
        "timestep": timestep,
        "draws": settings.draws,
        "seed": settings.seed,
        "prompt": settings.prompt,
        "posterior": settings.posterior,
        "resize": settings.resize,
    }  # fmt: skip
    if settings.noise == "none" and not timeless:
        pass_settings["noise"] = "none"
    return digest_of(
        [
            "map-2",
            backbone.fingerprint,
            picture.digest,
            size,
            path,
            settings.precision,
            str(backbone.device),
            pass_settings,
        ]
    )
