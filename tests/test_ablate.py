"""Ablation files: read strictly, shared stages done once, resumed, a table that says it all."""

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import write_dataset

from fslab import datasets
from fslab.backbones import pick_layers
from fslab.backbones.baselines import Rgb
from fslab.backbones.diffusion import Diffusion
from fslab.datasets import VOC
from fslab.evaluate import ablate, evaluate, plan, read_experiment, read_table
from fslab.evaluate.ablation import FIGURE, TABLE
from fslab.evaluate.log import RESULTS
from fslab.lab import Lab
from fslab.match import Matcher
from fslab.records import FslabError
from fslab.score import paired_bootstrap
from fslab.store import Store

EXPERIMENTS = sorted((Path(__file__).parents[1] / "notebooks" / "experiments").glob("*.toml"))
K = """
title = "How many?"
metrics = ["oracle", "mbo"]
[base]
cluster = "kmeans"
backbone = "rgb"
[base.set]
"cluster.restarts" = 1
[grid]
"cluster.k" = [2, 3, 4]
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("set"), 3)


@pytest.fixture
def dataset(root):
    return datasets.voc(root)


def written(folder, text):
    path = folder / "some.toml"
    path.write_text(text)
    return path


def unwritable(monkeypatch):
    """A store that keeps nothing, so that what is shared is shared in memory."""
    monkeypatch.setattr(Store, "put", lambda *_: None)


def counted(monkeypatch, kind, name):
    calls, plain = [], getattr(kind, name)

    def counting(self, *given, **named):
        calls.append(given)
        return plain(self, *given, **named)

    monkeypatch.setattr(kind, name, counting)
    return calls


def test_features_are_extracted_once_for_many_k(dataset, tmp_path, monkeypatch):
    unwritable(monkeypatch)
    calls = counted(monkeypatch, Rgb, "run")
    found = ablate(written(tmp_path, K), dataset, progress=False)
    assert len(found.rows) == 3
    assert len(calls) == len(dataset)


def test_layers_of_one_timestep_share_a_pass(tiny, dataset, tmp_path, monkeypatch):
    text = """
title = "Where and when?"
metrics = ["oracle"]
[base]
cluster = "kmeans"
[grid]
"extract.layers" = [["down_blocks.1"], ["mid_block"], ["up_blocks.1"]]
"extract.timesteps" = [[0], [100]]
"""
    calls = counted(monkeypatch, Diffusion, "_pass")
    found = ablate(written(tmp_path, text), dataset, limit=2, preset=tiny, progress=False)
    assert len(calls) == 2 * 2
    row = found.rows[3]
    assert row.axes == {"extract.layers": "mid_block", "extract.timesteps": "100"}
    alone = evaluate(
        Lab(tiny, store=tmp_path / "other"), dataset, row.recipe, "oracle", 2, progress=False
    )
    assert row.scores["oracle"] == alone.score


TRUE = """
title = "What if the classes were known?"
metrics = ["voc21"]
[base]
method = "freeseg-diff"
[[row]]
name = "found"
[[row]]
name = "given"
candidates = "true"
"""


def test_the_true_classes_can_be_given(tiny, dataset, tmp_path):
    """The candidates are those of each picture's truth, and no other result is taken for them."""
    found = ablate(written(tmp_path, TRUE), dataset, tmp_path / "out", preset=tiny, progress=False)
    lines = (tmp_path / "out" / RESULTS).read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    given = [row for row in rows if not row.get("caption") and "candidates" in row]
    there = {
        sample.name: [VOC.names[label] for label in np.unique(sample.truth()) if 0 < label < 255]
        for sample in dataset
    }
    assert {row["name"]: row["candidates"] for row in given} == there
    assert len({row["key"] for row in rows}) == 2 * len(dataset)
    again = ablate(written(tmp_path, TRUE), dataset, tmp_path / "out", preset=tiny, progress=False)
    assert again.table() == found.table()


def test_true_classes_are_given_to_one_picture_at_a_time(tiny, tmp_path):
    with pytest.raises(FslabError, match="a picture at a time; batch is 4"):
        plan(Lab(tiny), "freeseg-diff", VOC, batch=4, given=True)
    odd = written(tmp_path, TRUE.replace('"true"', '"caption"'))
    with pytest.raises(FslabError, match=r"row 2: candidates is 'caption'.*'found'.*'true'"):
        read_experiment(odd)


