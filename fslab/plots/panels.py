"""Pictures side by side in one plotly figure, with one legend and what the pointer reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from fslab.plots.colours import css, is_light
from fslab.plots.draw import data_uri
from fslab.plots.places import middle, spread
from fslab.records import void_of

WIDTH = 700
"""Width of every figure in pixels: a notebook's column."""

COLUMNS = 4
_READ_CELLS = 40
"""The longer side of the grid on which the pointer reads names; figures stay small by it."""

_TITLE, _LINE, _LEGEND_ROW, _GAP, _SIDE = 36, 16, 24, 0.02, 8


@dataclass(frozen=True, eq=False)
class Panel:
    """One panel: a picture, and what lies over it.

    base: u8 [H, W, 3]; photo: whether it may be stored as JPEG; labels: int [H, W] drawn over
    it where `shown` (label -> name) has them, in `colours` u8 [K, 3]; reads: label -> what the
    pointer says; listed: whether the legend has the names; written: whether masks have them.
    """

    title: str
    base: np.ndarray
    photo: bool = True
    labels: np.ndarray | None = None
    colours: np.ndarray = field(default_factory=lambda: np.zeros((0, 3), np.uint8))
    shown: Mapping[int, str] = field(default_factory=dict)
    reads: Mapping[int, str] = field(default_factory=dict)
    opacity: float = 0.7
    listed: bool = True
    written: bool = True


