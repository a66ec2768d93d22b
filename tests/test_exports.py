"""Features and masks as other programs' files, and back."""

import json
from xml.etree import ElementTree

import h5py
import numpy as np
import pytest
import zarr
from conftest import noise_picture
from PIL import Image
from pycocotools.coco import COCO

from fslab.datasets import coco, read
from fslab.datasets.vocabularies import COCO_OBJECT
from fslab.exports import (
    MASK_FORMATS,
    each_features,
    groups,
    read_features,
    write_coco,
    write_features,
    write_label_studio,
    write_masks,
    write_panoptic,
)
from fslab.exports.label_studio import packed
from fslab.records import Features, FslabError, Instances, LabelMap, Picture


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
    with pytest.raises(FslabError, match=r"does not end in \.npz, \.h5, \.hdf5 or \.zarr"):
        write_features(features, tmp_path / "features.txt")
    with pytest.raises(FslabError, match="features of one picture; several become"):
        write_features([features], tmp_path / "features.npz")
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


def of_pictures(names):
    """Features whose layers, and pictures, are called what no file may be."""
    rng = np.random.default_rng(0)
    layers = ("z@50", "a/b", "..", "zarr.json", "")
    for name in names:
        maps = {layer: rng.normal(size=(3, 4, 6)).astype(np.float32) for layer in layers}
        yield Features({**maps, "none": np.zeros((1, 2, 2), np.float32)}, (32, 48), name)


PICTURES = ("scène 1", "..", "b/a:b*?")
ENDINGS = pytest.mark.parametrize("ending", [".h5", ".hdf5", ".zarr"])


@ENDINGS
def test_features_of_many_pictures_come_back_in_order_with_the_same_bits(tmp_path, ending):
    path = tmp_path / f"set{ending}"
    assert write_features(of_pictures(PICTURES), path) == len(PICTURES)
    assert [each.name for each in tmp_path.iterdir()] == [path.name]
    for made, found in zip(of_pictures(PICTURES), each_features(path), strict=True):
        assert (found.name, found.size, list(found)) == (made.name, made.size, list(made))
        assert all(found[layer].tobytes() == made[layer].tobytes() for layer in made)
        assert read_features(path, made.name)["a/b"].tobytes() == made["a/b"].tobytes()
    opened = zarr.open_group(path, mode="r") if ending == ".zarr" else h5py.File(path)
    assert opened["scène 1/z@50"].shape == (3, 4, 6)
    with pytest.raises(FslabError, match=r"holds the features of .*; say whose"):
        read_features(path)
    with pytest.raises(FslabError, match="'d' is none of them"):
        read_features(path, "d")


@ENDINGS
def test_nothing_is_there_before_it_is_whole(tmp_path, ending):
    path = tmp_path / f"set{ending}"

    def interrupted():
        yield from of_pictures(["a"])
        raise KeyboardInterrupt

    def left_out():
        yield from of_pictures(["a"])
        raise FslabError("1 of 2 pictures were left out: b")

    with pytest.raises(KeyboardInterrupt):
        write_features(interrupted(), path)
    with pytest.raises(FslabError, match="two pictures are called 'A'"):
        write_features(of_pictures(["a", "A"]), path)
    with pytest.raises(FslabError, match="of no picture"):
        write_features([], path)
    assert not list(tmp_path.iterdir())
    with pytest.raises(FslabError, match="1 of 2 pictures were left out"):
        write_features(left_out(), path)
    assert read_features(path).name == "a"
    (tmp_path / "file").write_text("")
    with pytest.raises(FslabError, match="cannot be written"):
        write_features(of_pictures(["a"]), tmp_path / "file" / f"set{ending}")


def test_a_folder_that_is_there_is_not_taken_away(tmp_path):
    (tmp_path / "set.zarr").mkdir()
    with pytest.raises(FslabError, match="is there already"):
        write_features(of_pictures(["a"]), tmp_path / "set.zarr")


