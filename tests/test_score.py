"""Figures with known answers, and the same figures by other people's code."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from sklearn.metrics import jaccard_score
from torchmetrics.classification import MulticlassConfusionMatrix, MulticlassJaccardIndex

from fslab import score
from fslab.records import COCO_THINGS, VOID, WIDE_VOID, FslabError, Segments

NAMES = ("background", "cat", "dog", "emu")
COCO_NAMES = ("background", *COCO_THINGS)
ANY = tuple(metric for metric in score.METRICS if metric != "coco-object")
V = VOID


def grid(*rows: tuple[int, ...]) -> np.ndarray:
    return np.array(rows, np.uint8)


def cut(*rows: tuple[int, ...]) -> Segments:
    return Segments(np.array(rows, np.int32))


def of(metric: str, *pairs: tuple[np.ndarray, np.ndarray]) -> score.Score:
    return score.score_pairs([(str(n), *pair) for n, pair in enumerate(pairs)], NAMES, metric)


def test_confusion_by_hand():
    found = score.confusion(grid((0, 1, V), (1, 1, 2)), grid((0, 1, 3), (0, 1, 1)), NAMES)
    assert found.counts.tolist() == [[1, 0, 0, 0], [1, 2, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0]]
    assert found.counts.dtype == np.int64
    np.testing.assert_allclose(found.iou, [1 / 2, 2 / 4, 0, np.nan])
    assert found.miou == pytest.approx(1 / 3)


def test_voc21_sums_before_it_divides_and_names_what_is_absent():
    pairs = (grid((1, 1, 1, 0)), grid((1, 1, 1, 0))), (grid((1, 0)), grid((0, 0)))
    found = of("voc21", *pairs)
    assert found.iou == {"background": 2 / 3, "cat": 3 / 4, "dog": None, "emu": None}
    assert found.figure == pytest.approx((2 / 3 + 3 / 4) / 2)
    assert (found.absent, found.images) == (("dog", "emu"), 2)
    assert json.loads(json.dumps(found.iou)) == found.iou


def test_per_image_averages_over_the_classes_of_each_truth():
    found = of("per-image", (grid((1, 1, 1, 0)), grid((1, 1, 1, 0))), (grid((1, 0)), grid((2, 0))))
    assert found.figure == pytest.approx((1 + (1 + 0) / 2) / 2)  # dog, guessed only, has no say
    assert found.iou == {"background": 1.0, "cat": 0.5, "dog": None, "emu": None}


def test_voc20_counts_objects_only():
    truth, guess = grid((0, 0, 1, 1, 2)), grid((1, 2, 1, 0, 1))
    found = of("voc20", (truth, guess))
    assert found.iou == {"cat": 1 / 3, "dog": 0.0, "emu": None}
    assert found.figure == pytest.approx(1 / 6)


@pytest.mark.parametrize("metric", ANY)
def test_a_perfect_prediction_scores_one(metric):
    truth = grid((0, 1, V, 2), (0, 1, V, 2))
    found = of(metric, (truth, truth))
    assert found.figure == 1.0
    assert found.note == score.METRICS[metric].note
    assert "void" in found.note


def test_all_background_prediction():
    truth = grid((0, 0, 1, V))
    assert of("voc21", (truth, truth * 0)).iou["background"] == pytest.approx(2 / 3)
    assert of("voc21", (truth, truth * 0)).figure == pytest.approx(1 / 3)
    assert of("voc20", (truth, truth * 0)).figure == 0.0


def test_void_in_the_guess_counts_only_where_the_truth_is_void():
    truth = grid((0, 1, V))
    assert of("voc21", (truth, grid((0, 1, V)))).figure == 1.0
    with pytest.raises(FslabError, match=r"'0'.*\[255\]"):
        of("voc21", (truth, grid((V, 1, V))))


def test_oracle_majority_ties_and_void():
    segments = cut((0, 0, 0, 1, 1, 2, 2))
    truth = grid((1, 1, 2, 3, 2, V, V))
    assert score.oracle(segments, truth, NAMES).labels.tolist() == [[1, 1, 1, 2, 2, 0, 0]]


def test_majority_is_no_bound_for_a_mean_over_classes():
    segments, truth = cut((0, 0, 0, 0, 0, 1, 1, 1, 1, 1)), grid((0, 0, 0, 1, 1, 0, 0, 0, 0, 0))
    one = score.score_image(truth, NAMES, segments=segments, contours=False)
    assert score.summarise("oracle", [one]).miou == pytest.approx((0.8 + 0) / 2)
    assert score.summarise("hungarian", [one]).miou == pytest.approx((0.625 + 0.4) / 2)


def test_hungarian_is_one_to_one_and_the_rest_is_background():
    segments = cut((0, 0, 0, 1, 1, 2, 3, 3))
    truth = grid((1, 1, 1, 1, 1, 0, V, V))
    found = score.hungarian(segments, truth, NAMES)
    assert found.labels.tolist() == [[1, 1, 1, 0, 0, 0, 0, 0]]
    assert found.labels.dtype == np.uint8
    # summed agreement decides: 0 -> dog (3 + 2) beats 0 -> cat (3 + 0)
    found = score.hungarian(cut((0, 0, 0, 0, 0, 0, 1, 1)), grid((1, 1, 1, 2, 2, 2, 1, 1)), NAMES)
    assert found.labels.tolist() == [[2] * 6 + [1] * 2]


def test_a_segment_is_never_given_a_class_it_does_not_touch():
    found = score.hungarian(cut((0, 0, 1)), grid((0, 2, 0)), NAMES)
    assert set(found.labels[0, 2:].tolist()) == {0}


def test_best_overlap_leaves_void_out():
    segments = cut((0, 0, 0, 1, 1, 1))
    truth = grid((1, 1, V, 1, 2, 0))
    assert score.best_overlap(segments, truth) == ((1, 2 / 3), (2, 1 / 3))
    found = of("mbo", (truth, segments.labels.astype(np.uint8)))
    assert found.figure == pytest.approx(0.5)
    assert found.iou == {"cat": pytest.approx(2 / 3), "dog": pytest.approx(1 / 3), "emu": None}


def test_a_prediction_s_values_are_its_segments():
    truth = grid((0, 1, 2))
    for metric in ("oracle", "hungarian", "mbo"):
        assert of(metric, (truth, grid((255, 7, 99)))).figure == 1.0


def test_image_score_goes_through_json_to_the_last_bit():
    rng = np.random.default_rng(0)
    truth, guess, cuts = rng.integers(0, 4, (3, 9, 11), dtype=np.uint8)
    given = score.score_image(truth, NAMES, guess, Segments(cuts.astype(np.int32)))
    back = score.ImageScore.from_dict(json.loads(json.dumps(given.to_dict())), NAMES)
    for metric in ANY:
        assert score.summarise(metric, [back, back]) == score.summarise(metric, [given, given])
    assert back.overlaps == given.overlaps
    assert back.to_dict() == given.to_dict()
    alone = score.ImageScore.from_dict(score.score_image(truth, NAMES, guess).to_dict(), NAMES)
    assert alone.oracle is None
    with pytest.raises(FslabError, match=r"'oracle' needs segments.*1 of 2 images"):
        score.summarise("oracle", [given, alone])


def test_results_of_before_contours_were_counted_have_none():
    truth = grid((0, 1, V, 2))
    data = score.score_image(truth, NAMES, truth, cut((0, 1, 2, 3))).to_dict()
    old = {key: data[key] for key in ("named", "oracle", "hungarian", "overlaps")}
    image = score.ImageScore.from_dict(json.loads(json.dumps(old)), NAMES)
    assert image.boundary is None
    assert image.named_boundary is None
    assert score.summarise("mbo", [image]).figure == 1.0
    assert score.applicable([image]) == (
        "voc21",
        "voc20",
        "per-image",
        "hungarian",
        "oracle",
        "mbo",
    )
    with pytest.raises(FslabError, match=r"'boundary' needs segments.*1 of 1 images"):
        score.summarise("boundary", [image])


def test_coco_object_is_for_coco_s_classes():
    truth, guess = grid((0, 80, 80, 3, V)), grid((0, 80, 0, 3, 1))
    found = score.score_pairs([("a", truth, guess)], COCO_NAMES, "coco-object")
    assert found.iou["toothbrush"] == 0.5
    assert found.figure == pytest.approx((1 / 2 + 1 / 2 + 1) / 3)
    assert found.vocabulary == "80 classes and the background"
    assert len(found.absent) == 78
    counted = score.score_image(truth, COCO_NAMES, guess)
    assert {"coco-object", "per-image"} <= set(score.applicable([counted]))
    assert not {"voc21", "voc20"} & set(score.applicable([counted]))
    with pytest.raises(FslabError, match=r"COCO's 80 classes.*has 3 classes, so take voc21"):
        of("coco-object", (truth, truth))


@pytest.mark.parametrize(
    "others",
    [
        [f"thing {number}" for number in range(80)],
        [*COCO_THINGS[:-1], "unicorn"],
        [name.upper() for name in COCO_THINGS],
    ],
    ids=["of one's own", "all but one", "in capitals"],
)
def test_eighty_classes_alone_are_not_coco_s(others):
    names, truth = ("background", *others), grid((0, 80, 3, V))
    counted = score.score_image(truth, names, truth)
    assert "coco-object" not in score.applicable([counted])
    assert "voc21" in score.applicable([counted])
    beyond = next(name for name in others if name not in COCO_THINGS)
    with pytest.raises(FslabError, match=rf"has 80 classes, such as '{beyond}', so take voc21"):
        score.score_pairs([("a", truth, truth)], names, "coco-object")


def test_coco_s_classes_in_another_order_are_coco_s():
    names, truth = ("background", *reversed(COCO_THINGS)), grid((0, 80, 3, V))
    assert "coco-object" in score.applicable([score.score_image(truth, names, truth)])


def test_every_figure_says_what_it_is():
    truth = grid((0, 1, V, 2), (0, 1, V, 2))
    image = score.score_image(truth, NAMES, truth, cut((0, 1, 2, 3), (0, 1, 2, 3)))
    found = score.summarise_all([image, image], draws=10)
    assert set(found) == set(ANY)
    for metric, each in found.items():
        data = json.loads(json.dumps(each.to_dict()))
        assert (data["metric"], data["images"], data["figure"]) == (metric, 2, 1.0)
        assert data["interval"] == [1.0, 1.0]
        assert all(data[key] for key in ("protocol", "background", "vocabulary"))
        assert bool(data["iou"]) == (not metric.startswith("boundary"))
    assert found["voc20"].vocabulary == "3 classes"
    assert found["voc21"].vocabulary == "3 classes and the background"
    assert found["mbo"].vocabulary.startswith("none")
    assert found["boundary"].sides == {"precision": 1.0, "recall": 1.0}


def test_a_figure_of_which_nothing_counts_is_left_out_of_all():
    ground = grid((0, 0, 0))
    found = score.summarise_all(score.count_pairs([("a", ground, ground)] * 2, NAMES))
    assert "voc21" in found
    assert not {"mbo", "voc20"} & set(found)
    void = grid((V, V))
    counted = score.count_pairs([("a", void, void)], NAMES)
    assert set(score.summarise_all(counted)) == {"per-image-released"}  # void is background there
    with pytest.raises(FslabError, match="no pixel of 1 images"):
        score.summarise("voc21", counted)


def test_the_released_per_image_figure_counts_void_as_background():
    """By hand: void in a 2 x 4 truth, and a guess that says 1 on one void pixel.

    Truth 0 0 1 1 / 0 V V 1, guess 0 0 1 1 / 0 0 1 1. Void left out: both IoUs are 1. Void as
    background: class 0 has 4 of 5 pixels, class 1 has 3 of 4; their mean is 0.775.
    """
    truth, guess = grid((0, 0, 1, 1), (0, V, V, 1)), grid((0, 0, 1, 1), (0, 0, 1, 1))
    counted = score.count_pairs([("a", truth, guess)], NAMES)
    assert score.summarise("per-image", counted).figure == 1
    assert score.summarise("per-image-released", counted).figure == pytest.approx(
        (4 / 5 + 3 / 4) / 2
    )
    unnamed = grid((0, 0, 1, 1), (0, V, 1, 1))  # what is no class counts as background there
    again = score.count_pairs([("a", truth, unnamed)], NAMES)
    assert score.summarise("per-image-released", again).figure == pytest.approx((4 / 5 + 3 / 4) / 2)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 999))
def test_images_may_come_in_any_order(seed):
    rng = np.random.default_rng(seed)
    truths = rng.choice([0, 1, 2, 3, V], (5, 7, 8)).astype(np.uint8)
    guesses = rng.integers(0, 4, (5, 7, 8), dtype=np.uint8)
    triples = list(zip("abcde", truths, guesses, strict=True))
    images = score.count_pairs(triples, NAMES)
    turned = [images[place] for place in rng.permutation(5)]
    assert score.summarise_all(turned, draws=0) == score.summarise_all(images, draws=0)


@pytest.mark.parametrize("runs", [True, False])
def test_long_runs_and_noise_count_alike(runs):
    rng = np.random.default_rng(3)
    truth, guess = rng.choice([0, 1, 2, 3, V], (2, 8, 9)).astype(np.uint8)
    guess[guess == V] = 0
    if runs:
        truth, guess = (np.repeat(each, 40, axis=1) for each in (truth, guess))
    counts = score.confusion(truth, guess, NAMES).counts
    for row in range(4):
        for column in range(4):
            assert counts[row, column] == ((truth == row) & (guess == column)).sum()
    many = Segments(np.arange(truth.size, dtype=np.int32).reshape(truth.shape))  # 1 pixel each
    expected = np.where(truth == V, 0, truth)
    np.testing.assert_array_equal(score.oracle(many, truth, NAMES).labels, expected)


def test_refusals():
    truth = grid((0, 1))
    with pytest.raises(FslabError, match=r"1 x 2 .*the guess 2 x 1"):
        score.confusion(truth, truth.T, NAMES)
    with pytest.raises(FslabError, match=r"truth holds labels \[4, 9\]"):
        score.confusion(grid((4, 9)), truth, NAMES)
    with pytest.raises(FslabError, match=r"truth holds labels \[4, 9\]"):
        score.oracle(cut((0, 1)), grid((4, 9)), NAMES)
    with pytest.raises(FslabError, match=r"guess holds labels \[5\]"):
        score.confusion(truth, grid((0, 5)), NAMES)
    with pytest.raises(FslabError, match=r"guess is int64 \[1, 2\]"):
        score.confusion(truth, truth.astype(np.int64), NAMES)
    with pytest.raises(FslabError, match=r"truth is list"):
        score.confusion([[0]], truth, NAMES)
    with pytest.raises(FslabError, match=r"1 x 2 .*the segments 1 x 3"):
        score.hungarian(cut((0, 1, 1)), truth, NAMES)
    with pytest.raises(FslabError, match="1 names"):
        score.confusion(truth, truth, ("background",))
    with pytest.raises(FslabError, match=r"'voc22'.*voc21, voc20"):
        of("voc22", (truth, truth))
    with pytest.raises(FslabError, match="0 of 0 images"):
        of("voc21")
    with pytest.raises(FslabError, match="no pixel of 1 images"):
        of("voc21", (grid((V, V)), truth))
    with pytest.raises(FslabError, match="no pixel of 1 images"):
        of("mbo", (grid((0, 0)), truth))


def blobs(rng: np.random.Generator, classes: int) -> np.ndarray:
    coarse = rng.integers(0, classes, (6, 8)).astype(np.uint8)
    truth = np.kron(coarse, np.ones((12, 12), np.uint8))
    truth[rng.random(truth.shape) < 0.05] = VOID
    return truth


@pytest.mark.parametrize("shift", [0, 1, 8, None])
def test_equal_to_torchmetrics_and_scikit_learn(shift):
    rng = np.random.default_rng(1)
    names = tuple(f"c{index}" for index in range(21))
    truths = [blobs(rng, 17) for _ in range(6)]  # four classes never occur
    if shift is None:
        guesses = [rng.integers(0, 17, truth.shape).astype(np.uint8) for truth in truths]
    else:
        guesses = [np.roll(np.where(truth == V, 0, truth), shift, 1) for truth in truths]
    jaccard = MulticlassJaccardIndex(21, average=None, ignore_index=VOID)
    matrix = MulticlassConfusionMatrix(21, ignore_index=VOID)
    for truth, guess in zip(truths, guesses, strict=True):
        jaccard.update(torch.from_numpy(guess), torch.from_numpy(truth))
        matrix.update(torch.from_numpy(guess), torch.from_numpy(truth))
    per_image = [score.score_image(t, names, g) for t, g in zip(truths, guesses, strict=True)]
    found = score.summarise("voc21", per_image)
    iou = np.array([found.iou[name] or 0.0 for name in names])
    assert found.absent == names[17:]
    counts = matrix.compute().numpy().astype(np.float64)
    np.testing.assert_array_equal(sum(image.named.counts for image in per_image), counts)
    union = counts.sum(0) + counts.sum(1) - np.diag(counts)
    np.testing.assert_allclose(iou, np.diag(counts) / np.maximum(union, 1), rtol=0, atol=1e-9)
    np.testing.assert_allclose(iou, jaccard.compute().numpy(), rtol=0, atol=1e-6)  # float32
    flat_truth, flat_guess = np.stack(truths).ravel(), np.stack(guesses).ravel()
    kept = flat_truth != VOID
    other = jaccard_score(flat_truth[kept], flat_guess[kept], labels=range(17), average="macro")
    assert found.figure == pytest.approx(other, abs=1e-9)


maps = arrays.arrays(np.uint8, (5, 6), elements=st.sampled_from((0, 1, 2, 3, VOID)))
cuts = arrays.arrays(np.uint8, (5, 6), elements=st.integers(0, 5))


def accuracy(labels: np.ndarray, truth: np.ndarray) -> int:
    return int(((labels == truth) & (truth != VOID)).sum())


def numbered(values: np.ndarray) -> Segments:
    return Segments(
        np.unique(values, return_inverse=True)[1].reshape(values.shape).astype(np.int32)
    )


@settings(max_examples=25, deadline=None)
@given(truth=maps, values=cuts, seed=st.integers(0, 99))
def test_segments_numbers_do_not_matter_and_the_oracle_is_a_ceiling(truth, values, seed):
    segments = numbered(values)
    order = np.random.default_rng(seed).permutation(segments.count)
    renumbered = Segments(order[segments.labels].astype(np.int32))
    matched = score.hungarian(segments, truth, NAMES).labels
    best = score.oracle(segments, truth, NAMES).labels
    np.testing.assert_array_equal(matched, score.hungarian(renumbered, truth, NAMES).labels)
    np.testing.assert_array_equal(best, score.oracle(renumbered, truth, NAMES).labels)
    assert score.best_overlap(segments, truth) == score.best_overlap(renumbered, truth)
    assert accuracy(best, truth) >= accuracy(matched, truth)
    counted = score.score_image(truth, NAMES, segments=segments)
    for part, labels in ((counted.oracle, best), (counted.hungarian, matched)):
        np.testing.assert_array_equal(part.counts, score.confusion(truth, labels, NAMES).counts)


@settings(max_examples=25, deadline=None)
@given(truth=maps, guess=arrays.arrays(np.uint8, (5, 6), elements=st.integers(0, 3)))
def test_confusion_agrees_with_plain_counting(truth, guess):
    counts = score.confusion(truth, guess, NAMES).counts
    for row in range(4):
        for column in range(4):
            assert counts[row, column] == ((truth == row) & (guess == column)).sum()
    assert counts.sum() == (truth != VOID).sum()


def test_labels_leave_the_largest_number_to_void_and_use_all_the_others():
    from fslab.score.count import _check_names

    _check_names(["background", *("thing",) * (WIDE_VOID - 1)])
    with pytest.raises(FslabError, match="65536 names; labels are 0 to 65534"):
        _check_names(["background", *("thing",) * WIDE_VOID])
