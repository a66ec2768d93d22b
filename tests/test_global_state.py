"""What a notebook may have set before fslab runs changes no feature, label or key, and stays set."""

import os
import subprocess
import sys
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from conftest import noise_picture
from PIL import Image, ImageFile

from fslab.datasets import read
from fslab.datasets.read import header, png
from fslab.lab import Lab
from fslab.records import (
    FslabError,
    OutOfMemory,
)
from fslab.store import Store


@contextmanager
def default_dtype(dtype):
    torch.set_default_dtype(dtype)
    try:
        yield
        assert torch.get_default_dtype() == dtype
    finally:
        torch.set_default_dtype(torch.float32)


@contextmanager
def default_device(name):
    torch.set_default_device(name)
    try:
        yield
        assert torch.get_default_device().type == name
    finally:
        torch.set_default_device(None)


@contextmanager
def matmul(precision):
    torch.set_float32_matmul_precision(precision)
    try:
        yield
        assert torch.get_float32_matmul_precision() == precision
    finally:
        torch.set_float32_matmul_precision("highest")


@contextmanager
def flushed():
    torch.set_flush_denormal(True)
    try:
        yield
        assert np.float64(5e-324) * np.float64(1.0) == 0
    finally:
        torch.set_flush_denormal(False)


@contextmanager
def seeded():
    torch.manual_seed(7)
    np.random.seed(7)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    yield
    assert torch.equal(before[0], torch.get_rng_state())
    assert np.array_equal(before[1], np.random.get_state()[1])


@contextmanager
def deterministic():
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


STATES = {
    "doubles": lambda: default_dtype(torch.float64),
    "bfloat16": lambda: default_dtype(torch.bfloat16),
    "half": lambda: default_dtype(torch.float16),
    "meta": lambda: default_device("meta"),
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "medium": lambda: matmul("medium"),
    "high": lambda: matmul("high"),
    "flushed": flushed,
    "seeds": seeded,
    "deterministic": deterministic,
    "no gradients": torch.no_grad,
    "gradients": torch.enable_grad,
    "inference": torch.inference_mode,
    "numpy raises": lambda: np.errstate(all="raise"),
}


def keys(store):
    return sorted(path.name for path in store.rglob("*.safetensors"))


@pytest.fixture(scope="module", autouse=True)
def files_are_settled():
    """Digests of files are kept at once, however new these tests' models are."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("fslab.weights.digests.SETTLED", -1.0)
        yield


@pytest.fixture(scope="module")
def expected(tiny, tmp_path_factory):
    store = tmp_path_factory.mktemp("store")
    return Lab(tiny, store=Store(store)).segment(noise_picture(64, 96), "fslab"), keys(store)


@pytest.mark.parametrize("state", STATES)
def test_what_was_set_before_changes_nothing_and_stays(tiny, tmp_path, expected, state):
    result, named = expected
    with STATES[state]():
        found = Lab(tiny, store=Store(tmp_path)).segment(noise_picture(64, 96), "fslab")
    assert all(np.array_equal(found.features[k], result.features[k]) for k in result.features)
    assert np.array_equal(found.segments.labels, result.segments.labels)
    assert np.array_equal(found.labels.labels, result.labels.labels)
    assert found.caption == result.caption
    assert keys(tmp_path) == named


@pytest.mark.parametrize("state", ["meta", "doubles", "autocast"])
def test_listing_layers_and_attention_do_not_change_either(tiny, tmp_path, state):
    usual = Lab(tiny, store=Store(tmp_path / "a"))
    picture = noise_picture(64, 64)
    with STATES[state]():
        lab = Lab(tiny, store=Store(tmp_path / "b"))
        layers, maps = lab.layers(), lab.attention(picture, ["dog"])
    assert layers == usual.layers()
    assert np.array_equal(maps["dog"], usual.attention(picture, ["dog"])["dog"])


@pytest.mark.parametrize(
    "device", ["cuda:7", "mps:3", "gpu", "GPU", "", "cpu:1", "cuda:-1", torch.device("cuda:9"), 3]
)
def test_a_device_that_is_not_there_is_a_sentence(tiny, device):
    with pytest.raises(FslabError, match="is not on this machine; there is cpu"):
        Lab(tiny, device=device).extract(noise_picture(32, 32))


def test_a_device_may_be_torch_s_own(tiny, tmp_path):
    found = [
        Lab(tiny, store=Store(tmp_path / str(n)), device=device).extract(noise_picture(32, 32))
        for n, device in enumerate(("cpu", torch.device("cpu")))
    ]
    assert keys(tmp_path / "0") == keys(tmp_path / "1")
    assert found[0].keys() == found[1].keys()


@pytest.mark.parametrize(
    "environment",
    [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}],
    ids=str,
)
def test_a_screen_without_letters_ends_no_command(tmp_path, environment):
    path = tmp_path / "é犬.png"
    done = subprocess.run(
        [sys.executable, "-m", "fslab", "score", str(path), str(path)],
        capture_output=True, check=False, env={**os.environ, **environment},
    )  # fmt: skip
    assert done.returncode == 2
    assert b"Traceback" not in done.stderr
    assert done.stderr.startswith(b"fslab: ")


@pytest.mark.parametrize("most", [None, 10**12])
def test_pillow_s_limits_are_its_own(tmp_path, monkeypatch, most):
    whole = png(Image.fromarray(noise_picture(64, 64).pixels))
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "bomb.png").write_bytes(png(Image.new("1", (20000, 10000))))
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", most)
    with pytest.raises(FslabError, match="damaged or cut short"):
        read(tmp_path / "cut.png")
    for look in (read, header):
        with pytest.raises(FslabError, match="more than 178 million pixels"):
            look(tmp_path / "bomb.png")
    assert ImageFile.LOAD_TRUNCATED_IMAGES
    assert most == Image.MAX_IMAGE_PIXELS


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("not enough memory: you tried to allocate 9 bytes"),
              torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB")],
    ids=lambda error: type(error).__name__,
)  # fmt: skip
def test_memory_that_runs_out_in_a_stage_is_a_refusal(tiny, tmp_path, monkeypatch, error):
    def run_out(*_):
        raise error

    lab = Lab(tiny, store=Store(tmp_path))
    features = lab.extract(noise_picture(32, 32))
    monkeypatch.setattr("fslab.cluster.clusters.join", run_out)
    with pytest.raises(OutOfMemory, match="memory ran out"):
        lab.cluster(features)
    monkeypatch.setattr(lab.backbone, "run", run_out)
    with pytest.raises(OutOfMemory, match="memory ran out"):
        lab.extract(noise_picture(32, 48))
