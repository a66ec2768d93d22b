"""Evaluation: the figure of the parts, resumed runs, nothing lost."""

import errno
import json
import os
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import noise_picture, write_dataset

from fslab import datasets
from fslab.cluster import cluster
from fslab.datasets import MissingFiles
from fslab.datasets.read import write_picture
from fslab.evaluate import ImageResult, draw, evaluate, plan, score_sample, within
from fslab.evaluate import log as log_module
from fslab.evaluate.log import RESULTS
from fslab.evaluate.run import REPORT
from fslab.lab import Lab
from fslab.records import Clustering, FslabError, Recipe, Vocabulary
from fslab.score import METRICS, confusion, score_image, summarise

PLAIN = Recipe("plain", cluster=Clustering.of(k=3, normalise="l2", restarts=1))


def descriptor():
    """A lab whose features need no network, where any will do."""
    return Lab("mini", "rgb")


@pytest.fixture
def dataset(tmp_path):
    return datasets.voc(write_dataset(tmp_path / "set", 4))


def test_the_figure_is_that_of_the_stages(tiny, dataset):
    lab = Lab(tiny)
    report = evaluate(lab, dataset, "fslab", progress=False)
    total = None
    for sample in dataset:
        result = lab.segment(sample.picture(), "fslab")
        counts = confusion(sample.truth(), result.labels.labels, dataset.vocabulary.names)
        total = counts if total is None else total + counts
    assert report.score.miou == total.miou
    assert report.score.images == 4
    assert set(report.seconds) == {"caption", "extract", "cluster", "match", "refine"}
    rows = [row.score for row in report.rows]
    assert set(report.scores) == set(METRICS) - {"coco-object"}
    for metric, score in report.scores.items():
        assert score == summarise(metric, rows, draws=1000)
        assert score.interval.low <= score.figure <= score.interval.high


def test_class_agnostic_metrics_need_no_text_side(tiny, dataset):
    lab = Lab(tiny)
    report = evaluate(lab, dataset, PLAIN, "oracle", progress=False)
    assert not {"captioner", "matcher"} & set(vars(lab))
    recipe = lab.recipe(PLAIN)
    rows = []
    for sample in dataset:
        features = lab.extract(sample.picture())
        segments = cluster(features, recipe.cluster)
        rows.append(score_image(sample.truth(), dataset.vocabulary.names, segments=segments))
    assert report.score == summarise("oracle", rows, draws=1000)


def test_a_stopped_run_goes_on_and_gives_the_same(dataset, tmp_path, monkeypatch):
    whole = evaluate(descriptor(), dataset, PLAIN, "oracle", out=tmp_path / "whole", progress=False)
    lab, calls = descriptor(), []
    plain = lab.timed_segments

    def stops(picture, *rest):
        calls.append(picture.name)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return plain(picture, *rest)

    monkeypatch.setattr(lab, "timed_segments", stops)
    with pytest.raises(KeyboardInterrupt):
        evaluate(lab, dataset, PLAIN, "oracle", out=tmp_path / "part", progress=False)
    log = tmp_path / "part" / RESULTS
    assert len(log.read_text().splitlines()) == 2
    assert not (tmp_path / "part" / REPORT).exists()
    log.write_bytes(log.read_bytes() + b'{"key": "cut sh')
    again = evaluate(lab, dataset, PLAIN, "oracle", out=tmp_path / "part", progress=False)
    assert calls[3:] == [*calls[2:3], dataset.samples[3].picture().name]
    assert again.score == whole.score
    assert json.loads((tmp_path / "part" / REPORT).read_text())["miou"] == whole.score.miou


def test_another_recipe_or_truth_is_not_resumed_from(dataset, tmp_path):
    out = tmp_path / "out"
    evaluate(descriptor(), dataset, PLAIN, "oracle", out=out, progress=False)
    evaluate(
        descriptor(), dataset, PLAIN.change({"cluster.k": 2}), "oracle", out=out, progress=False
    )
    assert len((out / RESULTS).read_text().splitlines()) == 8
    sample = dataset.samples[0]
    datasets.write_mask(np.zeros_like(sample.truth()), sample.truth_path)
    evaluate(descriptor(), dataset, PLAIN, "oracle", out=out, progress=False)
    assert len((out / RESULTS).read_text().splitlines()) == 9