def compose(
    panels: Sequence[Panel], title: str, right: int = _SIDE, across: int = COLUMNS
) -> go.Figure:
    """Draw panels in rows of up to `across`; equal axes in pixels, one legend entry a name.

    right: the margin in pixels that is left for a colour bar.
    """
    columns = min(len(panels), across)
    rows = -(-len(panels) // columns)
    figure = make_subplots(
        rows, columns, subplot_titles=[plain(panel.title) for panel in panels],
        horizontal_spacing=_GAP, vertical_spacing=0.3 / rows if rows > 1 else 0,
    )  # fmt: skip
    width = (WIDTH - _SIDE - right) * (1 - _GAP * (columns - 1)) / columns
    for place, panel in enumerate(panels):
        _draw(figure, panel, place // columns + 1, place % columns + 1, width)
    entries = _legend(figure, panels)
    tall = [width * panel.base.shape[0] / panel.base.shape[1] for panel in panels]
    heights = [max(tall[row * columns : (row + 1) * columns]) for row in range(rows)]
    legend = _LEGEND_ROW * -(-entries // 6) + 8 if entries else 0
    words = _LINE * max(1 + panel.title.count("\n") for panel in panels) + 8
    body = sum(heights) + (rows - 1) * (words + 10)
    finish(figure, title, round(body), top=_TITLE + words, bottom=legend + 12)
    _space_rows(figure, columns, [height / body for height in heights], (words + 10) / body)
    figure.update_layout(margin_r=right)
    figure.update_layout(legend={"orientation": "h", "x": 0, "y": -8 / body, "yanchor": "top"})
    return figure


def finish(
    figure: go.Figure, title: str, body: int, top: int = _TITLE, bottom: int = 56, side: int = _SIDE
) -> None:
    """Give a figure its title, letters of at least 12 px, and the size its body needs."""
    figure.update_layout(
        template="none",
        title={"text": plain(title), "x": side / WIDTH, "y": 1 - 18 / (body + top + bottom)},
        title_font_size=16,
        font={"size": 12, "family": "Arial, Helvetica, sans-serif", "color": "#222"},
        paper_bgcolor="white", plot_bgcolor="white",
        width=WIDTH, height=body + top + bottom,
        margin={"l": side, "r": _SIDE, "t": top, "b": bottom},
        hoverlabel_font_size=13,
    )  # fmt: skip
    figure.update_annotations(font_size=12)


def plain(text: str) -> str:
    """Return a text that plotly shows as it is: HTML in it is escaped, its lines are kept."""
    return escape(text, quote=False).replace("\n", "<br>")


def stretched(size: tuple[int, int], cells: Sequence[int]) -> dict[str, float]:
    """Return where plotly lays an array of cells, [h, w, ...], so that it covers H x W pixels."""
    down, across = size[0] / cells[0], size[1] / cells[1]
    return {"y0": down / 2 - 0.5, "dy": down, "x0": across / 2 - 0.5, "dx": across}


def _draw(figure: go.Figure, panel: Panel, row: int, column: int, width: float) -> None:
    at = {"row": row, "col": column}
    source = data_uri(panel.base, "JPEG" if panel.photo else "PNG")
    figure.add_trace(go.Image(source=source, hoverinfo="skip"), **at)
    if panel.labels is not None:
        layer = data_uri(_layer(panel, panel.labels))
        figure.add_trace(go.Image(source=layer, opacity=panel.opacity, hoverinfo="skip"), **at)
        for points in _readers(panel, panel.labels):
            figure.add_trace(points, **at)
        if panel.written:
            _write_names(figure, panel, panel.labels, at, panel.base.shape[1] / width)
    height, across = panel.base.shape[:2]
    hidden = {"visible": False, "constrain": "domain"}
    figure.update_xaxes(range=[-0.5, across - 0.5], **hidden, **at)
    anchor = figure.get_subplot(row, column).xaxis.plotly_name.replace("axis", "")
    figure.update_yaxes(range=[height - 0.5, -0.5], scaleanchor=anchor, **hidden, **at)


def _layer(panel: Panel, labels: np.ndarray) -> np.ndarray:
    """Return the coloured masks as u8 [H, W, 4], clear where nothing is shown."""
    clear = np.where(np.isin(labels, list(panel.shown)), 255, 0).astype(np.uint8)
    colours = panel.colours[labels] * (clear[..., None] > 0)
    return np.dstack([colours.astype(np.uint8), clear])


def _readers(panel: Panel, labels: np.ndarray) -> list[go.Scatter]:
    """Return unseen points on a grid, one trace a label, that tell the pointer what is there."""
    height, width = labels.shape
    step = -(-max(height, width) // _READ_CELLS)
    rows, columns = np.mgrid[step // 2 : height : step, step // 2 : width : step]
    cells = labels[rows, columns]
    small = np.min_scalar_type(max(height, width))
    return [
        go.Scatter(
            x=columns[cells == label].astype(small), y=rows[cells == label].astype(small),
            mode="markers", marker={"opacity": 0, "size": 1}, showlegend=False,
            hovertemplate=f"{plain(words)}<extra></extra>", name=f"reads {label}",
            hoverlabel={"bgcolor": css(panel.colours[label])},
        )
        for label, words in panel.reads.items() if (cells == label).any()
    ]  # fmt: skip


def _write_names(
    figure: go.Figure, panel: Panel, labels: np.ndarray, at: Mapping[str, int], scale: float
) -> None:
    """Write each shown name on its mask; `scale` is picture pixels a screen pixel."""
    present = [
        label for label in panel.shown if label != void_of(labels) and (labels == label).any()
    ]
    centres = [middle(labels == label) for label in present]
    sizes = [(18 * scale, (7.2 * len(panel.shown[label]) + 6) * scale) for label in present]
    boxes = spread(centres, sizes, labels.shape)
    for label, (top, left, bottom, right) in zip(present, boxes, strict=True):
        colour = panel.colours[label]
        figure.add_annotation(
            x=(left + right) / 2 - 0.5, y=(top + bottom) / 2 - 0.5, showarrow=False,
            text=plain(panel.shown[label]), bgcolor=css(colour), borderpad=1,
            font={"size": 12, "color": "black" if is_light(colour) else "white"}, **at,
        )  # fmt: skip


def _legend(figure: go.Figure, panels: Sequence[Panel]) -> int:
    """Add one entry a name, over all panels that name classes; return how many there are."""
    entries: dict[str, np.ndarray] = {}
    for panel in panels:
        for label, name in panel.shown.items():
            if panel.listed:
                entries.setdefault(name, panel.colours[label])
    for name, colour in entries.items():
        marker = {"symbol": "square", "size": 12, "color": css(colour)}
        figure.add_trace(
            go.Scatter(
                x=[None], y=[None], mode="markers", marker=marker, name=plain(name), showlegend=True
            ),
            row=1,
            col=1,
        )
    figure.update_layout(legend_itemclick=False, legend_itemdoubleclick=False)
    return len(entries)


def _space_rows(figure: go.Figure, columns: int, shares: Sequence[float], gap: float) -> None:
    """Give each row its share of the height, so that only titles stand between two of them."""
    tops = [1 - sum(shares[:row]) - row * gap for row in range(len(shares))]
    for place, axis in enumerate(figure.select_yaxes()):
        top = tops[place // columns]
        axis.domain = (max(top - shares[place // columns], 0), top)
    titles = [note for note in figure.layout.annotations if note.yref == "paper"]
    for place, note in enumerate(titles):
        note.y = tops[place // columns]
