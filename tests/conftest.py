"""What many tests need: a store of their own, pictures, tiny models."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # before any import of the hub's client

import numpy as np
import pytest

from fslab.records import Picture, clustering

CELL_METHODS = [name for name, part in clustering.items() if part.takes == "cells"]
"""The clusterings of cells; "merge" takes whole attention maps."""


def clustering_by(method, **settings):
    """Return a clustering's settings: of those given, the ones that it has."""
    has = clustering.find(method).settings.__dataclass_fields__
    return clustering.settings(
        method, **{name: each for name, each in settings.items() if name in has}
    )


MINI = Path(__file__).parents[1] / "fslab" / "mini" / "weights"


def pytest_runtest_setup(item):
    """Tests that compare with pydensecrf are skipped where it cannot be built, and never in CI."""
    if item.get_closest_marker("reference") and find_spec("pydensecrf") is None:
        if os.environ.get("FSLAB_REFERENCE") == "required":
            pytest.fail("pydensecrf2 is not installed, and FSLAB_REFERENCE=required")
        pytest.skip("pydensecrf2 is not installed: it builds on Python 3.11 and 3.12")


@pytest.fixture(autouse=True, scope="session")
def store_of_shared_fixtures(tmp_path_factory):
    """What a fixture of many tests computes goes to no store of the user's, and comes from none."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FSLAB_STORE", str(tmp_path_factory.mktemp("shared-store")))
        yield


@pytest.fixture(autouse=True)
def own_store(tmp_path_factory, monkeypatch):
    """No test reads what another, or the user, has filed."""
    folder = tmp_path_factory.mktemp("store")
    monkeypatch.setenv("FSLAB_STORE", str(folder))
    return folder


@pytest.fixture(autouse=True, scope="session")
def listed():
    """Tests have stores of their own, and open the same few networks again and again."""
    from listed_once import listed_once

    with listed_once() as known:
        yield known


@pytest.fixture
def listed_anew(listed):
    """In this test each network's layers are listed for the first time."""
    before = dict(listed)
    listed.clear()
    yield
    listed.update(before)


@pytest.fixture
def run(monkeypatch, capsys):
    """Run the command line in this process: (exit code, stdout, stderr)."""
    from fslab.cli import main

    def call(*words):
        monkeypatch.setattr(sys, "argv", ["fslab", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        return ended.value.code or 0, printed.out, printed.err

    return call


@pytest.fixture(scope="session")
def diffusion_folders(tmp_path_factory):
    from models import save_diffusion

    return {
        kind: save_diffusion(tmp_path_factory.mktemp(kind), kind) for kind in ("sd1", "sd2", "sdxl")
    }


@pytest.fixture(scope="session")
def vision_folders(tmp_path_factory):
    from models import save_vision

    return {
        kind: save_vision(tmp_path_factory.mktemp(kind), kind) for kind in ("dinov2", "vit", "clip")
    }


@pytest.fixture(scope="session")
def blip(tmp_path_factory):
    from models import save_captioner

    return save_captioner(tmp_path_factory.mktemp("blip"))


@pytest.fixture(scope="session")
def clip(tmp_path_factory):
    from models import save_matcher

    return save_matcher(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """A folder that a Lab opens as a preset of its own: diffusion, BLIP and CLIP, all random."""
    from models import save_captioner, save_diffusion, save_matcher

    folder = save_diffusion(tmp_path_factory.mktemp("tiny"))
    save_captioner(folder / "blip")
    save_matcher(folder / "clip")
    return folder


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 128 kB, where this process may mount one."""
    import subprocess

    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", str(place)]
    try:
        done = subprocess.run(mount, capture_output=True, text=True, check=False)
    except OSError as error:
        pytest.skip(f"no disk of its own can be mounted: {error}")
    if done.returncode:
        pytest.skip(f"no disk of its own can be mounted: {done.stderr.strip()}")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def noise_picture(height: int, width: int, seed: int = 0) -> Picture:
    """Return smooth random colours."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (-(-height // 8), -(-width // 8), 3), dtype=np.uint8)
    pixels = coarse.repeat(8, 0).repeat(8, 1)[:height, :width]
    return Picture(np.ascontiguousarray(pixels), f"noise-{height}x{width}")


@pytest.fixture
def picture():
    return noise_picture(64, 64)


@pytest.fixture
def wide_picture():
    return noise_picture(64, 96)


def write_dataset(root: Path, count: int) -> Path:
    """Write a VOC-layout set of noise pictures, each with a square of one class in its middle."""
    from PIL import Image

    from fslab.datasets import write_mask

    names = [f"noise_{number}" for number in range(count)]
    (root / "JPEGImages").mkdir(parents=True)
    lists = root / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / "val.txt").write_text("\n".join(names) + "\n")
    for number, name in enumerate(names):
        size = (64, 64) if number % 2 else (64, 96)
        picture = noise_picture(*size, seed=number)
        Image.fromarray(picture.pixels).save(root / "JPEGImages" / f"{name}.png")
        truth = np.zeros(size, np.uint8)
        truth[14:50, 14:50] = 255
        truth[16:48, 16:48] = 1 + number
        write_mask(truth, root / "SegmentationClass" / f"{name}.png")
    return root


@pytest.fixture(scope="module")
def dask_threads():
    """A scheduler and two workers in this process, for which no process imports anything heavy."""
    from distributed import Client, LocalCluster

    with (
        LocalCluster(
            n_workers=2, threads_per_worker=2, processes=False, dashboard_address="127.0.0.1:0",
            silence_logs="ERROR",
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):  # fmt: skip
        yield client
