"""Any picture is read or refused in one sentence; layouts give samples; masks stay indices."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import pickle
import struct
import tarfile
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fslab import datasets
from fslab.datasets import COCO_OBJECT, VOC, VOC_CLASSES
from fslab.datasets.coco import Outline
from fslab.datasets.fetch import Archive, fetch, unpack
from fslab.datasets.read import write_picture
from fslab.records import VOID, FslabError

# pycocotools has not caught up with numpy 2's __array__
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

SHARED = Path(__file__).resolve().parents[2] / "shared"


def noise(height: int = 24, width: int = 32, channels: int | None = 3) -> np.ndarray:
    shape = (height, width) if channels is None else (height, width, channels)
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def refusal(path: Path, reader=datasets.read) -> str:
    with pytest.raises(FslabError) as caught:
        reader(path)
    message = str(caught.value)
    assert repr(str(path)) in message
    assert "\n" not in message
    return message


@pytest.mark.parametrize("ending", ["png", "bmp", "tif", "webp", "ppm"])
def test_lossless_pictures_read_exactly(tmp_path, ending):
    pixels = noise()
    Image.fromarray(pixels).save(tmp_path / f"a.{ending}", lossless=True)
    picture = datasets.read(tmp_path / f"a.{ending}")
    assert picture.name == "a"
    assert picture.pixels.flags.writeable
    np.testing.assert_array_equal(picture.pixels, pixels)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path, orientation):
    upright = np.zeros((32, 48, 3), np.uint8)
    upright[:16, :16] = 255  # the corner that must come out top left
    upright[:16, 16:32, 0] = 200
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.swapaxes(0, 1),
        6: np.rot90(upright, 1),
        7: upright[::-1, ::-1].swapaxes(0, 1),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    for ending in ("jpg", "png", "tif"):
        path = tmp_path / f"turned.{ending}"
        Image.fromarray(np.ascontiguousarray(stored)).save(
            path, exif=exif, quality=100, subsampling=0
        )
        pixels = datasets.read(path).pixels
        assert np.abs(pixels.astype(int) - upright).max() < 24, ending
        assert datasets.picture_size(path) == (32, 48)


def test_damaged_exif_does_not_cost_the_picture(tmp_path):
    path = tmp_path / "a.jpg"
    Image.fromarray(noise()).save(path, exif=b"Exif\x00\x00junkjunkjunk")
    assert datasets.read(path).size == (24, 32)


def test_transparency_is_laid_over_white(tmp_path):
    pixels = np.zeros((2, 2, 4), np.uint8)
    pixels[0, 0] = (255, 0, 0, 255)
    pixels[0, 1] = (255, 0, 0, 51)
    Image.fromarray(pixels).save(tmp_path / "rgba.png")
    read = datasets.read(tmp_path / "rgba.png").pixels
    assert read.tolist() == [[[255, 0, 0], [255, 204, 204]], [[255, 255, 255]] * 2]
    Image.fromarray(pixels).convert("LA").save(tmp_path / "la.png")
    assert datasets.read(tmp_path / "la.png").pixels[1, 0].tolist() == [255, 255, 255]


@pytest.mark.parametrize("ending", ["png", "gif"])
def test_palette_transparency(tmp_path, ending):
    image = Image.fromarray(np.array([[0, 1], [1, 0]], np.uint8)).convert("P")
    image.putpalette([9, 9, 9, 0, 255, 0] + [0] * 762)
    image.save(tmp_path / f"a.{ending}", transparency=0)
    read = datasets.read(tmp_path / f"a.{ending}").pixels
    assert read.tolist() == [[[255] * 3, [0, 255, 0]], [[0, 255, 0], [255] * 3]]


def test_grey_bilevel_and_cmyk(tmp_path):
    grey = noise(channels=None)
    Image.fromarray(grey).save(tmp_path / "grey.png")
    np.testing.assert_array_equal(
        datasets.read(tmp_path / "grey.png").pixels, np.repeat(grey[..., None], 3, 2)
    )
    Image.fromarray(grey > 127).save(tmp_path / "bits.png")
    assert set(np.unique(datasets.read(tmp_path / "bits.png").pixels)) == {0, 255}
    flat = np.full((16, 16, 3), (200, 60, 20), np.uint8)
    Image.fromarray(flat).convert("CMYK").save(tmp_path / "cmyk.jpg", quality=100)
    assert np.abs(datasets.read(tmp_path / "cmyk.jpg").pixels.astype(int) - flat).max() < 6


@pytest.mark.parametrize("ending", ["png", "tif", "pgm"])
def test_sixteen_bit_grey_keeps_its_range(tmp_path, ending):
    values = np.array([[0, 257, 25700], [32896, 65278, 65535]], np.uint16)
    Image.fromarray(values).save(tmp_path / f"a.{ending}")
    read = datasets.read(tmp_path / f"a.{ending}").pixels
    np.testing.assert_array_equal(read[..., 0], np.rint(values / 257))


def test_float_tiff_is_stretched_and_nan_refused(tmp_path):
    values = np.array([[-2.0, 0.0, 2.0]], np.float32)
    Image.fromarray(values).save(tmp_path / "a.tif")
    assert datasets.read(tmp_path / "a.tif").pixels[0, :, 0].tolist() == [0, 128, 255]
    Image.fromarray(np.full((2, 2), 7, np.float32)).save(tmp_path / "flat.tif")
    assert not datasets.read(tmp_path / "flat.tif").pixels.any()
    values[0, 1] = np.nan
    Image.fromarray(values).save(tmp_path / "nan.tif")
    assert "NaN" in refusal(tmp_path / "nan.tif")
    Image.fromarray(np.array([[70000]], np.int32)).save(tmp_path / "deep.tif")
    assert "70000" in refusal(tmp_path / "deep.tif")


def test_first_frame_wrong_ending_and_odd_names(tmp_path):
    frames = [Image.new("RGB", (5, 4), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "moves.gif", save_all=True, append_images=frames[1:])
    assert datasets.read(tmp_path / "moves.gif").pixels[0, 0].tolist() == [255, 0, 0]
    frames[0].save(tmp_path / "two.mpo", save_all=True, append_images=frames[1:])
    assert datasets.read(tmp_path / "two.mpo").pixels[0, 0, 0] > 240
    assert datasets.picture_size(tmp_path / "two.mpo") == (4, 5)
    Image.new("RGB", (1, 1), "red").save(tmp_path / "one.png")
    (tmp_path / "one.png").rename(tmp_path / "one.jpg")
    assert datasets.read(tmp_path / "one.jpg").size == (1, 1)
    odd = tmp_path / 'it\'s a "new\nline" .png'
    Image.new("RGB", (3, 2)).save(odd)
    assert datasets.read(str(odd)).size == (2, 3)
    odd.write_bytes(b"no picture")
    refusal(odd)


@pytest.mark.parametrize("ending", ["jpg", "png", "bmp", "webp", "tif", "gif"])
def test_a_truncated_picture_is_refused(tmp_path, ending):
    path = tmp_path / f"a.{ending}"
    Image.fromarray(noise(64, 64)).save(path, quality=90)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert "get the file again" in refusal(path)


def test_refusals_say_what_is_wrong(tmp_path, monkeypatch):
    assert "does not exist" in refusal(tmp_path / "none.jpg")
    assert "folder" in refusal(tmp_path)
    (tmp_path / "empty.jpg").touch()
    assert "empty" in refusal(tmp_path / "empty.jpg")
    (tmp_path / "text.jpg").write_text("hello")
    assert "not a picture" in refusal(tmp_path / "text.jpg")
    (tmp_path / "link.jpg").symlink_to(tmp_path / "gone.jpg")
    assert "gone.jpg" in refusal(tmp_path / "link.jpg")
    os.mkfifo(tmp_path / "pipe.jpg")
    assert "not an ordinary file" in refusal(tmp_path / "pipe.jpg")
    refusal(tmp_path / ("long" * 100))
    (tmp_path / "lab.tif").touch()
    Image.new("LAB", (4, 4)).save(tmp_path / "lab.tif")
    assert "LAB" in refusal(tmp_path / "lab.tif")

    def denied(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", denied)
    assert "permission denied" in refusal(tmp_path / "text.jpg")


def png(width: int, height: int, depth: int, kind: int, lines: bytes) -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def test_a_bomb_is_refused_from_its_header(tmp_path):
    path = tmp_path / "bomb.png"
    path.write_bytes(png(50_000, 50_000, 8, 0, b""))
    assert "million pixels" in refusal(path)


def test_masks_are_indices_and_go_round(tmp_path):
    labels = np.arange(256, dtype=np.uint8).reshape(8, 32)
    datasets.write_mask(labels, tmp_path / "m.png")
    np.testing.assert_array_equal(datasets.read_mask(tmp_path / "m.png"), labels)
    with Image.open(tmp_path / "m.png") as image:
        assert image.mode == "P"
        np.testing.assert_array_equal(
            np.array(image.getpalette()).reshape(-1, 3), datasets.voc_palette()
        )
    assert os.listdir(tmp_path) == ["m.png"]
    Image.fromarray(labels).save(tmp_path / "grey.png")
    np.testing.assert_array_equal(datasets.read_mask(tmp_path / "grey.png"), labels)
    datasets.write_mask(labels[:, ::2], tmp_path / "strided.png")
    np.testing.assert_array_equal(datasets.read_mask(tmp_path / "strided.png"), labels[:, ::2])


def test_a_mask_of_anything_else_is_refused(tmp_path):
    colours = datasets.voc_palette()[np.array([[0, 15], [255, 20]])]
    Image.fromarray(colours).save(tmp_path / "voc.png")
    assert "write_mask" in refusal(tmp_path / "voc.png", datasets.read_mask)
    Image.fromarray(noise()).save(tmp_path / "rgb.png")
    assert "colours" in refusal(tmp_path / "rgb.png", datasets.read_mask)
    Image.fromarray(noise(channels=4)).save(tmp_path / "rgba.png")
    assert "RGBA" in refusal(tmp_path / "rgba.png", datasets.read_mask)
    Image.fromarray(noise()).save(tmp_path / "a.jpg")
    assert "PNG of label numbers" in refusal(tmp_path / "a.jpg", datasets.read_mask)
    (tmp_path / "two.png").write_bytes(png(4, 1, 2, 0, b"\x00\x1b"))  # greys 0, 1, 2, 3
    assert "2-bit grey" in refusal(tmp_path / "two.png", datasets.read_mask)


def test_write_mask_refuses_and_leaves_nothing(tmp_path):
    for wrong in (np.zeros((2, 2), np.int64), np.zeros((2, 2, 3), np.uint8), [[1]]):
        with pytest.raises(FslabError, match=r"m\.png.*uint8 or uint16 \[H, W\]"):
            datasets.write_mask(wrong, tmp_path / "m.png")
    (tmp_path / "m.png").mkdir()
    with pytest.raises(FslabError, match=r"m\.png.*cannot be written"):
        datasets.write_mask(np.zeros((2, 2), np.uint8), tmp_path / "m.png")
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(FslabError, match=r"file/m\.png.*cannot be written"):
        datasets.write_mask(np.zeros((2, 2), np.uint8), tmp_path / "file" / "m.png")
    assert sorted(os.listdir(tmp_path)) == ["file", "m.png"]


def test_vocabularies():
    assert len(VOC_CLASSES) == 21
    assert list(VOC_CLASSES[1:]) == sorted(VOC_CLASSES[1:])
    assert datasets.voc_palette()[[0, 1, 15, 20, VOID]].tolist() == [
        [0, 0, 0],
        [128, 0, 0],
        [192, 128, 128],
        [0, 64, 128],
        [224, 224, 192],
    ]
    for vocabulary in (VOC, COCO_OBJECT):
        assert {*vocabulary.spoken, *vocabulary.synonyms} <= set(vocabulary.names)
        for name in vocabulary.classes:
            assert all(vocabulary.find(text) == name for text in vocabulary.texts(name, True))
    assert VOC.find("couch") == "sofa"
    assert VOC.find("TV monitor") == "tvmonitor"
    assert len(COCO_OBJECT.names) == 81


@pytest.fixture
def voc_root(tmp_path):
    root = tmp_path / "VOCdevkit" / "VOC2012"
    for part in ("ImageSets/Segmentation", "JPEGImages", "SegmentationClass"):
        (root / part).mkdir(parents=True)
    for name in ("b", "a"):
        Image.fromarray(noise()).save(root / f"JPEGImages/{name}.jpg")
        datasets.write_mask(np.full((24, 32), 5, np.uint8), root / f"SegmentationClass/{name}.png")
    (root / "ImageSets/Segmentation/val.txt").write_text("b\na\n\n")
    return root


def test_voc_layout(voc_root):
    for place in (voc_root, voc_root.parent, voc_root.parent.parent):
        found = datasets.voc(place)
        assert [sample.name for sample in found] == ["b", "a"]
        assert (found.name, found.split, len(found)) == ("VOC2012", "val", 2)
    sample = found.samples[0]
    assert sample.picture().size == sample.truth().shape == (24, 32)
    assert len(found.limit(1)) == 1
    assert len(found.limit(9)) == 2
    assert found.limit(None) is found
    assert len(datasets.load(voc_root)) == 2
    for wrong in (0, True, "3"):
        with pytest.raises(FslabError, match="limit"):
            found.limit(wrong)


def test_splits_can_be_joined(voc_root):
    lists = voc_root / "ImageSets/Segmentation"
    for name in ("a", "b"):
        (lists / f"only_{name}.txt").write_text(f"{name}\n")
    found = datasets.load(voc_root, "only_a+only_b")
    assert ([sample.name for sample in found], found.split) == (["a", "b"], "only_a+only_b")
    with pytest.raises(FslabError, match=r"only_a\.txt.*val\.txt.*more than once: 'a'$"):
        datasets.voc(voc_root, "only_a+val")
    with pytest.raises(FslabError, match=r"no split 'none'; there is only_a, only_b, val"):
        datasets.voc(voc_root, "only_a+none")


def test_voc_refusals(voc_root):
    lists = voc_root / "ImageSets/Segmentation"
    with pytest.raises(FslabError, match=r"no split 'test'; there is val"):
        datasets.voc(voc_root, "test")
    (lists / "many.txt").write_text("\n".join(f"n{index}" for index in range(15)))
    with pytest.raises(datasets.MissingFiles, match=r"lacks 30 files of split 'many': ") as refused:
        datasets.voc(voc_root, "many")
    named = [f"JPEGImages/n{index}.jpg" for index in range(15)]
    named += [f"SegmentationClass/n{index}.png" for index in range(15)]
    assert list(refused.value.names) == named
    assert str(refused.value).endswith(": " + ", ".join(map(repr, named)))
    (lists / "twice.txt").write_text("a\nb\na\n")
    with pytest.raises(FslabError, match=r"twice\.txt.*more than once: 'a'$"):
        datasets.voc(voc_root, "twice")
    (lists / "none.txt").write_text("\n")
    with pytest.raises(FslabError, match=r"none\.txt.*no names"):
        datasets.voc(voc_root, "none")
    with pytest.raises(FslabError, match=r"JPEGImages.*ImageSets"):
        datasets.voc(voc_root / "JPEGImages")


def test_truth_of_another_size_or_with_unknown_labels(voc_root):
    sample = datasets.voc(voc_root).samples[0]
    datasets.write_mask(np.full((24, 32), 21, np.uint8), sample.truth_path)
    with pytest.raises(FslabError, match=r"b\.png.*\[21\]"):
        sample.truth()
    datasets.write_mask(np.zeros((32, 24), np.uint8), sample.truth_path)
    with pytest.raises(FslabError, match=r"b\.png.*32 x 24.*b\.jpg.*24 x 32"):
        sample.truth()


def test_a_folder_of_ones_own(tmp_path):
    with pytest.raises(FslabError, match="holds no pictures"):
        datasets.folder(tmp_path)
    Image.fromarray(noise()).save(tmp_path / "x.JPG", "JPEG")
    assert [sample.truth() for sample in datasets.load(tmp_path)] == [None]
    with pytest.raises(FslabError, match=r"lacks 1 file, masks .*: 'x\.png'$"):
        datasets.folder(tmp_path, tmp_path)
    datasets.write_mask(np.ones((24, 32), np.uint8), tmp_path / "x.png")
    both = datasets.folder(tmp_path, tmp_path)
    assert len(both) == 1
    assert both.samples[0].truth().all()
    with pytest.raises(FslabError, match=r"'x\.JPG' and 'x\.png'"):
        datasets.folder(tmp_path)
    with pytest.raises(FslabError, match="nowhere"):
        datasets.load(tmp_path / "nowhere")
    with pytest.raises(FslabError, match="'ade'"):
        datasets.load(tmp_path, format="ade")


def test_mask_pairs(tmp_path):
    for place in ("pred", "truth"):
        (tmp_path / place).mkdir()
    with pytest.raises(FslabError, match=r"pred.*no PNG masks"):
        datasets.mask_pairs(tmp_path / "pred", tmp_path / "truth")
    for name in ("a", "b"):
        datasets.write_mask(np.ones((2, 3), np.uint8), tmp_path / f"truth/{name}.png")
    datasets.write_mask(np.zeros((2, 3), np.uint8), tmp_path / "pred/a.png")
    with pytest.raises(FslabError, match=r"pred'? lacks 1 file that .*truth' has: 'b\.png'$"):
        datasets.mask_pairs(tmp_path / "pred", tmp_path / "truth")
    with pytest.raises(FslabError, match=r"pred'? lacks 1 file that .*truth' has: 'b\.png'$"):
        datasets.mask_pairs(tmp_path / "truth", tmp_path / "pred")
    (tmp_path / "truth/b.png").unlink()
    [(name, truth, guess)] = datasets.mask_pairs(tmp_path / "pred", tmp_path / "truth")
    assert (name, truth.all(), guess.any()) == ("a", True, False)


@pytest.fixture
def coco_root(tmp_path):
    """A 20 x 30 picture: a large person, a dog on it, a crowd across both and beside."""

    def square(top, left, bottom, right):
        return [[left, top, right, top, right, bottom, left, bottom]]

    runs = np.zeros((20, 30), np.uint8)
    runs[:, 20:] = 1
    flat = runs.ravel(order="F")
    edges = np.flatnonzero(np.diff(flat)) + 1
    counts = np.diff([0, *edges.tolist(), flat.size]).tolist()
    crowd = {"size": [20, 30], "counts": counts}
    objects = [
        {"category_id": 18, "segmentation": square(5, 5, 10, 10), "iscrowd": 0},
        {"category_id": 1, "segmentation": square(0, 0, 20, 22), "iscrowd": 0},
        {"category_id": 1, "segmentation": crowd, "iscrowd": 1},
    ]
    data = {
        "images": [
            {"id": 7, "file_name": "p.jpg", "height": 20, "width": 30},
            {"id": 9, "file_name": "q.jpg", "height": 20, "width": 30},
        ],
        "annotations": [{"id": n, "image_id": 7, **given} for n, given in enumerate(objects)],
        "categories": [{"id": 1, "name": "person"}, {"id": 18, "name": "dog"}],
    }
    (tmp_path / "annotations").mkdir()
    (tmp_path / "val2017").mkdir()
    (tmp_path / "annotations/instances_val2017.json").write_text(json.dumps(data))
    for name in "pq":
        Image.fromarray(noise(20, 30)).save(tmp_path / f"val2017/{name}.jpg")
    return tmp_path


def test_coco_object(coco_root, capfd):
    found = datasets.coco(coco_root)
    first, second = (pickle.loads(pickle.dumps(sample)) for sample in found)
    truth = first.truth()
    person, dog = COCO_OBJECT.names.index("person"), COCO_OBJECT.names.index("dog")
    assert (truth.dtype, truth.shape) == (np.uint8, (20, 30))
    assert (truth[5:10, 5:10] == dog).all()
    assert (truth[12:, :22] == person).all()
    assert (truth[:, 22:] == VOID).all()
    assert not second.truth().any()
    assert capfd.readouterr().out == ""
    by_file = datasets.coco(coco_root / "annotations/instances_val2017.json")
    assert (by_file.split, len(by_file)) == ("val2017", 2)
    assert len(datasets.load(coco_root, "val2017", "coco")) == 2


def test_coco_refusals(coco_root):
    source = coco_root / "annotations/instances_val2017.json"
    data = json.loads(source.read_text())
    with pytest.raises(FslabError, match=r"instances_val\.json.*there is instances_val2017"):
        datasets.coco(coco_root, "val")
    Image.fromarray(noise(30, 20)).save(coco_root / "val2017/p.jpg")
    with pytest.raises(FslabError, match=r"p\.jpg.*30 x 20.*20 x 30"):
        datasets.coco(coco_root).samples[0].truth()
    (coco_root / "val2017/q.jpg").unlink()
    with pytest.raises(FslabError, match=r"lacks 1 file that the json names: 'q\.jpg'$"):
        datasets.coco(coco_root)
    for wrong, words in (
        ("{", "is not valid JSON"),
        ("[]", "not an instances JSON"),
        (json.dumps({"images": []}), "categories"),
        (json.dumps({**data, "images": []}), "lists no images"),
    ):
        source.write_text(wrong)
        with pytest.raises(FslabError, match=rf"instances_val2017\.json.*{words}"):
            datasets.coco(coco_root)
    source.write_text(json.dumps({**data, "categories": [{"id": 1, "name": "unicorn"}]}))
    with pytest.raises(FslabError, match="unicorn"):
        datasets.coco(coco_root)


@pytest.mark.skipif(not (SHARED / "coco_real").is_dir(), reason="real COCO pictures not beside")
def test_real_coco_pictures():
    found = datasets.coco(SHARED / "coco_real")
    assert len(found) == 48
    for sample in found.limit(6):
        assert sample.truth().shape == sample.picture().size


@pytest.mark.skipif(not (SHARED / "voc2012_real").is_dir(), reason="real VOC pictures not beside")
def test_real_voc_pictures():
    for sample in datasets.voc(SHARED / "voc2012_real", "train").limit(6):
        assert sample.truth().shape == sample.picture().size


def test_a_size_is_asked_by_text_too(tmp_path):
    Image.fromarray(noise()).save(tmp_path / "a.jpg")
    assert datasets.picture_size(str(tmp_path / "a.jpg")) == (24, 32)


def test_deep_grey_goes_to_the_nearest_shade(tmp_path):
    Image.fromarray(np.array([[128, 129, 385, 386]], np.uint16)).save(tmp_path / "a.png")
    assert datasets.read(tmp_path / "a.png").pixels[0, :, 0].tolist() == [0, 1, 1, 2]


def test_three_points_make_a_polygon():
    triangle = [[0, 0, 20, 0, 0, 20]]
    mask = Outline(1, False, triangle, "annotation 3").mask(20, 30)
    assert (mask[2, 2], mask[18, 18], mask[:, 20:].any()) == (True, False, False)
    with pytest.raises(FslabError, match=r"annotation 3 .*fewer than three points"):
        Outline(1, False, [triangle[0][:4]], "annotation 3").mask(20, 30)


def test_a_folder_with_the_name_of_a_picture_is_none(coco_root):
    (coco_root / "val2017/q.jpg").unlink()
    (coco_root / "val2017/q.jpg").mkdir()
    with pytest.raises(FslabError, match=r"lacks 1 file that the json names: 'q\.jpg'$"):
        datasets.coco(coco_root)


@pytest.fixture
def by_hand(tmp_path):
    """An archive of two files that someone put into the folder."""
    with tarfile.open(tmp_path / "set.tar", "w") as packed:
        for name, count in (("set/a", 3000), ("set/b", 500)):
            info = tarfile.TarInfo(name)
            info.size = count
            packed.addfile(info, BytesIO(bytes(count)))
    content = (tmp_path / "set.tar").read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    return Archive("http://127.0.0.1:9/set.tar", len(content), digest, "set")


def test_unpacking_tells_the_bytes_that_are_written(by_hand, tmp_path):
    told = []
    unpack.unpack(tmp_path / by_hand.name, tmp_path / "aside", told.append)
    assert told == [3000, 3500]


def test_a_leftover_that_cannot_be_removed_does_not_cost_the_set(by_hand, tmp_path, monkeypatch):
    def busy(*_, **__):
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))

    monkeypatch.setattr(os, "rmdir", busy)
    assert fetch([by_hand], tmp_path, progress=False) == [tmp_path / "set"]
    assert sorted(os.listdir(tmp_path / "set")) == ["a", "b"]


def test_a_picture_goes_round(tmp_path):
    write_picture(noise(), tmp_path / "a.png")
    np.testing.assert_array_equal(datasets.read(tmp_path / "a.png").pixels, noise())
    assert os.listdir(tmp_path) == ["a.png"]


def test_a_json_that_is_nested_without_end_is_refused(coco_root):
    source = coco_root / "annotations/instances_val2017.json"
    source.write_text("[" * 100_000 + "]" * 100_000)
    with pytest.raises(FslabError, match=r"instances_val2017\.json' is not valid JSON"):
        datasets.coco(coco_root, "val2017")
