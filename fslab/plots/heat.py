"""A table of measurements as colours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go

from fslab.heads import head_of, whole_of
from fslab.plots.maps import short_path
from fslab.plots.panels import WIDTH, finish, plain
from fslab.records import FslabError

_ROW, _LETTER, _RIGHT = 34, 6.6, 90
"""Pixels: a row's height, the width of a letter of 12 px, and room for the colour bar."""

_WRITTEN_COLUMNS = 14
"""Up to so many columns each cell has room for its number."""

_LIGHT = 0.45
"""From this share of Viridis on, black is easier to read than white."""


def heat_map(
    values: np.ndarray,
    rows: Sequence[str],
    columns: Sequence[str],
    title: str,
    colour_title: str,
    mark_best: bool = True,
    axes: tuple[str, str] = ("", ""),
) -> go.Figure:
    """Show numbers f [R, C] as colours, first row on top, the highest in a frame.

    NaN is a cell that was not measured; it stays empty. axes: what rows and columns are called.
    The scale runs from the lowest number to the highest, so colours compare within one figure
    only. Raises FslabError where the names do not fit the numbers or no number is finite.
    """
    values = np.asarray(values, np.float64)
    if values.shape != (len(rows), len(columns)):
        raise FslabError(
            f"values are {list(values.shape)}, but there are {len(rows)} names of rows and "
            f"{len(columns)} of columns"
        )
    if not np.isfinite(values).any():
        raise FslabError(f"the heat map {title!r} has no finite number to show")
    down, across = ([plain(str(name)) for name in part] for part in (rows, columns))
    figure = go.Figure(_cells(values, down, across, axes, colour_title))
    if len(columns) <= _WRITTEN_COLUMNS:
        figure.add_trace(_numbers(values, down, across))
    if mark_best:
        row, column = np.unravel_index(np.nanargmax(values), values.shape)
        _frame(figure, int(row), int(column))
    _lay_out(figure, title, [down, across], axes)
    return figure


def head_map(figures: Mapping[str, float], title: str, colour_title: str) -> go.Figure:
    """Show a figure of each head as colours: a row for each layer, a column for each head.

    figures: by the head's path, "....attn1.to_q#3"; layers stand in the mapping's order, and a head
    that is not in it stays empty. Raises FslabError for a path that names no head.
    """
    if not figures or any(head_of(path) is None for path in figures):
        raise FslabError(
            f"figures are of {', '.join(list(figures)[:2]) or 'nothing'}; give them by the paths "
            "of heads, ....attn1.to_q#0"
        )
    layers = list(dict.fromkeys(map(whole_of, figures)))
    heads = [head_of(path) or 0 for path in figures]
    values = np.full((len(layers), max(heads) + 1), np.nan)
    for (path, value), head in zip(figures.items(), heads, strict=True):
        values[layers.index(whole_of(path)), head] = value
    names = [short_path(layer) for layer in layers]
    rows = names if len(set(names)) == len(names) else layers
    columns = [str(head) for head in range(values.shape[1])]
    return heat_map(values, rows, columns, title, colour_title, axes=("layer", "head"))


def _cells(
    values: np.ndarray, rows: list[str], columns: list[str], axes: tuple[str, str], what: str
) -> go.Heatmap:
    shown = [[_number(value) for value in row] for row in values]
    down, across = (plain(axis) + " " if axis else "" for axis in axes)
    return go.Heatmap(
        z=values, x=columns, y=rows, colorscale="Viridis", xgap=1, ygap=1, hoverongaps=False,
        text=shown,
        colorbar={"title": {"text": plain(what)}, "thickness": 14},
        hovertemplate=f"{down}%{{y}}<br>{across}%{{x}}<br>{plain(what)} %{{text}}<extra></extra>",
    )  # fmt: skip


def _numbers(values: np.ndarray, rows: list[str], columns: list[str]) -> go.Scatter:
    """Write each number in black on light cells and in white on dark ones."""
    low, high = np.nanmin(values), np.nanmax(values)
    light = (values - low) / max(high - low, 1e-12) > _LIGHT
    places = [(row, column) for row in range(len(rows)) for column in range(len(columns))]
    return go.Scatter(
        x=[columns[column] for _, column in places], y=[rows[row] for row, _ in places],
        text=[_number(values[place]) for place in places], mode="text", hoverinfo="skip",
        textfont={"size": 12, "color": ["black" if light[place] else "white" for place in places]},
        showlegend=False,
    )  # fmt: skip


def _number(value: float) -> str:
    """Write three digits: 0.469, 4.69, 46.9; nothing for NaN."""
    if not np.isfinite(value):
        return ""
    whole = int(np.log10(max(abs(value), 1)))
    return f"{value:.{3 if abs(value) < 1 else max(2 - whole, 0)}f}"


def _frame(figure: go.Figure, row: int, column: int) -> None:
    """Frame a cell in black on white, which stands out from every colour of the scale."""
    for colour, width in (("white", 6), ("black", 3)):
        figure.add_shape(
            type="rect", x0=column - 0.47, x1=column + 0.47, y0=row - 0.45, y1=row + 0.45,
            line={"color": colour, "width": width},
        )  # fmt: skip


def _lay_out(figure: go.Figure, title: str, names: list[list[str]], axes: tuple[str, str]) -> None:
    rows, columns = names
    side = 56 + round(_LETTER * max(map(len, rows)))
    room = (WIDTH - side - _RIGHT) / len(columns)
    aslant = _LETTER * max(map(len, columns)) > room - 6
    below = 56 + (round(_LETTER * max(map(len, columns))) if aslant else 0)
    finish(figure, title, max(_ROW * len(rows), 90), bottom=below, side=side)
    figure.update_layout(title_x=8 / WIDTH, margin_r=_RIGHT)
    figure.update_xaxes(title_text=plain(axes[1]), tickangle=-60 if aslant else 0)
    figure.update_yaxes(title_text=plain(axes[0]), autorange="reversed", ticklabelstandoff=4)
    figure.update_yaxes(title_standoff=10)
    for update, ticks in ((figure.update_xaxes, columns), (figure.update_yaxes, rows)):
        update(type="category", showgrid=False, tickmode="array", tickvals=ticks, zeroline=False)
