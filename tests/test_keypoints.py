"""Points with a known place in another picture: the generator's truth, PCK by hand, the command."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from PIL import Image

import fslab
from fslab.evaluate import score_each_layer, score_keypoints
from fslab.mini.pairs import LEAST, STEP, pair, pairs
from fslab.mini.scenes import Frame, draw
from fslab.mini.sprites import Sprite, premultiplied
from fslab.records import FslabError, KeypointPair, Picture
from fslab.score import KeypointScore, bootstrap, keypoint_errors, score_image


def graded(size=(80, 60)):
    """A sprite whose red says how far down a pixel is, and whose green how far right."""
    across, down = np.meshgrid(np.linspace(0, 255, size[0]), np.linspace(0, 255, size[1]))
    full = np.full_like(down, 255)
    pixels = np.stack([down, across, full, full], 2).astype(np.uint8)
    return Sprite(1, "drawn", "graded", Image.fromarray(pixels, "RGBA"))


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("degrees", [0.0, 17.0, -20.0])
def test_a_frame_says_where_each_part_of_a_sprite_is(flip, degrees):
    fitted = (150, 90)
    cutout = premultiplied(graded(), fitted, flip, degrees)
    frame = Frame(fitted, flip, degrees, cutout.shape[:2], (-7, 12))
    shares = np.random.default_rng(0).uniform(0.1, 0.9, (50, 2))
    rows, columns = np.rint(frame.to_scene(shares) - frame.corner).astype(int).T
    assert cutout[rows, columns, 3].min() == 255
    seen = cutout[rows, columns, :2] / 255
    assert np.abs(seen - shares).max() < 0.02  # a pixel is 1 / 90 of the height
    assert np.allclose(frame.to_sprite(frame.to_scene(shares)), shares)


def test_the_frame_of_a_drawn_scene_is_where_its_labels_are():
    pixels = np.zeros((64, 64, 4), np.uint8)
    pixels[8:24, 32:60] = 255  # solid in one corner alone
    sprite = Sprite(7, "drawn", "corner", Image.fromarray(pixels, "RGBA"))
    for seed in range(4):
        found = draw(np.random.default_rng(seed), square=True, first=sprite)
        at = found.frames[7].to_scene(np.array([[16 / 64, 46 / 64], [48 / 64, 16 / 64]]))
        (row, column), (below, left) = np.rint(at).astype(int).tolist()
        if 0 <= row < 96 and 0 <= column < 96:
            assert found.labels[row, column] in (7, *found.scene.objects)
            assert (found.labels[row, column] == 7) or len(found.scene.objects) > 1
        if 0 <= below < 96 and 0 <= left < 96:
            assert found.labels[below, left] != 7


def test_pairs_are_the_same_however_many_are_drawn():
    third, again = pair(5, 2), list(pairs(3, 5))[2]
    assert (third.first.pixels == again.first.pixels).all()
    assert (third.second.pixels == again.second.pixels).all()
    assert (third.points == again.points).all()
    assert (third.truth == again.truth).all()
    assert (pair(5, 1).first.pixels.shape, pair(5, 1).points.shape) != (0, 0)
    assert not np.array_equal(pair(6, 2).first.pixels, third.first.pixels)


def test_a_pair_s_points_lie_on_the_grid_and_its_truth_in_the_box():
    for each in pairs(6, seed=2):
        assert len(each.points) >= LEAST
        assert (each.points % STEP == STEP // 2).all()
        low, high = each.truth.min(0), each.truth.max(0)
        assert (low > -0.5).all()
        assert (high < np.array(each.second.size) - 0.5).all()
        assert (high - low <= np.array(each.box)).all()
    assert {each.mirrored for each in pairs(6, seed=2)} == {True, False}


# --- PCK


def known_pair(truth, box=(20, 10)):
    picture = Picture(np.zeros((40, 40, 3), np.uint8))
    truth = np.array(truth, float)
    return KeypointPair(picture, picture, np.zeros((len(truth), 2), int), truth, box)


def test_pck_by_hand():
    asked = known_pair([[10, 10], [10, 10], [5, 5]])
    errors = keypoint_errors(np.array([[10, 12], [13, 14], [5, 5]]), asked)
    assert errors == pytest.approx([0.1, 0.25, 0])  # of the longer side, 20
    other = keypoint_errors(np.array([[10.0, 10.0]]), known_pair([[10, 29]]))
    score = KeypointScore((errors, other))
    assert score.pck(0.1) == pytest.approx((2 / 3 + 0) / 2)  # a point at the bound is found
    assert score.pck(0.05) == pytest.approx((1 / 3 + 0) / 2)
    assert score.pck(0.95) == 1
    assert score.points == 4
    assert score.only([True, False]).pck(0.1) == pytest.approx(2 / 3)
    assert repr(score) == "KeypointScore(2 pairs, PCK@0.1 33.3 %, PCK@0.05 16.7 %)"


def test_intervals_are_those_of_pairs_drawn_again():
    rng = np.random.default_rng(0)
    first, second = (
        KeypointScore(tuple(rng.uniform(0, scale, 5) for _ in range(30))) for scale in (0.3, 0.2)
    )
    shares = [np.array([(e <= 0.1).mean() for e in one.errors]) for one in (first, second)]
    drawn = np.random.default_rng(0).integers(0, 30, (1000, 30))
    low, high = np.percentile(shares[0][drawn].mean(1), (2.5, 97.5))
    assert (first.interval().low, first.interval().high) == pytest.approx((low, high))
    gain = second.above(first)
    gains = (shares[1] - shares[0])[drawn].mean(1)
    assert gain.value == pytest.approx(second.pck() - first.pck())
    assert (gain.low, gain.high) == pytest.approx(tuple(np.percentile(gains, (2.5, 97.5))))
    assert gain.is_clear


def test_what_cannot_be_scored_is_refused():
    asked = known_pair([[10, 10]])
    with pytest.raises(FslabError, match=r"matches are float64 \[2, 2\] for 1 points"):
        keypoint_errors(np.zeros((2, 2)), asked)
    one = KeypointScore((np.zeros(3),))
    with pytest.raises(FslabError, match="give scores of the same pairs in one order"):
        one.above(KeypointScore((np.zeros(2),)))
    with pytest.raises(FslabError, match="an interval takes two or more"):
        one.interval()
    for alpha in (0, -1, float("nan")):
        with pytest.raises(FslabError, match="it must be a share of the box"):
            one.pck(alpha)
    for errors in ((), (np.zeros(0),)):
        with pytest.raises(FslabError, match="a pair without points has no score"):
            KeypointScore(errors)
    with pytest.raises(FslabError, match=r"truth is float64 \[1, 2\] for points \[2, 2\]"):
        KeypointPair(asked.first, asked.second, np.zeros((2, 2), int), asked.truth, (1, 1))
    with pytest.raises(FslabError, match="is outside"):
        KeypointPair(asked.first, asked.second, np.array([[40, 0]]), asked.truth, (1, 1))
    with pytest.raises(FslabError, match="box is"):
        KeypointPair(asked.first, asked.second, asked.points, asked.truth, (0, 4))


def test_the_interval_of_pixels_is_what_it_was():
    """The difference of two figures is drawn by the code that keypoints share."""
    truth = np.random.default_rng(0).integers(0, 3, (6, 20, 20)).astype(np.uint8)
    guess = np.where(np.random.default_rng(1).random(truth.shape) < 0.3, 0, truth)
    names = ("background", "a", "b")
    images = [score_image(t, names, g.astype(np.uint8)) for t, g in zip(truth, guess, strict=True)]
    assert bootstrap("voc21", images).low < bootstrap("voc21", images).high


def test_points_are_found_in_the_same_picture():
    lab = fslab.Lab("mini", captioner=None, clip=None)
    one = pair(3, 0)
    same = KeypointPair(one.first, one.first, one.points, one.points.astype(float), (96, 96))
    assert score_keypoints(lab, [same], "up_blocks.1", 50).pck(0.02) == 1
    assert score_keypoints(lab, [same], "up_blocks.1", 50, temperature=1e6).pck(0.02) < 0.2


def test_each_layer_by_itself_is_what_the_lab_finds_with_it_alone():
    lab = fslab.Lab("mini", captioner=None, clip=None)
    drawn = list(pairs(2, seed=4))
    found = score_each_layer(lab, drawn, ("up_blocks.?",), (50, 300))
    paths = ("up_blocks.0", "up_blocks.1", "up_blocks.2")
    assert set(found) == {(path, t) for path in paths for t in (50, 300)}
    for (path, t), score in found.items():
        alone = score_keypoints(lab, drawn, path, t)
        assert all(map(np.array_equal, score.errors, alone.errors))
    rgb = fslab.Lab("mini", "rgb", captioner=None, clip=None)
    assert set(score_each_layer(rgb, drawn)) == {("colour", 0), ("position", 0)}


def test_the_command_prints_and_writes_every_row(run, tmp_path):
    out = tmp_path / "table.csv"
    layer = ["--layer", "up_blocks.1"]
    code, said, _ = run("keypoints", "--pairs", 2, *layer, "--timestep", 50, "--out", out)
    assert code == 0
    assert "2 pairs of mini scenes (seed 0, designs of training)" in said
    assert "PCK@alpha: share of a pair's points" in said
    rows = list(csv.DictReader(out.open()))
    names = [(row["features"], row["layer"], row["timestep"]) for row in rows]
    assert names == [
        ("mini", "up_blocks.1", "50"), ("mini (random weights)", "up_blocks.1", "50"),
        ("rgb", "all maps", "0"), ("handmade", "all maps", "0"),
    ]  # fmt: skip
    lab = fslab.Lab("mini", captioner=None, clip=None)
    score = score_keypoints(lab, pairs(2, 0), "up_blocks.1", 50)
    assert float(rows[0]["pck@0.1"]) == pytest.approx(score.pck(0.1), abs=1e-6)
    gain = float(rows[0]["pck@0.1"]) - float(rows[1]["pck@0.1"])
    assert float(rows[0]["pck@0.1_gain"]) == pytest.approx(gain, abs=2e-6)
    assert rows[1]["pck@0.1_gain"] == ""
    code, said, _ = run("keypoints", "--pairs", 2, "--backbone", "rgb")
    assert code == 0
    assert "untrained" not in said
    assert [line.split()[:2] for line in said.splitlines()[3:]][:2] == [
        ["rgb", "colour"], ["rgb", "position"],
    ]  # fmt: skip
    code, _, refused = run("keypoints", "--pairs", 1)
    assert (code, "--pairs is 1; an interval takes two or more" in refused) == (2, True)
    code, _, refused = run("keypoints", "--pairs", 2, "--layer", "nowhere")
    assert code == 2
    assert "nowhere" in refused
