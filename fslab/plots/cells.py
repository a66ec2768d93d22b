"""Maps of few cells beside their picture, cell by cell."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import plotly.graph_objects as go

from fslab.datasets import PictureLike, read
from fslab.plots.panels import COLUMNS, Panel, compose, plain, stretched
from fslab.records import FslabError


def cell_maps(
    picture: PictureLike, maps: Mapping[str, np.ndarray], title: str, colour_title: str
) -> go.Figure:
    """Show maps on grids of their own, each from its least (dark) to its most (light).

    maps: title -> f [h, w] over the whole picture; grids may differ. What a panel's colours run
    between stands in its title, and the pointer reads values: patterns compare between panels,
    brightness does not. Raises FslabError for what is no [h, w], and where there is no map.
    """
    if not maps:
        raise FslabError("cell_maps has nothing to draw; give at least one map")
    for name, values in maps.items():
        if np.ndim(values) != 2 or 0 in np.shape(values):
            raise FslabError(f"map {name!r} is {list(np.shape(values))}; a map must be [h, w]")
    picture = read(picture)
    white = np.full((*picture.size, 3), 255, np.uint8)
    panels = [Panel("picture\n", picture.pixels)]
    panels += [
        Panel(f"{name}\n{values.min():.3g} to {values.max():.3g}", white, photo=False)
        for name, values in maps.items()
    ]
    figure = compose(panels, title, right=80)
    for place, values in enumerate(maps.values(), 1):
        at = {"row": place // COLUMNS + 1, "col": place % COLUMNS + 1}
        figure.add_trace(_heat(values, picture.size, plain(colour_title), place == 1), **at)
    return figure


def _heat(values: np.ndarray, size: tuple[int, int], colour_title: str, bar: bool) -> go.Heatmap:
    """Return cells as wide as the picture, coloured by their share of the map's own range."""
    span = float(np.ptp(values)) or 1.0
    values = values.astype(np.float32)
    return go.Heatmap(
        z=(values - values.min()) / np.float32(span), zmin=0, zmax=1, customdata=values,
        **stretched(size, values.shape), colorscale="Viridis", showscale=bar,
        hovertemplate="%{customdata:.3g}<extra></extra>",
        colorbar={
            "title": {"text": colour_title}, "thickness": 14, "tickvals": [0, 1],
            "ticktext": ["least", "most"],
        },
    )  # fmt: skip
