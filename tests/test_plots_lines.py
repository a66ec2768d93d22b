"""Lines, bars, strips of views and maps of values show what they were given."""

from __future__ import annotations

import base64
from io import BytesIO

import numpy as np
import pytest
from conftest import noise_picture
from PIL import Image

from fslab import plots
from fslab.records import FslabError


def test_lines_go_through_their_points_and_differ_in_more_than_colour():
    series = {"mIoU": ([1, 2, 4], [0.1, 0.4, 0.3]), "<F>": ([1, 4], [0.2, float("nan")])}
    figure = plots.lines(series, "a sweep", "K", "score")
    first, second = figure.data
    assert (list(first.x), list(first.y)) == ([1, 2, 4], [0.1, 0.4, 0.3])
    assert (first.name, second.name) == ("mIoU", "&lt;F&gt;")
    assert first.line.color != second.line.color
    assert first.line.dash != second.line.dash
    assert first.marker.symbol != second.marker.symbol
    titles = (
        figure.layout.title.text,
        figure.layout.xaxis.title.text,
        figure.layout.yaxis.title.text,
    )
    assert titles == ("a sweep", "K", "score")
    assert figure.layout.xaxis.type != "log"


def test_lines_on_a_logarithmic_axis_have_ticks_at_the_points():
    axis = plots.lines({"a": ([5, 80], [0, 1]), "b": ([20], [1])}, "t", "x", "y", True).layout.xaxis
    assert axis.type == "log"
    assert (axis.tickvals, axis.ticktext) == ((5, 20, 80), ("5", "20", "80"))


@pytest.mark.parametrize(
    ("series", "log_x", "said"),
    [
        ({}, False, "at least one series"),
        ({"a": ([1, 2], [1])}, False, "'a' has 2 x and 1 y"),
        ({"a": ([], [])}, False, "'a' has 0 x"),
        ({"a": ([0, 1], [1, 2])}, True, "log_x takes what is above 0"),
    ],
)
def test_lines_refuse(series, log_x, said):
    with pytest.raises(FslabError, match=said):
        plots.lines(series, "t", "x", "y", log_x)


def test_grouped_bars_hold_a_bar_a_name_and_group():
    groups = {"recall": [0.5, 1.0], "precision": [0.25, 0.75]}
    figure = plots.grouped_bars(groups, ["by name", "<all>"], "candidates", "share")
    assert [bar.name for bar in figure.data] == list(groups)
    assert [list(bar.x) for bar in figure.data] == list(groups.values())
    assert figure.data[0].y == ("by name", "&lt;all&gt;")
    assert figure.data[1].text == ("0.25", "0.75")
    assert figure.layout.xaxis.title.text == "share"
    assert figure.layout.showlegend
    assert not plots.grouped_bars({"a": [0.0]}, ["b"], "t", "x").layout.showlegend


def test_grouped_bars_refuse_what_does_not_fit():
    with pytest.raises(FslabError, match="'recall' holds 1 values for 2 names"):
        plots.grouped_bars({"recall": [0.5]}, ["a", "b"], "t", "x")
    with pytest.raises(FslabError, match="nothing to draw"):
        plots.grouped_bars({}, ["a"], "t", "x")


def drawn(figure):
    encoded = figure.data[0].source.split(",", 1)[1]
    return np.asarray(Image.open(BytesIO(base64.b64decode(encoded)))).astype(int)


def test_region_views_stand_in_their_rows_and_columns():
    red, blue = np.zeros((2, 10, 10, 3), np.uint8)
    red[..., 0] = blue[..., 2] = 200
    figure = plots.region_views({"masked": [red, blue], "box": [blue, red[:5]]}, title="views")
    board = drawn(figure)
    assert board.shape == (196, 196, 3), "tiles of 96 pixels, large enough to read"
    centres = [board[row, column] for row in (48, 148) for column in (48, 148)]
    for centre, colour in zip(
        centres, [(200, 0, 0), (0, 0, 200), (0, 0, 200), (200, 0, 0)], strict=True
    ):
        assert np.abs(centre - colour).max() < 12
    assert board[104, 148].min() > 240, "a flat view stands on white"
    assert figure.layout.yaxis.ticktext == ("masked", "box")
    assert figure.layout.xaxis.ticktext == ("segment 0", "segment 1")


def test_region_views_refuse():
    tile = np.zeros((4, 4, 3), np.uint8)
    with pytest.raises(FslabError, match="one picture a region in every row"):
        plots.region_views({"a": [tile], "b": []})
    with pytest.raises(FslabError, match="2 columns named for 1 regions"):
        plots.region_views({"a": [tile]}, ["x", "y"])
    with pytest.raises(FslabError, match=r"float64 \[4, 4, 3\]"):
        plots.region_views({"a": [tile / 2]})


def test_value_maps_share_a_scale_and_mark_the_point():
    picture = noise_picture(6, 8)
    first = np.linspace(0, 1, 48).reshape(6, 8)
    figure = plots.value_maps(picture, {"near": first, "alike": first * 3}, "t", "weight", (2, 5))
    marks = [trace for trace in figure.data if trace.type == "scatter"]
    near, alike = (trace.marker for trace in marks if trace.marker.opacity == 0)
    assert (near.cmin, near.cmax) == (alike.cmin, alike.cmax) == (0, 3)
    assert np.allclose(alike.color, 3 * first.ravel())
    assert (near.showscale, alike.showscale) == (True, False)
    assert near.colorbar.title.text == "weight"
    crosses = [trace for trace in marks if trace.marker.symbol == "cross"]
    assert [(trace.x, trace.y) for trace in crosses] == [((5,), (2,))] * 3
    shown = [note.text for note in figure.layout.annotations]
    assert shown == ["picture", "near", "alike"]


def test_value_maps_colour_from_the_lowest_to_the_highest():
    values = np.zeros((6, 8))
    values[:, 4:] = 5.0
    figure = plots.value_maps(noise_picture(6, 8), {"a": values}, "t", "w")
    source = [trace.source for trace in figure.data if trace.type == "image"][1]
    pixels = np.asarray(Image.open(BytesIO(base64.b64decode(source.split(",", 1)[1]))))
    assert pixels[0, 0].tolist() == [68, 1, 84]
    assert pixels[5, 7].tolist() == [253, 231, 37]


def test_value_maps_refuse_another_size():
    with pytest.raises(FslabError, match=r"6 x 8 pixels .*map 'near' 3 x 3"):
        plots.value_maps(noise_picture(6, 8), {"near": np.zeros((3, 3))}, "t", "w")
    with pytest.raises(FslabError, match="at least one map"):
        plots.value_maps(noise_picture(6, 8), {}, "t", "w")
