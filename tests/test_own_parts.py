"""What a function of one's own hands on: the right answer, or a sentence at the stage's door."""

import numpy as np
import pytest
import torch
from conftest import CELL_METHODS, clustering_by, noise_picture

from fslab.cluster import cluster, project
from fslab.lab import Lab
from fslab.plots import feature_colours, overlay, similarity
from fslab.plots.draw import pca_colours
from fslab.records import (
    Caption,
    Features,
    FslabError,
    LabelMap,
    Picture,
    Refinement,
    Segments,
)
from fslab.refine import refine

SIZE = (32, 32)
NAMES = ("background", "dog", "cat")


def cells(value=None):
    """Return maps of numbers, one of which is as given."""
    maps = np.random.default_rng(0).normal(size=(5, 4, 4)).astype(np.float32)
    if value is not None:
        maps[2, 1, 1] = value
    return maps


def overflown():
    """Return what a layer in half precision gives that overflows: 300 squared is above 65,504."""
    with np.errstate(over="ignore"):
        return (cells(300).astype(np.float16) ** 2).astype(np.float16)


BAD = {
    "NaN": cells(np.nan), "infinity": cells(np.inf), "below all": cells(-np.inf),
    "too large": cells(1e25), "half": overflown(),
}  # fmt: skip


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("method", [*CELL_METHODS, "merge"])
@pytest.mark.parametrize("normalise", ["none", "l2"])
def test_every_clustering_refuses_what_is_no_finite_number_by_the_layer(method, bad, normalise):
    features = Features({"mid": cells(), "own.layer": BAD[bad]}, SIZE, "pic")
    settings = clustering_by(method, k=3, normalise=normalise)
    with pytest.raises(FslabError, match=r"pic: layer 'own\.layer' holds"):
        cluster(features, settings)


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("how", ["PCA", "UMAP"])
def test_every_projection_refuses_it(how, bad):
    with pytest.raises(FslabError, match="cells holds"):
        project(BAD[bad].reshape(5, -1).T, how)


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize(
    "draw",
    [
        lambda value: pca_colours(value),
        lambda value: feature_colours(Features({"x": value}, SIZE)),
        lambda value: similarity(Features({"x": value}, SIZE), "x", (1, 1)),
    ],
)
def test_every_figure_of_features_refuses_it(draw, bad):
    with pytest.raises(FslabError, match="holds"):
        draw(BAD[bad])


NO_MAPS = {
    "a list": cells().tolist(), "a tensor": torch.ones(2, 3, 3), "objects": cells().astype(object),
    "text": np.array([[["a"]]]), "complex": cells().astype(complex), "a matrix": cells()[0],
    "no channel": cells()[:0], "no cell": cells()[:, :0], "a batch": cells()[None], "None": None,
    "truth values": cells() > 0,
}  # fmt: skip


@pytest.mark.parametrize("what", NO_MAPS)
def test_what_is_no_feature_map_is_refused_by_the_layer(what):
    with pytest.raises(FslabError, match=r"features of 'x' are .*\[C, h, w\]"):
        Features({"x": NO_MAPS[what]}, SIZE)


@pytest.mark.parametrize("size", [(0, 3), (3,), 5, None, (2.5, 3), (-1, 2)])
def test_what_is_no_size_is_refused(size):
    with pytest.raises(FslabError, match="it must be a height and a width"):
        Features({"x": cells()}, size)


SAME = {
    "big-endian": lambda v: v.astype(">f4"), "read-only": lambda v: np.broadcast_to(v, v.shape),
    "Fortran's order": np.asfortranarray, "doubles": lambda v: v.astype(np.float64),
    "every second of more": lambda v: np.repeat(v, 2, 0)[::2],
}  # fmt: skip


@pytest.mark.parametrize("how", SAME)
@pytest.mark.parametrize("method", ["kmeans", "agglomerative", "ncut"])
def test_the_same_numbers_laid_out_otherwise_are_the_same_segments(how, method):
    settings = clustering_by(method, k=3, tau=1.0)
    found = [
        cluster(Features({"x": given}, SIZE), settings) for given in (cells(), SAME[how](cells()))
    ]
    assert np.array_equal(found[0].labels, found[1].labels)


