"""Strips of pictures and of values: what CLIP is shown, what a kernel or a term weighs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray
from PIL import Image, ImageColor
from plotly.colors import get_colorscale

from fslab.datasets import PictureLike, read
from fslab.plots.draw import check_size, data_uri
from fslab.plots.panels import COLUMNS, WIDTH, Panel, compose, finish, plain
from fslab.records import FslabError

_READ_CELLS = 40
"""The longer side of the grid on which the pointer reads values."""

_TILE, _GAP = 96, 4
"""A tile's side and the white between two tiles, in pixels, where the figure has room for them."""


def region_views(
    views: Mapping[str, Sequence[np.ndarray]], columns: Sequence[str] = (), title: str = ""
) -> go.Figure:
    """Show pictures of regions as a table: one row a kind of view, one column a region.

    views: name of the row -> u8 [h, w, 3] a column; sizes may differ, each is fitted into a
    square on white. columns: what the regions are called. Raises FslabError for rows of
    different lengths, and for views that are not u8 [h, w, 3].
    """
    rows = list(views.values())
    count = len(rows[0]) if rows else 0
    if not count or any(len(row) != count for row in rows):
        raise FslabError(
            "region_views takes one picture a region in every row, and one row or more"
        )
    names = list(columns) or [f"segment {place}" for place in range(count)]
    if len(names) != count:
        raise FslabError(f"{len(names)} columns named for {count} regions")
    step = _TILE + _GAP
    board = np.full((len(rows) * step - _GAP, count * step - _GAP, 3), 255, np.uint8)
    for row, pictures in enumerate(rows):
        for column, pixels in enumerate(pictures):
            top, left = row * step, column * step
            board[top : top + _TILE, left : left + _TILE] = _tile(pixels)
    figure = go.Figure(go.Image(source=data_uri(board, "JPEG"), hoverinfo="skip"))
    side = 24 + round(6.6 * max(map(len, views)))
    across = min(WIDTH - side - 8, board.shape[1])
    body = round(across * board.shape[0] / board.shape[1])
    finish(figure, title, body, top=58, bottom=12, side=side)
    _name_ticks(figure, list(views), names, step)
    return figure.update_layout(title_x=8 / WIDTH, margin_r=WIDTH - side - across)


def _tile(pixels: np.ndarray) -> np.ndarray:
    """Fit a picture into the middle of a white square, u8 [_TILE, _TILE, 3]."""
    given = getattr(pixels, "dtype", type(pixels).__name__), list(np.shape(pixels))
    if given[0] != np.uint8 or len(given[1]) != 3 or given[1][2] != 3 or 0 in given[1]:
        raise FslabError(f"a view is {given[0]} {given[1]}; it must be uint8 [h, w, 3]")
    height, width = pixels.shape[:2]
    scale = _TILE / max(height, width)
    size = max(round(width * scale), 1), max(round(height * scale), 1)
    fitted = Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC)
    square = Image.new("RGB", (_TILE, _TILE), "white")
    square.paste(fitted, ((_TILE - size[0]) // 2, (_TILE - size[1]) // 2))
    return np.asarray(square)


def _name_ticks(figure: go.Figure, rows: list[str], columns: list[str], step: int) -> None:
    """Write the rows' names to the left and the columns' names above their tiles."""

    def middles(names: list[str]) -> dict[str, object]:
        at = [place * step + _TILE / 2 for place in range(len(names))]
        return {"tickvals": at, "ticktext": [plain(name) for name in names], "showgrid": False}

    still = {"zeroline": False, "ticks": "", "constrain": "domain"}
    figure.update_xaxes(side="top", **middles(columns), **still)
    figure.update_yaxes(scaleanchor="x", ticklabelstandoff=4, **middles(rows), **still)


def value_maps(
    picture: PictureLike,
    maps: Mapping[str, np.ndarray],
    title: str,
    colour_title: str,
    point: tuple[int, int] | None = None,
) -> go.Figure:
    """Show values by pixel beside their picture, all on one scale of colours.

    maps: title -> f [H, W] of the picture's own size. point: (row, column) to mark in every
    panel. Raises FslabError for a map of another size, and where there is none.
    """
    if not maps:
        raise FslabError("value_maps has nothing to draw; give at least one map")
    picture = read(picture)
    for name, values in maps.items():
        check_size(picture, np.shape(values), f"map {name!r}")
    low = min(float(values.min()) for values in maps.values())
    high = max(float(values.max()) for values in maps.values())
    panels = [Panel("picture", picture.pixels)]
    panels += [
        Panel(name, _viridis((values - low) / (high - low or 1)), photo=False)
        for name, values in maps.items()
    ]
    figure = compose(panels, title, right=90)
    for place, values in enumerate(maps.values(), 1):
        at = {"row": place // COLUMNS + 1, "col": place % COLUMNS + 1}
        figure.add_trace(_values_read(values, low, high, plain(colour_title), place == 1), **at)
    if point is not None:
        for place in range(len(panels)):
            at = {"row": place // COLUMNS + 1, "col": place % COLUMNS + 1}
            figure.add_trace(_cross(point), **at)
    return figure


def _viridis(shares: np.ndarray) -> NDArray[np.uint8]:
    """Colour shares, f [H, W] of 0..1, as u8 [H, W, 3]; pixels weigh less than plotly's numbers."""
    stops, colours = zip(*get_colorscale("Viridis"), strict=True)
    anchors = np.array([ImageColor.getrgb(colour) for colour in colours])
    channels: list[NDArray[np.float64]] = [
        np.interp(shares, stops, anchors[:, channel]) for channel in range(3)
    ]
    return np.rint(np.stack(channels, -1)).astype(np.uint8)


def _values_read(
    values: np.ndarray, low: float, high: float, colour_title: str, bar: bool
) -> go.Scatter:
    """Return unseen points on a grid that tell the pointer the values, and bring the colour bar."""
    height, width = values.shape
    step = -(-max(height, width) // _READ_CELLS)
    rows, columns = np.mgrid[step // 2 : height : step, step // 2 : width : step]
    read = values[rows, columns].ravel().astype(np.float32)
    small = np.min_scalar_type(max(height, width))
    return go.Scatter(
        x=columns.ravel().astype(small), y=rows.ravel().astype(small), mode="markers",
        showlegend=False, hovertemplate="%{marker.color:.3g}<extra></extra>",
        marker={
            "opacity": 0, "size": 1, "color": read, "cmin": low, "cmax": high,
            "colorscale": "Viridis", "showscale": bar,
            "colorbar": {"title": {"text": colour_title}, "thickness": 14},
        },
    )  # fmt: skip


def _cross(point: tuple[int, int]) -> go.Scatter:
    mark = {"symbol": "cross", "size": 12, "color": "white", "line": {"color": "black", "width": 2}}
    return go.Scatter(
        x=[point[1]], y=[point[0]], mode="markers", marker=mark, showlegend=False,
        hovertemplate="the point<extra></extra>",
    )  # fmt: skip
