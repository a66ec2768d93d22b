"""Bars with intervals."""

import numpy as np
import pytest

from fslab.plots import interval_bars
from fslab.records import FslabError


def test_bars_carry_values_and_intervals():
    figure = interval_bars(["a", "b"], [0.2, 0.5], [0.1, None], [0.4, None], "title", "mIoU")
    (bars,) = figure.data
    assert list(bars.x) == [0.2, 0.5]
    np.testing.assert_allclose(bars.error_x.array, [0.2, 0.0])
    np.testing.assert_allclose(bars.error_x.arrayminus, [0.1, 0.0])
    assert [note.text for note in figure.layout.annotations] == ["0.200", "0.500"]
    assert list(figure.layout.yaxis.ticktext) == ["a", "b"]
    assert figure.layout.yaxis.autorange == "reversed"
    assert figure.layout.xaxis.title.text == "mIoU"
    assert figure.layout.width == 700
    assert "no interval" in bars.customdata[1][1]


def test_names_are_text_and_long_ones_are_cut():
    long = "<b>" + "word " * 40
    figure = interval_bars([long, "b"], [0.1, 0.2], [0, 0], [1, 1], "<i>", "x")
    shown = figure.layout.yaxis.ticktext[0]
    assert shown.startswith("&lt;b&gt;word")
    assert shown.endswith("…")
    assert figure.layout.title.text == "&lt;i&gt;"
    assert figure.data[0].customdata[0][0].endswith("word ")


@pytest.mark.parametrize("values", [[], [0.1], [0.1, 0.2, 0.3]])
def test_lengths_must_fit(values):
    with pytest.raises(FslabError, match="equally many"):
        interval_bars(["a", "b"][: len(values)], values, [0, 0], [1, 1], "t", "x")
