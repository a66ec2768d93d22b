"""A picture in a figure, changed in place, that tells where it was clicked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from PIL import Image

from fslab.plots.draw import data_uri
from fslab.plots.panels import plain, stretched
from fslab.widgets.board import TITLE, Board, Box, Part, listen

At = Callable[[int, int], None]
"""Called with the row and column of a pixel of the picture."""

_SHOWN = 640
"""Pixels of a picture's longer side that are sent at most: a screen shows no more of a panel."""

SCALE = 76
"""Pixels that the scale of cosines takes on the right."""

_GAP = 10
_LEAST = 135
"""Pixels that a panel is wide at least; where that leaves no room for all, there are more rows."""

_MARK = {"symbol": "cross", "size": 12, "color": "white", "line": {"color": "black", "width": 1.5}}
_LETTERS = {"size": 14, "color": "white", "shadow": "0 0 3px black, 0 0 3px black"}


class Panel(Part):
    """An image, a clear image over it, and marks; with `heat` a map of cosines and its scale.

    like: another panel of the same picture, with which this one is zoomed.
    """

    def __init__(self, heat: bool = False, like: Panel | None = None) -> None:
        traces = [
            go.Image(hoverinfo="none"),
            go.Image(hoverinfo="none"),
            go.Scatter(
                mode="markers", marker=_MARK, hoverinfo="skip", cliponaxis=False,
                textfont=_LETTERS, unselected={"textfont": {"color": "white"}},
            ),
        ]  # fmt: skip
        if heat:
            self.beyond = SCALE
            scale = {"title": {"text": "cosine"}, "thickness": 12, "lenmode": "pixels"}
            traces.append(
                go.Heatmap(
                    colorscale="Viridis",
                    hovertemplate="cosine %{z:.3f}<extra></extra>",
                    colorbar={**scale, "yanchor": "top", "xpad": 0},
                )
            )
        super().__init__(traces, {"visible": False}, {"visible": False})
        self._size, self._like = (1, 1), like

    def join(self, board: Board, number: int, first: int) -> None:
        """Become a part of a board, whose pixels stay square when it is zoomed."""
        super().join(board, number, first)
        self.y["scaleanchor"] = f"x{self.ending}"
        if self._like is not None:
            self.x["matches"], self.y["matches"] = f"x{self._like.ending}", f"y{self._like.ending}"

    def resize(self, size: tuple[int, int]) -> None:
        """Take a picture of another height and width."""
        if size != self._size:
            self._size = size
            x, y = self.axes
            x.range, y.range = [-0.5, size[1] - 0.5], [size[0] - 0.5, -0.5]

    def image(self, pixels: np.ndarray, photo: bool = True) -> None:
        """Show u8 [h, w, 3], stretched over the panel; a photo may lose a little, as JPEG."""
        self._source(0, pixels, "JPEG" if photo else "PNG")

    def layer(self, pixels: np.ndarray) -> None:
        """Show u8 [h, w, 4] over the panel's image."""
        self._source(1, pixels, "PNG")

    def marks(
        self,
        points: Sequence[tuple[float, float]],
        texts: Sequence[str] = (),
        cross: bool = True,
        colours: Sequence[str] = (),
        symbol: str = "cross",
    ) -> None:
        """Mark (row, column) points, with a word each if given; cross=False writes words only.

        colours: one a point, white if left out; symbol: plotly's name of what marks them.
        """
        self.traces[2].update(
            x=[column for _, column in points],
            y=[row for row, _ in points],
            text=[f"<b>{plain(text)}</b>" for text in texts] if texts else None,
            mode="+".join(["markers"] * cross + ["text"] * bool(texts)) or "none",
            textposition="top center" if cross else "middle center",
            marker={"color": list(colours) or _MARK["color"], "symbol": symbol},
        )

    def heat(self, values: np.ndarray) -> None:
        """Show f32 [h, w] from its least value to 1."""
        place = stretched(self._size, values.shape)
        self.traces[3].update(z=values, **place, zmin=float(values.min()), zmax=1)

    def place(self, box: Box | None, height: int) -> None:
        """Move to a rectangle, and the scale of cosines beside it."""
        super().place(box, height)
        if box is not None and len(self.made) > 3:
            bar = self.traces[3].colorbar
            right = (box.left + box.width + 8) / self._board.width
            bar.update(x=right, y=1 - box.top / height, len=box.height)

    def on_click(self, listener: At) -> None:
        """Have a listener told which pixel was clicked."""
        self._each("on_click", listener)

    def on_hover(self, listener: At, leave: Callable[[], None]) -> None:
        """Have a listener told which pixel the pointer is over, and when it has left."""
        self._each("on_hover", listener)
        self._each("on_unhover", lambda row, column: leave())

    def _each(self, event: str, listener: At) -> None:
        for trace in self.traces:
            listen(trace, event, lambda points: listener(*self._pixel(points.xs[0], points.ys[0])))

    def _pixel(self, x: float, y: float) -> tuple[int, int]:
        rows, columns = self._size
        return min(max(int(y + 0.5), 0), rows - 1), min(max(int(x + 0.5), 0), columns - 1)

    def _source(self, trace: int, pixels: np.ndarray, kind: str) -> None:
        pixels = _no_larger(pixels)
        place = stretched(self._size, pixels.shape)
        self.traces[trace].update(source=data_uri(pixels, kind), **place)


