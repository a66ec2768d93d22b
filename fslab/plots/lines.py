"""Figures along an axis: what a setting does as it grows, and what several settings reach."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go

from fslab.plots.colours import css
from fslab.plots.panels import finish, plain
from fslab.records import FslabError

INKS = tuple(
    css(np.array(colour))
    for colour in (
        *((0, 114, 178), (213, 94, 0), (0, 158, 115), (204, 121, 167)),
        *((86, 180, 233), (230, 159, 0), (90, 90, 90)),
    )
)
"""Okabe and Ito's colours, those first that are seen best on white; their yellow is not."""

_DASHES = ("solid", "dash", "dot", "dashdot")
_MARKS = ("circle", "square", "diamond", "triangle-up", "x", "star", "cross")
_LINES_BODY, _BAR, _SPACE = 320, 15, 12


def lines(
    series: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    title: str,
    x_title: str,
    y_title: str,
    log_x: bool = False,
) -> go.Figure:
    """Draw one line a name through its points (x, y); NaN leaves a gap.

    Lines differ in colour, dash and mark. log_x: for settings that grow by factors; its ticks
    are the points' own x. Raises FslabError where x and y are not equally long, for a series
    without points, and for x that a logarithm does not have.
    """
    if not series:
        raise FslabError("lines has nothing to draw; give at least one series")
    figure = go.Figure()
    for place, (name, (x, y)) in enumerate(series.items()):
        _check(name, x, y, log_x)
        ink = INKS[place % len(INKS)]
        figure.add_trace(
            go.Scatter(
                x=list(x), y=list(y), name=plain(name), mode="lines+markers",
                line={"color": ink, "width": 2.5, "dash": _DASHES[place % len(_DASHES)]},
                marker={"size": 9, "symbol": _MARKS[place % len(_MARKS)]},
                hovertemplate=f"{plain(x_title)} %{{x}}<br>%{{y:.3f}}",
            )
        )  # fmt: skip
    finish(figure, title, _LINES_BODY, bottom=90 if len(series) > 1 else 60, side=84)
    grid = {"gridcolor": "#ddd", "zeroline": False, "linecolor": "#555", "ticks": "outside"}
    figure.update_xaxes(title_text=plain(x_title), **grid)
    figure.update_yaxes(title_text=plain(y_title), title_standoff=12, **grid)
    if log_x:
        ticks = sorted({float(value) for x, _ in series.values() for value in x})
        figure.update_xaxes(type="log", tickvals=ticks, ticktext=[f"{value:g}" for value in ticks])
    figure.update_layout(title_x=8 / figure.layout.width, margin_r=24)
    return figure.update_layout(legend=_below(56, _LINES_BODY), showlegend=len(series) > 1)


def grouped_bars(
    groups: Mapping[str, Sequence[float]], names: Sequence[str], title: str, axis_title: str
) -> go.Figure:
    """Draw one bar a name and group, lying, the first name on top; numbers stand at their ends.

    groups: what is measured -> one value a name. Raises FslabError where a group does not have
    as many values as there are names.
    """
    for name, values in groups.items():
        if len(values) != len(names):
            raise FslabError(f"group {name!r} holds {len(values)} values for {len(names)} names")
    if not groups or not names:
        raise FslabError("grouped_bars has nothing to draw; give a group and a name")
    bars = [
        go.Bar(
            x=list(values), y=[plain(name) for name in names], name=plain(group), orientation="h",
            marker={"color": INKS[place % len(INKS)]}, text=[f"{value:.2f}" for value in values],
            textposition="outside", cliponaxis=False,
            hovertemplate=f"%{{y}}<br>{plain(group)} %{{x:.3f}}<extra></extra>",
        )
        for place, (group, values) in enumerate(groups.items())
    ]  # fmt: skip
    figure = go.Figure(bars)
    body = len(names) * (len(groups) * _BAR + _SPACE) + 10
    side = 24 + round(6.6 * max(map(len, names)))
    finish(figure, title, body, bottom=88 if len(groups) > 1 else 56, side=side)
    largest = np.nanmax([0.0, *(value for values in groups.values() for value in values)])
    figure.update_xaxes(title_text=plain(axis_title), title_standoff=8, gridcolor="#ddd")
    figure.update_xaxes(range=[0, 1.12 * (largest or 1)])
    figure.update_yaxes(autorange="reversed", type="category", dtick=1, ticklabelstandoff=4)
    figure.update_layout(barmode="group", bargap=0.25, legend=_below(50, body))
    return figure.update_layout(title_x=8 / figure.layout.width, showlegend=len(groups) > 1)


def _check(name: str, x: Sequence[float], y: Sequence[float], log_x: bool) -> None:
    if len(x) != len(y) or not len(x):
        raise FslabError(
            f"series {name!r} has {len(x)} x and {len(y)} y; both must hold every point"
        )
    if log_x and min(x) <= 0:
        raise FslabError(f"series {name!r} begins at x {min(x)}; log_x takes what is above 0")


def _below(pixels: int, body: int) -> dict[str, object]:
    """Place a legend so many pixels under the axis, whatever the figure's height."""
    return {"orientation": "h", "x": 0, "y": -pixels / body, "yanchor": "top"}