def test_one_cell_and_one_pixel_are_answered():
    for method in CELL_METHODS:
        one = cluster(Features({"x": cells()[:, :1, :1]}, (1, 1)), clustering_by(method, k=1))
        assert one.labels.tolist() == [[0]]


def grid(*numbers):
    return np.array(numbers).reshape(1, -1)


NO_SEGMENTS = {
    "floats": grid(0.0, 1.0), "a list": [[0, 1]], "a tensor": torch.zeros(2, 2, dtype=torch.int32),
    "objects": grid(0, 1).astype(object), "negative": grid(-1, 0), "a gap": grid(0, 2),
    "from one": grid(1, 2), "far too high": grid(0, 2**40), "no pixel": np.zeros((0, 3), int),
    "one row": np.zeros(3, int), "masks": np.zeros((2, 4, 4), int), "None": None,
}  # fmt: skip


@pytest.mark.parametrize("what", NO_SEGMENTS)
def test_what_are_no_segments_is_refused(what):
    with pytest.raises(FslabError, match="segments"):
        Segments(NO_SEGMENTS[what])


@pytest.mark.parametrize("kind", ["u1", ">i4", "i8", "u8", "?"])
def test_whole_numbers_of_any_kind_are_segments(kind):
    found = Segments(np.asfortranarray(grid(0, 1, 1, 0).astype(kind)))
    assert (found.labels.dtype, found.count, found.labels.tolist()) == (np.int32, 2, [[0, 1, 1, 0]])
    assert Segments(np.arange(300).reshape(10, 30)).count == 300


def test_other_segmentations_are_of_the_same_picture():
    with pytest.raises(FslabError, match=r"others of segments hold .*of the same 1 x 2 pixels"):
        Segments(grid(0, 1), (Segments(grid(0, 1, 2)),))
    with pytest.raises(FslabError, match="others of segments hold"):
        Segments(grid(0, 1), (grid(0, 1),))


NO_LABELS = {
    "floats": grid(0.0, 1.0), "too high": grid(0, 256), "negative": grid(-1), "a list": [[0]],
    "a tensor": torch.zeros(2, 2, dtype=torch.uint8), "no pixel": np.zeros((3, 0), np.uint8),
    "a row": np.zeros(3, np.uint8),
}  # fmt: skip


@pytest.mark.parametrize("what", NO_LABELS)
def test_what_is_no_label_map_is_refused(what):
    with pytest.raises(FslabError, match="label map"):
        LabelMap(NO_LABELS[what], NAMES)


@pytest.mark.parametrize("kind", ["i4", ">i8", "u2", "?"])
def test_whole_numbers_of_any_kind_are_labels(kind):
    found = LabelMap(grid(0, 1).astype(kind), list(NAMES))
    assert (found.labels.dtype, found.names) == (np.uint8, NAMES)
    assert LabelMap(grid(0, 7), NAMES).shares() == {"background": 0.5, "class 7": 0.5}


@pytest.mark.parametrize("names", ["dog", [1, 2], 5])
def test_names_are_words(names):
    with pytest.raises(FslabError, match="names"):
        LabelMap(grid(0, 1), names)
    with pytest.raises(FslabError, match="candidates"):
        Caption("a dog", (), names)


@pytest.mark.parametrize(
    "belief",
    [[[0.5]], np.ones((2, 2), np.float32), np.ones((1, 2), int), torch.ones(1, 2)],
    ids=str,
)
def test_beliefs_are_of_every_pixel(belief):
    with pytest.raises(FslabError, match="belief in label 1 is"):
        LabelMap(grid(0, 1), NAMES, beliefs={1: belief})


@pytest.mark.parametrize("method", ["crf", "crf-joint", "pamr"])
def test_beliefs_that_are_no_numbers_are_refused(method):
    bad = np.full(SIZE, np.nan, np.float32)
    labels = LabelMap(np.zeros(SIZE, np.uint8), NAMES, beliefs={0: bad, 1: bad})
    with pytest.raises(FslabError, match="belief in label 0 holds NaN"):
        refine(noise_picture(*SIZE), labels, Refinement.of(method=method))