def side_by_side(
    panels: int, size: tuple[int, int], width: float, tallest: float = 460
) -> list[Box]:
    """Return rectangles with a picture's aspect that fill a width in pixels, in rows."""
    return in_rows([size] * panels, width, tallest)


def in_rows(sizes: Sequence[tuple[int, int]], width: float, tallest: float = 460) -> list[Box]:
    """Return rectangles that fill a width in pixels, each with its own picture's aspect.

    Those of a row have one height, and room for a title above them.
    """
    fit = max(int((width + _GAP) // (_LEAST + _GAP)), 1)
    rows = -(-len(sizes) // fit)
    columns = -(-len(sizes) // rows)
    boxes: list[Box] = []
    for first in range(0, len(sizes), columns):
        top = TITLE + (boxes[-1].bottom + 8 if boxes else 0)
        boxes += _row(sizes[first : first + columns], columns, top, width, tallest)
    return boxes


def _row(
    sizes: Sequence[tuple[int, int]], columns: int, top: float, width: float, tallest: float
) -> list[Box]:
    """Return one row's rectangles; a last row of few is as if it had all its columns."""
    shapes = [across / down for down, across in sizes]
    missing = columns - len(shapes)
    full = sum(shapes) + missing * sum(shapes) / len(shapes)
    height = min((width - _GAP * (columns - 1)) / full, tallest)
    lefts = [height * sum(shapes[:place]) + _GAP * place for place in range(len(shapes))]
    return [
        Box(left, top, height * shape, height) for left, shape in zip(lefts, shapes, strict=True)
    ]


def fitted(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return u8 [h, w, 3] in the middle of a white frame with the aspect of `size`."""
    given = pixels.shape[:2]
    scale = max(side / full for side, full in zip(given, size, strict=True))
    frame = [max(round(full * scale), side) for side, full in zip(given, size, strict=True)]
    framed = np.full((*frame, 3), 255, np.uint8)
    top, left = ((full - side) // 2 for side, full in zip(given, frame, strict=True))
    framed[top : top + given[0], left : left + given[1]] = pixels
    return framed


def _no_larger(pixels: np.ndarray) -> np.ndarray:
    """Return pixels with the longer side at most what a screen shows; a big photo costs time."""
    scale = _SHOWN / max(pixels.shape[:2])
    if scale >= 1:
        return pixels
    size = tuple(max(round(side * scale), 1) for side in pixels.shape[1::-1])
    how: Any = Image.Resampling.BOX if pixels.shape[2] == 3 else Image.Resampling.NEAREST
    return np.asarray(Image.fromarray(pixels).resize(size, how))
