"""Three hundred classes: label maps of u16, from what names a pixel to what is read back."""

import json

import numpy as np
import pytest
from conftest import noise_picture
from PIL import Image

import fslab
from fslab import datasets, score
from fslab.datasets import folder, read_mask, write_mask
from fslab.evaluate import draw, evaluate
from fslab.lab import Lab
from fslab.plots import label_picture, overlay
from fslab.records import FslabError, LabelMap, Segments, Vocabulary
from fslab.score.contours import boundary

NAMES = ("background", *(f"thing{number:03}x" for number in range(1, 300)))
WORDS = Vocabulary(NAMES)
VOID = 65535


def truth_of(number, void=VOID, kind=np.uint16):
    """Return one class in a frame of void, on background."""
    truth = np.zeros((64, 64), kind)
    truth[14:50, 14:50] = void
    truth[16:48, 16:48] = number
    return truth


@pytest.fixture
def data(tmp_path):
    """Four pictures of classes 1, 255, 256 and 299; where it can, the first is of eight bits."""
    for number in (1, 255, 256, 299):
        name = f"n{number}.png"
        (tmp_path / "pictures").mkdir(exist_ok=True)
        Image.fromarray(noise_picture(64, 64, number).pixels).save(tmp_path / "pictures" / name)
        truth = truth_of(number) if number > 1 else truth_of(1, 255, np.uint8)
        write_mask(truth, tmp_path / "masks" / name)
    return folder(tmp_path / "pictures", tmp_path / "masks", WORDS)


def by_truth(picture, segments, candidates, vocabulary):
    """Name the pixels of the middle as their picture says, and two as another class."""
    labels = np.zeros((64, 64), int)
    labels[16:48, 16:48] = int(picture.name[1:])
    labels[0, :2] = 255
    return LabelMap(labels, vocabulary.names)


def test_a_label_map_has_the_type_of_its_names():
    grid = np.array([[0, 255, 256, 299]])
    assert LabelMap(grid, NAMES).labels.dtype == np.uint16
    assert LabelMap(grid, NAMES).labels.tolist() == grid.tolist()
    assert list(LabelMap(grid, NAMES).shares()) == [
        "background",
        NAMES[255],
        NAMES[256],
        NAMES[299],
    ]
    assert LabelMap(np.array([[0, 254]]), NAMES[:255]).labels.dtype == np.uint8
    assert LabelMap(np.array([[0, 1]]), NAMES[:256]).labels.dtype == np.uint16
    with pytest.raises(FslabError, match=r"of 21 names holds 0 to 299; labels are 0 to 255"):
        LabelMap(grid, NAMES[:21])
    with pytest.raises(FslabError, match=r"holds 0 to 65536; labels are 0 to 65535"):
        LabelMap(np.array([[0, 65536]]), NAMES)
    with pytest.raises(FslabError, match="label 65536; labels are 0 to 65535"):
        LabelMap(grid, NAMES, beliefs={65536: np.ones((1, 4), np.float32)})


def test_a_mask_is_read_as_it_was_written(tmp_path):
    for labels in (truth_of(299), np.arange(65536).astype(np.uint16).reshape(256, 256)):
        for given in (labels, labels.astype(">u2"), np.asfortranarray(labels)):
            write_mask(given, tmp_path / "a.png")
            found = read_mask(tmp_path / "a.png")
            assert found.dtype == np.uint16
            assert np.array_equal(found, labels)
    with pytest.raises(FslabError, match="a mask holds uint8 or uint16"):
        write_mask(labels.astype(np.int32), tmp_path / "b.png")


def test_void_is_the_largest_number_of_a_masks_depth(data):
    for sample, number in zip(data, (1, 255, 256, 299), strict=True):
        truth = sample.truth()
        assert truth.dtype == np.uint16
        assert set(np.unique(truth)) == {0, number, VOID}
    few = folder(data.samples[0].path.parent, data.samples[0].truth_path.parent)
    with pytest.raises(FslabError, match=r"labels \[256\]; this vocabulary has 0 to 20, and 65535"):
        few.samples[1 if few.samples[1].name == "n256" else 2].truth()


def test_counts_are_those_of_the_definition():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 300, (40, 50)).astype(np.uint16)
    guess = np.where(rng.random(truth.shape) < 0.6, truth, 299 - truth).astype(np.uint16)
    truth[:3] = VOID
    truth[20:, :] = 280  # long runs beside short ones
    counted = score.confusion(truth, guess, NAMES)
    expected = np.zeros((300, 300), int)
    for one, other in zip(truth.ravel(), guess.ravel(), strict=True):
        if one != VOID:
            expected[one, other] += 1
    assert np.array_equal(counted.counts, expected)
    numbers = np.unique(guess, return_inverse=True)[1].reshape(guess.shape).astype(np.int32)
    segments = Segments(numbers)
    best = score.oracle(segments, truth, NAMES).labels
    for one in range(segments.count):
        here = truth[(numbers == one) & (truth != VOID)]
        wanted = np.bincount(here).argmax() if here.size else 0
        assert set(best[numbers == one]) == {wanted}
    assert boundary(truth, truth).figures() == (1.0, 1.0, 1.0)
    small = truth % 200
    wide = score.confusion(np.where(truth == VOID, VOID, small).astype("u2"), small, NAMES[:200])
    byte = np.where(truth == VOID, 255, small).astype(np.uint8)
    same = score.confusion(byte, small.astype(np.uint8), NAMES[:200])
    assert np.array_equal(wide.counts, same.counts)