def test_a_damaged_result_file_is_refused_by_name(dataset, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / RESULTS).write_text('{"other": 1}\n')
    with pytest.raises(FslabError, match=r"results\.jsonl: no line is a result"):
        evaluate(descriptor(), dataset, PLAIN, "oracle", out=out, progress=False)


def test_words_outside_the_vocabulary_count_as_background():
    labels = np.array([[0, 2, 3]], np.uint8)
    assert within(labels, Vocabulary(("background", "a", "b"))).tolist() == [[0, 2, 0]]


def test_pictures_without_truth_are_refused(dataset, tmp_path):
    folder = datasets.folder(tmp_path / "set" / "JPEGImages")
    with pytest.raises(FslabError, match="has no truth"):
        evaluate(descriptor(), folder, PLAIN, "oracle", progress=False)


def test_the_limit_takes_the_first(dataset):
    report = evaluate(descriptor(), dataset, PLAIN, "hungarian", limit=2, progress=False)
    assert [row.name for row in report.rows] == [sample.name for sample in dataset.samples[:2]]


def test_results_do_not_depend_on_the_order_they_came_in(dataset, tmp_path):
    backwards = replace(dataset, samples=dataset.samples[::-1])
    for name, data in (("forth", dataset), ("back", backwards)):
        evaluate(descriptor(), data, PLAIN, "oracle", out=tmp_path / name, progress=False)
    found = [(tmp_path / name / RESULTS).read_bytes() for name in ("forth", "back")]
    assert found[0] == found[1]
    names = [json.loads(line)["name"] for line in found[0].splitlines()]
    assert names == sorted(names)
    assert b"seconds" not in found[0]


def test_a_result_is_the_same_from_its_line(tiny, dataset):
    lab = Lab(tiny)
    job = plan(lab, "fslab", dataset.vocabulary)
    result = score_sample(lab, pickle.loads(pickle.dumps(job)), dataset.samples[0])
    line = json.loads(json.dumps(result.to_dict()))
    again = ImageResult.from_dict(line, dataset.vocabulary.names, result.seconds)
    assert again.to_dict() == result.to_dict()
    assert (again.key, again.caption, again.seconds) == (result.key, result.caption, result.seconds)
    figures = [summarise("voc21", [each.score]).miou for each in (result, again)]
    assert figures[0] == figures[1]


def test_keys_tell_apart_all_that_changes_a_result(tiny, vision_folders, dataset):
    lab, words = Lab(tiny), dataset.vocabulary
    jobs = {
        "whole": plan(lab, PLAIN, words),
        "segments": plan(lab, PLAIN, words, ["oracle"]),
        "k": plan(lab, PLAIN.change({"cluster.k": 2}), words, ["oracle"]),
        "weights": plan(Lab(tiny, vision_folders["vit"]), PLAIN, words, ["oracle"]),
        "words": plan(lab, PLAIN, replace(words, synonyms={})),
        "naming": plan(lab, PLAIN.change({"match.view": "box"}), words),
    }
    assert len({job.base for job in jobs.values()}) == len(jobs)
    renamed = plan(lab, PLAIN.change(name="other"), words)
    assert renamed.base == jobs["whole"].base
    naming = plan(lab, PLAIN.change({"match.view": "box"}), words, ["oracle"])
    assert naming.base == jobs["segments"].base
    picture, truth = dataset.samples[0].picture(), dataset.samples[0].truth()
    other = truth.copy()
    other[0, 0] = 255
    job = jobs["whole"]
    keys = {
        job.key("a", picture, truth),
        job.key("b", picture, truth),
        job.key("a", picture, other),
    }
    assert len(keys) == 3


