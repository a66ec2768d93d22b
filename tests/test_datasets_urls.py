"""Data sets behind fsspec urls: the same samples, figures and refusals as from a folder."""

from __future__ import annotations

import json
import pickle
import zipfile

import fsspec
import numpy as np
import pytest
from conftest import write_dataset
from PIL import Image

from fslab import datasets
from fslab.datasets.places import Url, local, place
from fslab.evaluate import ablate, evaluate
from fslab.evaluate.run import REPORT
from fslab.lab import Lab
from fslab.records import FslabError

# pycocotools has not caught up with numpy 2's __array__
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

PLAIN = ("--backbone", "rgb", "--cluster", "kmeans", "--metric", "oracle")


@pytest.fixture
def root(tmp_path):
    return write_dataset(tmp_path / "set", 4)


@pytest.fixture
def memory():
    """A function that copies a folder to memory://NAME; what it copied goes at the end."""
    files = fsspec.filesystem("memory")

    def put(folder, name):
        files.put(str(folder), f"/{name}", recursive=True)
        return f"memory://{name}"

    yield put
    files.store.clear()
    files.pseudo_dirs[:] = [""]


@pytest.fixture
def urls(root, memory):
    """The set in memory, in a zip, in a zip in memory, and on this machine as a url."""
    archive = root.parent / "packed.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        for path in sorted(root.rglob("*")):
            packed.write(path, path.relative_to(root.parent))
    fsspec.filesystem("memory").pipe_file("/packed.zip", archive.read_bytes())
    return {
        "memory": memory(root, "kept/set"),
        "zip": f"zip://set::{archive}",
        "zip in memory": "zip://set::memory://packed.zip",
        "file": f"file://{root}",
    }


@pytest.mark.parametrize("where", ["memory", "zip", "zip in memory", "file"])
def test_a_url_gives_the_samples_of_the_folder(root, urls, where):
    expected, found = datasets.load(root), datasets.load(urls[where])
    assert (found.name, found.split, len(found)) == ("set", "val", 4)
    for one, other in zip(expected, pickle.loads(pickle.dumps(tuple(found))), strict=True):
        assert (one.name, one.picture().digest) == (other.name, other.picture().digest)
        np.testing.assert_array_equal(one.truth(), other.truth())


@pytest.mark.parametrize("where", ["memory", "zip", "zip in memory", "file"])
def test_a_url_scores_as_the_folder_does(run, root, urls, where, tmp_path):
    words = (*PLAIN, "--json", "--out")
    code, said, _ = run("evaluate", urls[where], *words, tmp_path / "remote")
    assert code == 0
    here = json.loads(run("evaluate", root, *words, tmp_path / "here")[1])
    there = json.loads(said)
    assert here.pop("seconds").keys() == there.pop("seconds").keys()
    assert here == there
    assert (tmp_path / "remote" / REPORT).read_bytes() == (tmp_path / "here" / REPORT).read_bytes()


def test_one_s_own_folder_and_pairs_of_masks(root, memory, run):
    pictures = memory(root / "JPEGImages", "pictures")
    masks = memory(root / "SegmentationClass", "masks")
    found = datasets.folder(pictures, masks)
    assert [sample.name for sample in found] == [f"noise_{number}" for number in range(4)]
    assert datasets.load(pictures).split == "all"
    code, said, _ = run("score", masks, root / "SegmentationClass", "--metric", "voc21")
    assert code == 0
    assert "voc21 100.0" in said


def test_coco_behind_a_url(tmp_path, memory):
    (tmp_path / "coco/annotations").mkdir(parents=True)
    (tmp_path / "coco/val2017").mkdir()
    box = [[2, 2, 20, 2, 20, 12, 2, 12]]
    data = {
        "images": [{"id": n, "file_name": f"{n}.jpg", "height": 20, "width": 30} for n in range(3)],
        "annotations": [{"id": 5, "image_id": 0, "category_id": 1, "segmentation": box}],
        "categories": [{"id": 1, "name": "person"}],
    }
    (tmp_path / "coco/annotations/instances_val2017.json").write_text(json.dumps(data))
    for number in range(3):
        Image.new("RGB", (30, 20), (number, 0, 0)).save(tmp_path / f"coco/val2017/{number}.jpg")
    url = memory(tmp_path / "coco", "coco")
    here = datasets.load(tmp_path / "coco", "val2017", "coco")
    for found in (
        datasets.load(url, "val2017", "coco"),
        datasets.coco(f"{url}/annotations/instances_val2017.json"),
    ):
        assert (found.name, found.split, len(found)) == ("coco", "val2017", 3)
        for one, other in zip(here, found, strict=True):
            np.testing.assert_array_equal(one.truth(), other.truth())
    with pytest.raises(FslabError, match=r"instances_val\.json.*there is instances_val2017\.json"):
        datasets.coco(url, "val")
    for number in (0, 2):
        fsspec.filesystem("memory").rm_file(f"/coco/val2017/{number}.jpg")
    with pytest.raises(datasets.MissingFiles, match="lacks 2 files that the json names") as refused:
        datasets.coco(url)
    assert refused.value.names == ("0.jpg", "2.jpg")
    assert len(datasets.coco(url, skip_missing=True)) == 1