def test_files_that_lost_something_are_refused(tmp_path):
    path = tmp_path / "set.zarr"
    write_features(of_pictures(["a"]), path)
    next(each for each in (path / "a" / "none").rglob("0") if each.is_file()).unlink()
    with pytest.raises(FslabError, match="lacks 1 chunks of 'a/none'"):
        read_features(path)
    (path / "zarr.json").unlink()
    with pytest.raises(FslabError, match=r"is no whole \.zarr"):
        read_features(path)
    path = tmp_path / "set.h5"
    write_features(of_pictures(["a"]), path)
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(FslabError, match=r"is no whole \.h5"):
        read_features(path)
    with h5py.File(path, "w") as other:
        other["x"] = np.zeros(3)
    with pytest.raises(FslabError, match="was not written by fslab"):
        read_features(path)


def test_a_library_that_is_missing_is_named(features, tmp_path, monkeypatch):
    monkeypatch.setattr(groups, "find_spec", lambda name: None)
    for ending, library in ((".h5", "h5py"), (".zarr", "zarr")):
        with pytest.raises(FslabError, match=rf"by {library}, .* 'fslab\[arrays\]'"):
            write_features(features, tmp_path / f"set{ending}")


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
    with pytest.raises(FslabError, match=r"does not end in \.json"):
        write_panoptic([], tmp_path / "a")
    assert not path.exists()
    assert write_coco([], path) == 0
    assert json.loads(path.read_text())["images"] == []


def test_things_of_one_class_are_told_apart(tmp_path):
    names = ("background", "dog", "cat")
    numbers = np.zeros((6, 8), np.uint16)
    numbers[1:4, :3], numbers[1:4, 3:6], numbers[5, 2:4], numbers[0] = 1, 2, 3, 65535
    things = Instances(numbers, (2, 2, 1), names, (0.5, 0.25, 0.75))
    picture = Picture(noise_picture(6, 8).pixels, "two")
    pairs = [(picture, things)]
    assert write_coco(pairs, tmp_path / "a.json") == 3
    reader = COCO(str(tmp_path / "a.json"))
    told = list(reader.anns.values())
    assert [(each["category_id"], each["score"]) for each in told] == [
        (2, 0.5),
        (2, 0.25),
        (1, 0.75),
    ]
    for mask, each in zip(things.masks(), told, strict=True):
        assert np.array_equal(reader.annToMask(each).astype(bool), mask)
    assert write_panoptic(pairs, tmp_path / "b.json") == 3
    whole = json.loads((tmp_path / "b.json").read_text())
    (one,) = whole["annotations"]
    coded = np.asarray(Image.open(tmp_path / "b" / one["file_name"]))[..., 0]
    assert np.array_equal(coded, np.where(numbers == 65535, 0, numbers))
    assert [(x["id"], x["category_id"]) for x in one["segments_info"]] == [(1, 2), (2, 2), (3, 1)]
    assert {each["isthing"] for each in whole["categories"]} == {1}
    assert write_label_studio(pairs, tmp_path / "c") == 3
    (task,) = json.loads((tmp_path / "c" / "tasks.json").read_text())
    (prediction,) = task["predictions"]
    assert [x["id"] for x in prediction["result"]] == ["thing-1", "thing-2", "thing-3"]
    other = Picture(picture.pixels, "three")
    with pytest.raises(FslabError, match="three has mere labels, unlike the pictures before it"):
        write_coco([*pairs, (other, things.labels)], tmp_path / "d.json")
    assert not (tmp_path / "d.json").exists()


@pytest.mark.parametrize("format", MASK_FORMATS)
def test_pictures_stay_in_the_folder_and_no_masks_are_a_whole_folder(tmp_path, format):
    names = ("background", "dog")
    for number, name in enumerate(("..", "/etc/x", "a b/ö", "")):
        picture = Picture(noise_picture(6, 5).pixels, name)
        folder = tmp_path / f"{number}"
        write_masks([(picture, LabelMap(np.ones((6, 5), np.uint8), names))], folder, format)
        (found,) = (folder / "data").rglob("*.png")
        assert np.array_equal(read(found).pixels, picture.pixels)
        assert not list(tmp_path.rglob("*.aside"))
    assert write_masks([], tmp_path / "none", format) == 0
    assert all(json.loads(each.read_text()) is not None for each in tmp_path.rglob("*.json"))
    with pytest.raises(FslabError, match=r"there is no format 'cocoa'.*did you mean coco"):
        write_masks([], tmp_path / "none", "cocoa")


def many_classes():
    """A map of more classes than a byte holds, one of them void."""
    labels = np.arange(30 * 40, dtype=np.uint16).reshape(30, 40)
    labels[0, :3] = 65535
    return tuple(f"class {number}" for number in range(1200)), labels