def test_views_captions_and_names_are_shared(tiny, dataset, tmp_path, monkeypatch):
    text = """
title = "Which words?"
metrics = ["voc21"]
[base]
method = "freeseg-diff"
backbone = "rgb"
[[row]]
name = "bare"
set = { "match.synonyms" = false, "caption.words" = "all" }
[[row]]
name = "synonyms"
set = { "match.synonyms" = true, "caption.words" = "all" }
"""
    unwritable(monkeypatch)
    calls = counted(monkeypatch, Matcher, "encode_images")
    found = ablate(written(tmp_path, text), dataset, limit=2, preset=tiny, progress=False)
    assert len(calls) == 2
    monkeypatch.undo()
    for row in found.rows:
        alone = evaluate(Lab(tiny, "rgb"), dataset, row.recipe, limit=2, progress=False)
        assert row.scores["voc21"] == alone.score


def test_figures_and_gains_are_those_of_the_rows(dataset, tmp_path):
    found = ablate(written(tmp_path, K), dataset, progress=False)
    lab = Lab("mini", "rgb")
    reports = [evaluate(lab, dataset, row.recipe, "oracle", progress=False) for row in found.rows]
    for row, report in zip(found.rows, reports, strict=True):
        assert row.scores["oracle"] == report.score
        assert row.scores["mbo"] == report.scores["mbo"]
        assert (row.images, row.backbone) == (3, "rgb")
    assert [row.axes["cluster.k"] for row in found.rows] == ["2", "3", "4"]
    assert found.rows[0].gains == {}
    each = [[result.score for result in report.rows] for report in reports]
    assert found.rows[2].gains["mbo"] == paired_bootstrap("mbo", each[0], each[2], draws=1000)


def test_the_table_is_read_as_it_was_written(dataset, tmp_path):
    out = tmp_path / "out"
    found = ablate(written(tmp_path, K), dataset, out, progress=False)
    table = read_table(out / TABLE)
    assert table == found.table()
    assert list(table[1])[:6] == ["name", "cluster.k", "backbone", "dataset", "split", "images"]
    assert table[0]["mbo_gain"] is None
    assert table[1]["cluster.k"] == "3"
    gain = table[2]["oracle"] - table[0]["oracle"]
    assert table[2]["oracle_gain"] == pytest.approx(gain, abs=2e-4)
    assert table[2]["oracle_low"] <= table[2]["oracle"] <= table[2]["oracle_high"]
    page = (out / FIGURE).read_text()
    assert page.count("Plotly.newPlot(") == 2
    assert "class-agnostic: each segment takes its majority class" in page
    experiment = read_experiment(tmp_path / "some.toml")
    assert ablate(experiment, dataset, out, progress=False) == found
    with pytest.raises(FslabError, match="not the table of an ablation"):
        read_table(written(tmp_path, "a,b\n1,2\n"))


def test_a_stopped_ablation_goes_on(dataset, tmp_path, monkeypatch):
    file, out = written(tmp_path, K), tmp_path / "out"
    whole = ablate(file, dataset, tmp_path / "whole", progress=False)
    plain, calls = Lab.timed_segments, []

    def stops(self, *given):
        calls.append(given)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return plain(self, *given)

    monkeypatch.setattr(Lab, "timed_segments", stops)
    with pytest.raises(KeyboardInterrupt):
        ablate(file, dataset, out, progress=False)
    assert len((out / RESULTS).read_text().splitlines()) == 4
    assert not (out / TABLE).exists()
    again = ablate(file, dataset, out, progress=False)
    assert len(calls) == 9 + 1
    assert again.table() == whole.table()
    for name in (RESULTS, TABLE, FIGURE):
        assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_picture_that_one_row_cannot_do_is_left_out_of_its_gain(tmp_path, monkeypatch):
    data = datasets.voc(write_dataset(tmp_path / "set", 4))
    plain = Lab.timed_segments

    def fails(self, picture, recipe, *rest):
        if recipe.cluster.k == 4 and picture.name == "noise_1":
            raise MemoryError
        return plain(self, picture, recipe, *rest)

    monkeypatch.setattr(Lab, "timed_segments", fails)
    found = ablate(written(tmp_path, K), data, progress=False)
    assert [row.images for row in found.rows] == [4, 4, 3]
    assert list(found.rows[2].refused) == ["noise_1"]
    assert found.rows[2].gains["oracle"] is not None


