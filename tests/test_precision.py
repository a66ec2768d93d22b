"""Precision is the lab's: it holds for every model, it is keyed, and a slow one is said once."""

import json
import os
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
from conftest import noise_picture
from PIL import Image

import fslab
from fslab.backbones import precision as precisions
from fslab.lab import Lab
from fslab.records import Extraction, FslabError, Recipe

LAYER = "down_blocks.1"
HALF = pytest.mark.parametrize("half", ["fp16", "bf16"])


@pytest.fixture(autouse=True)
def untold():
    """Each test hears of a slow precision as if it were the first in its process."""
    precisions._warn_if_slow.cache_clear()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", precisions.SlowPrecision)
        yield
    precisions._warn_if_slow.cache_clear()


def test_it_is_fp32_on_a_cpu_and_fp16_on_a_gpu(tiny, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: True)
    assert Lab(tiny, device="cpu").precision == "fp32"
    assert [Lab(tiny, device=device).precision for device in ("cuda", "cuda:1", "mps")] == [
        "fp16"
    ] * 3
    assert Lab(tiny, device="cuda", precision="bf16").precision == "bf16"


@pytest.mark.parametrize("given", ["float16", "int8", "", 16])
def test_another_is_refused(tiny, given):
    with pytest.raises(FslabError, match=r"precision is .*; it must be one of fp32, fp16, bf16"):
        Lab(tiny, precision=given)


@HALF
def test_it_holds_for_every_model(tiny, picture, half):
    lab, dtype = Lab(tiny, device="cpu", precision=half), precisions.DTYPES[half]
    lab.segment(picture, "freeseg-diff")
    models = [lab.captioner.model, lab.matcher.model, *lab.backbone.components.loaded.values()]
    names = {name for name, _ in lab.backbone.components.loaded}
    assert names == {"unet", "vae", "text_encoder"}
    upcast = half == "fp16" and lab.backbone.components.config("vae")["force_upcast"]
    for (name, _), part in lab.backbone.components.loaded.items():
        expected = torch.float32 if name == "vae" and upcast else dtype
        assert next(part.parameters()).dtype == expected, name
    assert all(next(model.parameters()).dtype == dtype for model in models[:2])


@HALF
def test_features_of_the_lab_s_precision_are_those_of_a_recipe_that_names_it(tiny, picture, half):
    by_lab = Lab(tiny, device="cpu", precision=half).extract(picture, LAYER)
    full = Lab(tiny, device="cpu")
    by_recipe, exact = full.extract(picture, LAYER, precision=half), full.extract(picture, LAYER)
    assert np.array_equal(by_lab[LAYER], by_recipe[LAYER])
    assert not np.array_equal(by_lab[LAYER], exact[LAYER])


def test_a_recipe_that_names_a_precision_wins(tiny, picture):
    lab = Lab(tiny, device="cpu", precision="bf16")
    exact = lab.extract(picture, LAYER, precision="fp32")
    assert np.array_equal(exact[LAYER], Lab(tiny, device="cpu").extract(picture, LAYER)[LAYER])
    named = Recipe("own", Extraction(precision="fp32"))
    assert lab.recipe(named).extract.precision == "fp32"
    assert lab.recipe("fslab").extract.precision == "bf16"
    assert Lab(tiny, device="cpu").recipe("fslab").extract.precision == "fp32"


def test_every_key_knows_it(tiny, picture, own_store):
    labs = [Lab(tiny, device="cpu", precision=each) for each in ("fp32", "bf16")]
    for name in ("captioner_fingerprint", "clip_fingerprint", "text_model_fingerprint"):
        first, second = (getattr(lab, name) for lab in labs)
        assert first != second, name
    states = [lab._embed(["dog"], "preset") for lab in labs]
    assert not np.array_equal(*states)
    maps = [lab.attention(picture, ["dog"])["dog"] for lab in labs]
    assert not np.array_equal(*maps)
    words = [lab.extract(picture, "*attn2.to_q", words=["dog"]) for lab in labs]
    for key in words[0]:
        assert not np.array_equal(words[0][key], words[1][key]), key
    labels = [lab.recipe("freeseg-diff").digest for lab in labs]
    assert labels[0] != labels[1]


def test_evidence_for_names_is_read_as_the_features_are(tiny, picture, monkeypatch):
    lab, asked = Lab(tiny, device="cpu"), []
    plain = Lab.attention

    def attention(self, *given, **settings):
        asked.append((settings["noise"], settings["precision"], settings["draws"]))
        return plain(self, *given, **settings)

    monkeypatch.setattr(Lab, "attention", attention)
    changes = {
        "extract.noise": "none", "extract.precision": "bf16", "match.attention_draws": 3,
        "match.attention_layers": ["*attn2.to_q"], "extract.layers": [LAYER],
    }  # fmt: skip
    recipe = fslab.METHODS["fslab"].change(changes)
    lab.segment(picture, recipe, candidates=["dog", "cat"])
    assert asked
    assert set(asked) == {("none", "bf16", 1)}


def test_a_lab_of_workers_has_it_too(tiny):
    lab = Lab(tiny, device="cpu", precision="bf16")
    assert Lab(*lab.specification).precision == "bf16"


CAPABILITIES = {
    "none": ({"avx2": True, "avx512_bf16": False}, {"fp32"}),
    "an x86 with bf16": ({"avx512_bf16": True}, {"fp32", "bf16"}),
    "an x86 with tiles": ({"amx_bf16": True, "amx_fp16": False}, {"fp32", "bf16"}),
    "an x86 with both": ({"avx512_bf16": True, "avx512_fp16": True}, {"fp32", "fp16", "bf16"}),
    "an arm": ({"bf16": True, "fp16_arith": True}, {"fp32", "fp16", "bf16"}),
}


@pytest.mark.parametrize("cpu", CAPABILITIES)
def test_a_cpu_is_known_by_its_instructions(monkeypatch, cpu):
    found, computes = CAPABILITIES[cpu]
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: found, raising=False)
    assert {name for name in precisions.DTYPES if precisions.cpu_computes_in(name)} == computes


def test_a_slow_precision_is_said_once_and_only_of_a_cpu(monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict, raising=False)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for device in ("cuda", "cpu", "cpu"):
            for name in ("fp32", "bf16", "bf16"):
                precisions.dtype_of(name, device)
    assert [type(each.message) for each in said] == [precisions.SlowPrecision]
    assert "has no bf16 arithmetic" in str(said[0].message)


def test_the_command_line_takes_and_says_it(run, tiny, tmp_path):
    """In a process of its own: what the libraries were told once there, they are told there."""
    picture, out = tmp_path / "picture.png", tmp_path / "out"
    Image.fromarray(noise_picture(64, 64).pixels).save(picture)
    words = ["segment", picture, "--out", out, "--preset", tiny, "--precision"]
    call = [sys.executable, "-c", SLOW, *map(str, words)]
    done = subprocess.run([*call, "bf16"], capture_output=True, text=True, env={**os.environ})
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("fslab: this CPU has no bf16 arithmetic") == 1
    assert "SlowPrecision" not in done.stderr
    recipe = json.loads((out / "picture.json").read_text())["recipe"]
    assert recipe["extract"]["precision"] == "bf16"
    assert run(*words, "fp8") == (
        2,
        "",
        "fslab: precision is 'fp8'; it must be one of fp32, fp16, bf16\n",
    )


SLOW = """
import torch
torch.cpu.get_capabilities = dict
from fslab.cli import main
main()
"""
