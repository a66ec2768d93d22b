"""The explorer of two pictures without a browser: knobs are moved, figures hold what is computed."""

from __future__ import annotations

import time

import numpy as np
import pytest
from conftest import noise_picture
from test_widgets import pixels_of, png, press, uploaded, waited

import fslab
from fslab.correspond import correspond, mutual_neighbours
from fslab.datasets import voc
from fslab.plots import likeness_picture
from fslab.records import FslabError
from fslab.widgets import explore_correspondence
from fslab.widgets.panel import in_rows

ROOT = fslab.__path__[0] + "/.."
LAYER = "up_blocks.1"


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    return fslab.Lab("mini", store=tmp_path_factory.mktemp("pairs"))


@pytest.fixture(scope="module")
def data():
    return voc(f"{ROOT}/data/minivoc", "val").limit(5)


def check(explorer, lab, data):
    """The whole figure against what fslab computes for the explorer's state."""
    pictures = {sample.name: sample.picture() for sample in data}
    source, panels = pictures[explorer.picture], explorer._panels
    points = (*explorer.pins, explorer.point)
    ours = lab.extract(source, [explorer.layer], explorer.timestep)
    marks = panels[0].traces[2]
    assert list(zip(marks.y, marks.x, strict=True)) == list(points)
    assert len(set(marks.marker.color)) == len(points)
    for panel, name in zip(panels[1:], explorer.others, strict=False):
        theirs = lab.extract(pictures[name], [explorer.layer], explorer.timestep)
        found = correspond(ours, points, theirs, explorer.temperature)
        drawn = likeness_picture(pictures[name], found.likeness[-1]).astype(int)
        assert np.abs(pixels_of(panel.traces[0]).astype(int) - drawn).mean() < 4  # a JPEG
        placed = np.stack([panel.traces[2].y, panel.traces[2].x], 1)
        assert np.allclose(placed, found.matches)
        assert list(panel.traces[2].marker.color) == list(marks.marker.color)
        assert panel.traces[2].marker.symbol == "circle"


def test_the_figure_follows_every_knob(lab, data):
    explorer = waited(explore_correspondence(lab, data, timestep=50))
    assert explorer.picture == "val_0000"
    assert explorer.others == ("val_0001", "val_0002", "val_0003")
    check(explorer, lab, data)
    moves = {
        "layer": LAYER, "timestep": 200, "point": (10, 20), "pins": ((5, 5), (90, 80)),
        "temperature": 0.05, "others": ("val_0004",), "picture": "val_0003",
    }  # fmt: skip
    for name, value in moves.items():
        setattr(explorer, name, value)
        waited(explorer)
        assert explorer.message == ""
        assert getattr(explorer, name) == value
        check(explorer, lab, data)
    shown = [panel.traces[0].visible for panel in explorer._panels]
    assert shown == [True, True, False, False]


def test_a_click_in_the_picture_moves_the_point_and_one_elsewhere_does_not(lab, data):
    explorer = waited(explore_correspondence(lab, data, layer=LAYER))
    before = explorer.found[0].likeness
    press(explorer._panels[0].traces[0], 44, 80)
    assert waited(explorer).point == (44, 80)
    assert not np.array_equal(explorer.found[0].likeness, before)
    check(explorer, lab, data)
    press(explorer._panels[1].traces[0], 3, 7)
    assert waited(explorer).point == (44, 80)


def test_mutual_neighbours_are_lines_between_the_first_two_panels(lab, data):
    explorer = waited(explore_correspondence(lab, data, layer=LAYER, lines=9))
    pictures = [data.samples[place].picture() for place in (0, 1)]
    found = mutual_neighbours(*(lab.extract(each, [LAYER]) for each in pictures))
    lines = explorer._board.figure.layout.shapes
    assert len(lines) == min(9, len(found))
    axes = [panel.axes for panel in explorer._panels[:2]]
    for line, first, second in zip(lines, found.first, found.second, strict=False):
        ends = ((line.x0, line.y0, first), (line.x1, line.y1, second))
        for (x, y, (row, column)), picture, (across, down) in zip(
            ends, pictures, axes, strict=True
        ):
            left, right = across.domain
            bottom, top = down.domain
            share = (column + 0.5) / picture.size[1], (row + 0.5) / picture.size[0]
            assert x == pytest.approx(left + share[0] * (right - left), abs=2e-3)
            assert y == pytest.approx(top - share[1] * (top - bottom), abs=2e-3)
    assert f"9 of {len(found)} mutual nearest neighbours with val_0001" in explorer._about.value
    waited(explorer.change(lines=0))
    assert not explorer._board.figure.layout.shapes


def test_pictures_of_any_shape_stand_in_one_row():
    sizes = [(96, 96), (96, 128), (128, 96), (30, 300)]
    boxes = in_rows(sizes, 900)
    assert boxes[-1].left + boxes[-1].width == pytest.approx(900)
    for box, (height, width) in zip(boxes, sizes, strict=True):
        assert box.width / box.height == pytest.approx(width / height)
        assert box.height == boxes[0].height
    assert in_rows([(1000, 10)], 900)[0].height == 460


def test_state_refuses_what_it_cannot_take_and_says_it(lab, data):
    explorer = waited(explore_correspondence(lab, data))
    with pytest.raises(FslabError, match="others hold 'nobody'; the pictures are 'val_0000'"):
        explorer.others = ("nobody",)
    with pytest.raises(FslabError, match="temperature is 3"):
        explorer.temperature = 3.0
    explorer.others = ()
    assert "0 other pictures are chosen; choose one to 3" in waited(explorer).message
    explorer.others = tuple(sample.name for sample in data)
    assert "5 other pictures are chosen; choose one to 3" in waited(explorer).message
    explorer.others = "val_0002"
    assert waited(explorer).message == ""


def test_one_picture_is_compared_with_itself_and_uploads_join_the_others(lab):
    explorer = waited(explore_correspondence(lab, noise_picture(64, 96), point=(9, 30)))
    assert explorer.others == (explorer.picture,)
    assert explorer.found[0].matches.tolist() == [[9, 30]]
    explorer._pictures.upload.value = uploaded("mine.png", png(noise_picture(48, 48, seed=3)))
    assert waited(explorer).picture == "mine"
    assert "mine" in explorer._others.options
    assert explorer.others == ("noise-64x96",)
    assert explorer.point == (7, 15)  # at the same shares of its sides
    explorer.others = ("mine", "noise-64x96")
    assert waited(explorer).found[0].size == (48, 48)


def test_a_backbone_without_time_and_more_points_than_one(tmp_path):
    rgb = fslab.Lab("mini", backbone="rgb", store=tmp_path)
    pictures = [noise_picture(40, 40), noise_picture(40, 56, seed=1)]
    explorer = waited(explore_correspondence(rgb, pictures, layer="colour", lines=3))
    assert explorer._timestep.disabled
    assert "timestep" not in explorer.code


def test_warm_moves_read_nothing_anew(lab, data, monkeypatch):
    explorer = waited(explore_correspondence(lab, data, layer=LAYER, timestep=200, lines=9))

    def passed(*given, **named):
        raise AssertionError("features were read again")

    monkeypatch.setattr(type(lab), "extract", passed)
    for name, value in (("point", (30, 31)), ("temperature", 0.1), ("lines", 20)):
        start = time.process_time()
        setattr(explorer, name, value)
        waited(explorer)
        assert explorer.message == ""
        assert time.process_time() - start < 1.0  # a quarter of it on a machine of its own
