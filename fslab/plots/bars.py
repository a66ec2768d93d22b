"""Figures with how sure they are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from fslab.plots.panels import WIDTH, finish, plain
from fslab.records import FslabError

_ROW, _LETTER, _INK = 26, 6.6, "#56b4e9"


def interval_bars(
    names: Sequence[str],
    values: Sequence[float],
    lows: Sequence[float | None],
    highs: Sequence[float | None],
    title: str,
    axis_title: str,
) -> go.Figure:
    """Show one bar a name, the first on top, with the interval from low to high over it.

    A low or high of None, or NaN, is an interval that is not known; its bar stands alone.
    Raises FslabError where the lengths differ, or there is no name.
    """
    counts = [len(part) for part in (names, values, lows, highs)]
    if len(set(counts)) > 1 or not counts[0]:
        raise FslabError(f"names, values, lows and highs are {counts} long; give equally many")
    values, lows, highs = (np.array(part, np.float64) for part in (values, lows, highs))
    known = np.isfinite(lows) & np.isfinite(highs)
    left, right = np.where(known, values - lows, 0.0), np.where(known, highs - values, 0.0)
    spans = [
        f"95 %: {low:.3f} to {high:.3f}" if sure else "no interval"
        for low, high, sure in zip(lows, highs, known, strict=True)
    ]
    figure = go.Figure(
        go.Bar(
            x=values, y=list(range(len(names))), orientation="h", marker={"color": _INK},
            error_x={
                "type": "data", "symmetric": False, "array": right, "arrayminus": left,
                "color": "#222", "thickness": 1.5, "width": 4,
            },
            customdata=[[plain(name), span] for name, span in zip(names, spans, strict=True)],
            hovertemplate="%{customdata[0]}<br>%{x:.3f}<br>%{customdata[1]}<extra></extra>",
        )
    )  # fmt: skip
    _write_values(figure, values, np.where(known, highs, values))
    _lay_out(figure, names, title, axis_title)
    return figure


def _write_values(figure: go.Figure, values: np.ndarray, ends: np.ndarray) -> None:
    """Write each value behind its bar and interval."""
    for row, (value, end) in enumerate(zip(values, ends, strict=True)):
        figure.add_annotation(
            x=max(value, end, 0.0), y=row, text=f"{value:.3f}", showarrow=False,
            xanchor="left", xshift=6, font_size=12,
        )  # fmt: skip


def _lay_out(figure: go.Figure, names: Sequence[str], title: str, axis_title: str) -> None:
    side = min(30 + round(_LETTER * max(map(len, names))), WIDTH // 2)
    letters = round((side - 30) / _LETTER)
    shown = [name if len(name) <= letters else f"{name[: letters - 1]}…" for name in names]
    finish(figure, title, max(_ROW * len(names), 60), side=side)
    figure.update_layout(title_x=8 / WIDTH, margin_r=60, bargap=0.3, showlegend=False)
    figure.update_xaxes(title_text=plain(axis_title), gridcolor="#ddd", zeroline=True)
    figure.update_yaxes(
        autorange="reversed", tickmode="array", tickvals=list(range(len(names))),
        ticktext=list(map(plain, shown)), showgrid=False, zeroline=False, ticklabelstandoff=4,
    )  # fmt: skip
