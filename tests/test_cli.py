"""The command line: files, JSON, and refusals with exit code 2 that leave nothing behind."""

import csv
import html
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import write_dataset
from PIL import Image

from fslab import datasets
from fslab.cli import demo, segment, summary
from fslab.cli.options import parse_settings, parse_size
from fslab.evaluate import evaluate
from fslab.files import portable
from fslab.lab import METHODS, Lab
from fslab.records import FslabError
from fslab.store import Store


@pytest.fixture
def dataset(tmp_path):
    return write_dataset(tmp_path / "set", 3)


def test_segment_writes_three_files_a_picture(run, tiny, dataset, tmp_path):
    pictures = sorted((dataset / "JPEGImages").glob("*.png"))[:2]
    out = tmp_path / "out"
    code, _, _ = run(
        "segment", *pictures, "--preset", tiny, "--out", out, "--classes", "dog, couch"
    )
    assert code == 0
    names = {f"{path.stem}{end}" for path in pictures for end in (".png", ".overlay.png", ".json")}
    assert {path.name for path in out.iterdir()} == names | {"classes.csv", "contact.html"}
    for path in pictures:
        facts = json.loads((out / f"{path.stem}.json").read_text())
        labels = datasets.read_mask(out / f"{path.stem}.png")
        assert labels.shape == datasets.read(path).size
        assert facts["candidates"] == ["dog", "sofa"]
        present = {entry["label"]: entry["share"] for entry in facts["classes"]}
        assert set(present) == set(np.unique(labels)) - {0}
        for label, share in present.items():
            assert share == pytest.approx((labels == label).mean())
        assert set(facts["seconds"]) == {"caption", "extract", "cluster", "match", "refine"}
        assert facts["recipe"]["name"] == "freeseg-diff"
        assert Image.open(out / f"{path.stem}.png").getpalette()[3:6] == [128, 0, 0]
        assert Image.open(out / f"{path.stem}.overlay.png").mode == "RGB"


