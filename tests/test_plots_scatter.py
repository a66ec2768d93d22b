"""Scatter plots hold every point under its own name."""

from __future__ import annotations

import numpy as np
import pytest

from fslab import plots
from fslab.plots.colours import SEGMENT_COLOURS, css
from fslab.records import VOID, FslabError, voc_palette

POINTS = np.array([[0.0, 1.0], [2.0, 3.0], [4.0, 5.0], [6.0, 7.0]])
LABELS = np.array([1, 0, 1, VOID])


def test_each_label_has_its_points_its_colour_its_shape_and_its_count():
    figure = plots.scatter(POINTS, LABELS, ["sky", "dog"], "t", axes=("first", "second"))
    assert [trace.name for trace in figure.data] == ["sky (1)", "dog (2)", "void (1)"]
    np.testing.assert_array_equal(np.stack([figure.data[1].x, figure.data[1].y], 1), POINTS[::2])
    colours = [trace.marker.color for trace in figure.data]
    assert colours[:2] == [css(SEGMENT_COLOURS[0]), css(SEGMENT_COLOURS[1])]
    assert len({trace.marker.symbol for trace in figure.data[:2]}) == 2
    assert (figure.layout.xaxis.title.text, figure.layout.yaxis.title.text) == ("first", "second")
    assert figure.layout.font.size >= 12


def test_classes_may_bring_their_own_colours_and_names_beyond_the_list_are_numbers():
    figure = plots.scatter(POINTS, np.array([0, 5, 5, 0]), ["sky"], "t", colours=voc_palette())
    assert figure.data[1].marker.color == css(voc_palette()[5])
    assert figure.data[1].name == "class 5 (2)"


def test_a_legend_shows_names_as_they_are():
    figure = plots.scatter(POINTS, np.zeros(4, int), ["<b>"], "<i>")
    assert figure.data[0].name == "&lt;b&gt; (4)"
    assert figure.layout.title.text == "&lt;i&gt;"


@pytest.mark.parametrize("labels", [np.zeros(3, int), np.zeros((4, 1), int)])
def test_points_and_labels_must_fit(labels):
    with pytest.raises(FslabError, match=r"points are \[4, 2\] and labels"):
        plots.scatter(POINTS, labels, ["a"], "t")
    with pytest.raises(FslabError, match=r"N from 1 up"):
        plots.scatter(np.zeros((0, 2)), np.zeros(0, int), ["a"], "t")
