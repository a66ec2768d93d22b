"""Points of one picture in another: against torch's own interpolation, by hand, and refusals."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import noise_picture
from torch.nn import functional as F

import fslab
from fslab.backbones import Diffusion, Layer
from fslab.correspond import correspond, mutual_neighbours
from fslab.lab.published import DIFT, published
from fslab.plots import correspondences, likeness_picture, neighbours
from fslab.records import Correspondence, Features, FslabError, points_of

LAYERS = ["up_blocks.1", "up_blocks.2"]
CONFIGURATIONS = Path(fslab.__path__[0]) / "backbones" / "configurations"


def features(size, *shapes, seed=0, name="picture"):
    rng = np.random.default_rng(seed)
    maps = {
        f"layer {number}": rng.standard_normal(shape).astype(np.float32)
        for number, shape in enumerate(shapes)
    }
    return Features(maps, size, name)


def by_torch(a, points, b):
    """As DIFT's released evaluation has it: upsample both, look the point up, cosine to all."""
    rows, columns = np.array(points).T
    total = 0
    for layer in a:
        ours, theirs = (
            F.interpolate(torch.from_numpy(one[layer])[None], one.size, mode="bilinear")[0]
            for one in (a, b)
        )
        vectors = F.normalize(ours[:, rows, columns], dim=0)
        total = total + torch.einsum("cp,chw->phw", vectors, F.normalize(theirs, dim=0))
    return total.numpy() / len(a)


