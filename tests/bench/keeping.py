"""What the store saves: a read against numpy.load, a warm run against a cold one."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from unittest.mock import patch

import numpy as np
from contest import Contest, Setting

from fslab.datasets import voc
from fslab.lab import Lab
from fslab.records import Features, Picture, Recipe
from fslab.store import Store


def benches(setting: Setting) -> Iterator[Contest]:
    """Reads of two sizes, then features and the whole pipeline."""
    yield read(setting, "maps", (1280, 16, 16), 5)
    yield read(setting, "large", (64, 4, 4) if setting.smoke else (1280, 64, 64), 1)
    yield from warm(setting)


def read(setting: Setting, name: str, shape: tuple[int, ...], entries: int) -> Contest:
    """Read entries of f32, the page cache warm, a checksum over all bytes included."""
    store, rng = Store(setting.folder / "read"), np.random.default_rng(0)
    keys = [f"{number:02}{name}" for number in range(entries)]
    files = [setting.folder / f"{key}.npy" for key in keys]
    for key, file in zip(keys, files, strict=True):
        array = rng.standard_normal(shape, np.float32)
        store.put(key, {"map": array})
        np.save(file, array)
        assert (store.get(key)["map"] == array).all()
    megabytes = 4 * np.prod(shape) / 1e6
    return Contest(
        f"store-read-{name}",
        f"store read, verified, {entries} x {megabytes:.1f} MB",
        "numpy.load of the same bytes",
        lambda: [store.get(key) for key in keys],
        lambda: [np.load(file) for file in files],
        target=0.7,
        figure="of its throughput",
        rounds=25,
        each=5,
    )


def warm(setting: Setting) -> Iterator[Contest]:
    """A new lab on a full store, which may load no model, against labs on empty ones."""
    pictures = [
        sample.picture()
        for sample in voc("data/minivoc", "val").samples[: 1 if setting.smoke else 8]
    ]
    full, numbers = setting.folder / "full", count()
    loaded = Lab("mini", store=setting.folder / "loaded")
    recipe = loaded.recipe("freeseg-diff")
    whole(loaded, pictures, recipe)
    first = whole(Lab("mini", store=full), pictures, recipe)
    again = whole_unloaded(full, pictures, recipe)
    assert all((a == b).all() for a, b in zip(first, again, strict=True))

    def cold() -> Lab:
        return Lab("mini", store=setting.folder / f"cold{next(numbers)}")

    def cold_but_loaded() -> Lab:
        lab = cold()
        lab.backbone = loaded.backbone
        return lab

    some = f"mini, {len(pictures)} pictures"
    yield Contest(
        "warm-features-with-loading", f"features from the store, {some}, in a new lab",
        "the same computed in a new lab, loading included",
        lambda: features(Lab("mini", store=full), pictures, recipe),
        lambda: features(cold(), pictures, recipe), 50.0,
    )  # fmt: skip
    opened = Lab("mini", store=full)
    features(opened, pictures, recipe)
    yield Contest(
        "warm-features-open", f"features from the store, {some}, in a lab that is open",
        "the same computed, models loaded before",
        lambda: features(opened, pictures, recipe),
        lambda: features(cold_but_loaded(), pictures, recipe), 50.0,
    )  # fmt: skip
    yield Contest(
        "warm-whole", f"freeseg-diff from the store, {some}, in a new lab, no model loaded",
        "the same computed in a new lab, loading included",
        lambda: whole_unloaded(full, pictures, recipe),
        lambda: whole(cold(), pictures, recipe), None,
    )  # fmt: skip


def features(lab: Lab, pictures: list[Picture], recipe: Recipe) -> list[Features]:
    """Return the recipe's features of pictures."""
    settings = recipe.extract
    return [
        lab.extract(
            one, settings.layers, settings.timesteps, squash=settings.squash,
            posterior=settings.posterior, resolution=settings.resolution,
        )
        for one in pictures
    ]  # fmt: skip


def whole(lab: Lab, pictures: list[Picture], recipe: Recipe) -> list[np.ndarray]:
    """Return the recipe's labels u8 [H, W] of pictures."""
    return [lab.segment(one, recipe).labels.labels for one in pictures]


def whole_unloaded(folder: object, pictures: list[Picture], recipe: Recipe) -> list[np.ndarray]:
    """Return what `whole` does in a new lab; loading any model or tokenizer fails."""
    refuse = AssertionError("a model was loaded though the store has everything")
    with patch("fslab.backbones.weights.load", side_effect=refuse):
        return whole(Lab("mini", store=folder), pictures, recipe)