def test_a_folder_s_masks_become_one_table_a_sheet_and_other_programs_files(run, tiny, tmp_path):
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    names = ("a <b> ä.png", "b.jpg")
    for seed, name in enumerate(names):
        Image.fromarray(noise(seed)).save(folder / name)
    (folder / "c.png").write_text("no picture")
    words = ("segment", folder, "--preset", tiny, "--out", out, "--classes", "dog,sofa")
    code, _, err = run(*words, "--format", "fiftyone", "--format", "coco")
    assert code == 2
    assert "1 of 3 pictures were left out" in err
    with (out / "classes.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for name in names:
        stem = portable(Path(name).stem)
        labels = datasets.read_mask(out / f"{stem}.png")
        mine = [row for row in rows if row["file"] == (folder / name).as_posix()]
        assert {int(row["label"]): int(row["pixels"]) for row in mine} == {
            label: int((labels == label).sum()) for label in {0, *np.unique(labels).tolist()}
        }
        assert np.array_equal(np.asarray(Image.open(out / f"fiftyone/labels/{stem}.png")), labels)
        assert f"<figcaption>{html.escape(name)}</figcaption>" in (out / "contact.html").read_text()
    assert len(json.loads((out / "coco/labels.json").read_text())["images"]) == 2
    assert "c.png" in (out / "contact.html").read_text()


def test_what_is_done_is_not_made_again(run, tiny, dataset, tmp_path, monkeypatch):
    pictures, out = dataset / "JPEGImages", tmp_path / "out"
    first, second, third = sorted(path.stem for path in pictures.iterdir())
    words = ("segment", pictures, "--preset", tiny, "--out", out, "--classes", "dog")
    with monkeypatch.context() as patched:
        patched.setattr(segment, "facts", stopped_at(second, segment.facts))
        assert run(*words)[0] != 0
    assert not (out / "classes.csv").exists()

    def times():
        return {stem: (out / f"{stem}.overlay.png").stat().st_mtime_ns for stem in (first, second)}

    before = times()
    code, _, err = run(*words)
    assert (code, "1 of 3 pictures are done" in err) == (0, True)
    after = times()
    assert after[first] == before[first]
    assert after[second] != before[second]
    (out / f"{third}.json").write_text("[]")
    Image.fromarray(noise(9)).save(pictures / f"{first}.png")
    assert "1 of 3 pictures are done" in run(*words)[2]
    assert "are done" not in run(*words, "--set", "cluster.k=3")[2]


def stopped_at(name, plain):
    def stopped(result, *beside):
        if result.picture.name == name:
            raise KeyboardInterrupt
        return plain(result, *beside)

    return stopped


def noise(seed):
    return np.random.default_rng(seed).integers(0, 256, (64, 64, 3), np.uint8)


def test_words_of_several_pictures_have_one_number(tmp_path):
    """Where words are open, each picture numbers those that its own caption found."""
    files = []
    for name, word in (("a", "mug"), ("b", "spoon")):
        files.append(tmp_path / f"{name}.jpg")
        Image.fromarray(noise(0)).save(files[-1])
        labels = np.zeros((64, 64), np.uint8)
        labels[:9] = 21
        datasets.write_mask(labels, tmp_path / f"{name}.png")
        found = [{"name": word, "label": 21, "share": 9 / 64, "score": 0.5}]
        facts = {"size": [64, 64], "classes": found, "background_share": 55 / 64}
        (tmp_path / f"{name}.json").write_text(json.dumps(facts))
    summary.write_summary(tmp_path, files, datasets.VOC.names, {}, ["fiftyone"], False)
    targets = json.loads((tmp_path / "fiftyone/mask_targets.json").read_text())
    assert (targets["21"], targets["22"]) == ("mug", "spoon")
    shown = np.asarray(Image.open(tmp_path / "fiftyone/labels/b.png"))
    assert set(np.unique(shown)) == {0, 22}


def test_a_sheet_of_many_pictures_has_pages(tmp_path, monkeypatch):
    monkeypatch.setattr(summary, "_CARDS", 2)
    files = [tmp_path / f"{number}.jpg" for number in range(5)]
    facts = {"size": [8, 8], "classes": [], "background_share": 1.0, "recipe": {"name": "r"}}
    for file in files:
        Image.fromarray(noise(0)).save(file.with_suffix(".overlay.png"))
        file.with_suffix(".json").write_text(json.dumps(facts))
    summary.write_summary(tmp_path, files, (), {}, (), True)
    assert 'href="contact-3.html"' in (tmp_path / "contact.html").read_text()
    assert (tmp_path / "contact-3.html").read_text().count("<figure>") == 1
    summary.write_summary(tmp_path, files[:2], (), {}, (), True)
    assert not list(tmp_path.glob("contact-*.html"))


def test_segment_captions_where_no_classes_are_given(run, tiny, dataset, tmp_path):
    picture = next((dataset / "JPEGImages").glob("*.png"))
    assert run("segment", picture, "--preset", tiny, "--out", tmp_path / "out")[0] == 0
    facts = json.loads((tmp_path / "out" / f"{picture.stem}.json").read_text())
    asked = vars(METHODS["freeseg-diff"].caption)
    assert facts["caption"] == Lab(tiny).caption(datasets.read(picture), **asked).text


def test_a_store_that_takes_nothing_is_one_sentence(run, tiny, dataset, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FSLAB_STORE", str(tmp_path / "file" / "store"))
    picture = dataset / "JPEGImages" / "noise_0.png"
    code, _, err = run("segment", picture, "--preset", tiny, "--out", tmp_path / "out")
    assert code == 0
    (said,) = (line for line in err.splitlines() if "results are not kept" in line)
    assert "fslab: the store " in said
    assert ".py:" not in said


def test_open_words_get_labels_behind_the_vocabulary(run, tiny, dataset, tmp_path):
    picture = next((dataset / "JPEGImages").glob("*.png"))
    words = ("segment", picture, "--preset", tiny, "--out", tmp_path / "out", "--method", "fslab")
    assert run(*words, "--classes", "zebra", "--open")[0] == 0
    facts = json.loads((tmp_path / "out" / f"{picture.stem}.json").read_text())
    assert facts["candidates"] == ["zebra"]
    assert {entry["label"] for entry in facts["classes"]} <= {21}


def test_evaluate_ends_with_one_json_object(run, tiny, dataset):
    code, out, _ = run("evaluate", dataset, "--preset", tiny, "--method", "fslab", "--json")
    found = json.loads(out.splitlines()[-1])
    assert code == 0
    wanted = {"dataset", "images", "method", "preset", "metric", "miou", "iou", "seconds"}
    assert wanted <= set(found)
    report = evaluate(Lab(tiny), datasets.voc(dataset), "fslab", progress=False)
    assert found["miou"] == report.score.miou
    assert (found["images"], found["metric"], found["method"]) == (3, "voc21", "fslab")


def test_evaluate_a_clustering_of_another_backbone(run, vision_folders, dataset):
    folder = vision_folders["dinov2"]
    words = ("--backbone", folder, "--cluster", "kmeans", "--k", 3, "--metric", "oracle", "--json")
    code, out, _ = run("evaluate", dataset, *words, "--limit", 2)
    found = json.loads(out.splitlines()[-1])
    assert code == 0
    assert found["images"] == 2
    assert found["recipe"]["cluster"]["k"] == 3
    assert 0 < found["miou"] <= 1


def test_score_of_the_truth_itself_is_one(run, dataset):
    masks = dataset / "SegmentationClass"
    code, out, _ = run("score", masks, masks, "--json")
    assert code == 0
    assert json.loads(out.splitlines()[-1])["miou"] == 1.0
    text = run("score", masks, masks, "--metric", "mbo")[1]
    assert "mbo 100.0 over 3 pictures" in text


def test_overlays_do_not_hinder_a_score(run, tiny, dataset, tmp_path):
    pictures = sorted((dataset / "JPEGImages").glob("*.png"))
    run("segment", *pictures, "--preset", tiny, "--out", tmp_path / "out", "--classes", "dog")
    code, out, _ = run("score", tmp_path / "out", dataset / "SegmentationClass", "--json")
    assert code == 0
    assert json.loads(out)["images"] == 3


def test_layers_doctor_and_cache(run, tiny, own_store):
    code, out, _ = run("layers", tiny, "--pattern", "*attn2.to_q", "--json")
    assert code == 0
    assert {row["path"] for row in json.loads(out)} == {
        layer.path for layer in Lab(tiny).layers() if layer.path.endswith("attn2.to_q")
    }
    assert "down_blocks.1" in run("layers", tiny)[1]
    code, out, _ = run("doctor")
    assert code == 0
    assert "transformers" in out
    assert str(own_store) in out
    assert Store().usage().entries > 0
    assert "0 entries" in run("cache", "--prune", "0")[1].splitlines()[-1]
    assert Store().usage().entries == 0


def test_demo_compares_the_methods_and_writes_a_page(run, tiny, dataset, tmp_path):
    words = ("demo", dataset, "--preset", tiny, "--limit", 2, "--pictures", 1, "--out", tmp_path)
    code, out, _ = run(*words)
    assert code == 0
    table = [line.split() for line in out.splitlines()]
    assert [line[0] for line in table[2:7]] == ["freeseg-diff", *["fslab"] * 4]
    page = (tmp_path / "demo.html").read_text()
    assert "noise_0" in page
    assert page.count("<article") == 1
    again = run(*words)[1]
    assert again == out


def test_a_demo_page_that_cannot_be_written_is_one_sentence(
    run, tiny, dataset, tmp_path, monkeypatch
):
    monkeypatch.setattr(demo, "RUNS", demo.RUNS[:2])
    (tmp_path / demo.PAGE).mkdir()
    code, out, err = run(
        "demo", dataset, "--preset", tiny, "--limit", 1, "--pictures", 0, "--out", tmp_path
    )
    assert code == 2
    assert not out
    said = [line for line in err.splitlines() if line.startswith("fslab: ")]
    assert said == [f"fslab: {tmp_path / demo.PAGE} cannot be written (Is a directory)"]
    assert "Traceback" not in err


def test_scenes_are_a_voc_layout_set(run, tmp_path):
    assert run("scenes", tmp_path / "set", "--count", 2, "--seed", 5)[0] == 0
    found = datasets.voc(tmp_path / "set")
    assert len(found) == 2
    assert all(sample.picture().size == sample.truth().shape for sample in found)
    captions = (tmp_path / "set" / "captions.tsv").read_text().splitlines()
    assert [line.split("\t")[0] for line in captions] == [sample.name for sample in found]


def refusals(tiny, dataset, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.jpg").write_bytes(b"\xff\xd8 no picture")
    (tmp_path / "short.png").write_bytes(
        next((dataset / "JPEGImages").glob("*.png")).read_bytes()[:200]
    )
    (tmp_path / "file").write_text("")
    picture = next((dataset / "JPEGImages").glob("*.png"))
    segment = ("segment", picture, "--out", tmp_path / "out", "--preset")
    alone = ("--out", tmp_path / "out", "--preset", tiny)
    evaluation = ("evaluate", dataset, "--preset", tiny)
    agnostic = (*evaluation, "--cluster", "kmeans", "--metric", "oracle")
    masks = dataset / "SegmentationClass"
    return {
        "missing.jpg": ("segment", "missing.jpg", "--preset", tiny, "--out", tmp_path / "out"),
        "bad.jpg": ("segment", tmp_path / "bad.jpg", *alone),
        "short.png": ("segment", tmp_path / "short.png", *alone),
        "'zebra' is not a class": (*segment, tiny, "--classes", "zebra"),
        "' , ' names none": (*segment, tiny, "--classes", " , "),
        "'' names none": (*segment, tiny, "--classes", ""),
        "is the background": (*segment, tiny, "--classes", "dog,Background", "--open"),
        "both become": (*segment, tiny, picture),
        "is a picture that was given": ("segment", picture, "--out", picture.parent, "--preset", tiny),
        "names no pixels": (*evaluation, "--cluster", "kmeans"),
        "is a file; give a folder for": (*agnostic, "--out", tmp_path / "file"),
        "is a file": ("segment", picture, "--out", tmp_path / "file", "--preset", tiny),
        "no method 'nosuch'": (*segment, tiny, "--method", "nosuch"),
        "clustering by 'kmeans' has no setting 'q'": (*segment, tiny, "--set", "cluster.q=1"),
        "--set takes": (*segment, tiny, "--set", "cluster.k"),
        "no format 'cocoa'": (*segment, tiny, "--format", "cocoa"),
        "hf download": (*segment, "sd14"),
        "no layer is called 'down_block.1'": (*segment, tiny, "--set", 'extract.layers=["down_block.1"]'),
        "timestep is 1000": (*segment, tiny, "--set", "extract.timesteps=[1000]"),
        "K is 5000": (*agnostic, "--k", "5000", "--out", tmp_path / "out"),
        "no metric 'miou'": (*evaluation, "--metric", "miou"),
        "no split 'test'": (*evaluation, "--split", "test"),
        "does not exist": ("evaluate", tmp_path / "nowhere", "--preset", tiny),
        "limit is 0": (*evaluation, "--limit", "0"),
        "holds no PNG masks": ("score", tmp_path / "empty", masks),
        "vocabulary is 'ade'": ("score", masks, masks, "--vocabulary", "ade"),
        "--prune is 'much'": ("cache", "--prune", "much"),
        "is there already": ("scenes", dataset, "--count", "1"),
        "--count is 0": ("scenes", tmp_path / "out", "--count", "0"),
        "no preset and no folder": ("layers", "nosuch"),
    }  # fmt: skip


CASES = (
    "missing.jpg", "bad.jpg", "short.png", "'zebra' is not a class", "both become", "is a file",
    "' , ' names none", "'' names none", "is the background",
    "is a picture that was given", "names no pixels", "is a file; give a folder for",
    "no method 'nosuch'", "clustering by 'kmeans' has no setting 'q'", "--set takes", "hf download", "no format 'cocoa'",
    "no layer is called 'down_block.1'", "timestep is 1000", "K is 5000", "no metric 'miou'",
    "no split 'test'", "does not exist", "limit is 0", "holds no PNG masks",
    "vocabulary is 'ade'", "--prune is 'much'", "is there already", "--count is 0", "no preset and no folder",
)  # fmt: skip


@pytest.mark.parametrize("message", CASES)
def test_refusals_are_one_sentence_and_leave_nothing(run, tiny, dataset, tmp_path, message):
    cases = refusals(tiny, dataset, tmp_path)
    assert set(cases) == set(CASES)
    code, out, err = run(*cases[message])
    assert code == 2
    assert not out
    said = [line for line in err.splitlines() if line.startswith("fslab: ")]
    assert len(said) == 1
    assert message in said[0]
    assert "Traceback" not in err
    assert not (tmp_path / "out").exists()


def test_a_mask_of_another_size_is_refused(run, tiny, dataset):
    masks = sorted((dataset / "SegmentationClass").glob("*.png"))
    datasets.write_mask(np.zeros((5, 7), np.uint8), masks[0])
    code, _, err = run(
        "evaluate", dataset, "--preset", tiny, "--cluster", "kmeans", "--metric", "oracle"
    )
    assert code == 2
    assert masks[0].name in err
    assert "5 x 7" in err


def test_the_installed_command_refuses_the_same_way(tmp_path):
    command = [sys.executable, "-m", "fslab", "layers", "nosuch"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("fslab: there is no preset")


def test_sizes_and_settings():
    assert [parse_size(text) for text in ("0", "2GB", "500 mb", "1.5k")] == [0, 2e9, 5e8, 1500]
    assert parse_settings(["cluster.k=8", "match.view=box", "extract.timesteps=[1, 2]"]) == {
        "cluster.k": 8,
        "match.view": "box",
        "extract.timesteps": [1, 2],
    }
    with pytest.raises(FslabError, match="--prune"):
        parse_size("-1")
