"""Evaluations under faults: what is written is whole and true, and one bad picture is one picture."""

import contextlib
import json
import os
import random
import re
import resource
import shutil
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import write_dataset
from faults import survived

from fslab import datasets
from fslab.backbones.baselines import Rgb
from fslab.cli import evaluate as command
from fslab.datasets import read_mask
from fslab.evaluate import Log, draw, evaluate, write_page
from fslab.evaluate import log as log_module
from fslab.evaluate.log import LOCK, RESULTS, SECONDS
from fslab.evaluate.run import REPORT
from fslab.files import hold
from fslab.lab import Lab
from fslab.records import Clustering, FslabError, Recipe

PLAIN = Recipe("plain", cluster=Clustering.of(k=3, normalise="l2", restarts=1))
PICTURES = 4


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("set"), PICTURES)


@pytest.fixture
def dataset(root):
    return datasets.voc(root)


def run(dataset, out=None, limit=None):
    return evaluate(Lab("mini", "rgb"), dataset, PLAIN, "oracle", limit, out, progress=False)


@pytest.fixture(scope="module")
def whole(root, tmp_path_factory):
    """The folder of an undisturbed run."""
    out = tmp_path_factory.mktemp("whole") / "out"
    run(datasets.voc(root), out)
    return out


def assert_whole(out, whole):
    for name in (RESULTS, REPORT):
        assert (out / name).read_bytes() == (whole / name).read_bytes()
    assert {path.name for path in out.iterdir()} == {RESULTS, SECONDS, REPORT}


def fill(disk, left):
    """Leave so many bytes of a disk, in whole pages."""
    ballast = disk / "ballast"
    free = os.statvfs(disk)
    ballast.write_bytes(bytes(max(0, free.f_bavail * free.f_frsize - left)))
    return ballast


@pytest.mark.parametrize("left", [0, 4096, 8192, 12288, 16384])
def test_a_disk_that_fills_up_costs_nothing_that_was_done(dataset, whole, small_disk, left):
    out = small_disk / "out"
    ballast = fill(small_disk, left)
    with pytest.raises(FslabError, match=r"out cannot be written \(No space left on device\)"):
        run_until_refused(dataset, out)
    done = lines(out / RESULTS)
    assert all(json.loads(line)["name"] for line in done)
    assert not (out / LOCK).exists()
    assert not list(small_disk.rglob("*.aside"))
    ballast.unlink()
    run(dataset, out)
    kept = {json.loads(line)["name"] for line in lines(out / RESULTS)}
    assert {json.loads(line)["name"] for line in done} <= kept
    survived("evaluation: full disk (tmpfs)")


def lines(path):
    return path.read_bytes().splitlines() if path.exists() else []


def run_until_refused(dataset, out):
    """Evaluate the pictures under one name after the other: the first results may find room."""
    run(dataset, out)
    for _ in range(40):
        run(renamed(dataset), out)


def renamed(dataset):
    """Return the same pictures under names of their own, so that the results grow."""
    samples = tuple(
        replace(sample, name=f"{sample.name}+{time.monotonic_ns()}") for sample in dataset
    )
    return replace(dataset, samples=samples)


class Line:
    """A result of a length that is asked for."""

    refused, seconds = "", {"extract": 0.1}

    def __init__(self, number, length):
        self.name = self.key = f"{number}"
        self.length = length

    def to_dict(self):
        score = "x" * self.length
        return {"key": self.key, "name": self.name, "score": score, "versions": {}}


@pytest.mark.parametrize("length", [400, 700, 1300, 2100, 3000, 9000])
def test_a_line_that_the_disk_takes_in_part_is_taken_back(small_disk, length):
    out, taken = small_disk / "out", 0

    def append_for_ever(log):
        nonlocal taken
        while True:
            log.append(Line(taken, length))
            taken += 1

    with Log(out, ("a",)) as log:
        with pytest.raises(FslabError, match="No space left"):
            append_for_ever(log)
        data = (out / RESULTS).read_bytes()
    assert data.endswith(b"\n")
    assert data.count(b"\n") == taken
    with Log(out, ("a",)) as log:
        assert len(log._lines) == taken
    survived("evaluation: result line refused halfway (tmpfs)")


