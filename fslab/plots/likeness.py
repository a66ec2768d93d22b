"""One point of a picture compared with all of it, layer by layer."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray
from plotly.colors import sample_colorscale, unlabel_rgb

from fslab.datasets import PictureLike, read
from fslab.plots.draw import check_size
from fslab.plots.maps import cosine_to, short_path
from fslab.plots.panels import COLUMNS, Panel, compose
from fslab.records import Features

_SCALE = "Viridis"
_STEPS = 256


def similarities(
    features: Features, point: tuple[int, int], picture: PictureLike, title: str = ""
) -> go.Figure:
    """Show for each layer how like each cell is to the cell at a point, (row, column) in pixels.

    The picture stands first; the point is marked in every panel. Each layer's colours run from
    its lowest cosine, which its title gives, to 1: layers differ in what likeness is usual, so
    what compares is the pattern. Raises FslabError for a point outside the picture.
    """
    picture = read(picture)
    check_size(picture, features.size, "features")
    panels = [Panel("picture\n", picture.pixels)]
    for layer, value in features.items():
        cosines = cosine_to(value, point, features.size)
        words = f"{short_path(layer)}\nfrom {cosines.min():.2f}"
        panels.append(Panel(words, coloured(cosines), photo=False))
    words = title or f"{features.name}: similarity to row {point[0]}, column {point[1]}"
    figure = compose(panels, words, right=80)
    for place, panel in enumerate(panels):
        _mark(figure, panel, point, features.size, place)
    figure.add_trace(scale("1"))
    return figure


def coloured(cosines: np.ndarray, highest: bool = False) -> np.ndarray:
    """Return cosines f32 [h, w] as colours u8 [h, w, 3], the lowest dark and 1 light.

    highest: the highest that there is has the lightest colour, whatever it is.
    """
    low, high = float(cosines.min()), float(cosines.max()) if highest else 1.0
    shares = (cosines - low) / max(high - low, 1e-6)
    palette = sample_colorscale(_SCALE, np.linspace(0, 1, _STEPS).tolist())
    colours: NDArray[np.float64] = np.array([unlabel_rgb(colour) for colour in palette])
    steps = np.rint(shares.clip(0, 1) * (_STEPS - 1)).astype(int)
    drawn: NDArray[np.uint8] = np.rint(colours[steps]).astype(np.uint8)
    return drawn


def _mark(
    figure: go.Figure, panel: Panel, point: tuple[int, int], size: tuple[int, int], place: int
) -> None:
    row, column = (
        (at + 0.5) * cells / limit - 0.5
        for at, cells, limit in zip(point, panel.base.shape[:2], size, strict=True)
    )
    mark = {
        "symbol": "cross",
        "size": 10,
        "color": "white",
        "line": {"color": "black", "width": 1.5},
    }
    figure.add_trace(
        go.Scatter(
            x=[column], y=[row], mode="markers", marker=mark, showlegend=False,
            hovertemplate="the point<extra></extra>",
        ),
        row=place // COLUMNS + 1, col=place % COLUMNS + 1,
    )  # fmt: skip


def scale(lightest: str) -> go.Scatter:
    """Return no points but the colour bar that all panels share, and what its lightest means."""
    bar = {
        "title": {"text": "cosine"}, "thickness": 14, "tickvals": [0, 1],
        "ticktext": ["lowest", lightest],
    }  # fmt: skip
    return go.Scatter(
        x=[None], y=[None], mode="markers", showlegend=False, hoverinfo="skip",
        marker={"colorscale": _SCALE, "cmin": 0, "cmax": 1, "color": [0], "colorbar": bar},
    )  # fmt: skip
