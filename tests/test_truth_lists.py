"""Lists and folders as people's tools write them: read for sure, or refused by a sentence."""

from __future__ import annotations

import os
import unicodedata

import numpy as np
import pytest
from PIL import Image

from fslab import datasets
from fslab.datasets import Dataset, write_mask
from fslab.datasets.check import glance
from fslab.datasets.read import FORMATS, SUFFIXES
from fslab.records import FslabError

PICTURES = ("a", "b", "with space", "dotted.name")


def write_voc(root, data, pictures=PICTURES, ending=".png"):
    for part in ("ImageSets/Segmentation", "JPEGImages", "SegmentationClass"):
        (root / part).mkdir(parents=True)
    for number, name in enumerate(pictures):
        picture(number).save(root / f"JPEGImages/{name}{ending}")
        write_mask(np.full((8, 12), number + 1, np.uint8), root / f"SegmentationClass/{name}.png")
    (root / "ImageSets/Segmentation/val.txt").write_bytes(data)
    return root


def picture(number=0, size=(12, 8)):
    return Image.new("RGB", size, (40 * number % 256, 90, 20))


def names(root):
    found = datasets.voc(root)
    for sample in found:
        assert sample.picture().size == sample.truth().shape
    return [sample.name for sample in found]


TEXT = "b\nwith space\ndotted.name\na\n"
CODED = {
    "UTF-8": TEXT.encode(),
    "UTF-8 with a mark": TEXT.encode("utf-8-sig"),
    "UTF-16": TEXT.encode("utf-16"),
    "UTF-16, big end first": b"\xfe\xff" + TEXT.encode("utf-16-be"),
    "UTF-32": TEXT.encode("utf-32"),
    "Windows line ends": TEXT.replace("\n", "\r\n").encode(),
    "old Macintosh line ends": TEXT.replace("\n", "\r").encode(),
    "blank lines and blanks": f"\n \n{TEXT}\n\t\n".replace("a\n", "  a\t\n").encode(),
    "endings": b"b.png\nwith space.png\ndotted.name.png\na.png",
    "endings in capitals": b"b.PNG\nwith space.Png\ndotted.name.PNG\na.PNG",
    "paths of pictures": b"JPEGImages/b.png\n/JPEGImages/with space.png\n"
    b"./JPEGImages/dotted.name.png\nJPEGImages\\a.png",
    "some of each": b"JPEGImages/b.png SegmentationClass/b.png\nwith space\ndotted.name.png\na",
}


@pytest.mark.parametrize("how", CODED)
def test_a_list_is_read_however_it_was_saved(tmp_path, how):
    assert names(write_voc(tmp_path, CODED[how])) == ["b", "with space", "dotted.name", "a"]


@pytest.mark.parametrize(
    "line",
    ["{0}/a.{1} {2}/a.png", "/{0}/a.{1} /{2}/a.png", "./{0}/a.{1}\t./{2}/a.png", "{0}\\a.{1} {2}\\a.png",
     "{3}/{0}/a.{1} {3}/{2}/a.png"],
)  # fmt: skip
def test_pairs_of_paths_lead_to_the_files_that_they_name(tmp_path, line):
    root = write_voc(tmp_path, b"x", ("a", "b"), ".bmp")
    (root / "SegmentationClassAug").mkdir()
    write_mask(np.full((8, 12), 7, np.uint8), root / "SegmentationClassAug/a.png")
    text = line.format("JPEGImages", "bmp", "SegmentationClassAug", root)
    (root / "ImageSets/Segmentation/val.txt").write_text(text)
    [sample] = datasets.voc(root)
    assert (sample.name, sample.truth().max()) == ("a", 7)


def test_pictures_of_one_stem_in_two_folders_are_two(tmp_path):
    root = write_voc(tmp_path, b"x", ("a",))
    (root / "more").mkdir()
    picture(3).save(root / "more/a.jpg")
    write_mask(np.full((8, 12), 9, np.uint8), root / "more/a.png")
    text = "JPEGImages/a.png SegmentationClass/a.png\nmore/a.jpg more/a.png\n"
    (root / "ImageSets/Segmentation/val.txt").write_text(text)
    assert names(root) == ["JPEGImages/a.png", "more/a.jpg"]
    assert [sample.truth().max() for sample in datasets.voc(root)] == [1, 9]