def test_a_refused_line_leaves_nothing_that_a_later_run_would_trip_over(
    dataset, whole, tmp_path, monkeypatch
):
    """A disk that takes the first half of a line, and the second after the first was taken back."""

    def halfway(file, data):
        if Path(file.name).name == RESULTS:
            file.write(data[: len(data) // 2])
            raise OSError(28, "No space left on device")
        file.write(data)

    out = tmp_path / "out"
    run(dataset, out, limit=1)
    with monkeypatch.context() as patched:
        patched.setattr(log_module, "write_all", halfway)
        with pytest.raises(FslabError, match="No space left"):
            run(dataset, out)
    assert len(lines(out / RESULTS)) == 1
    run(dataset, out)
    assert_whole(out, whole)
    survived("evaluation: result line refused halfway")


@pytest.mark.parametrize("name", [REPORT, "report.html"])
def test_a_page_or_report_without_room_is_one_sentence(dataset, whole, small_disk, name):
    out = small_disk / "out"
    shutil.copytree(whole, out)
    (out / REPORT).unlink()
    fill(small_disk, 4096 * (2 if name == REPORT else 8))  # a page for the lock, one for results
    lab = Lab("mini", "rgb")
    with pytest.raises(FslabError, match=r"cannot be written \(No space left on device\)") as said:
        command.evaluate_set(
            lab, dataset, lab.recipe(PLAIN), "oracle", None, out, client=None, as_json=False
        )
    assert "\n" not in str(said.value)
    assert lines(out / RESULTS) == lines(whole / RESULTS)
    assert not list(out.glob("*.aside"))
    assert not (out / name).exists()
    assert (out / REPORT).exists() == (name != REPORT)
    survived("evaluation: no room for report or page")


def test_the_command_on_a_full_disk_has_no_traceback(root, small_disk):
    fill(small_disk, 4096)
    words = ["evaluate", str(root), "--backbone", "rgb", "--cluster", "kmeans", "--k", "3"]
    done = subprocess.run(
        [sys.executable, "-m", "fslab", *words, "--metric", "oracle", "--out", small_disk / "out"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert re.match(r"fslab: .* cannot be written \(No space left on device\)", last)
    survived("evaluation: full disk (command)")


def test_altered_lines_are_seen_and_scored_again(dataset, whole, tmp_path):
    """A digit that a disk changed makes another count, and the line is good JSON still."""
    chance, seen = random.Random(0), 0
    for _ in range(30):
        out = tmp_path / "out"
        shutil.copytree(whole, out)
        data = bytearray((out / RESULTS).read_bytes())
        bit = chance.randrange(8 * len(data))
        data[bit // 8] ^= 1 << bit % 8
        (out / RESULTS).write_bytes(data)
        with contextlib.ExitStack() as quiet:
            if damaged := not all(map(unaltered, whole_lines(whole), lines_by_newline(data))):
                quiet.enter_context(pytest.warns(RuntimeWarning, match=r"line \d is damaged"))
            run(dataset, out)
        seen += damaged
        assert_whole(out, whole)
        shutil.rmtree(out)
    assert seen > 25
    survived("evaluation: bit flipped in results", 30)


def whole_lines(folder):
    return (folder / RESULTS).read_bytes().split(b"\n")[:-1]


def lines_by_newline(data):
    """Return the lines that a reader takes for whole: as many as there were, or not the same."""
    found = bytes(data).split(b"\n")
    return found[:-1] if not found[-1] else [*found[:-1], None]


def unaltered(line, other):
    return other is None or line == other


@pytest.mark.parametrize("name", [RESULTS, SECONDS])
@pytest.mark.parametrize("size", [0.0, 0.1, 0.5, 0.9])
def test_files_cut_short_are_gone_on_from(dataset, whole, tmp_path, name, size):
    out = tmp_path / "out"
    shutil.copytree(whole, out)
    data = (out / name).read_bytes()
    (out / name).write_bytes(data[: int(size * len(data))])
    with Log(out, dataset.vocabulary.names):
        left = (out / name).read_bytes()
        assert not left or left.endswith(b"\n"), "the next line would be appended to half a line"
    run(dataset, out)
    assert_whole(out, whole)
    survived("evaluation: results cut short")


def test_what_a_killed_run_was_writing_goes(dataset, whole, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    for name in (".report.aside", ".results.aside"):
        (out / name).write_bytes(b"half")
    run(dataset, out)
    assert_whole(out, whole)
    survived("evaluation: orphans of a killed run", 2)


def test_two_runs_begun_together_end_in_one_whole_folder(dataset, whole, tmp_path):
    """Whoever comes second is refused with a reason, and nothing is corrupted, in 12 races."""
    refused = []

    def attempt(out, start):
        start.wait()
        try:
            run(dataset, out)
        except FslabError as error:
            refused.append(str(error))

    for race in range(12):
        out, start = tmp_path / f"{race}", threading.Barrier(2)
        threads = [threading.Thread(target=attempt, args=(out, start)) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert_whole(out, whole)
    assert all("is in use by a running evaluation (process" in each for each in refused)
    assert refused, "no two runs met"
    survived("evaluation: two runs in one folder", 12)


def test_a_lock_that_finds_no_room_leaves_no_file(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space"), hold(tmp_path / LOCK):
        pass
    assert not list(tmp_path.iterdir())
    survived("evaluation: no room for the lock")


@contextlib.contextmanager
def memory_of(more):
    """Give this process so many bytes above what it has."""
    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    usual = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (now + more, usual[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, usual)


def exhaust_torch():
    import torch

    return torch.zeros(2**40)


def exhaust_numpy():
    import numpy as np

    return np.zeros(2**40)


def exhaust_pillow():
    from PIL import Image

    return Image.new("RGB", (60_000, 60_000))


def bad_alloc():
    raise RuntimeError("std::bad_alloc")


def cublas():
    raise RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")


HUNGRY = [exhaust_torch, exhaust_numpy, exhaust_pillow, bad_alloc, cublas]


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="no limit can be measured here")
@pytest.mark.parametrize("hungry", HUNGRY, ids=lambda each: each.__name__)
@pytest.mark.parametrize("how", ["score", "draw"])
def test_real_exhaustion_is_one_picture(dataset, tmp_path, monkeypatch, hungry, how):
    plain = Rgb.run

    def one_is_hungry(self, picture, *rest):
        if picture.name == "noise_1":
            hungry()
        return plain(self, picture, *rest)

    lab = Lab("mini", "rgb")
    run(dataset, limit=1)  # all is imported before the limit
    monkeypatch.setattr(Rgb, "run", one_is_hungry)
    with memory_of(2**31):
        if how == "score":
            report = evaluate(lab, dataset, PLAIN, "oracle", progress=False)
            done, refused = [row.name for row in report.rows], report.refused
        else:
            drawn = draw(lab, dataset, PLAIN, tmp_path / "out", named=False, progress=False)
            done, refused = list(drawn.written), drawn.refused
    assert done == ["noise_0", "noise_2", "noise_3"]
    assert re.match(r"noise_1: memory ran out \(.+\); make the picture smaller", refused["noise_1"])
    survived("evaluation: memory exhausted in one picture")


def test_pictures_deleted_or_replaced_midway(tmp_path, whole, monkeypatch):
    root = write_dataset(tmp_path / "set", PICTURES)
    data, plain, out = datasets.voc(root), Lab._extract, tmp_path / "out"

    def spoils(self, picture, *rest):
        if picture.name == "noise_0":
            data.samples[1].path.unlink(missing_ok=True)
            data.samples[2].truth_path.write_bytes(data.samples[2].truth_path.read_bytes()[:40])
        return plain(self, picture, *rest)

    monkeypatch.setattr(Lab, "_extract", spoils)
    report = run(data, out)
    assert [row.name for row in report.rows] == ["noise_0", "noise_3"]
    assert "noise_1.png" in report.refused["noise_1"]
    assert "noise_2.png" in report.refused["noise_2"]
    page = write_page(report, Lab("mini", "rgb"), data, out).read_text(encoding="utf-8")
    assert "noise_1.png" in page
    data.samples[0].path.unlink()
    page = write_page(report, Lab("mini", "rgb"), data, out).read_text(encoding="utf-8")
    assert "noise_0.png" in page
    assert "does not exist" in page
    survived("evaluation: picture deleted or spoilt midway", 3)


def test_masks_that_were_drawn_are_whole(dataset, tmp_path):
    drawn = draw(Lab("mini", "rgb"), dataset, PLAIN, tmp_path, named=False, progress=False)
    for name in drawn.written:
        assert read_mask(tmp_path / f"{name}.png").shape in {(64, 64), (64, 96)}