@pytest.mark.parametrize(
    "beliefs", [None, [np.ones((1, 2))], {"0": 1}, {True: 1}, {256: 1}], ids=str
)
def test_beliefs_are_a_dict_by_label(beliefs):
    with pytest.raises(FslabError, match="belief"):
        LabelMap(grid(0, 1), NAMES, beliefs=beliefs)


def test_beliefs_are_probabilities_of_every_label():
    """Scores of another kind (logits) were cut to 0 and 1, and a label without any was lost."""
    labels = np.zeros(SIZE, np.uint8)
    labels[:, 16:] = 1
    half, picture = np.full(SIZE, 0.5, np.float32), noise_picture(*SIZE)
    for wrong, said in {2.0: "0.5 to 2", -0.5: "-0.5 to 0.5"}.items():
        bad = half.copy()
        bad[0, 0] = wrong
        with pytest.raises(FslabError, match=f"belief in label 1 goes from {said}"):
            refine(picture, LabelMap(labels, NAMES, beliefs={0: half, 1: bad}), Refinement.of())
    with pytest.raises(FslabError, match=r"beliefs in \[0, 2\], and none in \[1\]"):
        refine(picture, LabelMap(labels, NAMES, beliefs={0: half, 2: half}), Refinement.of())


def test_arrays_with_a_mask_are_refused():
    """What is under a mask counts in some of numpy's functions and not in others."""
    masked = np.ma.masked_equal(np.array([[0, 1, 1], [0, 1, 0]], np.uint8), 1)
    takers = [
        lambda: Segments(masked), lambda: LabelMap(masked, NAMES),
        lambda: Features({"mid": np.ma.masked_array(cells())}, SIZE, "pic"),
        lambda: Picture(np.ma.masked_array(np.zeros((4, 4, 3), np.uint8))),
        lambda: LabelMap(grid(0, 1), NAMES, beliefs={0: np.ma.masked_array(np.ones((1, 2)))}),
    ]  # fmt: skip
    for take in takers:
        with pytest.raises(FslabError, match="MaskedArray"):
            take()


WRONG = [None, [[0, 1]], np.zeros(SIZE, np.int32), "labels", torch.zeros(SIZE)]


@pytest.mark.parametrize("wrong", WRONG, ids=lambda each: type(each).__name__)
def test_every_stage_of_a_lab_names_the_record_that_it_takes(tiny, wrong):
    lab, picture = Lab(tiny), noise_picture(*SIZE)
    segments = Segments(np.zeros(SIZE, np.int32))
    calls = {
        "Features": [lambda: lab.cluster(wrong)],
        "Segments": [
            lambda: lab.match(picture, wrong, ["dog"]),
            lambda: lab.score_segments(picture, wrong, ["dog"]),
        ],
        "LabelMap": [lambda: lab.refine(picture, wrong)],
        "Vocabulary": [lambda: lab.match(picture, segments, ["dog"], vocabulary=wrong)],
    }  # fmt: skip
    for kind, asked in calls.items():
        for call in asked:
            with pytest.raises(FslabError, match=f"give an? (fslab\\.)?{kind}"):
                call()


@pytest.mark.parametrize("layers", [None, 5, b"up_blocks.0", (3,), [None]])
def test_layers_are_words(tiny, layers):
    with pytest.raises(FslabError, match="layers"):
        Lab(tiny).extract(noise_picture(*SIZE), layers)


@pytest.mark.parametrize("candidates", ["dog", [3], None, b"dog"])
def test_candidates_are_words(tiny, candidates):
    lab, picture = Lab(tiny), noise_picture(*SIZE)
    with pytest.raises(FslabError, match="candidates"):
        lab.match(picture, Segments(np.zeros(SIZE, np.int32)), candidates)


def test_a_drawing_takes_labels_of_its_picture():
    labels = LabelMap(np.zeros((3, 3), int), NAMES)
    with pytest.raises(FslabError, match="both belong to one picture"):
        overlay(Picture(np.zeros((4, 4, 3), np.uint8)), labels)
