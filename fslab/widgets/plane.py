"""Cells as points in a plane, and clusters as bars: two parts that answer the pointer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from fslab.plots.colours import css
from fslab.widgets.board import GRID, Part, listen

_MOST = 1500
"""Points that a plane shows at most: beyond, every second or third cell stands for the others."""

_FAINT = 0.12


class Plane(Part):
    """Points of one trace, coloured by cluster; a lasso selects."""

    def __init__(self) -> None:
        points = go.Scatter(
            mode="markers",
            hovertemplate="cluster %{text}<extra></extra>",
            marker={"size": 6, "line": {"width": 0.5, "color": "#555"}},
            unselected={"marker": {"opacity": _FAINT}},
        )
        axis = {
            "showticklabels": False, "ticks": "", "zeroline": False, "gridcolor": GRID,
            "showline": True, "mirror": True, "linecolor": GRID,
        }  # fmt: skip
        super().__init__([points], axis, axis)
        self._cells = np.zeros(0, int)

    def show(
        self, plane: np.ndarray, labels: np.ndarray, colours: np.ndarray, projection: str
    ) -> None:
        """Place cells, f32 [N, 2], in their clusters' colours."""
        step = -(-len(plane) // _MOST)
        self._cells = np.arange(0, len(plane), step)
        shown = labels[self._cells]
        part = f"; every {step}th is shown" if step > 1 else ""
        self.traces[0].update(
            x=plane[self._cells, 0], y=plane[self._cells, 1], text=[str(x) for x in shown],
            selectedpoints=None, marker={"color": [css(colour) for colour in colours[shown]]},
        )  # fmt: skip
        self.title(f"{len(plane)} cells by {projection}{part}\ndraw around points to select them")

    def light(self, labels: np.ndarray, cluster: int | None, cells: Sequence[int]) -> None:
        """Fade all points but those of a cluster, or of the chosen cells; None and () fade none."""
        chosen = None
        if cluster is not None:
            chosen = np.flatnonzero(labels[self._cells] == cluster)
        elif cells:
            chosen = np.flatnonzero(np.isin(self._cells, cells))
        self.traces[0].selectedpoints = chosen

    def on_hover(self, listener: Callable[[int], None], leave: Callable[[], None]) -> None:
        """Have a listener told which cell the pointer is over, and when it has left."""
        points = self.traces[0]
        listen(points, "on_hover", lambda at: listener(int(self._cells[at.point_inds[0]])))
        listen(points, "on_unhover", lambda at: leave())

    def on_select(self, listener: Callable[[tuple[int, ...]], None]) -> None:
        """Have a listener told which cells were selected; none after a double click."""
        points = self.traces[0]

        def tell(trace: Any, at: Any, selector: Any = None) -> None:
            listener(tuple(int(self._cells[place]) for place in at.point_inds))

        points.on_selection(tell)
        points.on_deselect(tell)


class Bars(Part):
    """One bar a cluster, as long as its share of the pixels."""

    indent = 44

    def __init__(self) -> None:
        bars = go.Bar(
            textposition="outside", cliponaxis=False, unselected={"marker": {"opacity": 1}},
            hovertemplate="cluster %{x}: %{y:.1%} of the pixels<extra></extra>",
        )  # fmt: skip
        x = {"type": "category", "title": {"text": "cluster", "standoff": 4, "font": {"size": 12}}}
        y = {"tickformat": ".0%", "nticks": 4, "gridcolor": GRID}
        super().__init__([bars], {**x, "fixedrange": True}, {**y, "fixedrange": True})
        self._colours = np.zeros((0, 3), np.uint8)

    def show(self, shares: np.ndarray, colours: np.ndarray) -> None:
        """Show shares f64 [K] of 0..1 in their clusters' colours."""
        self.traces[0].update(
            x=[str(number) for number in range(len(shares))],
            y=shares,
            text=[f"{share:.0%}" for share in shares],
        )
        self._colours = colours
        self.light(None)
        self.axes[1].range = [0, 1.3 * float(shares.max())]
        self.title("share of the pixels")

    def light(self, cluster: int | None) -> None:
        """Fade all bars but one; None fades none."""
        numbers = range(len(self._colours))
        strengths = (1.0 if cluster in (None, number) else _FAINT for number in numbers)
        # In the colours, because a selection in the plane would overrule the opacity.
        self.traces[0].marker.color = [
            f"rgba({','.join(map(str, colour))},{strength})"
            for colour, strength in zip(self._colours.tolist(), strengths, strict=True)
        ]

    def on_hover(self, listener: Callable[[int], None], leave: Callable[[], None]) -> None:
        """Have a listener told which cluster the pointer is over, and when it has left."""
        listen(self.traces[0], "on_hover", lambda at: listener(int(at.point_inds[0])))
        listen(self.traces[0], "on_unhover", lambda at: leave())
