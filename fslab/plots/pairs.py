"""Two pictures side by side: points and what they are like, and lines between neighbours."""

from __future__ import annotations

from itertools import cycle

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from fslab.datasets import PictureLike, read
from fslab.plots.colours import SEGMENT_COLOURS, css, grey, segment_colours
from fslab.plots.draw import check_size
from fslab.plots.likeness import coloured, scale
from fslab.plots.panels import COLUMNS, Panel, compose
from fslab.records import Correspondence, Neighbours, Picture, check_kind

_STRONG = 0.55
"""How strongly the colours of likeness cover the picture below them."""
_ROOM = 0.2
"""Of a picture's height, what a number above a mark takes."""
_GAP = 0.04
"""Of the pictures' width, what stays free between two of them."""


def correspondences(
    a: PictureLike, found: Correspondence, b: PictureLike, title: str = ""
) -> go.Figure:
    """Show points of picture a, and for each of them how like it every pixel of b is.

    A panel a point, which has one colour and one number everywhere: a cross in a where it is, and a
    circle in b where its best match is. The colours of likeness run from a point's lowest cosine to
    its highest, which the panel's title gives: what compares between panels is the pattern. Raises
    FslabError for points outside a, and for a picture b that is not the one compared.
    """
    check_kind(found, Correspondence, "the correspondence")
    a, b = read(a), read(b)
    check_size(b, found.size, "likeness")
    panels = [Panel(f"{a.name}\n", a.pixels)]
    for number, values in enumerate(found.likeness, 1):
        name = f"point {number}" if len(found.points) > 1 else "the point"
        words = f"{name}\n{values.min():.2f} to {values.max():.2f}"
        panels.append(Panel(words, likeness_picture(b, values)))
    figure = compose(panels, title or f"{a.name} in {b.name}", right=80)
    colours = [css(colour) for colour in segment_colours(len(found.points))]
    rows, columns = np.array(found.points).T
    names = [str(number) for number in range(1, len(found.points) + 1)]
    _marks(figure, 0, (rows, columns), colours, "cross", names, _ROOM * a.size[0])
    for place, match in enumerate(found.matches):
        at, only = (match[:1], match[1:]), slice(place, place + 1)
        _marks(figure, place + 1, at, colours[only], "circle", names[only], _ROOM * b.size[0])
    figure.add_trace(scale("highest"))
    return figure


def neighbours(a: PictureLike, found: Neighbours, b: PictureLike, title: str = "") -> go.Figure:
    """Show two pictures and a line between each two cells that are each other's nearest.

    Colours only tell neighbouring lines apart; the pointer reads a line's cosine.
    """
    check_kind(found, Neighbours, "the neighbours")
    a, b = read(a), read(b)
    joined, beside = _joined(a, b)
    words = f"{a.name} and {b.name}: {len(found)} mutual nearest neighbours"
    panel = Panel(f"{len(found)} of {found.cells[0]} and {found.cells[1]} cells", joined)
    figure = compose([panel], title or words)
    pairs = zip(found.first, found.second, found.cosines, cycle(SEGMENT_COLOURS), strict=False)
    for (row, column), (other, across), cosine, colour in pairs:
        figure.add_trace(
            go.Scatter(
                x=[column, across + beside], y=[row, other], mode="lines+markers",
                line={"color": css(colour), "width": 1.5}, marker={"size": 5}, showlegend=False,
                hovertemplate=f"cosine {cosine:.3f}<extra></extra>",
            ),
            row=1, col=1,
        )  # fmt: skip
    return figure


def likeness_picture(picture: PictureLike, values: np.ndarray) -> np.ndarray:
    """Draw likeness f32 [H, W] over a picture without its colours: u8 [H, W, 3].

    The lowest value is dark, the highest light.
    """
    picture = read(picture)
    check_size(picture, values.shape, "likeness")
    below = grey(picture.pixels).astype(np.float64)
    mixed: NDArray[np.float64] = (1 - _STRONG) * below + _STRONG * coloured(values, highest=True)
    return np.rint(mixed).astype(np.uint8)


def _joined(a: Picture, b: Picture) -> tuple[NDArray[np.uint8], int]:
    """Return both pictures side by side on white, u8 [H, W, 3], and where the second begins."""
    gap = max(1, round(_GAP * (a.size[1] + b.size[1])))
    beside = a.size[1] + gap
    joined = np.full((max(a.size[0], b.size[0]), beside + b.size[1], 3), 255, np.uint8)
    joined[: a.size[0], : a.size[1]] = a.pixels
    joined[: b.size[0], beside:] = b.pixels
    return joined, beside


def _marks(
    figure: go.Figure,
    place: int,
    at: tuple[np.ndarray, np.ndarray],
    colours: list[str],
    symbol: str,
    names: list[str],
    room: float,
) -> None:
    """Mark (rows, columns) in a panel, each in its colour, with its number above it.

    It stands below where less than `room` pixels are above.
    """
    figure.add_trace(
        go.Scatter(
            x=at[1], y=at[0], mode="markers+text", showlegend=False,
            text=[f"<b>{name}</b>" for name in names],
            textposition=["top center" if row > room else "bottom center" for row in at[0]],
            textfont={"size": 14, "color": "white", "shadow": "0 0 3px black, 0 0 3px black"},
            marker={
                "symbol": symbol, "size": 11, "color": colours,
                "line": {"color": "black", "width": 1.5},
            },
            hovertemplate="point %{text}<extra></extra>",
        ),
        row=place // COLUMNS + 1, col=place % COLUMNS + 1,
    )  # fmt: skip
