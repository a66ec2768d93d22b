"""Figures reach the browser whole, and again where it did not take a change."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from fslab.widgets import figure as figures
from fslab.widgets.board import Board, Box
from fslab.widgets.panel import Panel, fitted, side_by_side


def drawn_on(board, panel, shade):
    with board.drawing():
        board.arrange(200, [Box(0, 40, 100, 100)])
        panel.resize((8, 8))
        panel.image(np.full((8, 8, 3), shade, np.uint8), photo=False)


def sent_source(figure):
    """The picture in what a browser is told of the figure."""
    return figure.get_state("_widget_data")["_widget_data"][0]["source"]


def answer(figure, number):
    """What the browser says once it has carried a change out."""
    figure._js2py_traceDeltas = {"trace_deltas": [], "trace_edit_id": number}


def test_a_figure_is_announced_only_once_it_is_whole():
    panel = Panel()
    board = Board(panel)
    assert board.figure.comm is None
    assert board.frame.children == ()
    drawn_on(board, panel, 10)
    assert board.figure.comm is not None
    assert board.frame.children == (board.figure,)
    assert sent_source(board.figure) == panel.traces[0].source


@pytest.mark.parametrize("carried_out", [False, True])
def test_a_change_that_the_browser_did_not_take_is_sent_anew(monkeypatch, carried_out):
    monkeypatch.setattr(figures, "_PATIENCE", 0.05)

    async def life():
        panel = Panel()
        board = Board(panel)
        drawn_on(board, panel, 10)
        first, clicked = board.figure.model_id, []
        panel.on_click(lambda row, column: clicked.append((row, column)))
        answer(board.figure, board.figure._last_trace_edit_id)
        drawn_on(board, panel, 200)
        if carried_out:
            answer(board.figure, board.figure._last_trace_edit_id)
        await asyncio.sleep(1.4)
        assert (board.figure.model_id == first) == carried_out
        assert board.frame.children == (board.figure,)
        if not carried_out:
            assert sent_source(board.figure) == panel.traces[0].source

    asyncio.run(life())


def test_a_figure_that_no_browser_shows_is_left_alone(monkeypatch):
    monkeypatch.setattr(figures, "_PATIENCE", 0.05)

    async def life():
        panel = Panel()
        board = Board(panel)
        drawn_on(board, panel, 10)
        first = board.figure.model_id
        drawn_on(board, panel, 200)
        await asyncio.sleep(1.3)
        assert board.figure.model_id == first

    asyncio.run(life())


@pytest.mark.parametrize("size", [(96, 96), (64, 128), (375, 500), (1000, 100)])
def test_panels_keep_the_aspect_and_the_width(size):
    boxes = side_by_side(3, size)
    assert boxes[-1].left + boxes[-1].width <= 690 + 1e-6
    for box in boxes:
        assert box.height / box.width == pytest.approx(size[0] / size[1])
        assert box.height <= 460


def test_a_view_of_another_aspect_is_framed_not_stretched():
    seen = np.arange(30 * 20 * 3, dtype=np.uint8).reshape(30, 20, 3)
    framed = fitted(seen, (96, 96))
    assert framed.shape == (30, 30, 3)
    assert (framed[:, 5:25] == seen).all()
    assert (framed[:, :5] == 255).all()


def test_large_pictures_are_sent_small_and_clicks_count_in_their_pixels():
    panel, seen = Panel(), []
    board = Board(panel)
    with board.drawing():
        board.arrange(200, [Box(0, 40, 100, 100)])
        panel.resize((1200, 1600))
        panel.image(np.zeros((1200, 1600, 3), np.uint8))
    trace = panel.traces[0]
    assert trace.dx == pytest.approx(2.5)
    assert trace.x0 - trace.dx / 2 == pytest.approx(-0.5)
    panel.on_click(lambda row, column: seen.append((row, column)))
    points = type("P", (), {"point_inds": [[0, 0]], "xs": [1598.25], "ys": [0.75]})
    trace._dispatch_on_click(points, None)
    assert seen == [(1, 1598)]
