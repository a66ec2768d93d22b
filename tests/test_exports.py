"""Features and masks as other programs' files, and back."""

import json

import numpy as np
import pytest
from conftest import noise_picture
from pycocotools.coco import COCO

from fslab.datasets import coco, read
from fslab.datasets.vocabularies import COCO_OBJECT
from fslab.exports import read_features, write_coco, write_features
from fslab.records import Features, FslabError, LabelMap, Picture


@pytest.fixture
def features():
    rng = np.random.default_rng(0)
    maps = {
        name: rng.normal(size=(3, 4, 6)).astype(np.float32) for name in ("a.b@50", "file", "c#1")
    }
    return Features(maps, (32, 48), "scène 1")


def test_features_come_back_as_they_were(features, tmp_path):
    path = tmp_path / "features.npz"
    write_features(features, path)
    found = read_features(path)
    assert (found.name, found.size, list(found)) == (features.name, features.size, list(features))
    assert all(np.array_equal(found[layer], features[layer]) for layer in features)
    with np.load(path) as plain:
        assert np.array_equal(plain["file"], features["file"])


def test_other_archives_are_refused(features, tmp_path):
    with pytest.raises(FslabError, match=r"does not end in \.npz"):
        write_features(features, tmp_path / "features.h5")
    with pytest.raises(FslabError, match=r"features is dict; give an fslab\.Features"):
        write_features({}, tmp_path / "features.npz")
    with pytest.raises(FslabError, match="does not exist"):
        read_features(tmp_path / "none.npz")
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    with pytest.raises(FslabError, match="was not written by fslab"):
        read_features(tmp_path / "other.npz")
    write_features(features, tmp_path / "cut.npz")
    (tmp_path / "cut.npz").write_bytes((tmp_path / "cut.npz").read_bytes()[:300])
    with pytest.raises(FslabError, match=r"is no whole \.npz"):
        read_features(tmp_path / "cut.npz")


def pairs(names, void=True):
    for number, size in enumerate([(32, 48), (40, 24)]):
        picture = Picture(noise_picture(*size, seed=number).pixels, f"scene/{number}")
        labels = np.zeros(size, np.uint8)
        labels[4:20, 3:9] = 1
        labels[10:14, 12:20] = 2 + number
        labels[30:, :] = 255 if void else 0
        yield picture, LabelMap(labels, names, {names[1]: 0.25})


def test_masks_are_read_by_coco_s_own_reader(tmp_path, capsys):
    names = ("background", "dog", "cat", "bird")
    path = tmp_path / "labels.json"
    assert write_coco(pairs(names), path, pictures=True) == 4
    reader = COCO(str(path))
    assert {each["id"]: each["name"] for each in reader.cats.values()} == {
        1: "dog",
        2: "cat",
        3: "bird",
    }
    for (picture, labels), image in zip(pairs(names), reader.imgs.values(), strict=True):
        pixels = read(tmp_path / "data" / image["file_name"]).pixels
        assert np.array_equal(pixels, picture.pixels)
        painted = np.zeros(labels.size, np.uint8)
        for each in reader.imgToAnns[image["id"]]:
            mask = reader.annToMask(each).astype(bool)
            painted[mask] = each["category_id"]
            rows, columns = np.nonzero(mask)
            left, top, width, height = each["bbox"]
            assert (left, top) == (columns.min(), rows.min())
            assert (width, height) == (np.ptp(columns) + 1, np.ptp(rows) + 1)
            assert each["area"] == mask.sum()
            assert each.get("score") == (0.25 if each["category_id"] == 1 else None)
        assert np.array_equal(painted, np.where(labels.labels == 255, 0, labels.labels))


def test_masks_of_coco_s_classes_are_read_again_by_fslab(tmp_path):
    (tmp_path / "annotations").mkdir()
    written = list(pairs(COCO_OBJECT.names, void=False))
    write_coco(written, tmp_path / "annotations/instances_mine.json", pictures=True)
    (tmp_path / "annotations/data").rename(tmp_path / "mine")
    data = coco(tmp_path, "mine")
    for sample, (picture, labels) in zip(data, written, strict=True):
        assert np.array_equal(sample.picture().pixels, picture.pixels)
        assert np.array_equal(sample.truth(), labels.labels)


def test_pairs_that_fit_no_json_are_refused(tmp_path):
    (picture, labels), (other, others) = pairs(("background", "dog", "cat", "bird"))
    path = tmp_path / "a.json"
    with pytest.raises(FslabError, match="both belong to one picture"):
        write_coco([(picture, others)], path)
    with pytest.raises(FslabError, match="two pictures are called 'scene/0'"):
        write_coco([(picture, labels), (picture, labels)], path)
    with pytest.raises(FslabError, match="other classes than those before"):
        write_coco([(picture, labels), (other, LabelMap(others.labels, ("none", "dog")))], path)
    with pytest.raises(FslabError, match="holds 2, and its names end at 1"):
        write_coco([(picture, LabelMap(labels.labels, ("none", "dog")))], path)
    with pytest.raises(FslabError, match="its labels is"):
        write_coco([(picture, labels.labels)], path)
    assert not path.exists()
    assert write_coco([], path) == 0
    assert json.loads(path.read_text())["images"] == []