@pytest.mark.parametrize(
    ("size", "shapes"),
    [
        ((40, 56), [(8, 5, 7)]),
        ((33, 17), [(3, 6, 3), (16, 12, 5)]),
        ((9, 9), [(4, 1, 1)]),
        ((8, 6), [(5, 16, 12)]),  # finer than the picture
        ((64, 1), [(5, 8, 1)]),
    ],
)
def test_likeness_is_the_cosine_of_features_upsampled_by_torch(size, shapes):
    a, b = features(size, *shapes), features((size[0] + 5, size[1] + 3), *shapes, seed=1)
    points = [(0, 0), (size[0] - 1, size[1] - 1), (size[0] // 2, size[1] // 3)]
    found = correspond(a, points, b)
    expected = by_torch(a, points, b)
    assert found.likeness.shape == (3, *b.size)
    assert found.likeness.dtype == np.float32
    assert np.abs(found.likeness - expected).max() < 1e-5
    for (row, column), values in zip(found.matches.astype(int), expected, strict=True):
        assert values[row, column] > values.max() - 1e-5


def test_a_point_is_most_like_itself():
    a = features((48, 32), (16, 12, 8))
    points = [(6, 6), (30, 18)]
    found = correspond(a, points, a)
    for (row, column), values in zip(points, found.likeness, strict=True):
        assert values[row, column] == pytest.approx(1, abs=1e-6)
    assert found.cosines == pytest.approx([1, 1], abs=1e-6)


def test_soft_argmax_by_hand_and_its_limits():
    maps = np.zeros((1, 3, 5), np.float32)
    maps[0, 1, 1], maps[0, 1, 3] = 0.9, 0.8
    found = Correspondence(((0, 0),), maps, 0.1)
    weights = np.exp(maps[0].astype(float) / 0.1)
    weights /= weights.sum()
    rows, columns = np.mgrid[:3, :5]
    assert found.matches[0] == pytest.approx([(weights * rows).sum(), (weights * columns).sum()])
    assert replace(found, temperature=0.0).matches.tolist() == [[1, 1]]
    assert replace(found, temperature=1e-9).matches[0] == pytest.approx([1, 1])
    assert replace(found, temperature=1e9).matches[0] == pytest.approx([1, 2])  # the middle
    equal = Correspondence(((0, 0),), np.full((1, 3, 5), 0.5, np.float32))
    assert equal.matches.tolist() == [[0, 0]]


def test_mutual_neighbours_against_all_cosines():
    a, b = features((40, 48), (16, 5, 6)), features((32, 64), (16, 4, 8), seed=1)
    ours, theirs = (one["layer 0"].reshape(16, -1) for one in (a, b))
    cosines = (ours / np.linalg.norm(ours, axis=0)).T @ (theirs / np.linalg.norm(theirs, axis=0))
    best = cosines.argmax(1)
    mutual = [cell for cell in range(30) if cosines[:, best[cell]].argmax() == cell]
    mutual.sort(key=lambda cell: -cosines[cell, best[cell]])
    found = mutual_neighbours(a, b)
    assert len(found) == len(mutual) > 3
    assert found.cells == (30, 32)
    for cell, first, second, cosine in zip(
        mutual, found.first, found.second, found.cosines, strict=True
    ):
        assert first.tolist() == [8 * (cell // 6) + 3.5, 8 * (cell % 6) + 3.5]
        assert second.tolist() == [8 * (best[cell] // 8) + 3.5, 8 * (best[cell] % 8) + 3.5]
        assert cosine == pytest.approx(cosines[cell, best[cell]], abs=1e-6)
    assert len(mutual_neighbours(a, b, most=2)) == 2
    assert (mutual_neighbours(a, b, most=2).cosines == found.cosines[:2]).all()


def test_blocks_of_cells_change_no_neighbour(monkeypatch):
    a, b = features((40, 48), (4, 10, 12)), features((32, 64), (4, 8, 16), seed=1)
    whole = mutual_neighbours(a, b)
    monkeypatch.setattr("fslab.correspond._BLOCK", 300)
    parts = mutual_neighbours(a, b)
    assert (parts.first == whole.first).all()
    assert (parts.second == whole.second).all()


def test_neighbours_of_several_layers_lie_on_the_finest_grid():
    a = features((40, 48), (4, 10, 12), (6, 5, 6))
    found = mutual_neighbours(a, a)
    assert found.cells == (120, 120)
    assert len(found) == 120  # each cell is its own
    assert (found.first == found.second).all()
    assert found.cosines == pytest.approx(np.ones(120), abs=1e-6)


@pytest.mark.parametrize(
    ("points", "words"),
    [
        ((40, 0), r"points of picture: \(40, 0\) is outside; rows are 0 to 39, columns 0 to 47"),
        ((0, -1), r"\(0, -1\) is outside"),
        ((1.5, 2), r"give one pixel \(row, column\), or a list of them, in whole numbers"),
        ([], "give one pixel"),
        ((1, 2, 3), "give one pixel"),
        ("here", "give one pixel"),
    ],
)
def test_points_that_are_none_are_refused(points, words):
    a = features((40, 48), (4, 5, 6))
    with pytest.raises(FslabError, match=words):
        correspond(a, points, a)


def test_points_come_as_any_whole_numbers():
    assert points_of((3, 4), (9, 9), "points") == ((3, 4),)
    assert points_of(np.array([[3, 4], [5, 6]], np.uint8), (9, 9), "points") == ((3, 4), (5, 6))


def test_features_that_cannot_be_compared_are_refused():
    a = features((40, 48), (4, 5, 6))
    other = Features({"else": a["layer 0"]}, a.size)
    with pytest.raises(FslabError, match="two pictures are compared by the same layers"):
        correspond(a, (0, 0), other)
    with pytest.raises(FslabError, match="has 4 channels in picture and 5 in picture"):
        mutual_neighbours(a, features((40, 48), (5, 5, 6)))
    broken = features((40, 48), (4, 5, 6))
    broken["layer 0"][0, 0, 0] = np.nan
    with pytest.raises(FslabError, match="holds NaN or infinity"):
        correspond(a, (0, 0), broken)
    with pytest.raises(FslabError, match=r"features is .*; give an fslab.Features"):
        correspond(noise_picture(8, 8), (0, 0), a)
    for points in ([(1, 2), (3,)], "ab", [[[1, 2]]]):
        with pytest.raises(FslabError, match=r"points of picture are .*; give one pixel"):
            correspond(a, points, a)
    for most in (0, -1, 1.5, "all"):
        with pytest.raises(FslabError, match="most is"):
            mutual_neighbours(a, a, most=most)
    for temperature in (-0.1, float("nan"), float("inf"), "a", None):
        with pytest.raises(FslabError, match="temperature is"):
            correspond(a, (0, 0), a, temperature)


def test_the_lab_reads_the_layers_that_it_is_asked_for():
    lab = fslab.Lab("mini")
    a, b = noise_picture(64, 96), noise_picture(96, 64, seed=1)
    asked = {"layers": LAYERS, "timesteps": [100, 300], "draws": 2, "prompt": "a dog"}
    found = lab.correspond(a, [(5, 80), (63, 0)], b, temperature=0.05, **asked)
    maps = [lab.extract(each, **asked) for each in (a, b)]
    assert len(maps[0]) == 4
    assert (found.likeness == correspond(maps[0], [(5, 80), (63, 0)], maps[1]).likeness).all()
    assert found.temperature == 0.05
    assert lab.mutual_neighbours(a, b, most=5, **asked).cosines == pytest.approx(
        mutual_neighbours(*maps, most=5).cosines
    )
    usual = lab.correspond(a, (5, 80), b)
    assert usual.likeness.shape == (1, 96, 64)
    with pytest.raises(FslabError, match="no setting 'drawz'"):
        lab.correspond(a, (5, 80), b, drawz=2)


def test_the_features_come_from_the_store(monkeypatch):
    a, b = noise_picture(64, 96), noise_picture(96, 64, seed=1)
    first = fslab.Lab("mini").correspond(a, (5, 80), b, LAYERS, 100)
    again = fslab.Lab("mini")

    def passed(*given):
        raise AssertionError("a pass for what the store has")

    monkeypatch.setattr(type(again.backbone), "run", passed)
    assert (again.correspond(a, (5, 80), b, LAYERS, 100).likeness == first.likeness).all()


# --- published settings


@pytest.mark.parametrize("kind", ["sd1", "sd2"])
def test_dift_reads_stable_diffusion_1_and_2_in_their_true_shapes(kind):
    backbone = Diffusion(CONFIGURATIONS / kind, random=0)
    found = published("dift", backbone, backbone.layers())
    assert found == DIFT
    assert (found.layers, found.timesteps, found.draws) == (("up_blocks.1",), (261,), 8)
    assert (found.resolution, found.squash) == (768, True)
    size = backbone.input_size(noise_picture(100, 80), found)
    (layer,) = (layer for layer in backbone.layers() if layer.path == "up_blocks.1")
    assert (layer.channels, size[0] // layer.stride, size[1] // layer.stride) == (1280, 48, 48)


def test_dift_refuses_another_network_in_a_sentence():
    picture = noise_picture(32, 32)
    with pytest.raises(FslabError, match=r"in mini it has 96 channels at 4 pixels a cell, so give"):
        fslab.Lab("mini").correspond(picture, (1, 1), picture, published="dift")
    with pytest.raises(FslabError, match="in rgb it is not there"):
        fslab.Lab("mini", backbone="rgb").mutual_neighbours(picture, picture, published="dift")
    with pytest.raises(FslabError, match="there are no settings 'drift'; there are dift"):
        fslab.Lab("mini").correspond(picture, (1, 1), picture, published="drift")
    sdxl = SimpleNamespace(name="sdxl", timestep=50)
    with pytest.raises(FslabError, match="in sdxl it has 640 channels at 8 pixels a cell"):
        published("dift", sdxl, (Layer("up_blocks.1", 640, 8),))


def test_settings_beside_a_published_name_replace_its_own(monkeypatch):
    monkeypatch.setattr("fslab.lab.published._CHANNELS", 96)
    monkeypatch.setattr("fslab.lab.published._STRIDE", 4)
    lab = fslab.Lab("mini")
    a, b = noise_picture(32, 32), noise_picture(32, 32, seed=1)
    found = lab.correspond(a, (3, 3), b, published="dift", draws=2, resolution=96, timesteps=100)
    alone = {"squash": True, "posterior": "sample", "draws": 2, "resolution": 96}
    expected = lab.correspond(a, (3, 3), b, "up_blocks.1", 100, **alone)
    assert (found.likeness == expected.likeness).all()


# --- figures


def test_the_figure_marks_each_point_and_its_match_in_one_colour():
    a, b = noise_picture(40, 48), noise_picture(32, 64, seed=1)
    found = correspond(
        features(a.size, (8, 5, 6)), [(3, 4), (30, 40)], features(b.size, (8, 4, 8), seed=1)
    )
    figure = correspondences(a, found, b)
    marks = [trace for trace in figure.data if trace.type == "scatter" and trace.text]
    assert list(zip(marks[0].y, marks[0].x, strict=True)) == [(3, 4), (30, 40)]
    for place, match in enumerate(found.matches):
        assert (marks[place + 1].y[0], marks[place + 1].x[0]) == tuple(match)
        assert marks[place + 1].marker.color[0] == marks[0].marker.color[place]
    assert marks[0].marker.color[0] != marks[0].marker.color[1]
    with pytest.raises(FslabError, match="its likeness 32 x 64; both belong to one picture"):
        correspondences(b, found, a)


def test_likeness_is_drawn_dark_where_low_and_light_where_high():
    picture = fslab.Picture(np.full((2, 3, 3), 128, np.uint8))
    values = np.array([[0.2, 0.3, 0.4], [0.5, 0.6, 0.7]], np.float32)
    drawn = likeness_picture(picture, values).astype(int).sum(2).ravel()
    assert drawn.argmin() == 0
    assert drawn.argmax() == 5
    assert len(np.unique(likeness_picture(picture, values * 0).reshape(-1, 3), axis=0)) == 1


def test_lines_join_the_cells_of_both_pictures():
    a, b = noise_picture(40, 48), noise_picture(32, 64, seed=1)
    found = mutual_neighbours(features(a.size, (8, 5, 6)), features(b.size, (8, 4, 8), seed=1))
    drawn = [trace for trace in neighbours(a, found, b).data if trace.type == "scatter"]
    assert len(drawn) == len(found)
    beside = 48 + round(0.04 * (48 + 64))
    for trace, first, second in zip(drawn, found.first, found.second, strict=True):
        assert list(trace.y) == [first[0], second[0]]
        assert list(trace.x) == [first[1], second[1] + beside]


def test_records_say_what_they_hold():
    found = correspond(features((40, 48), (4, 5, 6)), (3, 4), features((32, 64), (4, 4, 8)))
    assert repr(found) == "Correspondence(1 point in 'picture', 32 x 64)"
    assert "3, 4" in found._repr_html_()
    with pytest.raises(FslabError, match=r"2 points with 1 maps"):
        Correspondence(((0, 0), (1, 1)), found.likeness)
    with pytest.raises(
        FslabError, match=r"likeness is float32 \[32, 64\]; it must be f32 \[P, H, W\]"
    ):
        Correspondence(((0, 0),), found.likeness[0])