def test_a_picture_deleted_midway_is_reported_and_the_rest_go_on(dataset, tmp_path, monkeypatch):
    lab, plain, out = descriptor(), Lab.timed_segments, tmp_path / "out"

    def deletes(self, picture, *rest):
        dataset.samples[2].path.unlink(missing_ok=True)
        return plain(self, picture, *rest)

    monkeypatch.setattr(Lab, "timed_segments", deletes)
    report = evaluate(lab, dataset, PLAIN, "oracle", out=out, progress=False)
    assert [row.name for row in report.rows] == ["noise_0", "noise_1", "noise_3"]
    assert report.score.images == 3
    assert list(report.refused) == ["noise_2"]
    assert "noise_2.png' does not exist" in report.refused["noise_2"]
    assert report.left_out.startswith("1 of 4 pictures were left out of every figure; ")
    assert json.loads((out / REPORT).read_text())["refused"] == dict(report.refused)
    assert len((out / RESULTS).read_text().splitlines()) == 3


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("Unable to allocate 9 TiB"),
        RuntimeError("CUDA out of memory. Tried to allocate"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"),
    ],
)
def test_memory_that_runs_out_in_one_picture_is_reported(dataset, monkeypatch, error):
    lab, plain = descriptor(), Lab.timed_segments

    def fails(self, picture, *rest):
        if picture.name == "noise_0":
            raise error
        return plain(self, picture, *rest)

    monkeypatch.setattr(Lab, "timed_segments", fails)
    report = evaluate(lab, dataset, PLAIN, "oracle", progress=False)
    assert report.score.images == 3
    assert report.refused["noise_0"].startswith("noise_0: memory ran out (")


def test_an_error_in_the_code_is_not_swallowed(dataset, monkeypatch):
    def fails(self, *_):
        raise RuntimeError("expected scalar type Float but found Half")

    monkeypatch.setattr(Lab, "timed_segments", fails)
    with pytest.raises(RuntimeError, match="scalar type"):
        evaluate(descriptor(), dataset, PLAIN, "oracle", progress=False)


def test_settings_that_fit_no_picture_stop_the_run(dataset, tmp_path, monkeypatch):
    calls, plain = [], Lab.timed_segments
    monkeypatch.setattr(Lab, "timed_segments", lambda *given: calls.append(given) or plain(*given))
    recipe = PLAIN.change({"cluster.k": 5000})
    with pytest.raises(FslabError, match=r"K is 5000.*; none of 3 pictures"):
        evaluate(descriptor(), dataset, recipe, "oracle", out=tmp_path / "out", progress=False)
    assert len(calls) == 3
    assert not (tmp_path / "out").exists()


def test_a_full_disk_is_one_sentence_and_keeps_what_was_done(dataset, tmp_path, monkeypatch):
    out, plain, synced = tmp_path / "out", os.fsync, []

    def full(handle):
        synced.append(handle)
        if len(synced) == 4:  # two files a picture: the second result
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return plain(handle)

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(FslabError, match=r"out cannot be written \(No space left.*is kept"):
            evaluate(descriptor(), dataset, PLAIN, "oracle", out=out, progress=False)
    assert len((out / RESULTS).read_bytes().splitlines()) == 1
    assert (out / RESULTS).read_bytes().endswith(b"}\n")
    report = evaluate(descriptor(), dataset, PLAIN, "oracle", out=out, progress=False)
    whole = evaluate(descriptor(), dataset, PLAIN, "oracle", out=tmp_path / "whole", progress=False)
    assert report.score == whole.score
    for name in (RESULTS, REPORT):
        assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the device that is always full")
def test_a_device_that_is_full_from_the_start(dataset, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / RESULTS).symlink_to("/dev/full")
    with pytest.raises(FslabError, match="No space left"):
        evaluate(descriptor(), dataset, PLAIN, "oracle", out=out, progress=False)


def test_a_report_that_finds_no_room_leaves_the_results(dataset, tmp_path, monkeypatch):
    plain = log_module.write_aside

    def full(path, data):
        if Path(path).name == REPORT:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        plain(path, data)

    monkeypatch.setattr(log_module, "write_aside", full)
    with pytest.raises(FslabError, match="No space left"):
        evaluate(descriptor(), dataset, PLAIN, "oracle", out=tmp_path / "out", progress=False)
    assert len((tmp_path / "out" / RESULTS).read_bytes().splitlines()) == 4