def test_a_name_in_the_other_form_of_its_letters_is_found(tmp_path):
    apart, joined = (unicodedata.normalize(form, "caf\u00e9") for form in ("NFD", "NFC"))
    assert names(write_voc(tmp_path / "one", joined.encode(), (apart,))) == [apart]
    assert names(write_voc(tmp_path / "other", apart.encode(), (joined,))) == [joined]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (TEXT.encode("utf-16-le"), "holds zero bytes.*UTF-8"),
        (b"\xff\xfea", "begins like utf-16 but is not"),
        (b"a 1\nb -1\n", "line 1 is 'a 1': a list of one class"),
        (b"a\n\nb  0\n", "line 3 is 'b  0': a list of one class"),
        (b"a\nb.jpg\n", r"line 2 is 'b\.jpg', and no such picture is there"),
        (b"a,b\n", "line 1 is 'a,b', and no such"),
        (b"# names\na\n", "line 1 is '# names', and no such"),
        (b"JPEGImages/a.png SegmentationClass/c.png\n", r"line 1 is .*c\.png', and no such"),
        (b"a b\n", "line 1 is 'a b', and no such"),
        (b"\xef\xbb\xbf\r\n", "lists no names"),
        (b"a\nb\na.png\n", "more than once: 'a'$"),
        (b"a\nJPEGImages/a.png SegmentationClass/b.png\n", "more than once: 'a'$"),
    ],
)
def test_a_line_of_unknown_meaning_is_refused_with_the_list(tmp_path, data, words):
    with pytest.raises(FslabError, match=rf"val\.txt'.*{words}"):
        datasets.voc(write_voc(tmp_path, data))


def test_a_name_of_two_pictures_says_so_only_where_it_is_listed(tmp_path):
    root = write_voc(tmp_path, b"b\n", ("a", "b"))
    picture(5).save(root / "JPEGImages/a.jpg")
    assert names(root) == ["b"]
    listed = root / "ImageSets/Segmentation/val.txt"
    listed.write_text("a\nb\n")
    with pytest.raises(FslabError, match=r"'a\.jpg' and 'a\.png': one name for two pictures"):
        datasets.voc(root)
    listed.write_text("a.jpg\nb\n")
    assert datasets.voc(root).samples[0].path.name == "a.jpg"
    listed.write_text("a.jpg\na.png\n")
    assert names(root) == ["a.jpg", "a.png"]


def test_a_name_that_is_another_picture_s_file_too_is_refused(tmp_path):
    """Windows hides endings, so that people save `a.png.png`: its name is the file `a.png`."""
    root = write_voc(tmp_path, b"a.png\n", ("a", "a.png"))
    with pytest.raises(FslabError, match=r"name of 'a\.png\.png' and the file 'a\.png'"):
        datasets.voc(root)
    listed = root / "ImageSets/Segmentation/val.txt"
    for line, file in {"a": "a.png", "JPEGImages/a.png": "a.png", "a.png.png": "a.png.png"}.items():
        listed.write_text(line)
        assert datasets.voc(root).samples[0].path.name == file


def test_the_endings_are_all_that_pillow_knows_of_what_is_read():
    Image.init()
    formats = {*FORMATS, "MPO"}
    assert {
        ending for ending, kind in Image.registered_extensions().items() if kind in formats
    } == {*SUFFIXES}


def save_as(path):
    """Save a picture in the format of a file's ending."""
    ending = path.suffix.lower()
    image = picture(1)
    if ending == ".pfm":
        image = image.convert("F")
    if ending == ".pbm":
        image = image.convert("1")
    if ending == ".pgm":
        image = image.convert("L")
    kind = {".jfif": "JPEG", ".mpo": "JPEG", ".apng": "PNG"}.get(ending)
    image.save(path, kind)


@pytest.mark.parametrize("change", [str.lower, str.upper, str.capitalize])
def test_every_ending_is_found_in_every_layout(tmp_path, change):
    root = write_voc(tmp_path / "voc", b"x", ())
    expected = [f"p_{ending[1:]}" for ending in sorted(SUFFIXES)]
    for name, ending in zip(expected, sorted(SUFFIXES), strict=True):
        save_as(root / f"JPEGImages/{name}.{change(ending[1:])}")
        write_mask(np.zeros((8, 12), np.uint8), root / f"SegmentationClass/{name}.png")
    (root / "ImageSets/Segmentation/val.txt").write_text("\n".join(expected))
    assert names(root) == expected
    found = datasets.folder(root / "JPEGImages", root / "SegmentationClass")
    assert sorted(sample.name for sample in found) == sorted(expected)
    assert not found.oddities
    assert all(sample.picture().size == (8, 12) for sample in found)


