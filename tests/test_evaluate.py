"""Evaluation: the figure of the parts, resumed runs, nothing lost."""

import json

import numpy as np
import pytest
from conftest import write_dataset

from fslab import datasets
from fslab.cluster import cluster
from fslab.evaluate import evaluate, within
from fslab.evaluate.run import REPORT, RESULTS
from fslab.lab import Lab
from fslab.records import Clustering, FslabError, Recipe, Vocabulary
from fslab.score import METRICS, confusion, score_image, summarise

PLAIN = Recipe("plain", cluster=Clustering(k=3, normalise="l2", restarts=1))


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
    for metric in METRICS:
        assert report.rescored(metric) == summarise(metric, rows)


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
    assert report.score == summarise("oracle", rows)


def test_a_stopped_run_goes_on_and_gives_the_same(tiny, dataset, tmp_path, monkeypatch):
    whole = evaluate(Lab(tiny), dataset, PLAIN, "oracle", out=tmp_path / "whole", progress=False)
    lab, calls = Lab(tiny), []
    plain = lab.timed_segments

    def stops(picture, recipe):
        calls.append(picture.name)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return plain(picture, recipe)

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


def test_another_recipe_or_truth_is_not_resumed_from(tiny, dataset, tmp_path):
    out = tmp_path / "out"
    evaluate(Lab(tiny), dataset, PLAIN, "oracle", out=out, progress=False)
    evaluate(Lab(tiny), dataset, PLAIN.change({"cluster.k": 2}), "oracle", out=out, progress=False)
    assert len((out / RESULTS).read_text().splitlines()) == 8
    sample = dataset.samples[0]
    datasets.write_mask(np.zeros_like(sample.truth()), sample.truth_path)
    evaluate(Lab(tiny), dataset, PLAIN, "oracle", out=out, progress=False)
    assert len((out / RESULTS).read_text().splitlines()) == 9


def test_a_damaged_result_file_is_refused_by_name(tiny, dataset, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / RESULTS).write_text('{"other": 1}\n')
    with pytest.raises(FslabError, match=r"results\.jsonl: line 1 is no result"):
        evaluate(Lab(tiny), dataset, PLAIN, "oracle", out=out, progress=False)


def test_words_outside_the_vocabulary_count_as_background():
    labels = np.array([[0, 2, 3]], np.uint8)
    assert within(labels, Vocabulary(("background", "a", "b"))).tolist() == [[0, 2, 0]]


def test_pictures_without_truth_are_refused(tiny, dataset, tmp_path):
    folder = datasets.folder(tmp_path / "set" / "JPEGImages")
    with pytest.raises(FslabError, match="has no truth"):
        evaluate(Lab(tiny), folder, PLAIN, "oracle", progress=False)


def test_the_limit_takes_the_first(tiny, dataset):
    report = evaluate(Lab(tiny), dataset, PLAIN, "hungarian", limit=2, progress=False)
    assert [row.name for row in report.rows] == [sample.name for sample in dataset.samples[:2]]
