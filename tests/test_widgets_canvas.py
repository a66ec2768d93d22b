"""What a canvas sends to the browser, what it makes of an answer, and where parts are placed."""

from __future__ import annotations

import gzip
import json
import re
import threading
import time
from importlib.resources import files

import ipywidgets
import numpy as np
import plotly.io
import pytest
from conftest import noise_picture

import fslab
from fslab.widgets import explore_features
from fslab.widgets.board import Board, Box
from fslab.widgets.panel import Panel, fitted, in_rows
from fslab.widgets.plane import Plane
from fslab.widgets.still import WIDGET
from fslab.widgets.texts import Status


@pytest.fixture
def panel():
    panel = Panel()
    board = Board(panel)
    with board.drawing():
        board.arrange(200, [Box(0, 40, 100, 100)])
        panel.resize((8, 8))
        panel.image(np.full((8, 8, 3), 10, np.uint8), photo=False)
    return panel


def sent(board):
    """What the browser is told."""
    return json.loads(board.frame.drawing)


def hear(board, kind, points, serial=None):
    """Send what the browser sends of (trace, index, x, y) each."""
    said = [dict(zip(("trace", "index", "x", "y"), point, strict=True)) for point in points]
    serial = board.frame.serial if serial is None else serial
    board.frame._handle_custom_msg({"kind": kind, "serial": serial, "points": said}, [])


def test_a_drawing_is_whole_and_says_which_move_asked_for_it(panel):
    board = panel._board
    board.move, board.name = 7, "scene"
    with board.drawing(), board.drawing():
        panel.title("first")
        assert sent(board)["serial"] == 1
        panel.title("second")
    drawing = sent(board)
    assert (drawing["serial"], drawing["move"], drawing["name"]) == (2, 7, "scene")
    assert drawing["figure"]["data"][0]["source"] == panel.traces[0].source
    assert drawing["figure"]["layout"]["annotations"][0]["text"] == "second"


