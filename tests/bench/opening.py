"""A lab of sd15's true sizes on the disk, with all features in the store: no weights are read."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from contest import Contest, Setting
from standins import PAPER, photographs, write_settings
from true import true_networks, write_hollow

from fslab.backbones import Diffusion
from fslab.lab import Lab

NAME = "stable-diffusion-v1-5/stable-diffusion-v1-5"


def benches(setting: Setting) -> Iterator[Contest]:
    """Files of true size that take no room on the disk, as a hub's cache keeps them."""
    cache, store = setting.folder / "hub", setting.folder / "store"
    size = write_cache(cache)
    (picture,) = photographs(1)
    maps = {(path, 0): torch.ones(1280, 16, 16) for path in PAPER}

    def extract() -> None:
        with patch("huggingface_hub.constants.HF_HUB_CACHE", str(cache)):
            lab = Lab("sd15", store=store, captioner=None, clip=None)
            found = lab.extract(picture, PAPER)
        assert all(np.array_equal(found[path], maps[path, 0]) for path in PAPER)

    with patch.object(Diffusion, "run", lambda *_: maps):
        extract()
    with (
        patch.object(Diffusion, "run", None),
        patch("fslab.backbones.weights.load", None),
    ):
        yield Contest(
            "opening-stored",
            f"Lab('sd15') of {size / 1e9:.2f} GB of weights, and features that are in the store",
            "a clock", extract, lambda: None, 1.0, "seconds",
        )  # fmt: skip


def write_cache(cache: Path) -> int:
    """Write Stable Diffusion 1.5 into a hub's cache; return the bytes of its weights."""
    home = cache / f"models--{NAME.replace('/', '--')}"
    snapshot = write_settings(home / "snapshots" / ("0" * 40))
    index = {"_class_name": "StableDiffusionPipeline"}
    (snapshot / "model_index.json").write_text(json.dumps(index))
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text("0" * 40)
    networks = true_networks()
    for number, (name, network) in enumerate(networks.items()):
        blob, link = home / "blobs" / (f"{number}" * 64), snapshot / f"{name}.safetensors"
        write_hollow(blob, network)
        link.symlink_to(os.path.relpath(blob, link.parent))
    return sum((snapshot / f"{name}.safetensors").stat().st_size for name in networks)