def test_all_that_is_missing_behind_a_url_is_named(run, root, memory):
    lists = root / "ImageSets" / "Segmentation" / "val.txt"
    lists.write_text(lists.read_text() + "".join(f"gone_{number}\n" for number in range(25)))
    url = memory(root, "set")
    with pytest.raises(datasets.MissingFiles) as refused:
        datasets.load(url)
    for number in range(25):
        assert f"'JPEGImages/gone_{number}.jpg'" in str(refused.value)
        assert f"'SegmentationClass/gone_{number}.png'" in str(refused.value)
    code, said, _ = run("evaluate", url, *PLAIN, "--skip-missing")
    assert code == 0
    assert "25 of 29 pictures were left out" in said


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("nosuch://bucket/set", r"'nosuch://bucket/set' cannot be read: .*nosuch"),
        ("memory://nowhere", r"'memory://nowhere' does not exist"),
        ("file:///nowhere/set", r"'/nowhere/set' does not exist"),
        ("zip://set::/nowhere/set.zip", r"'zip://set::/nowhere/set\.zip' does not exist"),
    ],
)
def test_a_url_that_cannot_be_opened_is_one_sentence(run, url, words):
    with pytest.raises(FslabError, match=words) as refused:
        datasets.load(url)
    assert "\n" not in str(refused.value)
    code, said, wrong = run("evaluate", url, *PLAIN)
    assert (code, said, wrong) == (2, "", f"fslab: {refused.value}\n")


def test_what_is_no_zip_and_what_vanished_are_one_sentence(root, memory, tmp_path):
    (tmp_path / "bad.zip").write_bytes(b"no archive")
    with pytest.raises(FslabError, match=r"bad\.zip' cannot be read: .*zip"):
        datasets.load(f"zip://set::{tmp_path / 'bad.zip'}")
    url = memory(root, "set")
    sample = datasets.load(url).samples[0]
    fsspec.filesystem("memory").rm_file("/set/JPEGImages/noise_0.png")
    with pytest.raises(FslabError, match=r"JPEGImages/noise_0\.png' does not exist; check the url"):
        sample.picture()
    fsspec.filesystem("memory").pipe_file("/set/JPEGImages/noise_0.png", b"")
    with pytest.raises(FslabError, match=r"noise_0\.png' is empty"):
        sample.picture()


def test_results_go_to_a_folder_of_this_machine(run, root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refused = "memory://out' is not a folder of this machine"
    for words in (("evaluate", root, *PLAIN), ("evaluate", root / "JPEGImages", *PLAIN)):
        code, said, wrong = run(*words, "--out", "memory://out")
        assert (code, said) == (2, "")
        assert refused in wrong
    lab = Lab("mini", "rgb")
    with pytest.raises(FslabError, match=refused):
        evaluate(lab, datasets.load(root), "freeseg-diff", out="memory://out", progress=False)
    file = tmp_path / "k.toml"
    file.write_text(
        'title = "K"\nmetrics = ["oracle"]\n[base]\ncluster = "kmeans"\nbackbone = "rgb"\n'
        '[grid]\n"cluster.k" = [2, 3]\n'
    )
    with pytest.raises(FslabError, match=refused):
        ablate(file, root, out="memory://out", progress=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["k.toml", "set"]
    code, _, _ = run("evaluate", root, *PLAIN, "--out", f"file://{tmp_path}/out")
    assert code == 0
    assert (tmp_path / "out" / REPORT).is_file()


def test_places():
    assert place("a/b") == place(place("a/b")) == local("a/b")
    assert place("file:///a/b") == local("/a/b")
    inside = Url("zip://VOC2012/JPEGImages::s3://bucket/voc.zip")
    assert str(inside / "a.jpg") == "zip://VOC2012/JPEGImages/a.jpg::s3://bucket/voc.zip"
    assert ((inside / "a.b.jpg").name, (inside / "a.b.jpg").stem) == ("a.b.jpg", "a.b")
    assert str(inside.parent) == "zip://VOC2012::s3://bucket/voc.zip"
    whole = Url("zip://::/sets/voc.zip")
    assert (whole.name, str(whole / "VOC2012")) == ("voc.zip", "zip://VOC2012::/sets/voc.zip")


def test_dask_threads_read_pictures_and_file_features_in_memory(
    tiny, root, memory, tmp_path, dask_threads
):
    store = tmp_path / "store"
    expected = evaluate(Lab(tiny, store=store), datasets.load(root), "fslab", progress=False)
    data = datasets.load(memory(root, "set"))
    lab = Lab(tiny, store="memory://store")
    found = evaluate(lab, data, "fslab", progress=False, client=dask_threads)
    assert [row.to_dict() for row in found.rows] == [row.to_dict() for row in expected.rows]
    assert found.scores == expected.scores
    assert fsspec.filesystem("memory").find("/store"), "no feature was filed"