def test_what_fails_half_way_is_not_shown(panel):
    board = panel._board

    def half():
        with board.drawing():
            panel.title("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        half()
    assert sent(board)["serial"] == 1
    with board.drawing():
        pass
    assert sent(board)["serial"] == 2


def test_what_is_said_of_an_earlier_drawing_is_not_heard(panel):
    board, seen = panel._board, []
    panel.on_click(lambda row, column: seen.append((row, column)))
    hear(board, "click", [(0, [3, 5], 5, 3)], serial=0)
    assert seen == []
    hear(board, "click", [(0, [3, 5], 5, 3)])
    assert seen == [(3, 5)]


def test_a_selection_tells_cells_and_an_empty_one_tells_none():
    plane, seen = Plane(), []
    board = Board(plane, select=True)
    plane.on_select(seen.append)
    with board.drawing():
        plane.show(np.zeros((4, 2)), np.zeros(4, int), np.zeros((1, 3), np.uint8), "PCA")
    hear(board, "selection", [(0, 1, 0, 0), (0, 3, 0, 0)])
    hear(board, "selection", [])
    hear(board, "deselect", [])
    assert seen == [(1, 3), (), ()]


def test_a_page_that_opens_late_is_sent_what_it_missed(panel, monkeypatch):
    canvas, again = panel._board.frame, []
    monkeypatch.setattr(canvas, "send_state", again.append)
    for serial in (1, 0):
        canvas._handle_custom_msg({"kind": "opened", "serial": serial}, [])
    assert again == [["drawing", "wanted"]]


def test_canvases_share_the_installed_plotly(panel):
    other = Board(Panel()).frame
    assert other.library is panel._board.frame.library
    source = files("plotly") / "package_data" / "plotly.min.js"
    assert gzip.decompress(other.library.packed) == source.read_bytes()
    ipywidgets.Widget.close_all()
    assert Board(Panel()).frame.library.comm is not None


@pytest.mark.parametrize(("room", "width"), [(10, 320), (777, 777), (5000, 1400)])
def test_a_figure_is_as_wide_as_its_room(panel, room, width):
    board, told = panel._board, []
    board.frame.on_width(told.append)
    board.frame.width = room
    assert told == [width] == [board.width]
    with board.drawing():
        board.arrange(300, [Box(0, 40, 160, 200)])
    assert board.figure.layout.width == width
    assert panel.axes[0].domain[1] == pytest.approx(160 / width)


@pytest.mark.parametrize("width", [360, 690, 1400])
@pytest.mark.parametrize("sizes", [[(96, 96)] * 3, [(375, 500)] * 4, [(96, 64), (30, 300)]])
def test_panels_keep_their_aspect_within_any_width(width, sizes):
    boxes = in_rows(sizes, width)
    for box, (down, across) in zip(boxes, sizes, strict=True):
        assert box.left + box.width <= width + 1e-6
        assert box.height / box.width == pytest.approx(down / across)
        assert box.height <= 460
    for place, box in enumerate(boxes):  # no two overlap
        for other in boxes[:place]:
            assert box.left >= other.left + other.width or box.top >= other.bottom


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
    hear(board, "click", [(0, [0, 0], 1598.25, 0.75)])
    assert seen == [(1, 1598)]


# --- explorers on their canvases


@pytest.fixture(scope="module")
def rgb(tmp_path_factory):
    """A lab whose features cost nothing: the picture's own colours."""
    return fslab.Lab("mini", "rgb", store=tmp_path_factory.mktemp("canvas"))


def waited(explorer):
    explorer.wait()
    return explorer


def is_grey(explorer):
    """Whether the browser is to show what was drawn last as of another state."""
    return sent(explorer._board)["move"] != explorer._board.frame.wanted


def test_a_figure_is_grey_until_it_is_of_what_the_controls_say(rgb, monkeypatch):
    explorer = waited(explore_features(rgb, [noise_picture(24, 24)]))
    assert not is_grey(explorer)
    gate, compute = threading.Event(), explorer._compute
    monkeypatch.setattr(explorer, "_compute", lambda view: (gate.wait(30), compute(view))[1])
    explorer.point = (3, 4)
    assert is_grey(explorer)
    assert explorer.children[0].children[0] is explorer._status
    assert "computing" in explorer._status.value
    gate.set()
    assert not is_grey(waited(explorer))


def test_an_error_leaves_the_figure_grey_and_stands_on_top(rgb, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"x")
    explorer = waited(explore_features(rgb, [noise_picture(24, 24), tmp_path / "bad.png"]))
    explorer.picture = "bad"
    assert is_grey(waited(explorer))
    explorer._board.frame.width = 500  # laid out anew, the old figure is no newer
    assert is_grey(explorer)
    explorer.undo()
    assert not is_grey(waited(explorer))
    assert explorer.picture == "noise-24x24"


def test_panels_are_laid_out_anew_at_another_width(rgb):
    explorer = waited(explore_features(rgb, [noise_picture(24, 24)]))
    for width in (360, 1400):
        explorer._board.frame.width = width
        layout = sent(explorer._board)["figure"]["layout"]
        assert layout["width"] == width
        across = [panel.axes[0].domain for panel in explorer._panels[:3]]
        assert len({left for left, _ in across}) == (2 if width == 360 else 3)


def test_undo_goes_back_view_by_view_and_reset_to_the_opening(rgb):
    explorer = waited(explore_features(rgb, [noise_picture(24, 24)], point=(1, 2)))
    waited(explorer.change(point=(5, 6)))
    waited(explorer.change(pins=((9, 9),), joined="highest"))
    explorer.undo()
    assert (waited(explorer).point, explorer.pins, explorer.joined) == ((5, 6), (), "mean")
    explorer.undo()
    explorer.undo()
    assert waited(explorer).point == (1, 2)
    waited(explorer.change(point=(7, 7)))
    explorer.reset()
    assert waited(explorer).point == (1, 2)
    explorer.undo()
    assert waited(explorer).point == (7, 7)


def test_work_that_lasts_says_what_it_is_at_and_how_long(monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    clock = iter(range(0, 10_000, 5))
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    status = Status()
    status.compute()
    status.doing("UMAP of 4 cells")
    assert re.search(r"computing: UMAP of 4 cells &hellip;.*\d+ s<", status.value)
    status.ready("done")
    assert ">done<" in status.value


def test_outputs_hold_a_still_where_figures_have_one(rgb, monkeypatch):
    explorer = explore_features(rgb, [noise_picture(24, 24)])
    monkeypatch.setenv("PLOTLY_RENDERER", "plotly_mimetype")
    held = explorer._repr_mimebundle_()
    assert set(held) == {"text/plain", WIDGET, "application/vnd.plotly.v1+json"}
    monkeypatch.delenv("PLOTLY_RENDERER")
    assert set(explorer._repr_mimebundle_()) == {"text/plain", WIDGET}
    monkeypatch.setenv("PLOTLY_RENDERER", "plotly_mimetype+png")
    renderer = plotly.io.renderers["plotly_mimetype"]
    png = type("Png", (), {"to_mimebundle": lambda self, figure: {"image/png": "drawn"}})()
    monkeypatch.setattr(plotly.io, "renderers", {"plotly_mimetype": renderer, "png": png})
    assert set(explorer._repr_mimebundle_()) == set(held) - {WIDGET} | {"image/png"}
