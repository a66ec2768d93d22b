"""Clusterings in the coordinates of the cells' span against all channels of the enlarged cells."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from unittest.mock import patch

import numpy as np
from contest import Contest, Setting
from sklearn.metrics import adjusted_rand_score

from fslab.cluster import cluster, join, resize
from fslab.datasets import voc
from fslab.lab import Lab
from fslab.lab.recipes import METHODS
from fslab.records import Clustering, Features, Recipe

RECIPES = {"freeseg-diff": 8.0, "fslab": None}
"""Whose clusterings are timed, and the target at Stable Diffusion's true size."""


def benches(setting: Setting) -> Iterator[Contest]:
    """Cut each recipe's segments both ways, asserted the same: at true size, and of mini's own."""
    channels, side, count = (30, 4, 1) if setting.smoke else (1280, 16, 4)
    widths = [channels] * 5
    size = f"random structured features, {len(widths)} layers of {channels} x {side} x {side}"
    given = [structured(widths, side, seed) for seed in range(count)]
    lab = Lab("mini", store=setting.folder / "basis")
    samples = voc("data/minivoc", "val").samples[: 1 if setting.smoke else 16]
    for name, target in RECIPES.items():
        recipe = METHODS[name]
        yield contest(f"basis-{name}", f"{size}, {count} pictures", given, recipe, target)
        pictures = [sample.picture() for sample in samples]
        known = [features_of(lab, picture, recipe) for picture in pictures]
        yield contest(f"basis-{name}-mini", f"mini, {len(known)} pictures", known, recipe, None)


def contest(
    name: str, what: str, given: Sequence[Features], recipe: Recipe, target: float | None
) -> Contest:
    """Return one recipe's clustering against itself on all channels."""
    settings = recipe.cluster
    for ours, others in zip(ours_of(given, settings), all_channels(given, settings), strict=True):
        assert adjusted_rand_score(ours, others) >= 0.999  # pixels halfway between cells may tie
    return Contest(
        name, f"clustering of {recipe.name}, {what}, same partitions",
        "all channels of the enlarged cells", lambda: ours_of(given, settings),
        lambda: all_channels(given, settings), target,
    )  # fmt: skip


def ours_of(given: Sequence[Features], settings: Clustering) -> list[np.ndarray]:
    """Return each picture's segments as the package makes them, flat."""
    return [cluster(features, settings).labels.ravel() for features in given]


def all_channels(given: Sequence[Features], settings: Clustering) -> list[np.ndarray]:
    """Return the same of all channels side by side."""
    with patch("fslab.cluster.clusters.coordinates", join):
        return ours_of(given, settings)


def features_of(lab: Lab, picture: object, recipe: Recipe) -> Features:
    """Return a picture's features as a recipe reads them."""
    settings = asdict(recipe.extract)
    layers, steps = settings.pop("layers"), settings.pop("timesteps")
    return lab.extract(picture, layers, steps, **settings)


def structured(widths: Sequence[int], side: int, seed: int) -> Features:
    """Return layers f32 [width, side, side] of waves, from coarse and strong to fine and weak."""
    rng = np.random.default_rng(seed)
    waves = [
        resize(rng.standard_normal((8, grid, grid)).astype(np.float32), (side, side)) * 4 / grid
        for grid in range(2, side + 1)
    ]
    fields = np.concatenate(waves)
    maps = {}
    for number, width in enumerate(widths):
        mixed = np.tanh(np.tensordot(rng.standard_normal((width, len(fields))), fields, 1) / 4)
        noise = 0.05 * rng.standard_normal(mixed.shape)
        maps[f"layer{number}"] = ((mixed + noise) * (1 + number / 2)).astype(np.float32)
    return Features(maps, (375, 500), f"waves {seed}")
