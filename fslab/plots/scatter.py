"""Points of a plane, coloured by what they belong to."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from fslab.plots.colours import css, segment_colours
from fslab.plots.draw import name_of
from fslab.plots.panels import WIDTH, finish, plain
from fslab.records import VOID, WIDE_VOID, FslabError

_SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "x", "star", "hexagon")
"""Shapes beside colours, for readers and printers that cannot tell the colours apart."""

_BODY = 360
_VOID_GREY = "rgb(200,200,200)"


def scatter(
    points: np.ndarray,
    labels: np.ndarray,
    names: Sequence[str],
    title: str,
    colours: np.ndarray | None = None,
    axes: tuple[str, str] = ("", ""),
) -> go.Figure:
    """Show points f [N, 2], each in the colour and shape of its label, int [N].

    names: of the labels 0, 1, ...; 255 is void. colours: u8 [K, 3] by label, in place of those
    of segments. axes: what the two coordinates are. Labels that occur are in the legend with
    their number of points. Raises FslabError where points and labels do not fit.
    """
    points, labels = np.asarray(points), np.asarray(labels)
    if points.shape != (len(labels), 2) or labels.ndim != 1 or not len(labels):
        raise FslabError(
            f"points are {list(points.shape)} and labels {list(labels.shape)}; they must be [N, 2] "
            "and [N], N from 1 up"
        )
    figure = go.Figure()
    for label in map(int, np.unique(labels)):
        here = labels == label
        name = f"{name_of(label, names)} ({here.sum()})"
        figure.add_trace(_points(points[here], plain(name), _marker(label, len(names), colours)))
    finish(figure, title, _BODY, bottom=56, side=60)
    figure.update_layout(title_x=8 / WIDTH, margin_r=150, legend_itemsizing="constant")
    plane = {"zeroline": False, "showgrid": True, "gridcolor": "#e4e4e4", "linecolor": "#999"}
    figure.update_xaxes(title_text=plain(axes[0]), mirror=True, showline=True, **plane)
    figure.update_yaxes(title_text=plain(axes[1]), mirror=True, showline=True, **plane)
    return figure


def _marker(label: int, count: int, colours: np.ndarray | None) -> dict[str, object]:
    palette = segment_colours(max(count, label + 1)) if colours is None else colours
    colour = _VOID_GREY if label in (VOID, WIDE_VOID) and label >= count else css(palette[label])
    return {
        "color": colour, "symbol": _SYMBOLS[label % len(_SYMBOLS)], "size": 7, "opacity": 0.85,
        "line": {"color": "white", "width": 0.5},
    }  # fmt: skip


def _points(points: np.ndarray, name: str, marker: dict[str, object]) -> go.Scatter:
    small = np.round(points.astype(np.float32), 3)  # a screen shows no more, and files stay small
    return go.Scatter(
        x=small[:, 0], y=small[:, 1], mode="markers", name=name, marker=marker,
        hovertemplate=f"{name}<extra></extra>", showlegend=True,
    )  # fmt: skip
