"""What is taken for a picture, everywhere: a path, a PIL image, an array or lists of numbers."""

import importlib
import inspect
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import plotly.graph_objects as go
import pytest
from conftest import noise_picture
from PIL import Image
from raw_pictures import GREY, GREY_ALPHA, RGB, RGBA, png

import fslab
from fslab import extract, match, plots, refine
from fslab.batches import Batch
from fslab.cluster import fit_components
from fslab.correspond import correspond, mutual_neighbours
from fslab.datasets import VOC
from fslab.lab import Lab
from fslab.records import (
    Extraction,
    Features,
    FslabError,
    JointCrf,
    LabelMap,
    Matching,
    Picture,
    Refinement,
    Segments,
)

SIDE = 32
PIXELS = noise_picture(SIDE, SIDE).pixels
SEGMENTS = Segments(np.arange(SIDE * SIDE).reshape(SIDE, SIDE) // (SIDE * SIDE // 2))
LABELS = LabelMap(SEGMENTS.labels, VOC.names)
BELIEVED = LabelMap(
    LABELS.labels,
    VOC.names,
    beliefs={
        label: np.float32(0.3) + np.float32(0.4) * (LABELS.labels == label) for label in (0, 1)
    },
)
CHOICES = {"layers": ["mid_block"], "timesteps": [50], "ks": [2, 3], "progress": False}
MAPS = {"mid": np.ones((4, 4), np.float32)}
FEATURES = Features({"mid": np.random.default_rng(0).normal(size=(5, 4, 4))}, (SIDE, SIDE))
WORDS = ["dog", "cat"]
FOUND = correspond(FEATURES, (1, 1), FEATURES)
NEAR = mutual_neighbours(FEATURES, FEATURES)
ENERGY = refine.label_energy(SEGMENTS.labels, JointCrf())


def forms(folder: Path) -> dict[str, object]:
    """Return one picture in all its forms, all of which are called "picture"."""
    path = folder / "picture.png"
    Image.fromarray(PIXELS).save(path)
    return {
        "a Picture": Picture(PIXELS), "a text": str(path), "a Path": path,
        "a url": path.as_uri(), "an opened image": Image.open(path),
        "an image": Image.fromarray(PIXELS), "an array": PIXELS, "lists": PIXELS.tolist(),
        "floats": PIXELS / 255, "with alpha": np.dstack([PIXELS, np.full((SIDE, SIDE), 255, "u1")]),
    }  # fmt: skip


def explored(open_it):
    """Return what an explorer has for the picture that it was given, alone and in a list."""

    def asked(lab, given):
        if isinstance(given, list):
            given = [given]  # of lists: a list is several pictures
        shown = open_it(lab, given)._pictures.subjects
        listed = open_it(lab, [given] if not isinstance(given, list) else given)._pictures.subjects
        return [subject.picture.digest for each in (shown, listed) for subject in each.values()]

    return asked


def stored(lab):
    return lab.backbone, lab.store


def readings(lab, picture):
    return match.Patches(picture, lab.matcher).encode(SEGMENTS.masks())


def gallery(lab, picture):
    return plots.gallery([plots.GalleryRow(picture, SEGMENTS)], "a title", "a note")


def fitted(lab, picture):
    return lab.components([picture], "kmeans", 2)


def banked(lab, picture):
    with TemporaryDirectory() as folder:
        return lab.bank([picture], "freeseg-diff", out=f"{folder}/bank.safetensors").values


THREE = fit_components(np.eye(4, dtype=np.float32))
LOWEST = Matching(assignment="argmax")

TAKERS = {
    "Lab.caveat": lambda lab, picture: lab.caveat(picture),
    "Lab.extract": lambda lab, picture: lab.extract(picture),
    "Lab.extract_many": lambda lab, picture: lab.extract_many([picture]),
    "Lab.extract_all": lambda lab, picture: list(lab.extract_all([picture])),
    "Lab.bank": banked,
    "Lab.tune": lambda lab, picture: lab.tune([picture], **CHOICES).table(),
    "Lab.attention": lambda lab, picture: lab.attention(picture, WORDS),
    "Lab.correspond": lambda lab, picture: lab.correspond(picture, (3, 5), picture).likeness,
    "Lab.mutual_neighbours": lambda lab, picture: lab.mutual_neighbours(picture, picture).cosines,
    "Lab.instances": lambda lab, picture: lab.instances(picture, LABELS, by="pieces").things,
    "Lab.edges": lambda lab, picture: lab.edges(picture, layers="*.attn1.probs"),
    "Lab.components": lambda lab, picture: lab.components([picture], "kmeans", 2).vectors,
    "Lab.cosegment": lambda lab, picture: list(lab.cosegment([picture], 2)),
    "Lab.in_components": lambda lab, picture: lab.in_components(picture, fitted(lab, picture)),
    "Lab.common_labels": lambda lab, picture: lab.common_labels(picture, fitted(lab, picture)),
    "Lab.caption": lambda lab, picture: lab.caption(picture).text,
    "Lab.match": lambda lab, picture: lab.match(picture, SEGMENTS, WORDS),
    "Lab.score_segments": lambda lab, picture: lab.score_segments(picture, SEGMENTS, WORDS),
    "Lab.refine": lambda lab, picture: lab.refine(picture, LABELS),
    "Lab.segments": lambda lab, picture: lab.segments(picture),
    "Lab.timed_segments": lambda lab, picture: lab.timed_segments(picture)[0],
    "Lab.segment": lambda lab, picture: lab.segment(picture, candidates=WORDS),
    "Lab.segment_many": lambda lab, picture: list(lab.segment_many([picture], candidates=WORDS)),
    "read": lambda lab, picture: fslab.read(picture).pixels,
    "show": lambda lab, picture: fslab.show(picture, picture),
    "crf": lambda lab, picture: fslab.crf(picture, LABELS),
    "extract.extract": lambda lab, picture: extract.extract(picture, Extraction(), *stored(lab)),
    "extract.extract_many": lambda lab, picture: extract.extract_many(
        [picture], Extraction(), *stored(lab), Batch(1)
    ),
    "match.match": lambda lab, picture: match.match(
        picture, SEGMENTS, VOC, WORDS, LOWEST, lab.matcher
    ),
    "match.name_segments": lambda lab, picture: match.name_segments(
        picture, SEGMENTS, VOC, [], LOWEST, None, None
    ),
    "match.score_segments": lambda lab, picture: match.score_segments(
        picture, SEGMENTS, VOC, WORDS, LOWEST, lab.matcher
    ),
    "match.views": lambda lab, picture: match.views(picture, SEGMENTS, LOWEST),
    "match.walk_beliefs": lambda lab, picture: match.walk_beliefs(
        picture, BELIEVED, Matching(assignment="vote", spread_trust=0.1)
    ),
    "match.Patches": readings,
    "refine.refine": lambda lab, picture: refine.refine(picture, LABELS, Refinement.of()),
    "refine.dense_crf": lambda lab, picture: refine.dense_crf(picture, ENERGY, JointCrf()),
    "plots.overlay": lambda lab, picture: plots.overlay(picture, LABELS),
    "plots.segment_picture": lambda lab, picture: plots.segment_picture(picture, SEGMENTS),
    "plots.component_maps": lambda lab, picture: plots.component_maps(
        [picture], [np.zeros((3, 2, 2), np.float32)], THREE
    ),
    "plots.feature_colours": lambda lab, picture: plots.feature_colours(FEATURES, picture=picture),
    "plots.cell_maps": lambda lab, picture: plots.cell_maps(picture, MAPS, "a title", "colour"),
    "plots.similarities": lambda lab, picture: plots.similarities(FEATURES, (1, 1), picture),
    "plots.similarity": lambda lab, picture: plots.similarity(FEATURES, "mid", (1, 1), picture),
    "plots.value_maps": lambda lab, picture: plots.value_maps(
        picture, {"one": np.ones((SIDE, SIDE))}, "a title", "colour"
    ),
    "plots.correspondences": lambda lab, picture: plots.correspondences(picture, FOUND, picture),
    "plots.likeness_picture": lambda lab, picture: plots.likeness_picture(
        picture, FOUND.likeness[0]
    ),
    "plots.neighbours": lambda lab, picture: plots.neighbours(picture, NEAR, picture),
    "plots.grid": lambda lab, picture: plots.grid([[picture, LABELS]], ["picture", "named"]),
    "plots.GalleryRow": gallery,
}  # fmt: skip

EXPLORERS = (
    "explore_correspondence",
    "explore_features",
    "explore_clusters",
    "explore_matching",
    "explore_refinement",
)
for name in (*EXPLORERS, "segment_yours"):
    TAKERS[f"widgets.{name}"] = explored(
        lambda lab, given, name=name: getattr(importlib.import_module("fslab.widgets"), name)(
            lab, given
        )
    )


def plain(found):
    """Return what a function gave as data that compare."""
    if isinstance(found, go.Figure):
        return found.to_json()
    if isinstance(found, Features):
        return {layer: value.tolist() for layer, value in found.items()}
    if isinstance(found, (Segments, LabelMap)):
        return found.labels.tolist()
    if isinstance(found, match.Match):
        return found.probabilities.tolist()
    if isinstance(found, dict):
        return {name: plain(each) for name, each in found.items()}
    if isinstance(found, (list, tuple)):
        return [plain(each) for each in found]
    if hasattr(found, "picture"):
        return found.picture.name, found.picture.digest, plain(found.labels)
    return (found.shape, found.tobytes()) if isinstance(found, np.ndarray) else found


@pytest.fixture(scope="module")
def lab(tiny, tmp_path_factory):
    return Lab(tiny, store=tmp_path_factory.mktemp("taken"))


@pytest.mark.parametrize("taker", TAKERS)
def test_every_form_of_a_picture_is_the_same_picture(lab, taker, tmp_path):
    given = forms(tmp_path)
    wanted = plain(TAKERS[taker](lab, given.pop("a Picture")))
    if taker.startswith("widgets."):
        wanted = wanted[:1] * 2
    for form, one in given.items():
        if taker.startswith("widgets.") and form == "lists":
            continue  # of which each would be a picture
        assert plain(TAKERS[taker](lab, one)) == wanted, form


@pytest.mark.parametrize("taker", TAKERS)
def test_what_is_no_picture_is_refused_by_what_to_give(lab, taker):
    def errors(given):
        found = TAKERS[taker](lab, given)  # of many, the others go on: a refusal stands for it
        for each in found if isinstance(found, list) else ():
            if isinstance(each, FslabError):
                raise each

    for missing in ("no/such.png", Path("no/such.png")):
        with pytest.raises(FslabError, match=r"such\.png' does not exist"):
            errors(missing)
    with pytest.raises(FslabError, match=r"give .*(uint8 \[H, W, 3\]|data set, pictures)"):
        errors(7)


def takes_a_picture(function):
    error = inspect.isclass(function) and issubclass(function, Exception)
    if error or not (inspect.isroutine(function) or inspect.isclass(function)):
        return False
    names = ("PictureLike", "Pictures", "Given", "Source", "Stage")
    said = [str(each.annotation) for each in inspect.signature(function).parameters.values()]
    return any(each == "Picture" or any(name in each for name in names) for each in said)


def test_the_table_above_holds_every_public_function_that_takes_a_picture():
    """`fslab.backbones` is what stands below: a backbone is given a `Picture`."""
    found = {
        f"Lab.{name}" for name, each in inspect.getmembers(Lab, inspect.isfunction)
        if not name.startswith("_") and takes_a_picture(each)
    }  # fmt: skip
    for room in ("extract", "match", "refine", "plots", "cluster", "captions", "widgets"):
        module = importlib.import_module(f"fslab.{room}")
        names = getattr(module, "__all__", ("extract", "extract_many"))
        found |= {f"{room}.{name}" for name in names if takes_a_picture(getattr(module, name))}
    found |= {
        name for name in fslab.__all__
        if name != "Result" and takes_a_picture(getattr(fslab, name))
    }  # fmt: skip
    explorers = {name for name in found if name.startswith("widgets.") and name[8].isupper()}
    beside = {"plots.show", "refine.crf"}  # the same as fslab's own
    below = {"swap", "mean_over"}  # edits stand below what reads files
    assert found - explorers - beside - below == set(TAKERS)


GREYS = np.arange(0, 256, 8, dtype=np.uint8).reshape(4, 8)
COLOURS = np.random.default_rng(1).integers(0, 256, (4, 8, 3), dtype=np.uint8)
DEEP = np.random.default_rng(2).integers(0, 65536, (4, 8, 4), dtype=np.uint16)
CLEAR = np.random.default_rng(3).integers(0, 256, (4, 8, 4), dtype=np.uint8)
ARRAYS = {
    "grey": (GREYS, 8, GREY), "one channel": (GREYS[..., None], 8, GREY), "RGB": (COLOURS, 8, RGB),
    "RGBA": (CLEAR, 8, RGBA), "grey and alpha": (CLEAR[..., :2], 8, GREY_ALPHA),
    "deep grey": (DEEP[..., 0], 16, GREY), "deep, one channel": (DEEP[..., :1], 16, GREY),
    "deep RGB": (DEEP[..., :3], 16, RGB), "deep RGBA": (DEEP, 16, RGBA),
}  # fmt: skip


@pytest.mark.parametrize("what", ARRAYS)
def test_an_array_is_what_its_file_is(what, tmp_path):
    array, depth, kind = ARRAYS[what]
    (tmp_path / "a.png").write_bytes(png(array, depth, kind))
    wanted = fslab.read(tmp_path / "a.png").pixels
    for given in (array, np.asfortranarray(array), array.astype(array.dtype.newbyteorder(">"))):
        assert fslab.read(given).pixels.tolist() == wanted.tolist()


def test_floats_and_truth_values_are_shares_of_white():
    every = np.arange(256, dtype=np.uint8).reshape(16, 16)
    for kind in (np.float16, np.float32, np.float64):
        assert np.array_equal(fslab.read((every / 255).astype(kind)).pixels[..., 0], every)
    assert np.array_equal(fslab.read(every > 99).pixels[..., 1], np.where(every > 99, 255, 0))
    assert np.array_equal(fslab.read(CLEAR / 255).pixels, fslab.read(CLEAR).pixels)


def test_an_image_is_turned_and_named_as_its_file(tmp_path):
    path = tmp_path / "holiday.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(PIXELS[:16]).save(path, exif=exif)
    found = fslab.read(Image.open(path))
    assert (found.name, found.size) == ("holiday", (SIDE, 16))
    assert np.array_equal(found.pixels, fslab.read(path).pixels)
    assert np.array_equal(
        fslab.read(Image.open(path).convert("RGB")).pixels, fslab.read(path).pixels
    )


def test_pixels_that_are_right_are_not_copied():
    assert fslab.read(PIXELS).pixels is PIXELS
    picture = Picture(PIXELS)
    assert fslab.read(picture) is picture


def test_pictures_that_cannot_be_read_stand_beside_those_that_can(lab, tmp_path):
    given = forms(tmp_path)
    mixed = [given["a Path"], "no/such.png", given["an array"], PIXELS[..., :0]]
    for found in (lab.extract_many(mixed), list(lab.segment_many(mixed, candidates=WORDS))):
        assert [isinstance(each, FslabError) for each in found] == [False, True, False, True]


WRONG = {
    r"pixels are int64 \[2, 2, 3\] from 0 to 0, of which.*uint8": np.zeros((2, 2, 3), np.int64),
    r"floats must be 0 to 1: divide": np.full((2, 2, 3), 255.0),
    r"from -0.1 to 1": np.linspace(-0.1, 1, 12).reshape(2, 2, 3),
    "hold NaN or infinity": np.full((2, 2, 3), np.nan),
    r"channels come last: np.moveaxis": np.zeros((3, 8, 8), np.uint8),
    r"several pictures go to lab.segment_many": np.zeros((2, 8, 8, 3), np.uint8),
    r"they must be \[H, W, 3\]": np.zeros((8, 8, 7), np.uint8),
    "with one pixel at least": np.zeros((0, 8, 3), np.uint8),
    "MaskedArray": np.ma.masked_array(PIXELS),
    r"complex128 \[2, 2, 3\]": np.zeros((2, 2, 3), complex),
    "NoneType": None,
    "a list of 2 pictures stands where one is taken.*segment_many": ["a.png", "b.png"],
    "lists of different lengths": [[[1, 2, 3]], [[1, 2]]],
    r"lists of shape \[1, 1, 2\]": [[[1, 2]]],
    "from 0 to 256; give lists": [[[0, 1, 256]]],
    r"lists of float64 \[1, 1, 3\] from 0 to 0.5": [[[0.0, 0.5, 0.5]]],
    "builtins bytes|is bytes": b"picture.png",
    "is a folder": ".",
}


@pytest.mark.parametrize("said", WRONG)
def test_what_is_no_picture_is_said_to_be_none(said):
    with pytest.raises(FslabError, match=said):
        fslab.read(WRONG[said])


@pytest.mark.parametrize("one", ["picture.png", Path("picture.png"), Picture(PIXELS), PIXELS,
                                 Image.fromarray(PIXELS), b"picture.png", 7, None],
                         ids=lambda each: type(each).__name__)  # fmt: skip
def test_one_picture_is_refused_where_several_are_taken(lab, one):
    for take in (lab.extract_many, lab.segment_many):
        with pytest.raises(FslabError, match="give a list of pictures"):
            take(one)
