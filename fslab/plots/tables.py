"""Numbers as pictures: segments against texts, IoU by class, truth against guesses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
import plotly.graph_objects as go

from fslab.plots.colours import class_colours, css
from fslab.plots.panels import finish, plain
from fslab.records import VOID, Confusion, FslabError

_WRITTEN_COLUMNS = 16
"""Up to so many columns each cell has room for its number."""


class MatchLike(Protocol):
    """What `fslab.match.Match` holds: f32 [K, T], T texts, int64 [K] labels."""

    probabilities: np.ndarray
    texts: Sequence[str]
    assigned: np.ndarray


class ScoreLike(Protocol):
    """What `fslab.score.Score` holds."""

    @property
    def metric(self) -> str:
        """Its name."""

    @property
    def figure(self) -> float:
        """The figure, 0..1."""

    @property
    def miou(self) -> float:
        """The same, where it is a mean IoU."""

    @property
    def iou(self) -> Mapping[str, float | None]:
        """By class, None where it does not occur."""

    @property
    def images(self) -> int:
        """How many were scored."""


def score_matrix(
    match: MatchLike, names: Sequence[str] = (), top: int = 20, title: str = ""
) -> go.Figure:
    """Show each segment's probability for each text; dots mark what was assigned.

    names: the vocabulary's, which the assigned labels count in. top: so many texts, those of
    the highest probabilities, in the match's own order.
    """
    if not len(match.texts):
        raise FslabError("the match holds no texts; name candidates, or let the vocabulary compete")
    best = np.argsort(-match.probabilities.max(0), kind="stable")[:top]
    columns = np.sort(best)
    values = match.probabilities[:, columns]
    texts = [plain(match.texts[column]) for column in columns]
    rows = [f"segment {row}" for row in range(len(values))]
    figure = go.Figure(_heat(values, texts, rows, "probability"))
    figure.data[0].hovertemplate = "%{y}<br>%{x}<br>probability %{z:.3f}<extra></extra>"
    _mark_assigned(figure, match, names, columns)
    hidden = len(match.texts) - len(columns)
    words = title or f"{len(rows)} segments against {len(match.texts)} texts"
    if hidden:
        words += f" (the best {len(columns)} shown)"
    _as_table(figure, words, len(rows), max(map(len, texts)), "text", "", 30)
    return figure


def _heat(values: np.ndarray, columns: list[str], rows: list[str], what: str) -> go.Heatmap:
    few = len(columns) <= _WRITTEN_COLUMNS
    shown = [[f"{value:.2f}" if few and value >= 0.005 else "" for value in row] for row in values]
    return go.Heatmap(
        z=values, x=columns, y=rows, zmin=0, zmax=1, colorscale="Blues", xgap=1, ygap=1,
        text=shown, texttemplate="%{text}", textfont_size=12,
        colorbar={"title": {"text": what}, "thickness": 14},
    )  # fmt: skip


def _mark_assigned(
    figure: go.Figure, match: MatchLike, names: Sequence[str], columns: np.ndarray
) -> None:
    """Frame the cell of each segment's assigned class, where its name is known and shown."""
    place = {match.texts[column]: at for at, column in enumerate(columns)}
    for row, label in enumerate(map(int, match.assigned)):
        at = place.get(names[label]) if 0 < label < len(names) else None
        if at is not None:
            figure.add_shape(
                type="rect", x0=at - 0.48, x1=at + 0.48, y0=row - 0.46, y1=row + 0.46,
                line={"color": "#d55e00", "width": 3},
            )  # fmt: skip


def _as_table(
    figure: go.Figure, title: str, rows: int, letters: int, across: str, down: str, height: int
) -> None:
    """Lay a heat map out as a table: first row on top, names of columns aslant below."""
    slant = 20 + round(6.5 * letters)
    finish(figure, title, max(rows * height, 90), bottom=slant + 40, side=110)
    figure.update_xaxes(title_text=across, tickangle=-60, type="category", showgrid=False)
    figure.update_yaxes(title_text=down, autorange="reversed", type="category", showgrid=False)
    figure.update_xaxes(tickmode="array", tickvals=list(figure.data[0].x))
    figure.update_yaxes(tickmode="array", tickvals=list(figure.data[0].y))
    figure.update_layout(margin_r=90)


def iou_bars(score: ScoreLike, subject: str = "", colours: np.ndarray | None = None) -> go.Figure:
    """Show IoU by class, in the score's own order, with the mean in the title.

    subject: what was scored, for the title ("mini-VOC val, freeseg-diff on mini"). colours:
    u8 [K, 3] in the score's order; else VOC's, in which a score without background begins at 1.
    Classes that do not occur have no bar; how many they are stands below.
    """
    names = list(score.iou)
    if not names:
        raise FslabError(f"{score.metric} has no IoU by class; it is {score.figure:.3f} in all")
    first = 1 if colours is None and names[0] != "background" else 0
    palette = class_colours(colours)
    bars = [
        (plain(name), value, css(palette[(first + place) % VOID]))
        for place, (name, value) in enumerate(score.iou.items())
        if value is not None
    ]
    shown, values, inks = zip(*bars, strict=True) if bars else ((), (), ())
    figure = go.Figure(
        go.Bar(
            x=values, y=shown, orientation="h", marker={"color": inks},
            text=[f"{value:.2f}" for value in values], textposition="auto", cliponaxis=False,
            insidetextanchor="start", textangle=0,  # at the bar's foot, where no mean crosses it
            hovertemplate="%{y}<br>IoU %{x:.3f}<extra></extra>",
        )
    )  # fmt: skip
    images = f"{score.images} picture{'s' if score.images != 1 else ''}"
    mean = f"mIoU {score.miou:.3f} ({score.metric}, {images})"
    words = f"{subject}\n{mean}" if subject else mean
    finish(figure, words, max(24 * len(bars), 48), top=62 if subject else 36, side=120)
    missing = len(names) - len(bars)
    below = f"IoU by class; {missing} of {len(names)} do not occur" if missing else "IoU by class"
    figure.update_xaxes(title_text=below, title_standoff=8, range=[0, 1.08], gridcolor="#ddd")
    figure.update_yaxes(autorange="reversed", type="category", dtick=1, ticklabelstandoff=4)
    figure.add_vline(x=score.miou, line={"color": "#555", "dash": "dash", "width": 1.5})
    return figure.update_layout(bargap=0.25, showlegend=False)


def confusion_matrix(confusion: Confusion, subject: str = "") -> go.Figure:
    """Show where the truth's pixels went: each row is divided by its sum.

    Only classes that the truth or the guess has are shown. Raises FslabError where none is.
    """
    counts = confusion.counts
    present = np.flatnonzero(counts.any(0) | counts.any(1))
    if not present.size:
        raise FslabError("the confusion is empty: no pixel was counted")
    part = counts[np.ix_(present, present)]
    shares = part / np.maximum(part.sum(1, keepdims=True), 1)
    names = [plain(confusion.names[label]) for label in present]
    figure = go.Figure(_heat(shares, names, names, "share of<br>the row"))
    figure.data[0].customdata = part
    figure.data[
        0
    ].hovertemplate = (
        "truth %{y}<br>guess %{x}<br>%{z:.1%} of the truth, %{customdata} pixels<extra></extra>"
    )
    images = f"{confusion.images} picture{'s' if confusion.images != 1 else ''}"
    words = f"{subject + ': ' if subject else ''}truth against guess, {images}"
    _as_table(figure, words, len(names), max(map(len, names)), "guess", "truth", 26)
    figure.update_layout(margin_l=130, yaxis_title_standoff=14)
    return figure
