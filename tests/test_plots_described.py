"""What is on a figure, in words: its own names and numbers, and nothing else."""

from __future__ import annotations

import json

import numpy as np
import plotly.graph_objects as go
import pytest
from conftest import noise_picture

from fslab import plots
from fslab.records import Features, FslabError


def test_bars_are_said_with_their_names_and_values():
    figure = plots.interval_bars(["a", "<b>"], [0.25, 0.5], [0.2, 0.4], [0.3, 0.6], "t", "mIoU")
    assert plots.described(figure) == "t. Bars of mIoU: a 0.25, <b> 0.5."
    groups = plots.grouped_bars({"r": [1.0], "p": [0.5]}, ["name"], "t", "share")
    assert plots.described(groups) == "t. Bars of share: r: name 1; p: name 0.5."
    many = plots.interval_bars(
        list("abcdefghi"), [n / 10 for n in range(9)], [None] * 9, [None] * 9, "t", "x"
    )
    assert "9 of them, the longest i 0.8, the shortest a 0" in plots.described(many)


def test_lines_are_said_from_end_to_end():
    figure = plots.lines({"mIoU": ([1, 4], [0.1, 0.3])}, "a sweep", "K", "score")
    assert (
        plots.described(figure) == "a sweep. Lines of score over K: mIoU from 0.1 at 1 to 0.3 at 4."
    )


def test_cells_are_said_by_their_range_and_highest_place():
    table = np.array([[1.0, 2.0, 3.0], [6.0, 5.0, 4.0]])
    figure = plots.heat_map(table, ["up", "down"], ["0", "50", "90"], "t", "mIoU")
    said = plots.described(figure)
    assert "2 rows by 3 columns of cells, 1 to 6, the highest at down, 0" in said


def test_panels_are_said_by_their_titles():
    picture = noise_picture(24, 24)
    maps = np.random.default_rng(0).random((4, 3, 3), np.float32)
    features = Features({"up.1": maps}, picture.size, "x")
    said = plots.described(plots.feature_colours(features, picture=picture))
    assert "Panels: picture; up.1 [4 x 3 x 3]" in said


def test_a_notebook_s_json_says_the_same_as_the_figure():
    figure = plots.scatter(
        np.random.default_rng(0).random((30, 2)), np.repeat([0, 1], 15), ["a", "b"], "points"
    )
    kept = json.loads(figure.to_json())
    assert plots.described(kept) == plots.described(figure) == "points. Points: a (15), b (15)."


def test_what_is_no_figure_is_refused():
    for wrong in ([1], {"data": []}, "figure"):
        with pytest.raises(FslabError, match="described takes a plotly figure"):
            plots.described(wrong)
    assert plots.described(go.Figure()) == "."
