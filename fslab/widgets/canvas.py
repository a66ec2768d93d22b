"""What a browser draws a figure with: a small module of our own, and plotly.js once a page."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Callable, Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import anywidget
import plotly.graph_objects as go
import traitlets
from ipywidgets import widget_serialization
from plotly.callbacks import InputDeviceState, Points
from plotly.io import to_json

_HERE = Path(__file__).parent

NARROWEST, WIDEST = 320, 1400
"""Pixels that a figure is wide at least and at most, however wide its cell is."""

WIDTH = 690
"""Pixels that a figure is wide until a browser has said how much room there is."""


class Library(anywidget.AnyWidget):
    """The installed plotly.js, which all canvases of a page share.

    It goes to the browser as data: a module of its 5 MB takes longer to load than the 2 seconds
    after which anywidget gives a module up.
    """

    _esm = "export default {};"
    packed = traitlets.Bytes().tag(sync=True)


class Canvas(anywidget.AnyWidget):
    """Draws a plotly figure and says what was done to it.

    Drawings are numbered by the move that asked for them: while `drawing` is not of the move that
    is `wanted`, the browser shows it grey. `width` is the room in pixels, as the browser found it;
    `painted` the serial number of the drawing that is on the screen.
    """

    _esm = _HERE / "canvas.js"
    _css = _HERE / "canvas.css"
    library = traitlets.Instance(Library).tag(sync=True, **widget_serialization)
    drawing = traitlets.Unicode("").tag(sync=True)
    wanted = traitlets.Int(0).tag(sync=True)
    width = traitlets.Int(WIDTH).tag(sync=True)
    painted = traitlets.Int(0).tag(sync=True)

    def __init__(self, figure: go.Figure, select: bool = False) -> None:
        super().__init__(library=_library())
        self._figure, self._select, self.serial = figure, select, 0
        self._sending = threading.Lock()
        self.on_msg(self._hear)

    def draw(self, move: int, name: str = "") -> None:
        """Send the figure as it is now, as what a move asked for; name: of a file of it."""
        with self._sending:
            self.serial += 1
            head = {"serial": self.serial, "move": move, "name": name, "select": self._select}
            figure = to_json(self._figure, validate=False, engine="json")
            self.drawing = f'{json.dumps(head)[:-1]}, "figure": {figure}}}'

    def on_width(self, listener: Callable[[int], None]) -> None:
        """Have a listener told how wide the figure shall be, whenever the room changes."""
        self.observe(lambda change: listener(self.room), "width")

    @property
    def room(self) -> int:
        """How wide the figure shall be, in pixels."""
        return min(max(self.width, NARROWEST), WIDEST)

    def _hear(self, widget: Any, content: Mapping[str, Any], buffers: Any = None) -> None:
        if content.get("kind") == "opened":
            if content["serial"] != self.serial:  # drawn while the page took the canvas over
                self.send_state(["drawing", "wanted"])
        elif content.get("serial") == self.serial:  # else it is about a drawing of before
            self._tell(content["kind"], content["points"])

    def _tell(self, kind: str, points: list[dict[str, Any]]) -> None:
        """Tell each trace's listeners of its points; a selection without any is told too."""
        for number, trace in enumerate(self._figure.data):
            own = [point for point in points if point["trace"] == number]
            at = Points(
                [point["index"] for point in own], [point["x"] for point in own],
                [point["y"] for point in own], trace.name, number,
            )  # fmt: skip
            if kind == "deselect":
                trace._dispatch_on_deselect(at)
            elif kind == "selection":
                trace._dispatch_on_selection(at, None)
            elif own:
                getattr(trace, f"_dispatch_on_{kind}")(at, InputDeviceState())


@cache
def _packed() -> bytes:
    source = files("plotly") / "package_data" / "plotly.min.js"
    return gzip.compress(source.read_bytes(), 6)


_shared: list[Library] = []


def _library() -> Library:
    """Return this process's library, anew where a notebook has closed all widgets."""
    if not _shared or _shared[0].comm is None:
        _shared[:] = [Library(packed=_packed())]
    return _shared[0]
