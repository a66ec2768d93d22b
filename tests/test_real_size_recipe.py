"""The recipe `fslab`, unchanged, on sd14 and sd21: small, and with -m slow in their true sizes."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import true_models
from bench.true import UNET, UNET_21
from conftest import noise_picture
from models import save_captioner, save_matcher

from fslab.backbones import Diffusion, Layer, pick_layers
from fslab.lab import METHODS, PRESETS, Lab

QUERIES = [
    f"up_blocks.1.attentions.{number}.transformer_blocks.0.attn2.to_q" for number in (0, 1, 2)
]
SMALL = {
    "unet": {"block_out_channels": (32, 64, 64, 64), "norm_num_groups": 8},
    "vae": {"block_out_channels": (8, 16, 16, 16), "norm_num_groups": 8},
    "text": {"intermediate_size": 64, "num_hidden_layers": 2, "vocab_size": 128},
}
WIDTHS = {
    "sd1": {"cross_attention_dim": 32, "sample_size": 16},
    "sd21": {"cross_attention_dim": 48, "sample_size": 24, "attention_head_dim": (2, 4, 4, 4)},
}


@pytest.fixture(scope="module", params=["sd1", "sd21"])
def small(request, tmp_path_factory):
    """Four blocks as the real ones have, few channels: (kind, folder with BLIP and CLIP)."""
    kind, folder = request.param, tmp_path_factory.mktemp(request.param)
    width = WIDTHS[kind]["cross_attention_dim"]
    unet = {**SMALL["unet"], **WIDTHS[kind]}
    text = {**SMALL["text"], "hidden_size": width, "num_attention_heads": 2}
    true_models.save_diffusion(folder, kind, unet=unet, vae=SMALL["vae"], text=text)
    save_captioner(folder / "blip")
    save_matcher(folder / "clip")
    return kind, folder


def test_the_small_models_have_what_the_real_ones_differ_in(small):
    kind, folder = small
    unet = json.loads((folder / "unet/config.json").read_text())
    schedule = json.loads((folder / "scheduler/scheduler_config.json").read_text())
    assert unet["use_linear_projection"] is (kind == "sd21")
    assert schedule["prediction_type"] == ("v_prediction" if kind == "sd21" else "epsilon")
    assert len(unet["block_out_channels"]) == 4


def test_the_recipe_runs_unchanged_on_both_kinds(small):
    kind, folder = small
    picture, recipe = noise_picture(60, 80), METHODS["fslab"]
    lab = Lab(folder)
    result = lab.segment(picture, recipe, candidates=("dog", "cat"))
    resolution = result.recipe.extract.resolution
    filled = replace(recipe.extract, resolution=resolution, precision="fp32")
    assert result.recipe == replace(recipe, extract=filled)
    side = {"sd1": 128, "sd21": 192}[kind]
    cells = side // 32, -(-side * 80 // 60 // 64) * 2
    assert {path: each.shape for path, each in result.features.items()} == dict.fromkeys(
        QUERIES, (64, *cells)
    )
    assert [result.segments.count, *(each.count for each in result.segments.others)] == [
        6,
        4,
        8,
        12,
    ]
    assert result.named.beliefs.keys() == {0, 8, 12}
    assert result.labels.labels.shape == picture.size


def test_attention_to_words_changes_beliefs_on_both_kinds(small):
    _, folder = small
    picture, recipe, words = noise_picture(60, 80), METHODS["fslab"], ("dog", "cat")
    lab = Lab(folder)
    asked = {"layers": recipe.match.attention_layers, "timesteps": recipe.match.attention_timestep}
    maps = lab.attention(picture, words, **asked)
    cells = lab.extract(picture, recipe.extract.layers)[QUERIES[0]].shape[1:]
    assert {name: each.shape for name, each in maps.items()} == dict.fromkeys(words, cells)
    assert all(each.min() > 0 and each.max() < 1 for each in maps.values())
    without = recipe.change({"match.attention": 0.0})
    beliefs = [
        lab.segment(picture, how, candidates=words).named.beliefs for how in (recipe, without)
    ]
    assert not np.allclose(beliefs[0][12], beliefs[1][12], atol=1e-4)


@pytest.mark.parametrize("method", ["dslo", "goca", "fa-seg"])
def test_recipes_of_attention_run_unchanged_on_both_kinds(small, method):
    kind, folder = small
    picture, lab = noise_picture(60, 80), Lab(folder)
    result = lab.segment(picture, method, candidates=("dog", "cat"))
    assert result.named.beliefs.keys() == {0, 8, 12}
    total = sum(result.named.beliefs.values())
    np.testing.assert_allclose(total, np.ones(picture.size), atol=1e-4)
    looks = lab.recipe(method).match.spread_layers
    if method == "dslo":  # the first up block of Stable Diffusion has no attention
        maps = lab.extract(picture, looks, timesteps=0, noise="none")
        cells = {"sd1": 24, "sd21": 48}[kind]
        assert {path.split(".")[1] for path in maps} == {"1"}
        assert {value.shape[0] for value in maps.values()} == {cells}


def test_corrclip_with_diffusion_runs_unchanged_on_both_kinds(small):
    _, folder = small
    picture, lab = noise_picture(60, 80), Lab(folder)
    result = lab.segment(picture, "corrclip-sd", candidates=("dog", "cat"))
    assert 2 <= result.segments.count <= lab.recipe("corrclip-sd").cluster.k
    assert set(np.unique(result.labels.labels)) <= {0, 8, 12}
    surer = METHODS["corrclip-sd"].change({"match.threshold": 0.0, "match.background": ()})
    named = lab.segment(picture, surer, candidates=("dog", "cat")).labels.labels
    assert named.any()  # random weights are sure of nothing, so that a threshold takes it all away
    alike = surer.change({"match.regions_sharpness": 0.0, "match.regions_merge": 0.0})
    scores = [
        lab.score_segments(
            picture, result.segments, ("dog", "cat"), features=result.features, **vars(how.match)
        ).probabilities
        for how in (surer, alike)
    ]
    assert np.abs(scores[0] - scores[1]).max() > 1e-6


@pytest.mark.parametrize(("preset", "unet"), [("sd14", UNET), ("sd21", UNET_21)])
def test_the_layers_of_the_recipe_are_found_in_the_true_configurations(tmp_path, preset, unet):
    for part, config in (("unet", unet), ("vae", true_models.VAE)):
        (tmp_path / part).mkdir()
        channels = {"in_channels": 4 if part == "unet" else 3}
        whole = {**channels, "block_out_channels": (320, 640, 1280, 1280), **config}
        (tmp_path / part / "config.json").write_text(json.dumps(whole))
    for part, name, config in (
        ("scheduler", "scheduler_config.json", {"_class_name": "DDIMScheduler"}),
        ("text_encoder", "config.json", {"hidden_size": unet["cross_attention_dim"]}),
    ):
        (tmp_path / part).mkdir()
        (tmp_path / part / name).write_text(json.dumps(config))
    settings, known = METHODS["fslab"], PRESETS[preset]
    backbone = Diffusion(
        tmp_path, known.name, resolution=known.resolution, timestep=known.timestep,
        layers=known.layers,
    )  # fmt: skip
    assert backbone.resolution == {"sd14": 512, "sd21": 768}[preset]
    heads = {"sd14": 8, "sd21": 20}[preset]
    for patterns in (settings.extract.layers, settings.match.attention_layers):
        found = pick_layers(patterns, backbone.layers())
        assert found == tuple(Layer(path, 1280, 32, heads=heads) for path in QUERIES)


RUN = """
import json, resource, sys, time
import numpy as np
from fslab.lab import METHODS, Lab
from fslab.records import Picture
rng = np.random.default_rng(0)
coarse = rng.integers(0, 256, (16, 20, 3), dtype=np.uint8)
picture = Picture(np.ascontiguousarray(coarse.repeat(25, 0).repeat(25, 1)[:375]))
recipe, start = METHODS["fslab"], time.perf_counter()
lab = Lab(sys.argv[1])
result = lab.segment(picture, recipe)
seconds = time.perf_counter() - start
words = [result.vocabulary.texts(name)[0] for name in result.caption.candidates]
asked = recipe.match
maps = lab.attention(picture, words, layers=asked.attention_layers, timesteps=asked.attention_timestep)
voters = [result.segments, *result.segments.others]
print(json.dumps({
    "candidates": result.caption.candidates,
    "features": {path: value.shape for path, value in result.features.items()},
    "finite": all(bool(np.isfinite(value).all()) for value in result.features.values()),
    "maps": {word: value.shape for word, value in maps.items()},
    "segments": [each.count for each in voters],
    "beliefs": [value.shape for value in result.named.beliefs.values()],
    "labels": result.labels.labels.shape,
    "digest": lab.recipe(recipe).change({"extract.resolution": None}).digest == recipe.digest,
    "seconds": {**result.seconds, "whole": seconds},
    "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
}))
"""


def in_the_hubs_cache(cache, name):
    """Return the folder where the hub's client looks for the files of a repository."""
    place, revision = cache / f"models--{name.replace('/', '--')}", "0" * 40
    (place / "refs").mkdir(parents=True)
    (place / "refs" / "main").write_text(revision)
    folder = place / "snapshots" / revision
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def cache(tmp_path):
    """A folder for gigabytes of weights, gone with the test."""
    yield tmp_path / "hub"
    shutil.rmtree(tmp_path / "hub")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("preset", "kind", "cells"), [("sd14", "sd1", [16, 22]), ("sd21", "sd21", [24, 32])]
)
def test_the_whole_recipe_on_a_preset_of_true_size(tmp_path, cache, preset, kind, cells):
    known = PRESETS[preset]
    true_models.save_diffusion(in_the_hubs_cache(cache, known.diffusion), kind)
    true_models.save_captioner(in_the_hubs_cache(cache, known.captioner), ("dog", "cat"))
    true_models.save_matcher(in_the_hubs_cache(cache, known.clip))
    given = {"HF_HUB_CACHE": str(cache), "FSLAB_STORE": str(tmp_path / "store")}
    done = subprocess.run(
        [sys.executable, "-c", RUN, preset],
        env={**os.environ, **given},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    print(preset, {stage: round(each, 1) for stage, each in found["seconds"].items()})
    print(f"peak {found['peak_gib']:.1f} GiB")
    assert found["digest"]
    assert found["finite"]
    assert found["features"] == {path: [1280, *cells] for path in QUERIES}
    assert found["candidates"]
    assert set(found["candidates"]) <= {"dog", "cat"}
    assert found["maps"] == dict.fromkeys(found["candidates"], cells)
    assert found["segments"] == [6, 4, 8, 12]
    assert found["beliefs"] == [[375, 500]] * (1 + len(found["candidates"]))
    assert found["labels"] == [375, 500]