def test_panoptic_pngs_hold_ids_in_three_bytes(tmp_path):
    names, labels = many_classes()
    picture = Picture(noise_picture(30, 40).pixels, "a")
    path = tmp_path / "panoptic.json"
    assert write_panoptic([(picture, LabelMap(labels, names))], path) == 1200 - 3
    whole = json.loads(path.read_text())
    (one,) = whole["annotations"]
    coded = np.asarray(Image.open(tmp_path / "panoptic" / one["file_name"])).astype(int)
    ids = coded[..., 0] + 256 * coded[..., 1] + 65536 * coded[..., 2]
    assert np.array_equal(ids, np.where(labels == 65535, 0, labels))
    for each in one["segments_info"]:
        left, top, width, height = each["bbox"]
        assert (ids[top : top + height, left : left + width] == each["id"]).all()
        assert each["area"] == (ids == each["id"]).sum()
    assert whole["categories"][1]["name"] == "class 2"
    assert {each["isthing"] for each in whole["categories"]} == {0}


def unpacked(packed):
    """Numbers of a packed list by rle-pack's own description, one bit after the other."""
    bits = np.unpackbits(np.array(packed, np.uint8)).tolist()

    def take(count):
        taken, bits[:count] = bits[:count], []
        return int("".join(map(str, taken)) or "0", 2)

    total, word = take(32), take(5) + 1
    sizes = [take(4) + 1 for _ in range(4)]
    found = []
    while len(found) < total:
        is_run, size = take(1), sizes[take(2)]
        length = take(size) + 1
        found += [take(word)] * length if is_run else [take(word) for _ in range(length)]
    assert len(found) == total
    assert len(bits) < 8
    return np.array(found)


def test_label_studio_s_brush_is_the_mask_in_all_four_channels(tmp_path):
    names = ("background", 'a "b" & <c>', "cat", "bird")
    assert write_masks(pairs(names), tmp_path, "label-studio") == 4
    tasks = json.loads((tmp_path / "tasks.json").read_text())
    for (picture, labels), task in zip(pairs(names), tasks, strict=True):
        assert task["data"]["image"] == f"/data/local-files/?d=data/{picture.name}.png"
        for region in task["predictions"][0]["result"]:
            (name,) = region["value"]["brushlabels"]
            shape = region["original_height"], region["original_width"], 4
            wanted = np.where(labels.labels == names.index(name), 255, 0)
            found = unpacked(region["value"]["rle"]).reshape(shape)
            assert np.array_equal(found, wanted[..., None].repeat(4, -1))
            assert region.get("score") == (0.25 if name == names[1] else None)
    view = ElementTree.parse(tmp_path / "config.xml")
    assert [each.get("value") for each in view.iter("Label")] == list(names[1:])


def test_runs_of_any_length_are_packed():
    """A run beyond 65,536 numbers is several; noise has runs of one pixel, four numbers."""
    long = np.zeros((130, 256), bool)
    long[70:] = True
    noise = noise_picture(20, 30).pixels[..., 0] > 128
    for mask in (long, noise, np.ones((1, 1), bool)):
        wanted = np.where(mask, 255, 0)[..., None].repeat(4, -1)
        assert np.array_equal(unpacked(packed(mask)), wanted.ravel())


def test_fiftyone_s_masks_are_grey(tmp_path):
    names = ("background", "dog", "cat", "bird")
    assert write_masks(pairs(names), tmp_path, "fiftyone") == 2
    for picture, labels in pairs(names):
        mask = Image.open(tmp_path / "labels" / f"{picture.name}.png")
        assert mask.mode == "L"
        assert np.array_equal(np.asarray(mask), labels.labels)
    targets = json.loads((tmp_path / "mask_targets.json").read_text())
    assert targets == {"1": "dog", "2": "cat", "3": "bird"}
    names, labels = many_classes()
    picture = Picture(noise_picture(30, 40).pixels, "a")
    write_masks([(picture, LabelMap(labels, names))], tmp_path / "wide", "fiftyone")
    mask = Image.open(tmp_path / "wide/labels/a.png")
    assert mask.mode == "I;16"
    assert np.array_equal(np.asarray(mask), labels)
