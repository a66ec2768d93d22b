"""On an accelerator: the same features, words and labels as on the CPU, and how much memory.

    pytest -m gpu tests/test_gpu.py

FSLAB_GPU_SUITE_DEVICE names another device than CUDA or MPS: "cpu" proves that the suite runs.
"""

import os

import numpy as np
import pytest
import torch
from models import save_diffusion

import fslab
from fslab.captions import load_captioner
from fslab.lab.presets import PRESETS
from fslab.mini.scenes import scene
from fslab.records import Picture

pytestmark = pytest.mark.gpu

FEATURES = {"fp32": 1e-3, "fp16": 3e-2, "bf16": 2e-1}
"""Largest difference from the CPU's fp32 features, relative to their largest value."""
PIXELS = {"fp32": 0.995, "fp16": 0.97, "bf16": 0.90}
"""Least share of pixels, over all pictures, that keep their label."""
PROBABILITIES = {"fp32": 1e-3, "fp16": 3e-2, "bf16": 1e-1}
PICTURES = 4


def device_or_none():
    named = os.environ.get("FSLAB_GPU_SUITE_DEVICE")
    if named:
        return named
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else None


@pytest.fixture(scope="module")
def device():
    found = device_or_none()
    if found is None:
        pytest.skip("no CUDA or MPS device here; FSLAB_GPU_SUITE_DEVICE=cpu runs it on the CPU")
    return found


@pytest.fixture(scope="module")
def pictures():
    return [Picture(scene(7, number).pixels, f"scene-{number}") for number in range(PICTURES)]


@pytest.fixture(scope="module", params=("mini", "sd1", "sdxl"))
def weights(request, tmp_path_factory):
    if request.param == "mini":
        return "mini"
    return save_diffusion(tmp_path_factory.mktemp("gpu") / request.param, request.param)


def lab_on(weights, device, precision, folder):
    return fslab.Lab(weights, device=device, precision=precision, store=folder / f"{device}-store")


@pytest.mark.parametrize("precision", FEATURES)
def test_features_are_the_cpus_within_the_tolerance(device, weights, pictures, precision, tmp_path):
    here = lab_on(weights, device, precision, tmp_path / "there")
    reference = lab_on(weights, "cpu", "fp32", tmp_path / "cpu")
    for picture in pictures[:2]:
        found, expected = here.extract(picture), reference.extract(picture)
        assert list(found) == list(expected)
        for name in found:
            given, wanted = np.asarray(found[name]), np.asarray(expected[name])
            assert given.dtype == wanted.dtype == np.float32
            largest = np.abs(wanted).max()
            assert np.abs(given - wanted).max() <= FEATURES[precision] * largest, name


def test_the_same_pass_twice_gives_the_same_features(device, weights, pictures, tmp_path):
    first = lab_on(weights, device, "fp32", tmp_path / "a").extract(pictures[0])
    again = lab_on(weights, device, "fp32", tmp_path / "b").extract(pictures[0])
    for name in first:
        largest = np.abs(first[name]).max()
        assert np.abs(np.asarray(first[name]) - np.asarray(again[name])).max() <= 1e-5 * largest


def test_captions_are_the_cpus(device, pictures):
    folder = PRESETS["mini"].captioner
    here, reference = load_captioner(folder, device), load_captioner(folder, "cpu")
    for picture in pictures:
        assert here.caption(picture.pixels) == reference.caption(picture.pixels)


@pytest.mark.parametrize("precision", PROBABILITIES)
def test_clip_is_the_cpus_within_the_tolerance(device, pictures, precision, tmp_path):
    labs = [
        lab_on("mini", device, precision, tmp_path / "there"),
        lab_on("mini", "cpu", "fp32", tmp_path / "cpu"),
    ]
    segments = labs[1].cluster(labs[1].extract(pictures[0]), k=4)
    here, reference = (
        lab.score_segments(pictures[0], segments, ["dog", "car"]).probabilities for lab in labs
    )
    assert np.abs(here - reference).max() <= PROBABILITIES[precision]


@pytest.mark.parametrize("precision", PIXELS)
@pytest.mark.parametrize("method", fslab.METHODS)
def test_whole_methods_keep_their_labels(device, pictures, method, precision, tmp_path):
    here = lab_on("mini", device, precision, tmp_path / "there")
    reference = lab_on("mini", "cpu", "fp32", tmp_path / "cpu")
    same = [
        (here.segment(one, method).labels.labels == reference.segment(one, method).labels.labels)
        for one in pictures
    ]
    assert np.concatenate([each.ravel() for each in same]).mean() >= PIXELS[precision]


def test_text_encoder_and_weights_of_another_precision_are_dropped(device, weights, tmp_path):
    lab = lab_on(weights, device, "fp32", tmp_path)
    states = lab.backbone.text_states("a photo of a dog")
    assert torch.isfinite(states).all()
    assert states.device.type == torch.device(device).type


def test_memory_is_that_of_weights_and_one_pass(device, pictures, tmp_path):
    if torch.device(device).type != "cuda":
        pytest.skip("only CUDA counts the memory of its tensors")
    torch.cuda.reset_peak_memory_stats(device)
    lab_on("mini", device, "fp16", tmp_path).extract(pictures[0])
    peak = torch.cuda.max_memory_allocated(device)
    weights = 2 * 6e6
    assert weights < peak < 40 * weights