def test_labels_that_are_no_class_are_refused_shortly():
    truth, guess = truth_of(299), truth_of(12)
    with pytest.raises(
        score.UnknownLabels, match=r"labels \[300\] on pixels that count; there are"
    ):
        score.confusion(truth, truth_of(300, 0), NAMES)
    with pytest.raises(FslabError, match=r"labels \[300\]; there are 0 to 299, and 65535 for void"):
        score.confusion(truth_of(300), guess * 0, NAMES)
    many = np.arange(400, 400 + 64 * 64).astype(np.uint16).reshape(64, 64)
    with pytest.raises(FslabError, match=r"labels 400 to 4495 \(4096 of them\)"):
        score.confusion(many, guess * 0, NAMES)


def test_an_evaluation_reads_back_what_it_wrote(data, tmp_path):
    lab = Lab("mini", "rgb", store=tmp_path / "store")
    report = evaluate(
        lab, data, "diffcut", out=tmp_path / "out", progress=False, match=by_truth, refine="none"
    )
    ious = {NAMES[number]: 1.0 for number in (1, 255, 256, 299)}
    ious[NAMES[255]] = 1024 / (1024 + 2 * 3 + 2)
    found = {name: value for name, value in report.score.iou.items() if value is not None}
    assert found.pop("background") < 1
    assert found == pytest.approx(ious)
    again = evaluate(
        lab, data, "diffcut", out=tmp_path / "out", progress=False, match=by_truth, refine="none"
    )
    assert again.score == report.score
    drawn = draw(lab, data, lab.recipe("diffcut", match=by_truth, refine="none"), tmp_path / "new")
    assert drawn.refused == {}
    mask = read_mask(tmp_path / "new" / "n299.png")
    assert set(np.unique(mask)) == {0, 255, 299}


def test_a_whole_method_names_and_sharpens_a_class_beyond_255(tiny):
    lab, picture = Lab(tiny), noise_picture(64, 64)
    words = Vocabulary((*NAMES, "dog", "cat"))
    for method in ("fslab", "freeseg-diff"):
        found = lab.segment(picture, method, words, candidates=["dog", "cat"])
        assert found.labels.labels.dtype == np.uint16
        assert set(np.unique(found.named.labels)) <= {0, 300, 301}
        assert set(np.unique(found.named.labels)) & {300, 301}
        assert set(found.labels.scores) <= {"dog", "cat"}
        again = lab.segment(picture, method, words, candidates=["dog", "cat"])
        assert np.array_equal(found.labels.labels, again.labels.labels)


def test_the_command_line_scores_them(run, data, tmp_path):
    truths, guesses = data.samples[0].truth_path.parent, tmp_path / "guesses"
    for sample in data:
        truth = sample.truth()
        truth[truth == VOID] = 7
        write_mask(truth, guesses / f"{sample.name}.png")
    listed = tmp_path / "names.txt"
    listed.write_text("\n".join(NAMES) + "\n\n")
    words = ("score", guesses, truths, "--vocabulary", listed, "--json")
    code, out, _ = run(*words)
    found = json.loads(out.splitlines()[-1])["figures"]
    assert code == 0
    assert found["voc21"]["figure"] == found["oracle"]["figure"] == found["boundary"]["figure"] == 1
    assert found["voc21"]["vocabulary"] == "299 classes and the background"
    code, _, said = run("score", guesses, truths, "--vocabulary", tmp_path / "no.txt")
    assert code == 2
    assert "a text file with a class a line, the background first" in said
    listed.write_text("\n".join(NAMES), encoding="utf-8-sig")  # as Windows' Notepad saves it
    assert json.loads(run(*words)[1].splitlines()[-1])["figures"] == found
    listed.write_bytes(b"\xff\xfe\x00")
    assert (
        "cannot be read as text in UTF-8"
        in run("score", guesses, truths, "--vocabulary", listed)[2]
    )
    listed.write_text("background\ndog\ndogs\n")
    assert "are one name written in two ways" in run(*words[:-1])[2]


def test_drawings_have_a_colour_for_each():
    labels = LabelMap(np.repeat(np.repeat([[0, 255], [256, 299]], 32, 0), 32, 1), NAMES)
    picture = fslab.Picture(np.full((64, 64, 3), 128, np.uint8))
    flat = label_picture(labels)
    assert len({tuple(flat[row, column]) for row in (0, 63) for column in (0, 63)}) == 4
    assert overlay(picture, labels).shape == (320, 320, 3)
    shown = fslab.show(picture, labels, truth_of(299), names=NAMES).to_json()
    for name in (NAMES[255], NAMES[256], NAMES[299]):
        assert name in shown
    assert "void" in shown
    assert datasets.check(datasets.Dataset("none", WORDS, "all", ())).void == 0
