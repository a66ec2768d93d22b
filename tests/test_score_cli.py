"""`fslab score`: every figure that applies, one by name, and refusals that name file and labels."""

from __future__ import annotations

import json
from functools import partial

import numpy as np
import pytest

from fslab.datasets import VOC, write_mask
from fslab.score import count_pairs, summarise_all

FIGURES = [
    *("voc21", "voc20", "per-image", "per-image-released", "hungarian", "oracle", "mbo"),
    *("boundary", "boundary-relative"),
]


@pytest.fixture
def run(run):
    """Score two folders in this process: (exit code, stdout, stderr)."""
    return partial(run, "score")


@pytest.fixture
def folders(tmp_path):
    """Predictions and truth of four pictures, and the same as triples."""
    rng = np.random.default_rng(0)
    triples = []
    for number in range(4):
        truth = np.kron(rng.choice([0, 8, 15, 255], (4, 5)), np.ones((9, 9))).astype(np.uint8)
        guess = np.roll(np.where(truth == 255, 0, truth), number, 1).astype(np.uint8)
        triples.append((f"p{number}", truth, guess))
        write_mask(truth, tmp_path / "truth" / f"p{number}.png")
        write_mask(guess, tmp_path / "guess" / f"p{number}.png")
    return tmp_path / "guess", tmp_path / "truth", triples


def test_all_that_applies_with_what_it_is(run, folders):
    guess, truth, triples = folders
    code, out, err = run(guess, truth, "--json")
    assert (code, len(err.splitlines())) == (0, 2)
    (line,) = out.splitlines()
    found = json.loads(line)
    assert list(found["figures"]) == FIGURES
    expected = summarise_all(count_pairs(triples, VOC.names))
    for metric, figure in found["figures"].items():
        assert figure == json.loads(json.dumps(expected[metric].to_dict()))
        assert figure["interval"][0] < figure["figure"] < figure["interval"][1]
    for key in ("figure", "metric", "protocol", "images", "iou", "absent"):
        assert found[key] == found["figures"]["voc21"][key]
    text = run(guess, truth)[1]
    for metric in FIGURES:
        assert f"{metric} {100 * expected[metric].figure:.1f} over 4 pictures, 95 %" in text
        assert expected[metric].note in text
    assert f"  cat            {100 * expected['voc21'].iou['cat']:5.1f}" in text
    assert "in neither map, so in no mean: aeroplane," in text


def test_one_figure_by_name(run, folders):
    guess, truth, triples = folders
    found = json.loads(run(guess, truth, "--metric", "boundary", "--json", "--draws", 0)[1])
    assert list(found["figures"]) == ["boundary"]
    assert found["metric"] == "boundary"
    assert found["interval"] is None
    expected = summarise_all(count_pairs(triples, VOC.names))["boundary"]
    assert (found["figure"], found["precision"]) == (expected.figure, expected.sides["precision"])


def test_maps_of_any_numbers_have_class_agnostic_figures(run, folders):
    guess, truth, triples = folders
    for name, _, labels in triples:
        write_mask((labels + 100).astype(np.uint8), guess / f"{name}.png")
    found = json.loads(run(guess, truth, "--metric", "mbo", "--json")[1])
    expected = summarise_all(count_pairs(triples, VOC.names))["mbo"]
    assert found["figure"] == expected.figure
    code, out, err = run(guess, truth)
    assert (code, out) == (2, "")
    assert "'p0': the guess holds labels [100, 108, 115]" in err
    assert "--metric" in err


def test_coco_s_labels(run, folders):
    guess, truth, _ = folders
    found = json.loads(run(guess, truth, "--vocabulary", "coco", "--json")[1])
    assert next(iter(found["figures"])) == "coco-object"
    assert not {"voc21", "voc20"} & set(found["figures"])
    assert len(found["iou"]) == 81


@pytest.mark.parametrize("kind", ["truth", "guess", "size", "missing", "metric", "draws"])
def test_refusals_name_the_file_and_what_is_wrong(run, folders, kind):
    guess, truth, triples = folders
    words = []
    if kind in ("truth", "guess"):
        labels = triples[2][1].copy()
        labels[labels == 255], labels[:3] = 0, 77
        write_mask(labels, (truth if kind == "truth" else guess) / "p2.png")
        expected = f"'p2': the {kind} holds labels [77]"
    elif kind == "size":
        write_mask(triples[1][2][:-1], guess / "p1.png")
        expected = "'p1': the truth is 36 x 45 pixels (height x width), the guess 35 x 45"
    elif kind == "missing":
        (guess / "p0.png").unlink()
        (guess / "p3.png").unlink()
        expected = "lacks 2 files that"
    elif kind == "metric":
        words, expected = ["--metric", "coco-object"], "counts COCO's 80 classes"
    else:
        words, expected = ["--draws", "-5"], "draws is -5"
    code, out, err = run(guess, truth, *words)
    assert (code, out) == (2, "")
    *said, refusal = err.splitlines()
    assert expected in refusal
    assert len(said) == (0 if kind in ("missing", "metric") else 2)


def test_of_many_missing_files_the_first_are_named(run, folders):
    guess, truth, triples = folders
    for number in range(12):
        write_mask(triples[0][1], truth / f"more_{number:02}.png")
    code, _, err = run(guess, truth)
    assert code == 2
    assert "lacks 12 files that" in err
    assert err.endswith("'more_08.png', 'more_09.png' and 2 more\n")


def test_each_folder_is_counted_and_what_was_left_is_named(run, folders):
    guess, truth, triples = folders
    write_mask(triples[0][2], guess / "p0.overlay.png")
    (guess / "p0.json").write_text("{}")
    (truth / "notes").mkdir()
    (truth / "Thumbs.db").write_bytes(b"x")
    err = run(guess, truth, "--json")[2]
    of_guess, of_truth = err.splitlines()
    assert of_guess.startswith(f"{guess}: 4 masks; 2 left: ")
    assert "'p0.overlay.png' is an overlay" in of_guess
    assert "'p0.json' ends in '.json'" in of_guess
    assert f"{truth}: 4 masks; 2 left: 'Thumbs.db' ends in '.db'" in of_truth
    assert "'notes' is a folder" in of_truth


@pytest.mark.parametrize("metric", [None, "mbo", "boundary", "per-image-released"])
@pytest.mark.parametrize("inside", [0, 255])
def test_a_truth_of_background_and_void_alone_has_no_figure(run, folders, metric, inside):
    """Masks of 0 and 255, as binary ones are, would score as background with an object of void."""
    guess, truth, triples = folders
    for name, labels, _ in triples:
        write_mask(np.where(labels == 15, inside, 0).astype(np.uint8), truth / f"{name}.png")
    code, out, err = run(guess, truth, *(["--metric", metric] if metric else []))
    assert (code, out) == (2, "")
    assert "the truth of all 4 pictures" in err
    assert "is background or void" in err
