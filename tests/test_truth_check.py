"""A look at the whole truth before a long run, and its counts in every report."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest
from conftest import write_dataset
from PIL import Image

from fslab import datasets
from fslab.datasets import write_mask
from fslab.datasets.check import glance
from fslab.evaluate import evaluate
from fslab.evaluate.page import PAGE
from fslab.evaluate.run import REPORT
from fslab.lab import Lab
from fslab.lab.recipes import clustering_recipe
from fslab.records import FslabError

HOW = ("--backbone", "rgb", "--cluster", "kmeans", "--metric", "oracle")


@pytest.fixture
def root(tmp_path):
    return write_dataset(tmp_path / "set", 4)


def mask(root, number):
    return root / f"SegmentationClass/noise_{number}.png"


def turn(path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.open(path).save(path, exif=exif)


def test_a_sound_set_is_counted_and_exits_with_0(run, root):
    code, said, wrong = run("check", root)
    assert (code, wrong) == (0, "")
    lines = said.splitlines()
    assert lines[0] == "set val: 4 of 4 pictures can be read"
    assert lines[1].endswith("64 x 64 (2), 64 x 96 (2)")
    found = datasets.check(datasets.load(root))
    names = found.dataset.vocabulary.names
    for number in range(4):
        assert (found.shown[names[1 + number]], found.pixels[names[1 + number]]) == (1, 32 * 32)
    assert found.void == 4 * (36 * 36 - 32 * 32)
    assert sum(found.pixels.values()) + found.void == 2 * (64 * 64 + 64 * 96)
    assert lines[-1] == "nothing odd"


SPOILT = {
    "a picture cut short": (
        lambda root: (root / "JPEGImages/noise_1.png").write_bytes(b"\x89PNG\r\n\x1a\n cut"),
        "noise_1.png",
    ),
    "a mask of colours": (
        lambda root: Image.new("RGB", (64, 64), "red").save(mask(root, 1)),
        "holds colours",
    ),
    "labels beyond the vocabulary": (
        lambda root: write_mask(np.full((64, 64), 77, np.uint8), mask(root, 1)),
        "holds labels [77]",
    ),
    "a mask of another size": (
        lambda root: write_mask(np.zeros((9, 9), np.uint8), mask(root, 1)),
        "9 x 9",
    ),
    "a mask that is not there": (lambda root: mask(root, 1).unlink(), "noise_1.png is not there"),
    "a turned square": (lambda root: turn(root / "JPEGImages/noise_1.png", 6), "EXIF turn"),
}


@pytest.mark.parametrize("how", SPOILT)
def test_what_is_odd_is_named_and_exits_with_1(run, root, how):
    spoil, words = SPOILT[how]
    spoil(root)
    code, said, _ = run("check", root)
    assert code == 1
    assert words in said
    assert "noise_0" not in said


def test_the_same_pixels_twice_and_a_truth_without_a_class(run, root):
    Image.open(root / "JPEGImages/noise_1.png").save(root / "JPEGImages/noise_3.png")
    for number in range(4):
        labels = np.array(Image.open(mask(root, number)))
        write_mask(np.where(labels == 255, labels, 0).astype(np.uint8), mask(root, number))
    code, said, _ = run("check", root)
    assert code == 1
    assert "'noise_3' holds the same pixels as 'noise_1'" in said
    assert "no class in the truth: 1" in said
    code, _, wrong = run("evaluate", root, *HOW)
    assert code == 2
    assert "the truth of all 4 pictures is background or void" in wrong


@pytest.mark.parametrize("words", [("nowhere",), ("--split", "none"), ("--format", "coco")])
def test_what_cannot_be_opened_exits_with_2(run, root, words):
    given = (root.parent / words[0],) if len(words) == 1 else (root, *words)
    code, said, wrong = run("check", *given)
    assert (code, said) == (2, "")
    assert wrong.startswith("fslab: ")


def test_a_plain_folder_and_a_url_are_checked_too(run, root):
    code, said, _ = run("check", root / "JPEGImages")
    assert code == 0
    assert "no truth" in said
    assert run("check", f"file://{root}")[:2] == run("check", root)[:2]
    (root / "JPEGImages/notes.txt").write_text("x")
    code, said, _ = run("check", root / "JPEGImages")
    assert code == 1
    assert "'notes.txt' ends in '.txt'" in said


def test_coco_is_counted_by_regions_and_its_oddities_are_in_the_report(run, tmp_path):
    from test_truth_coco import GOOD, OTHER, annotation, write_set

    boxed = annotation(7, 1, 18, [], bbox=[30, 30, 8, 8])
    root = write_set(tmp_path / "set", [GOOD, OTHER, boxed, {**GOOD, "image_id": 77}])
    code, said, _ = run("check", root, "--split", "val2017", "--format", "coco")
    assert code == 1
    assert "region left out: 1" in said
    assert "annotation of no picture: 1" in said
    [person] = [line.split() for line in said.splitlines() if line.startswith("  person")]
    assert person[1:3] + person[4:] == ["1", "400", "1"]
    out = tmp_path / "out"
    words = ("--split", "val2017", "--format", "coco", "--out", out)
    code, said, warned = run("evaluate", root, *HOW, *words)
    assert code == 0
    assert "not all as it should be" in warned
    assert "region left out: 1; the first: annotation 7" in said
    report = json.loads((out / REPORT).read_text())
    assert report["truth"]["person"] == {"pictures": 1, "pixels": 400}
    assert report["truth"]["dog"] == {"pictures": 1, "pixels": 100}
    assert [each["where"] for each in report["oddities"]["region left out"]] == ["a.png"]
    assert [each["where"] for each in report["oddities"]["annotation of no picture"]] == [
        "annotation 1"
    ]
    page = (out / PAGE).read_text()
    assert "Oddities of the data set" in page
    assert "annotation 7 of" in page


def test_evaluate_looks_at_headers_first_and_decodes_nothing_for_it(root, monkeypatch):
    turn(root / "JPEGImages/noise_1.png", 6)
    write_mask(np.zeros((9, 9), np.uint8), mask(root, 2))
    (root / "JPEGImages/noise_3.png").write_bytes(b"no picture")
    found = datasets.load(root)
    with monkeypatch.context() as patched:
        patched.setattr(Image.Image, "convert", None)
        patched.setattr("PIL.ImageFile.ImageFile.load", None)
        kinds = [(odd.kind, odd.where) for odd in glance(found)]
    assert kinds == [
        ("EXIF turn", "noise_1"), ("picture refused", "noise_2"), ("picture refused", "noise_3"),
    ]  # fmt: skip
    recipe = clustering_recipe("kmeans")
    with pytest.warns(RuntimeWarning, match=r"1 x EXIF turn, 2 x picture refused"):
        report = evaluate(Lab("mini", "rgb"), found, recipe, "oracle", progress=False)
    assert [(odd.kind, odd.where) for odd in report.oddities] == kinds
    assert set(report.refused) == {"noise_2", "noise_3"}


def test_the_look_is_cheap_beside_reading(root):
    found = datasets.load(root)
    large = Image.fromarray(np.random.default_rng(0).integers(0, 256, (1500, 2000, 3), np.uint8))
    for sample in found:
        large.save(sample.path)
        write_mask(np.zeros((1500, 2000), np.uint8), sample.truth_path)
    spent = []
    for look in (glance, datasets.check):
        start = time.perf_counter()
        look(found)
        spent.append(time.perf_counter() - start)
    assert spent[0] < spent[1] / 5


def test_a_set_of_one_class_of_another_vocabulary_is_not_scored(tmp_path):
    root = write_dataset(tmp_path / "binary", 2)
    for number in range(2):  # foreground as 255, as many tools write it, is void and no class
        labels = np.array(Image.open(mask(root, number)))
        binary = np.where(labels > 0, 255, 0).astype(np.uint8)
        Image.fromarray(binary).save(mask(root, number))
    with pytest.raises(FslabError, match="background or void"):
        evaluate(
            Lab("mini", "rgb"), datasets.load(root), clustering_recipe("kmeans"), "oracle",
            progress=False,
        )  # fmt: skip
