"""Contours: known answers, a distance transform as the judge, and what void does to them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.ndimage import distance_transform_edt

from fslab import score
from fslab.records import VOID, FslabError, Segments
from fslab.score.contours import NEAR, RIM, SHARE, _Rows

V = VOID
NAMES = ("background", "cat", "dog", "emu")


def halves(edge: int, width: int = 40, height: int = 30, rim: int = 0) -> np.ndarray:
    """Background left of column `edge`, a cat from there on, void `rim` px to either side."""
    labels = np.zeros((height, width), np.uint8)
    labels[:, edge:] = 1
    if rim:
        labels[:, edge - rim : edge + rim] = V
    return labels


@pytest.mark.parametrize("shift", [0, 1, 2, 3, 5])
def test_a_contour_counts_up_to_two_pixels_off(shift):
    found = score.boundary(halves(20), halves(20 + shift))
    expected = 1.0 if shift <= NEAR else 0.0
    assert found.figures() == (expected,) * 3
    assert (found.guess, found.truth, found.pixels) == (30, 30, 1200)


@pytest.mark.parametrize(("width", "reach"), [(120, 0), (140, 1), (600, 4), (800, 6)])
def test_the_relative_tolerance_is_a_share_of_the_diagonal(width, reach):
    side = width // 20
    assert reach <= SHARE * np.hypot(width, side) < reach + 1
    for shift, expected in ((reach, 1.0), (reach + 1, 0.0)):
        found = score.boundary(halves(60, width, side), halves(60 + shift, width, side))
        assert found.figures(relative=True)[2] == expected


def test_precision_recall_and_f_by_hand():
    truth, guess = halves(20), halves(20)
    guess[:, 30:] = 2  # a second line that the truth has not
    found = score.boundary(truth, guess)
    assert found.figures() == (0.5, 1.0, pytest.approx(2 / 3))
    found = score.boundary(guess, truth)
    assert found.figures() == (1.0, 0.5, pytest.approx(2 / 3))


def test_no_contour_at_all():
    flat, line = halves(40), halves(20)
    assert score.boundary(flat, flat).figures() == (1.0, 1.0, 1.0)
    assert score.boundary(flat, line).figures() == (0.0, 0.0, 0.0)
    assert score.boundary(line, flat).figures() == (0.0, 0.0, 0.0)
    nothing = score.boundary(np.full((4, 5), V, np.uint8), halves(2, 5, 4))
    assert np.isnan(nothing.figures()).all()


def test_an_image_without_counted_pixels_has_no_say():
    void = np.full((30, 40), V, np.uint8)
    triples = [("a", halves(20), halves(26)), ("b", void, halves(3)), ("c", halves(9), halves(9))]
    found = score.summarise("boundary", score.count_pairs(triples, NAMES, "boundary"))
    assert (found.figure, found.images) == (0.5, 3)


@pytest.mark.parametrize("rim", [1, 2, 3])
def test_a_contour_anywhere_inside_the_rim_is_the_truth_s(rim):
    truth = halves(20, rim=rim)
    for edge in range(20 - rim, 20 + rim + 1):
        assert score.boundary(truth, halves(edge)).figures() == (1.0, 1.0, 1.0)
    outside = 20 + rim + NEAR + 1
    assert score.boundary(truth, halves(outside)).figures() == (0.0, 0.0, 0.0)


def test_what_a_guess_says_on_void_pixels_plays_no_part():
    rng = np.random.default_rng(0)
    truth, guess = halves(20, rim=2), halves(22)
    other = np.where(truth == V, rng.integers(0, 4, truth.shape), guess).astype(np.uint8)
    assert score.boundary(truth, other) == score.boundary(truth, guess)


def test_void_deeper_than_a_rim_has_no_contour():
    truth = np.zeros((60, 60), np.uint8)
    truth[10:50, 10:50] = V
    guess = np.zeros_like(truth)
    guess[:, 30:] = 1  # runs through the void, from top to bottom
    found = score.boundary(truth, guess)
    assert (found.truth, found.guess) == (0, 60 - (40 - 2 * RIM))


def test_segments_and_guesses_are_traced_alike_and_numbers_mean_nothing():
    truth, guess = halves(20, rim=2), halves(24)
    renumbered = Segments(np.where(guess == 0, 1, 0).astype(np.int32))
    image = score.score_image(truth, NAMES, guess, renumbered)
    assert image.boundary == image.named_boundary == score.boundary(truth, guess)
    for name in ("boundary", "boundary-relative"):
        one, other = (
            score.summarise(each, [image])
            for each in (name, f"{name.replace('boundary', 'boundary-named')}")
        )
        assert (one.figure, one.sides, one.iou) == (other.figure, other.sides, {})


def test_sizes_must_agree():
    with pytest.raises(FslabError, match=r"the truth is 30 x 40 .*the guess 30 x 41"):
        score.boundary(halves(20), halves(20, 41))


@pytest.mark.parametrize("square", [0, 1, 2, 4, 5, 22, 400, 10_000])
def test_dilation_is_a_euclidean_distance(square):
    rng = np.random.default_rng(square)
    lines = rng.random((37, 23)) < 0.01
    lines[5, 7] = True
    expected = distance_transform_edt(~lines) ** 2 <= square + 1e-9
    rows = _Rows(lines.shape, int(square**0.5))
    found = rows.unpacked(rows.dilated(rows.packed(lines), square))
    np.testing.assert_array_equal(found, expected)


def distances_decide(truth: np.ndarray, labels: np.ndarray, reach: float) -> tuple[int, int]:
    """Count the near contour pixels of a truth without void by distance transforms."""
    lines = []
    for each in (labels, truth):
        right = np.pad(each[:, 1:] != each[:, :-1], ((0, 0), (0, 1)))
        below = np.pad(each[1:] != each[:-1], ((0, 1), (0, 0)))
        lines.append(right | below)
    far = [
        distance_transform_edt(~line) if line.any() else np.full(line.shape, np.inf)
        for line in lines
    ]
    return int((far[1][lines[0]] <= reach).sum()), int((far[0][lines[1]] <= reach).sum())


whole = arrays.arrays(np.uint8, (9, 14), elements=st.sampled_from((0, 0, 0, 1, 2)))


@settings(max_examples=30, deadline=None)
@given(truth=whole, labels=whole)
def test_equal_to_distance_transforms(truth, labels):
    big_truth, big = (np.kron(each, np.ones((5, 6), np.uint8)) for each in (truth, labels))
    found = score.boundary(big_truth, big)
    assert (found.guess_near, found.truth_near) == distances_decide(big_truth, big, NEAR)
    reach = SHARE * np.hypot(*big.shape)
    assert (found.guess_share, found.truth_share) == distances_decide(big_truth, big, reach)


voided = arrays.arrays(np.uint8, (9, 14), elements=st.sampled_from((0, 0, 1, 2, V)))


@settings(max_examples=30, deadline=None)
@given(truth=voided, labels=whole, seed=st.integers(0, 99))
def test_renumbering_changes_nothing_and_the_truth_itself_is_perfect(truth, labels, seed):
    order = np.random.default_rng(seed).permutation(3).astype(np.uint8)
    assert score.boundary(truth, order[labels]) == score.boundary(truth, labels)
    if (truth != V).any():
        assert score.boundary(truth, truth).figures() == (1.0, 1.0, 1.0)
        assert score.boundary(truth, truth).figures(relative=True) == (1.0, 1.0, 1.0)


@settings(max_examples=30, deadline=None)
@given(truth=whole, labels=whole)
def test_swapping_the_sides_swaps_precision_and_recall(truth, labels):
    one, other = score.boundary(truth, labels).figures(), score.boundary(labels, truth).figures()
    assert one[:2] == other[1::-1]
    assert one[2] == pytest.approx(other[2])
