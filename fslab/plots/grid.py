"""Several pictures, one a row, with the same stages in the same columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import plotly.graph_objects as go

from fslab.datasets import read
from fslab.plots.colours import segment_colours
from fslab.plots.draw import check_size
from fslab.plots.maps import Stage, stage_panel
from fslab.plots.panels import Panel, compose
from fslab.records import FslabError, LabelMap, Picture, Segments

_NO_TITLE = " "
"""Of a panel without a title; plotly leaves out an empty one, and the others would move up."""

_NAMED_COLUMNS = 5
"""Up to so many columns a name has room on its mask."""

MOST_COLUMNS = 8
"""Beyond, a panel of a figure as wide as a notebook's column would be no picture any more."""


def grid(
    rows: Sequence[Sequence[Stage]],
    columns: Sequence[str],
    title: str = "",
    names: Sequence[str] = (),
    row_titles: Sequence[str] = (),
    colours: np.ndarray | None = None,
) -> go.Figure:
    """Show one picture a row beside its stages, as papers lay their results out.

    rows: each begins with a picture, as `fslab.read` takes it; its stages are as in `fslab.show`.
    columns: titles, above the first row; row_titles: one a row, above its picture, in the first row
    for its column's title. names: what labels of the truth are called; beyond five columns only the
    legend has room for names.
    Stages are flat colours on white, as papers have them. Segments bear no numbers, and their
    colours mean nothing beyond a panel.
    Raises FslabError for rows of different lengths.
    """
    across = len(columns)
    if not rows or not 2 <= across <= MOST_COLUMNS or any(len(row) != across for row in rows):
        raise FslabError(
            f"grid takes 2 to {MOST_COLUMNS} columns and as many stages in each row; there are "
            f"{across} columns and rows of {sorted({len(row) for row in rows})}"
        )
    panels, written = [], across <= _NAMED_COLUMNS
    for place, row in enumerate(rows):
        if isinstance(row[0], (Segments, LabelMap)):
            raise FslabError(f"each row begins with a picture, not {type(row[0]).__name__}")
        picture = read(row[0])
        drawn = [Panel("", picture.pixels)]
        drawn += [_panel(picture, stage, names, colours, written) for stage in row[1:]]
        above = list(columns) if place == 0 else [_NO_TITLE] * across
        if row_titles:
            above[0] = row_titles[place]
        panels += [replace(panel, title=words) for panel, words in zip(drawn, above, strict=True)]
    return compose(panels, title, across=across)


def _panel(
    picture: Picture,
    stage: Stage,
    names: Sequence[str],
    colours: np.ndarray | None,
    written: bool,
) -> Panel:
    if isinstance(stage, Segments):
        check_size(picture, stage.size, "segments")
        return Panel("", segment_colours(stage.count)[stage.labels], photo=False)
    drawn = stage_panel(picture, stage, names, colours)
    if drawn.labels is None:
        return drawn
    white = np.full((*picture.size, 3), 255, np.uint8)
    reads = {label: words for label, words in drawn.reads.items() if label in drawn.shown}
    return replace(drawn, base=white, photo=False, opacity=1.0, written=written, reads=reads)
