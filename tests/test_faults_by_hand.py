"""Faults that were put into the code by hand, and that no test had noticed."""

import json
import shutil
import threading

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from fslab.cluster import best_by_silhouette, merge_maps, position
from fslab.lab import Lab
from fslab.records import Clustering, Extraction, FslabError, Segments, Vocabulary
from fslab.score import hungarian
from fslab.widgets.results import iou_of
from fslab.widgets.worker import Worker

NAMES = ("background", "cat", "dog")


def test_draws_of_noise_are_averaged_and_not_summed(tiny, picture):
    lab = Lab(tiny)
    one, four = (
        lab.extract(picture, layers=["mid_block"], timesteps=300, draws=draws)["mid_block"]
        for draws in (1, 4)
    )
    assert np.abs(four).mean() < 1.5 * np.abs(one).mean()


@pytest.mark.filterwarnings("ignore:this CPU has no fp16")
def test_sdxls_vae_computes_in_fp32_where_all_else_is_fp16(diffusion_folders, picture, tmp_path):
    def latent(name, precision, **said):
        folder = shutil.copytree(diffusion_folders["sdxl"], tmp_path / name)
        path = folder / "vae" / "config.json"
        config = {**json.loads(path.read_text()), "force_upcast": None, **said}
        config = {key: value for key, value in config.items() if value is not None}
        path.write_text(json.dumps(config))
        lab = Lab(folder, store=tmp_path / f"store of {name}", precision=precision)
        return lab.backbone.latent(picture, (64, 64), Extraction(precision=precision))

    exact = latent("exact", "fp32")
    assert latent("unsaid", "fp16").equal(exact)
    assert latent("said", "fp16", force_upcast=True).equal(exact)
    assert not latent("not so", "fp16", force_upcast=False).equal(exact)


@pytest.mark.parametrize(
    ("truth", "ids"),
    [([1, 1, 1, 2, 1], [0, 0, 0, 0, 1]), ([1, 1, 2, 255, 255], [0, 0, 0, 1, 1])],
    ids=["its class is taken", "it lies in void"],
)
def test_a_segment_is_matched_to_no_class_that_it_never_touches(truth, ids):
    segments = Segments(np.array([ids], np.int32))
    found = hungarian(segments, np.array([truth], np.uint8), NAMES).labels
    assert found.tolist() == [[1 if each == 0 else 0 for each in ids]]


def test_among_equal_silhouettes_the_smallest_k_wins(monkeypatch):
    from fslab.cluster import cells as module

    cells = np.random.default_rng(0).normal(size=(20, 3))
    monkeypatch.setattr(module, "silhouette_score", lambda cells, labels: 0.5)
    labels = best_by_silhouette(cells, Clustering.of(k=5, k_is="silhouette"))
    assert len(np.unique(labels)) == 2


@pytest.mark.parametrize("size", [(4, 16), (16, 4), (1, 8)])
def test_a_step_down_is_as_long_as_a_step_aside_in_oblong_pictures(size):
    rows, columns = position(size)
    steps = [np.diff(rows, axis=0), np.diff(columns, axis=1)]
    lengths = {round(float(each), 5) for step in steps for each in step.ravel()}
    assert len(lengths) == 1
    assert np.isclose(rows.var() + columns.var(), 1)


def test_a_map_that_was_taken_begins_no_segment_of_its_own():
    rows, columns = np.mgrid[:4, :4]
    cells = np.stack([rows.ravel(), columns.ravel()], 1)
    sides = (columns.ravel() // 2)[:, None] == (columns.ravel() // 2)
    maps = np.exp(-cdist(cells, cells)) * sides + 1e-6
    maps = (maps / maps.sum(1, keepdims=True)).astype(np.float32).reshape(4, 4, 4, 4)
    assert len(merge_maps(maps, 4, 2, 3.0)) == 2


def test_a_job_that_was_overtaken_knows_and_one_that_waits_never_runs():
    worker, begun, go_on, said = Worker(), threading.Event(), threading.Event(), []

    def first(newest):
        begun.set()
        go_on.wait(20)
        said.append(("first", newest()))

    worker.submit(first)
    assert begun.wait(20)
    worker.submit(lambda newest: said.append(("second", newest())))
    worker.submit(lambda newest: said.append(("third", newest())))
    go_on.set()
    worker.wait(20)
    assert said == [("first", False), ("third", True)]


def test_a_job_that_waits_when_all_are_dropped_never_runs():
    worker, begun, go_on, said = Worker(), threading.Event(), threading.Event(), []
    worker.submit(lambda newest: (begun.set(), go_on.wait(20)))
    assert begun.wait(20)
    worker.submit(lambda newest: said.append("it ran"))
    worker.drop()
    go_on.set()
    worker.wait(20)
    assert said == []


def test_a_pictures_figure_is_the_mean_over_the_classes_of_its_truth():
    from fslab.evaluate import ImageResult
    from fslab.score import score_image

    truth = np.array([[0, 0, 1, 1]], np.uint8)
    guess = np.array([[0, 2, 1, 2]], np.uint8)  # a dog where there is none
    row = ImageResult("a", score=score_image(truth, NAMES, guess, contours=False))
    assert iou_of(row, NAMES, None) == pytest.approx(0.5)
    assert iou_of(row, NAMES, "cat") == pytest.approx(0.5)
    assert iou_of(row, NAMES, "dog") is None


def test_a_synonym_that_is_another_class_is_refused():
    with pytest.raises(FslabError, match="'crane' is said to name 'bird' and 'crane'"):
        Vocabulary(("background", "bird", "crane"), synonyms={"bird": ("crane",)})