LEFT = {
    "notes.txt": "'.txt'",
    "vector.svg": "'.svg'",
    "deep.jp2": "'.jp2'",
    "README": "no ending",
    ".hidden.png": "is hidden",
    "sub": "is a folder",
}


def folder_with_others(root):
    root.mkdir()
    for name in LEFT:
        if name == "sub":
            (root / name).mkdir()
        else:
            (root / name).write_bytes(b"x")
    for name in ("one.JPEG", "two.tif", "three.WebP"):
        picture().save(root / name)
    return root


def test_what_a_folder_holds_beside_pictures_is_named(tmp_path):
    found = datasets.folder(folder_with_others(tmp_path / "mixed"))
    assert len(found) == 3
    assert {odd.where for odd in found.oddities} == LEFT.keys()
    assert all(LEFT[odd.where] in odd.why for odd in found.oddities)


def test_a_mask_that_a_list_gives_to_two_pictures_is_named(tmp_path):
    lines = [f"JPEGImages/{name}.png SegmentationClass/a.png" for name in ("a", "b")]
    found = datasets.voc(write_voc(tmp_path / "set", "\n".join(lines).encode()))
    assert [odd.kind for odd in found.oddities] == ["one mask for several pictures"]
    assert "mask of 2 pictures, 'a' first" in found.oddities[0].why


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes here")
def test_a_pipe_called_like_a_picture_keeps_nobody_waiting(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    picture().save(tmp_path / "a.png")
    found = datasets.folder(tmp_path)
    (odd,) = glance(found)
    assert "is not an ordinary file" in odd.why
    with pytest.raises(FslabError, match="is not an ordinary file"):
        found.samples[1].picture()


def test_a_folder_of_masks_names_what_was_left_too(tmp_path):
    for place in ("pictures", "masks"):
        (tmp_path / place).mkdir()
    picture().save(tmp_path / "pictures/a.png")
    write_mask(np.zeros((8, 12), np.uint8), tmp_path / "masks/a.png")
    for left in ("a.overlay.png", "a.json", "b.png"):
        write_mask(np.zeros((8, 12), np.uint8), tmp_path / "masks" / left)
    found = datasets.folder(tmp_path / "pictures", tmp_path / "masks")
    assert {odd.where for odd in found.oddities} == {"a.overlay.png", "a.json", "b.png"}


@pytest.mark.parametrize("command", ["segment", "evaluate"])
def test_a_folder_command_says_what_it_took_and_what_it_left(run, tmp_path, command):
    root, out = folder_with_others(tmp_path / "mixed"), tmp_path / "out"
    how = ("--backbone", "rgb", "--out", out)
    words = how if command == "segment" else (*how, "--cluster", "kmeans")
    code, said, wrong = run(command, root, *words)
    assert code == 0, wrong
    assert "mixed: 3 pictures; 6 left: " in wrong
    for name in LEFT:
        assert repr(name) in wrong
    assert {name for name in os.listdir(out) if name.count(".") == 1 and name.endswith("png")} == {
        "one.png", "two.png", "three.png",
    }  # fmt: skip
    assert said is not None


def test_a_folder_without_pictures_is_refused(run, tmp_path):
    (tmp_path / "none").mkdir()
    (tmp_path / "none/notes.txt").write_text("x")
    code, _, wrong = run("segment", tmp_path / "none", "--backbone", "rgb", "--out", tmp_path / "o")
    assert code == 2
    assert "'notes.txt' ends in '.txt'" in wrong
    assert "holds no pictures" in wrong.splitlines()[-1]


def test_two_samples_of_one_name_are_refused(tmp_path):
    picture().save(tmp_path / "f.png")
    sample = datasets.Sample("f", tmp_path / "f.png")
    with pytest.raises(FslabError, match="2 samples called 'f'"):
        Dataset("twice", datasets.VOC, "all", (sample, sample))


def test_a_folder_with_a_lists_name_is_no_list_and_no_file_has_a_long_name(tmp_path):
    root = write_voc(tmp_path / "set", f"{'x' * 5000}.png {'y' * 5000}.png\n".encode())
    with pytest.raises(FslabError, match="no such picture is there"):
        names(root)
    (root / "ImageSets/Segmentation/val.txt").unlink()
    (root / "ImageSets/Segmentation/val.txt").mkdir()
    with pytest.raises(FslabError, match="has no split 'val'"):
        names(root)
