"""CLIP's answers: the matrix of segments against texts, and one segment's best texts."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import plotly.graph_objects as go

from fslab.match import Match
from fslab.plots.panels import plain
from fslab.widgets.board import GRID, Box, Part, listen

ROW = 26
"""Height of a matrix's row in pixels."""

_COLUMNS, _BEST = 16, 5
_NUMBER = 30
"""Pixels that a number takes in the matrix."""


class Matrix(Part):
    """Probabilities as a heat map; frames mark what was assigned."""

    indent, beyond = 84, 96

    def __init__(self) -> None:
        scale = {"title": {"text": "probability"}, "thickness": 12, "lenmode": "pixels"}
        heat = go.Heatmap(
            colorscale="Blues", zmin=0, zmax=1, xgap=1, ygap=1, texttemplate="%{text}",
            textfont={"size": 12}, colorbar={**scale, "yanchor": "top", "xpad": 0},
            hovertemplate="%{hovertext}<br>probability %{z:.3f}<extra></extra>",
        )  # fmt: skip
        frames = go.Scatter(
            mode="lines", hoverinfo="skip", cliponaxis=False, line={"width": 3, "color": "#d55e00"}
        )
        axis = {"ticks": "", "showgrid": False, "zeroline": False, "fixedrange": True}
        super().__init__([heat, frames], {**axis, "tickangle": -60}, {**axis, "ticklen": 4})
        self._width, self._texts = 0.0, 0

    def show(self, match: Match, names: Sequence[str], chosen: int, framed: str) -> None:
        """Show each segment's probability for the texts that matter most; framed: the frames."""
        columns = best_columns(match)
        values = match.probabilities[:, columns]
        texts = [plain(match.texts[column]) for column in columns]
        rows = [f"segment {row}" for row in range(len(values))]
        frames = _assigned(match, names, columns)
        hidden = len(match.texts) - len(columns)
        more = f" (the best {len(columns)} of {len(match.texts)} texts)" if hidden else ""
        self.traces[0].update(
            z=values,
            hovertext=[[f"{row}: {text}" for text in texts] for row in rows],
            text=[[f"{x:.2f}" if x >= 0.005 else "" for x in line] for line in values],
        )
        self.traces[1].update(**_outlines(frames))
        x, y = self.axes
        x.update(range=[-0.5, len(texts) - 0.5], tickvals=list(range(len(texts))), ticktext=texts)
        rows[chosen] = f"▸ {rows[chosen]}"
        y.update(range=[len(rows) - 0.5, -0.5], tickvals=list(range(len(rows))), ticktext=rows)
        self.title(f"segments against texts{more}; framed: {framed}")
        self._texts = len(texts)
        self._letter()

    def place(self, box: Box | None, height: int) -> None:
        """Move to a rectangle, and the scale of probabilities beside it."""
        super().place(box, height)
        if box is not None:
            bar = self.traces[0].colorbar
            length = max(box.height, 100)
            right = (box.left + box.width + 8) / self._board.width
            bar.update(x=right, y=1 - box.top / height, len=length)
            self._width = box.width
            self._letter()

    def _letter(self) -> None:
        """Write the numbers into the cells where these are wide enough; the pointer reads them."""
        self.traces[0].texttemplate = "%{text}" if self._width >= _NUMBER * self._texts else ""

    def on_click(self, listener: Callable[[int], None]) -> None:
        """Have a listener told which segment's row was clicked."""
        listen(self.traces[0], "on_click", lambda at: listener(round(at.ys[0])))


class BestTexts(Part):
    """One segment's best texts as bars."""

    indent = 96

    def __init__(self) -> None:
        bars = go.Bar(
            orientation="h", textposition="auto", marker={"color": "#0072b2"},
            hovertemplate="%{y}: %{x:.3f}<extra></extra>",
        )  # fmt: skip
        x = {"range": [0, 1.02], "tickvals": [0, 0.5, 1], "gridcolor": GRID, "fixedrange": True}
        y = {"type": "category", "autorange": "reversed", "fixedrange": True}
        super().__init__([bars], x, {**y, "ticklabelstandoff": 4})

    def show(self, match: Match, segment: int) -> None:
        """Show the best five texts of a segment, the best on top."""
        line = match.probabilities[segment]
        order = np.argsort(-line, kind="stable")[:_BEST]
        self.traces[0].update(
            x=line[order],
            y=[plain(match.texts[place]) for place in order],
            text=[f"{line[place]:.2f}" for place in order],
        )
        self.title(f"best texts of segment {segment}")


def _outlines(cells: Sequence[tuple[int, int]]) -> dict[str, list[float | None]]:
    """Return the lines around cells (row, column), each closed and apart from the others."""
    across, down = (-0.47, 0.47, 0.47, -0.47, -0.47), (-0.45, -0.45, 0.45, 0.45, -0.45)
    x = [at for _, column in cells for at in (*(column + step for step in across), None)]
    return {"x": x, "y": [at for row, _ in cells for at in (*(row + step for step in down), None)]}


def best_columns(match: Match) -> np.ndarray:
    """Return the columns of the texts with the highest probabilities, in the match's order."""
    if not match.texts:
        return np.zeros(0, int)
    return np.sort(np.argsort(-match.probabilities.max(0), kind="stable")[:_COLUMNS])


def longest(match: Match) -> int:
    """Return how many letters the longest shown text has."""
    return max((len(match.texts[column]) for column in best_columns(match)), default=0)


def _assigned(match: Match, names: Sequence[str], columns: np.ndarray) -> list[tuple[int, int]]:
    """Return (row, shown column) of each segment's assigned class where that is shown."""
    place = {match.texts[column]: at for at, column in enumerate(columns)}
    pairs = ((row, place.get(names[label])) for row, label in enumerate(match.assigned) if label)
    return [(row, column) for row, column in pairs if column is not None]
