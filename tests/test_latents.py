"""A picture's latent is kept: another timestep or layer of it costs a pass of the UNet alone."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch

from fslab.backbones import Diffusion
from fslab.extract import extract
from fslab.records import Extraction
from fslab.store import Store

LAYER = "up_blocks.0.attentions.0.transformer_blocks.0.attn2.to_q"


def opened(folder, store):
    backbone = Diffusion(folder)
    backbone.store = store
    return backbone


def loaded(backbone):
    return {name for name, _ in backbone.components.loaded}


@pytest.mark.parametrize("kind", ["sd1", "sdxl"])
@pytest.mark.parametrize(
    "how", [{}, {"posterior": "sample", "seed": 5, "draws": 2}, {"precision": "bf16"}]
)
def test_another_timestep_of_a_known_picture_does_not_load_the_vae(
    diffusion_folders, wide_picture, own_store, kind, how
):
    folder, store = diffusion_folders[kind], Store(own_store)
    extract(wide_picture, Extraction((LAYER,), (0,), **how), opened(folder, store), store)
    again, other = opened(folder, store), Extraction(("down_blocks.0", LAYER), (300, 7), **how)
    found = extract(wide_picture, other, again, store)
    assert "vae" not in loaded(again)
    alone = Diffusion(folder)
    size = alone.input_size(wide_picture, other)
    plain = alone.run(wide_picture, size, dict.fromkeys((300, 7), other.layers), other)
    assert "vae" in loaded(alone)
    for (path, step), value in plain.items():
        assert np.array_equal(found[f"{path}@{step}"], value.numpy()), (path, step)


@pytest.mark.parametrize(
    ("other", "encodes"),
    [
        ({"seed": 1}, False),
        ({"draws": 2}, False),
        ({"prompt": "dog"}, False),
        ({"noise": "none"}, False),
        ({"resize": "bilinear"}, True),
        ({"precision": "bf16"}, True),
        ({"posterior": "sample"}, True),
    ],
)
def test_a_latent_is_named_by_what_changes_its_numbers(
    diffusion_folders, wide_picture, own_store, other, encodes
):
    folder, store, size = diffusion_folders["sd1"], Store(own_store), (64, 64)
    first = opened(folder, store).latent(wide_picture, size, Extraction())
    again = opened(folder, store)
    second = again.latent(wide_picture, size, Extraction(**other))
    assert ("vae" in loaded(again)) is encodes
    assert torch.equal(first, second) is not encodes


@pytest.mark.parametrize("other", [{"seed": 6}, {"draws": 2}])
def test_a_sampled_latent_is_of_one_draw(diffusion_folders, picture, own_store, other):
    store, how = Store(own_store), {"posterior": "sample", "seed": 5}
    backbone = opened(diffusion_folders["sd1"], store)
    first = backbone.latent(picture, (64, 64), Extraction(**how))
    second = backbone.latent(picture, (64, 64), Extraction(**{**how, **other}))
    assert not torch.equal(first, second)


def test_another_vae_gives_another_latent_and_another_unet_the_same(
    diffusion_folders, tmp_path, picture, own_store
):
    store, folder = Store(own_store), tmp_path / "copy"
    shutil.copytree(diffusion_folders["sd1"], folder)
    first = opened(folder, store).latent(picture, (64, 64), Extraction())
    untrained = Diffusion(folder, random=3)
    untrained.store = store
    assert torch.equal(untrained.latent(picture, (64, 64), Extraction()), first)
    assert "vae" not in loaded(untrained)
    config = folder / "vae" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"scaling_factor": 0.4}))
    assert torch.equal(opened(folder, store).latent(picture, (64, 64), Extraction()), 2 * first)


def test_a_latent_that_is_changed_in_place_is_not_the_stores(diffusion_folders, picture, own_store):
    backbone = opened(diffusion_folders["sd1"], Store(own_store))
    first = backbone.latent(picture, (64, 64), Extraction()).clone()
    backbone.latent(picture, (64, 64), Extraction()).zero_()
    assert torch.equal(backbone.latent(picture, (64, 64), Extraction()), first)
