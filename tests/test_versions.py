"""Which versions made a value: written into each entry and each row, and said where they differ."""

import json
import warnings
from pathlib import Path

import pytest
from conftest import write_dataset

import fslab.versions as home
from fslab.datasets import load
from fslab.evaluate import evaluate, report_page
from fslab.lab import Lab
from fslab.records import FslabError
from fslab.store import Store, read_entry
from fslab.versions import merged, noting, versions


@pytest.fixture
def dated(monkeypatch):
    """Say that the libraries here are others, until called again."""
    plain = home._version

    def date(number):
        monkeypatch.setattr(
            home, "_version", lambda name: number if name == "torch" else plain(name)
        )
        versions.cache_clear()

    yield date
    monkeypatch.undo()
    versions.cache_clear()


@pytest.fixture
def dataset(tmp_path):
    return load(write_dataset(tmp_path / "voc", 3), "val")


def torch_of(made):
    return made["torch"]


def test_an_entry_says_what_made_it(tmp_path, dated):
    store, key = Store(tmp_path), "a" * 32
    dated("1.0")
    store.put(key, {"a": torch_array()})
    dated("2.0")
    entry = store.entry(key)
    assert entry.versions["torch"] == "1.0"
    assert {"Python", "fslab", "numpy", "scikit-learn"} <= set(entry.versions)
    data = Path(store.path(key)).read_bytes()
    other = data.replace(b'\\"torch\\": \\"1.0\\"', b'\\"torch\\": \\"3.0\\"')
    assert other != data
    with pytest.raises(Exception, match="checksum"):
        read_entry(other, key)


def torch_array():
    import numpy as np

    return np.arange(3)


def test_what_is_made_of_older_entries_says_so(tmp_path, dated):
    store = Store(tmp_path)
    dated("1.0")
    store.put("a" * 32, {"a": torch_array()})
    dated("2.0")
    with noting() as outer:
        with noting() as inner:
            store.get("a" * 32)
            store.put("b" * 32, {"a": torch_array()})
        assert inner.versions["torch"] == "1.0, 2.0"
    assert outer.versions["torch"] == "1.0, 2.0"
    assert store.entry("b" * 32).versions["torch"] == "1.0, 2.0"
    with noting() as fresh:
        store.put("c" * 32, {"a": torch_array()})
    assert fresh.versions["torch"] == store.entry("c" * 32).versions["torch"] == "2.0"


def test_versions_that_are_merged_stand_once():
    assert merged({"a": "1, 2"}, {"a": "2", "b": "3"}) == {"a": "1, 2", "b": "3"}


def test_a_result_names_the_versions_of_what_the_store_gave(tiny, picture, dated):
    dated("1.0")
    Lab(tiny).extract(picture, layers=["mid_block"], timesteps=5)
    dated("2.0")
    recipe = {"extract.layers": ["mid_block"], "extract.timesteps": [5], "cluster.k": 2}
    recipe = Lab(tiny).recipe("freeseg-diff").change(recipe)
    lab = Lab(tiny)
    for versions_of in (lab.segment(picture, recipe, candidates=["dog"]).versions,
                        next(lab.segment_many([picture], recipe, candidates=["dog"])).versions):  # fmt: skip
        assert versions_of["torch"] == "1.0, 2.0"
        assert versions_of["numpy"] == versions()["numpy"]


def test_texts_that_are_at_hand_still_say_what_made_them(tiny, picture, dated):
    dated("1.0")
    Lab(tiny)._embed(["dog"], "clip")
    dated("2.0")
    lab = Lab(tiny)
    for _ in range(2):
        with noting() as noted:
            lab._embed(["dog"], "clip")
        assert noted.versions["torch"] == "1.0, 2.0"


def test_rows_of_other_versions_are_kept_and_said_to_be_so(dataset, tmp_path, dated):
    lab, out = Lab("mini", "rgb"), tmp_path / "out"
    dated("1.0")
    evaluate(lab, dataset.limit(2), "freeseg-diff", metric="oracle", out=out, progress=False)
    dated("2.0")
    lab = Lab("mini", "rgb", store=tmp_path / "empty")
    with pytest.warns(RuntimeWarning, match=r"2 of 2 results .*torch 1\.0 \(here 2\.0\).*kept"):
        report = evaluate(lab, dataset, "freeseg-diff", metric="oracle", out=out, progress=False)
    assert report.versions["torch"] == {"1.0": 2, "2.0": 1}
    assert report.versions["numpy"] == {versions()["numpy"]: 3}
    assert "torch 1.0 (2), 2.0 (1)" in report.mixed
    assert json.loads((out / "report.json").read_text())["versions"]["torch"] == {
        "1.0": 2,
        "2.0": 1,
    }
    page = report_page(report, lab, dataset, pictures=0)
    assert "torch 1.0 (2), 2.0 (1)" in page
    assert "<td>1.0</td>" in page
    rows = map(json.loads, (out / "results.jsonl").read_text().splitlines())
    assert [row["versions"]["torch"] for row in rows] == ["1.0", "1.0", "2.0"]


@pytest.mark.parametrize("batch", [1, 2])
def test_rows_with_names_say_what_made_them(tiny, dataset, batch):
    report = evaluate(
        Lab(tiny), dataset.limit(2), "freeseg-diff", progress=False, batch=batch, processes=0
    )
    assert report.versions["torch"] == {versions()["torch"]: 2}


def test_rows_of_the_versions_here_are_no_news(dataset, tmp_path):
    lab, out = Lab("mini", "rgb"), tmp_path / "out"
    for _ in range(2):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            report = evaluate(
                lab, dataset, "freeseg-diff", metric="oracle", out=out, progress=False
            )
    assert report.mixed == ""


def test_results_that_do_not_say_what_made_them_are_refused(dataset, tmp_path):
    from fslab.evaluate.log import _encoded

    lab, out = Lab("mini", "rgb"), tmp_path / "out"
    evaluate(lab, dataset, "freeseg-diff", metric="oracle", out=out, progress=False)
    path = out / "results.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line in lines:
        del line["versions"], line["check"]
    path.write_bytes(b"".join(map(_encoded, lines)))
    with pytest.raises(FslabError, match=r"before 0\.2, .*give another folder, or remove the file"):
        evaluate(lab, dataset, "freeseg-diff", metric="oracle", out=out, progress=False)
    assert len(path.read_text().splitlines()) == 3
