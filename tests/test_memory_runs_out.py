"""Memory that runs out is a sentence with the picture's name, wherever it does, and nothing else is."""

import errno
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import noise_picture, write_dataset

from fslab.backbones import weights
from fslab.cluster import kmeans
from fslab.lab import Lab
from fslab.process import memory_refused
from fslab.records import Features, LabelMap, OutOfMemory, Segments
from fslab.score import count_pairs
from fslab.store import Store


def huge_array():
    return np.zeros(2**55)


def huge_tensor():
    return torch.empty(2**55)


def raising(error):
    def run_out():
        raise error

    return run_out


HUNGRY = {
    "numpy": huge_array,
    "torch": huge_tensor,
    "python": raising(MemoryError()),
    "gpu": raising(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB")),
    "apple": raising(RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)")),
    "c++": raising(RuntimeError("std::bad_alloc")),
    "windows": raising(RuntimeError("[enforce fail] . DefaultCPUAllocator: not enough memory: you tried")),
    "system": raising(OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))),
}  # fmt: skip

OTHERS = [
    RuntimeError("expected scalar type Float but found Half"),
    RuntimeError("cannot open 'out of memory.png'"),
    RuntimeError("required rank 4 tensor to use channels_last memory format"),
    RuntimeError("unsupported memory format option Preserve"),
    OSError(errno.ENOSPC, "No space left on device"),
]


@pytest.mark.parametrize("hungry", HUNGRY)
def test_it_is_one_picture_s_refusal(hungry):
    said = pytest.raises(OutOfMemory, match=r"^dog: memory ran out \(.+\); make the picture")
    with said, memory_refused("dog"):
        HUNGRY[hungry]()


@pytest.mark.parametrize("error", OTHERS, ids=str)
def test_other_errors_are_not_taken_for_it(error):
    with pytest.raises(type(error)) as raised, memory_refused("dog"):
        raise error
    assert raised.value is error


@pytest.fixture(scope="module")
def lab(tiny, tmp_path_factory):
    return Lab(tiny, store=Store(tmp_path_factory.mktemp("store")))


LABELS = np.repeat([[0, 1]], 32, 0).repeat(16, 1).astype(np.uint8)
STAGES = {
    "extract": ("fslab.backbones.diffusion.tap", lambda lab, one: lab.extract(one)),
    "attention": ("fslab.backbones.diffusion.tap", lambda lab, one: lab.attention(one, ["dog"])),
    "caption": ("fslab.captions.Captioner.caption", lambda lab, one: lab.caption(one)),
    "match": (
        "fslab.match.Matcher.encode_images",
        lambda lab, one: lab.match(one, Segments(LABELS), ["dog"]),
    ),
    "score": (
        "fslab.match.naming.views",
        lambda lab, one: lab.score_segments(one, Segments(LABELS), ["dog"]),
    ),
    "refine": (
        "fslab.refine.sharpen.pamr",
        lambda lab, one: lab.refine(one, LabelMap(LABELS, ("background", "dog")), method="pamr"),
    ),
    "segment": ("fslab.refine.sharpen.dense_crf", lambda lab, one: lab.segment(one, "fslab")),
}


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_of_a_lab_refuses_the_picture_and_does_it_the_next_time(
    lab, monkeypatch, stage
):
    place, work = STAGES[stage]
    picture = noise_picture(32, 32, seed=list(STAGES).index(stage))  # of which nothing is kept
    with monkeypatch.context() as patched:
        patched.setattr(place, lambda *_, **__: HUNGRY["c++"]())
        with pytest.raises(OutOfMemory, match=r"^noise-32x32: memory ran out \(std::bad_alloc\)"):
            work(lab, picture)
    assert work(lab, picture) is not None


def test_a_model_that_cannot_be_loaded_for_want_of_memory_says_so(tiny, tmp_path, monkeypatch):
    lab = Lab(tiny, store=Store(tmp_path))
    with monkeypatch.context() as patched:
        patched.setattr(weights, "building", huge_tensor)
        with pytest.raises(OutOfMemory, match=r"^noise-32x32: memory ran out"):
            lab.caption(noise_picture(32, 32))
    assert lab.caption(noise_picture(32, 32)).text is not None


def test_clusters_called_without_a_lab_refuse_the_features(monkeypatch):
    monkeypatch.setattr("fslab.cluster.clusters._label", lambda *_: huge_array())
    features = Features({"a": np.ones((2, 4, 4), np.float32)}, (8, 8), "mine")
    with pytest.raises(OutOfMemory, match=r"^mine: memory ran out"):
        kmeans(features)


def test_masks_that_are_scored_name_the_picture(monkeypatch):
    monkeypatch.setattr("fslab.score.figures.score_image", lambda *_, **__: huge_array())
    with pytest.raises(OutOfMemory, match=r"^dog: memory ran out"):
        count_pairs([("dog", LABELS, LABELS)], ("background", "dog"))


def test_an_explorer_says_so_and_goes_on(tmp_path, monkeypatch):
    from fslab.widgets import explore_clusters

    lab = Lab("mini", "rgb", store=Store(tmp_path))
    with monkeypatch.context() as patched:
        patched.setattr("fslab.widgets.clusters.project", lambda *_: huge_array())
        explorer = explore_clusters(lab, noise_picture(32, 32))
        explorer.wait()
        assert "memory ran out" in explorer.message
    explorer.change(k=3).wait()
    assert explorer.message == ""


def test_a_command_ends_in_one_sentence(tmp_path, monkeypatch, run):
    data = write_dataset(tmp_path / "set", 2) / "SegmentationClass"
    monkeypatch.setattr("fslab.cli.score.summarise_all", lambda *_: huge_array())
    code, _, said = run("score", data, data)
    assert code == 2
    assert said.splitlines()[-1].startswith("fslab: this command: memory ran out (")


def test_a_warning_that_is_an_error_by_wish_is_one_sentence(tmp_path, monkeypatch):
    data = write_dataset(tmp_path / "set", 2)
    (data / "JPEGImages" / "noise_1.png").write_bytes(b"")
    words = ["evaluate", data, "--backbone", "rgb", "--cluster", "kmeans", "--metric", "mbo"]
    done = subprocess.run(
        [sys.executable, "-W", "error::RuntimeWarning", "-m", "fslab", *map(str, words)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.startswith("fslab: set val is not all as it should be")
    assert "Traceback" not in done.stderr
