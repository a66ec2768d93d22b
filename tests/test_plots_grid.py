"""Pictures in rows: what stands where, and what is refused."""

from __future__ import annotations

import sys

import numpy as np
import plotly.graph_objects as go
import pytest
from conftest import noise_picture

from fslab import plots
from fslab.plots.colours import SEGMENT_COLOURS, css
from fslab.records import FslabError, LabelMap, Segments

NAMES = ("background", "dog", "cat")


def row(seed, size=(40, 40)):
    picture = noise_picture(*size, seed=seed)
    labels = np.zeros(size, np.uint8)
    labels[:20, :20] = 1 + seed % 2
    return [picture, Segments((labels > 0).astype(np.int32)), LabelMap(labels, NAMES)]


def test_rows_are_pictures_and_columns_are_stages():
    figure = plots.grid([row(0), row(1)], ["picture", "segments", "named"], "two rows")
    assert isinstance(figure, go.Figure)
    said = [note.text for note in figure.layout.annotations]
    assert [words for words in ("picture", "segments", "named") if words in said] == [
        "picture", "segments", "named",
    ]  # fmt: skip
    images = [trace for trace in figure.data if isinstance(trace, go.Image)]
    places = {(trace.xaxis, trace.yaxis) for trace in images}
    assert len(places) == 6
    columns = {figure.layout[name.replace("x", "xaxis")].domain[0] for name, _ in places}
    assert len(columns) == 3
    named = {
        trace.name: trace.marker.color
        for trace in figure.select_traces(selector={"showlegend": True})
    }
    assert set(named) == {"dog", "cat"}
    assert named["dog"] != named["cat"]
    assert figure.layout.width == 700


def test_row_titles_stand_above_their_pictures():
    figure = plots.grid([row(0), row(1)], ["picture", "a", "b"], row_titles=["best", "worst"])
    said = [note.text for note in figure.layout.annotations]
    assert "picture" not in said
    height = {note.text: note.y for note in figure.layout.annotations if note.yref == "paper"}
    assert height["best"] == height["a"] == 1  # the first row's titles stand above it
    assert height["worst"] < 0.6


def test_segments_are_flat_colours(monkeypatch):
    drawn = []
    module = sys.modules["fslab.plots.grid"]  # its function has the same name
    monkeypatch.setattr(module, "compose", lambda panels, title, across: drawn.extend(panels))
    plots.grid([row(0)], ["picture", "segments", "named"])
    colours = {tuple(colour) for colour in drawn[1].base.reshape(-1, 3).tolist()}
    assert colours == {tuple(map(int, each)) for each in SEGMENT_COLOURS[:2]}
    assert css(drawn[1].base[30, 30]) == css(SEGMENT_COLOURS[0])


def test_pictures_may_differ_in_size_but_not_from_their_stages():
    figure = plots.grid([row(0), row(1, (40, 80))], ["picture", "segments", "named"])
    rows = sorted({axis.domain for axis in figure.select_yaxes()})
    low, high = (top - bottom for bottom, top in rows)
    assert low == pytest.approx(high / 2)  # as wide, half as tall
    mixed = [row(0)[0], row(1, (40, 60))[1], row(0)[2]]
    with pytest.raises(FslabError, match="its segments 40 x 60; both belong to one picture"):
        plots.grid([mixed], ["picture", "segments", "named"])


def test_refusals_are_sentences():
    with pytest.raises(FslabError, match="there are 2 columns and rows of"):
        plots.grid([row(0)], ["picture", "segments"])
    with pytest.raises(FslabError, match="rows of"):
        plots.grid([], ["picture", "segments"])
    with pytest.raises(FslabError, match="each row begins with a picture, not Segments"):
        plots.grid([row(0)[::-1][1:]], ["a", "b"])


def test_names_stand_on_masks_while_there_is_room():
    wide, narrow = row(0), [*row(0), *row(0)[1:], row(0)[1]]
    for stages, written in ((wide, 1), (narrow, 0)):
        figure = plots.grid([stages], ["picture", "a", "b", "c", "d", "e"][: len(stages)])
        said = [note.text for note in figure.layout.annotations]
        assert said.count("dog") == written
        assert [trace.name for trace in figure.select_traces({"showlegend": True})] == ["dog"]
