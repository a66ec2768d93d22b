"""One plotly figure with several parts, each in its own rectangle of pixels."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import plotly.graph_objects as go

from fslab.plots.panels import finish, plain
from fslab.widgets.canvas import WIDTH, Canvas

GRID = "rgba(128,128,128,0.35)"
"""The colour of lines that are seen on white as on black."""

TITLE = 38
"""Pixels above a part that its title of two lines takes."""


class Box(NamedTuple):
    """A rectangle in pixels of the figure; `top` is counted from its upper edge."""

    left: float
    top: float
    width: float
    height: float

    @property
    def bottom(self) -> float:
        """Where its lower edge is."""
        return self.top + self.height


class Part:
    """A part of a board: some traces on one pair of axes, with a title above them.

    traces: made once, and changed in place ever after: a figure that is built anew takes longer
    than computing what it shows. x, y: the axes' settings; indent and beyond: how far left of its
    box, in pixels, the title begins, and how far right of it the title may end.
    """

    indent = beyond = 0
    _board: Board

    def __init__(self, traces: Sequence[Any], x: dict[str, Any], y: dict[str, Any]) -> None:
        self.made, self.x, self.y = list(traces), x, y
        self._number = self._first = 0

    @property
    def traces(self) -> tuple[Any, ...]:
        """The part's own traces in the figure."""
        traces: tuple[Any, ...] = self._board.figure.data
        return traces[self._first : self._first + len(self.made)]

    @property
    def layout(self) -> Any:
        """The layout of the whole figure."""
        return self._board.figure.layout

    @property
    def axes(self) -> tuple[Any, Any]:
        """The part's x and y axis in the figure."""
        return self.layout[f"xaxis{self._number}"], self.layout[f"yaxis{self._number}"]

    @property
    def ending(self) -> str:
        """What plotly puts behind the names of the part's axes: nothing for the first."""
        return "" if self._number == 1 else str(self._number)

    def join(self, board: Board, number: int, first: int) -> None:
        """Become part `number`, counted from 1, whose traces begin at `first`."""
        self._board, self._number, self._first = board, number, first
        ending = self.ending
        for trace in self.made:
            trace.update(xaxis=f"x{ending}", yaxis=f"y{ending}")

    def title(self, text: str) -> None:
        """Write the title, one line or two."""
        self.layout.annotations[self._number - 1].text = plain(text)

    def place(self, box: Box | None, height: int) -> None:
        """Move to a rectangle of a figure `height` pixels high; None hides the part."""
        for trace in self.traces:
            trace.visible = box is not None
        box = box or Box(0, 0, 1, 1)
        width = self._board.width
        left, right = box.left / width, min((box.left + box.width) / width, 1)
        top, bottom = 1 - box.top / height, 1 - (box.top + box.height) / height
        x, y = self.axes
        x.domain, y.domain = [left, right], [max(bottom, 0), top]
        self.layout.annotations[self._number - 1].update(
            x=max(left - self.indent / width, 0), y=top, width=self.indent + box.width + self.beyond
        )


class Board:
    """Parts in one figure on one canvas, `frame`.

    `with board.drawing():` gathers changes and shows them at once, as what the move `move` asked
    for. select: whether points can be selected by a lasso or a box.
    """

    def __init__(self, *parts: Part, select: bool = False) -> None:
        settings: dict[str, Any] = {"annotations": [_title() for _ in parts]}
        traces: list[Any] = []
        for number, part in enumerate(parts, 1):
            part.join(self, number, len(traces))
            traces += part.made
            settings[f"xaxis{part.ending}"] = {**part.x, "anchor": f"y{part.ending}"}
            settings[f"yaxis{part.ending}"] = {**part.y, "anchor": f"x{part.ending}"}
        self._parts = parts
        self._placed: tuple[int, int, tuple[Box | None, ...]] | None = None
        self.figure = go.Figure(traces, settings)
        finish(self.figure, "", 200)
        plain_look = {
            "width": WIDTH, "height": 240, "title": None, "dragmode": "lasso" if select else False,
            "hovermode": "closest", "showlegend": False,
            "bargap": 0.3, "margin": {"l": 0, "r": 0, "t": 0, "b": 0},
        }  # fmt: skip
        self.figure.update_layout(plain_look)
        self.frame = Canvas(self.figure, select)
        self.move, self.name, self._depth = 0, "", 0

    @property
    def width(self) -> int:
        """The figure's width in pixels: the room that the browser has for it."""
        return self.frame.room

    @contextmanager
    def drawing(self) -> Iterator[None]:
        """Gather all changes that are made inside, by one thread, into one."""
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1
        if not self._depth:
            self.frame.draw(self.move, self.name)

    def arrange(self, height: float, boxes: Sequence[Box | None]) -> None:
        """Give each part its rectangle; call while drawing."""
        wanted = self.width, round(height), tuple(boxes)
        if wanted == self._placed:
            return
        self._placed = wanted
        self.figure.update_layout(width=wanted[0], height=wanted[1])
        for part, box in zip(self._parts, boxes, strict=True):
            part.place(box, wanted[1])


def listen(trace: Any, event: str, listener: Callable[[Any], None]) -> None:
    """Have a listener told of a trace's event, with plotly's points, where there are any."""

    def tell(trace: Any, points: Any, state: Any) -> None:
        if points.point_inds:
            listener(points)

    getattr(trace, event)(tell)


def _title() -> dict[str, Any]:
    return {
        "text": "", "x": 0, "y": 1, "xref": "paper", "yref": "paper", "xanchor": "left",
        "yanchor": "bottom", "yshift": 2, "showarrow": False, "align": "left",
        "font": {"size": 12},
    }  # fmt: skip