def test_names_are_shown_as_text(dataset, tmp_path):
    evil = "<script>alert(1)</script>"
    text = f"""
title = "{evil}"
metrics = ["oracle"]
[base]
cluster = "kmeans"
backbone = "rgb"
[[row]]
name = "{evil}"
[[row]]
name = "k, 3"
set = {{ "cluster.k" = 3 }}
"""
    found = ablate(written(tmp_path, text), dataset, tmp_path / "out", progress=False)
    page = (tmp_path / "out" / FIGURE).read_text()
    assert evil not in page
    assert "&lt;script&gt;alert(1)" in page
    assert read_table(tmp_path / "out" / TABLE)[0]["name"] == evil == found.rows[0].name


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('title = "How many?"', "", "title is None; it must be a text"),
        ('metrics = ["oracle", "mbo"]', 'metrics = "oracle"', "it must be a list of names"),
        ('"mbo"', '"iou"', "no metric 'iou'"),
        ("[grid]", "[table]", "unknown key 'table'; there is title, metrics"),
        ("[grid]", 'colour = "red"\n[grid]', r"row|has an unknown key|it is|no setting 'colour'"),
        ('cluster = "kmeans"', "", "method is None; it must be a text"),
        ('cluster = "kmeans"', 'cluster = "nosuch"', "no clustering 'nosuch'"),
        ('cluster = "kmeans"', 'cluster = "kmeans"\nmethod = "fslab"', "exclude each other"),
        ('backbone = "rgb"', 'backbone = ""', "backbone is ''"),
        ("[2, 3, 4]", "3", "'cluster.k' is 3; it must be a list of values"),
        ("[2, 3, 4]", "[2, 0]", r"\[grid\] at k 0: clustering.k is 0"),
        ("[2, 3, 4]", "[2, 2]", "two rows are called 'k 2'"),
        ('"cluster.k"', "cluster.k", "a list of values, in quotes"),
        ('"cluster.k"', '"cluster.q"', "by 'kmeans' has no setting 'q'; it has grid"),
        ("[grid]", '[[row]]\nname = "a"\n[grid]', "either"),
        ("[grid]\n", '[[row]]\nname = "a"\nsets = 1\n', "row 1: has an unknown key"),
        ('[base.set]\n"cluster.restarts"', "[base.set]\ncluster.k", 'write "cluster.k", in quotes'),
        ("title", "title = =", "it is not valid TOML"),
    ],
)  # fmt: skip
def test_what_is_wrong_in_a_file_is_said(tmp_path, old, new, said):
    assert old in K
    path = written(tmp_path, K.replace(old, new, 1))
    with pytest.raises(FslabError, match=said) as refused:
        read_experiment(path)
    assert str(refused.value).startswith(f"{path}: ")


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FslabError, match=r"none\.toml: it cannot be read"):
        read_experiment(tmp_path / "none.toml")


def test_what_a_backbone_refuses_is_said_before_anything_runs(dataset, tmp_path):
    text = K.replace("[base.set]\n", '[base.set]\n"extract.timesteps" = [5]\n')
    text = text.replace('backbone = "rgb"', 'backbone = "nosuch"')
    with pytest.raises(FslabError, match="nosuch"):
        ablate(written(tmp_path, text), dataset, tmp_path / "out", progress=False)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("path", EXPERIMENTS, ids=[path.stem for path in EXPERIMENTS])
def test_the_committed_experiments_fit_the_bundled_models(path):
    """Every layer is there, every row differs from the others, and each file says what it asks."""
    assert path.read_text().startswith("# ")
    assert "?" in path.read_text().partition("title")[0]
    experiment = read_experiment(path)
    seen = set()
    for variant in experiment.variants:
        lab = Lab("mini", variant.backbone)
        recipe = lab.recipe(variant.recipe)
        pick_layers(recipe.extract.layers, lab.layers())
        seen.add((variant.backbone, variant.given, recipe.digest))
    assert len(seen) == len(experiment.variants) > 1
    assert experiment.split in {"search", "val"}
    assert np.unique(experiment.metrics).size == len(experiment.metrics)