def test_listed_files_that_are_missing_are_all_named(dataset, tmp_path):
    root = tmp_path / "set"
    (root / "JPEGImages" / "noise_1.png").unlink()
    (root / "SegmentationClass" / "noise_1.png").unlink()
    (root / "SegmentationClass" / "noise_3.png").unlink()
    with pytest.raises(MissingFiles, match="lacks 3 files") as refused:
        datasets.voc(root)
    assert refused.value.names == (
        "JPEGImages/noise_1.jpg",
        "SegmentationClass/noise_1.png",
        "SegmentationClass/noise_3.png",
    )
    found = datasets.voc(root, skip_missing=True)
    assert [sample.name for sample in found] == ["noise_0", "noise_2"]
    report = evaluate(descriptor(), found, PLAIN, "oracle", progress=False)
    assert report.refused == {
        "noise_1": "JPEGImages/noise_1.jpg is not there",
        "noise_3": "SegmentationClass/noise_3.png is not there",
    }


def test_pictures_without_truth_are_drawn(tiny, dataset, tmp_path):
    folder = datasets.folder(tmp_path / "set" / "JPEGImages")
    (tmp_path / "set" / "JPEGImages" / "noise_2.png").write_bytes(b"no picture")
    lab = Lab(tiny)
    drawn = draw(lab, folder, "fslab", tmp_path / "out", progress=False)
    assert drawn.written == ("noise_0", "noise_1", "noise_3")
    assert list(drawn.refused) == ["noise_2"]
    for name in drawn.written:
        picture = datasets.read(tmp_path / "set" / "JPEGImages" / f"{name}.png")
        labels = datasets.read_mask(tmp_path / "out" / f"{name}.png")
        assert (labels == lab.segment(picture, "fslab").labels.labels).all()
        assert (tmp_path / "out" / f"{name}.overlay.png").exists()
    with pytest.raises(FslabError, match="holds the pictures themselves"):
        draw(lab, folder, "fslab", tmp_path / "set" / "JPEGImages", progress=False)


WRITTEN = {
    "CON": "%43ON", "nul.v2": "%6Eul.v2", "a:b": "a%3Ab", "a<b>|?*\"\\": "a%3Cb%3E%7C%3F%2A%22%5C",
    "dot. ": "dot%2E%20", "tab\t": "tab%09", "com\u00b9": "%63om\u00b9", "console": "console",
    "caf\u00e9 50%": "caf\u00e9 50%",
}  # fmt: skip


def test_names_that_windows_takes_nowhere_are_written_by_one_rule_everywhere(tmp_path):
    for name in WRITTEN:
        write_picture(noise_picture(8, 8).pixels, tmp_path / "set" / f"{name}.png")
    folder = datasets.folder(tmp_path / "set")
    drawn = draw(descriptor(), folder, PLAIN, tmp_path / "out", named=False, progress=False)
    assert set(drawn.written) == set(WRITTEN)
    made = {path.name for path in (tmp_path / "out").iterdir()}
    assert made == {f"{name}{end}" for name in WRITTEN.values() for end in (".png", ".overlay.png")}


@pytest.mark.parametrize(
    ("one", "other"), [("A", "a"), ("a:b", "A%3ab"), ("caf\u00e9", "Cafe\u0301")]
)
def test_pictures_whose_files_would_be_one_are_refused(tmp_path, run, one, other):
    for name in (one, other):
        write_picture(noise_picture(8, 8).pixels, tmp_path / "set" / f"{name}.png")
    folder = datasets.folder(tmp_path / "set")
    with pytest.raises(FslabError, match="would both become"):
        draw(descriptor(), folder, PLAIN, tmp_path / "out", named=False, progress=False)
    code, _, err = run("segment", tmp_path / "set", "--out", tmp_path / "out")
    assert code == 2
    assert "would both become" in err.splitlines()[-1]
    assert not (tmp_path / "out").exists()


def test_segments_without_names_are_drawn_by_number(dataset, tmp_path):
    folder = datasets.folder(tmp_path / "set" / "JPEGImages").limit(1)
    lab = descriptor()
    draw(lab, folder, PLAIN, tmp_path / "out", named=False, progress=False)
    labels = datasets.read_mask(tmp_path / "out" / "noise_0.png")
    assert (labels == lab.segments(folder.samples[0].picture(), PLAIN).labels).all()
