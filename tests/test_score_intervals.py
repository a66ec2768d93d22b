"""Intervals: the same draws by plain loops, known spreads, pairs, refusals."""

from __future__ import annotations

import numpy as np
import pytest

from fslab import score
from fslab.records import VOID, FslabError, Segments
from fslab.score import intervals

NAMES = ("background", "cat", "dog", "emu")
METRICS = tuple(metric for metric in score.METRICS if metric != "coco-object")


def images(count: int, wrong: float, seed: int = 0) -> list[score.ImageScore]:
    """Score blocks of noise; `wrong` is the share of blocks that a guess gets wrong."""
    rng = np.random.default_rng(7)
    errors = np.random.default_rng(seed)
    found = []
    for number in range(count):
        truth = rng.choice([0, 0, 1, 2, VOID], (3, 4)).astype(np.uint8)
        truth[0, 0] = 3 if number == 0 else 1  # the emu is in one image only
        other = np.where(truth == VOID, 0, truth)
        missed = errors.random(truth.shape) < wrong * errors.random()
        guess = np.where(missed, errors.integers(0, 4, truth.shape), other).astype(np.uint8)
        truth, guess = (np.kron(each, np.ones((6, 6), np.uint8)) for each in (truth, guess))
        found.append(score.score_image(truth, NAMES, guess, numbered(guess)))
    return found


def numbered(guess: np.ndarray) -> Segments:
    values = np.unique(guess, return_inverse=True)[1]
    return Segments(values.reshape(guess.shape).astype(np.int32))


@pytest.mark.parametrize("metric", METRICS)
def test_equal_to_drawing_the_images_again_one_by_one(metric):
    given, draws = images(9, 0.9), 60
    drawn = np.random.default_rng(4).integers(0, 9, (draws, 9))
    values = [score.summarise(metric, [given[place] for place in row]).figure for row in drawn]
    assert len(set(values)) > 30
    low, high = np.percentile(values, [2.5, 97.5])
    found = score.bootstrap(metric, given, draws, seed=4)
    assert (found.low, found.high) == (
        pytest.approx(low, abs=1e-12),
        pytest.approx(high, abs=1e-12),
    )


def test_the_spread_of_a_mean_over_images_is_its_standard_error():
    given = images(300, 0.9)
    values = [score.summarise("per-image", [image]).figure for image in given]
    error = np.std(values) / np.sqrt(len(values))
    found = score.bootstrap("per-image", given)
    assert found.high - found.low == pytest.approx(2 * 1.96 * error, rel=0.1)
    assert found.low < np.mean(values) < found.high


def test_more_images_are_surer():
    few, many = (score.bootstrap("voc21", images(count, 0.9)) for count in (20, 320))
    assert many.high - many.low < few.high - few.low


def test_a_class_that_a_draw_does_not_hold_is_in_no_mean():
    truth = np.zeros((1, 4), np.uint8)
    rare = np.array([[3, 3, 0, 0]], np.uint8)
    given = score.count_pairs([("a", truth, truth), ("b", rare, truth)], NAMES)
    # drawn: a a -> 1; b b -> (0 + 1/2) / 2; both -> (0 + 6/8) / 2; were the emu 0 in a a: 1/2
    found = score.bootstrap("voc21", given, 400)
    assert (found.low, found.high) == (0.25, 1.0)


def test_seeds_and_blocks(monkeypatch):
    given = images(12, 0.9)
    one = score.bootstrap("voc20", given, 101, seed=1)
    assert one == score.bootstrap("voc20", given, 101, seed=1)
    assert one != score.bootstrap("voc20", given, 101, seed=2)
    monkeypatch.setattr(intervals, "_BLOCK", 12 * 10)
    small = score.bootstrap("voc20", given, 101, seed=1)
    assert (small.low, small.high) == (pytest.approx(one.low), pytest.approx(one.high))


def test_all_figures_have_the_interval_that_each_has_alone():
    given = images(8, 0.9)
    found = score.summarise_all(given, draws=50, seed=3)
    assert set(found) == set(METRICS)
    for metric, each in found.items():
        assert each == score.summarise(metric, given, draws=50, seed=3)
        alone = score.bootstrap(metric, given, 50, seed=3)
        assert each.interval.low == pytest.approx(alone.low)
        assert each.interval.high == pytest.approx(alone.high)
        assert each.interval.low <= each.interval.high


def test_one_image_has_no_interval():
    (image,) = images(1, 0.9)
    assert score.summarise("voc21", [image], draws=100).interval is None
    assert score.summarise_all([image])["voc21"].interval is None
    with pytest.raises(FslabError, match="1 image cannot be drawn again"):
        score.bootstrap("voc21", [image])
    with pytest.raises(FslabError, match="draws is 0"):
        score.bootstrap("voc21", images(3, 0.5), draws=0)


@pytest.mark.parametrize("metric", METRICS)
def test_pairs_are_drawn_together(metric):
    worse, better = images(40, 0.9, seed=1), images(40, 0.2, seed=2)
    gain = score.paired_bootstrap(metric, worse, better, 200)
    figures = [score.summarise(metric, each).figure for each in (worse, better)]
    assert gain.value == pytest.approx(figures[1] - figures[0])
    assert gain.low <= gain.value <= gain.high
    assert gain.is_clear or metric in ("oracle", "hungarian")  # noise helps whom the truth names
    loss = score.paired_bootstrap(metric, better, worse, 200)
    assert (loss.value, loss.low, loss.high) == (
        pytest.approx(-gain.value), pytest.approx(-gain.high), pytest.approx(-gain.low),
    )  # fmt: skip
    same = score.paired_bootstrap(metric, worse, worse, 50)
    assert (same.value, same.low, same.high) == (0.0, 0.0, 0.0)
    assert not same.is_clear


def test_pairs_are_of_the_same_images():
    given = images(5, 0.9)
    with pytest.raises(FslabError, match="5 images against 4"):
        score.paired_bootstrap("voc21", given, given[:4])
    turned = [*given[1:], given[0]]
    for metric in ("voc21", "boundary"):
        with pytest.raises(FslabError, match="image 0 differs in truth"):
            score.paired_bootstrap(metric, given, turned)


def test_an_interval_in_per_cent():
    assert score.Interval(0.431, 0.50249).percent == "43.1 to 50.2"


def test_one_draw_is_enough_and_none_is_not():
    weights = list(intervals._weights(3, 1, 0))
    assert [block.shape for block in weights] == [(1, 3)]
    with pytest.raises(FslabError, match="draws is 0"):
        list(intervals._weights(3, 0, 0))
