"""Many pictures in one set of colours."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from fslab.datasets import PictureLike, read
from fslab.plots.colours import class_colours, segment_colours
from fslab.plots.panels import Panel, compose
from fslab.records import Components, FslabError, check_kind, check_numbers

_PAIRS = 2
"""Pictures a row, each beside its colours."""


def component_colours(values: np.ndarray, components: Components) -> NDArray[np.uint8]:
    """Show what a picture's cells are in components, f32 [N, h, w], as colours u8 [h, w, 3].

    The same values have the same colour in every picture. Of "pca" the first three components
    become red, green and blue, each stretched from its 1st to its 99th percentile over all pictures
    (`Components.low` and `high`). Of "kmeans" each centre has a colour of its own, that of its
    label in `Lab.common_labels`; of "nmf" the parts' colours are mixed by how much of each there
    is.
    """
    check_kind(components, Components, "components")
    check_numbers(values, "values")
    if values.ndim != 3 or len(values) != len(components):
        raise FslabError(
            f"values are {values.dtype} {list(values.shape)}; they must be f32 "
            f"[{len(components)}, h, w], as in_components gives them"
        )
    drawn: NDArray[np.uint8]
    if components.how == "kmeans":
        drawn = class_colours()[1 + values.argmin(0)]
    elif components.how == "nmf":
        shares = np.maximum(values, 0) / np.maximum(components.high, 1e-12)[:, None, None]
        shares = shares / np.maximum(shares.sum(0), 1e-12)
        parts = segment_colours(len(components))
        drawn = np.rint(np.einsum("nhw,nc->hwc", shares, parts)).astype(np.uint8)
    else:
        drawn = _stretched(values, components)
    return drawn


def _stretched(values: np.ndarray, components: Components) -> NDArray[np.uint8]:
    """Return the first three of values [N, h, w] as red, green and blue, u8 [h, w, 3]."""
    stretched = np.full((*values.shape[1:], 3), 0.5)
    for place, value in enumerate(values[:3]):
        low, high = float(components.low[place]), float(components.high[place])
        if high - low >= 1e-12:
            stretched[..., place] = (value - low) / (high - low)
    drawn: NDArray[np.uint8] = np.rint(255 * stretched.clip(0, 1)).astype(np.uint8)
    return drawn


def component_maps(
    pictures: Sequence[PictureLike],
    values: Sequence[np.ndarray],
    components: Components,
    title: str = "",
) -> go.Figure:
    """Show pictures, two a row, each beside what its cells are in common components.

    values: f32 [N, h, w] of each, as `fslab.Lab.in_components` gives them. Raises FslabError where
    there are not as many as pictures.
    """
    if not len(pictures) or len(pictures) != len(values):
        raise FslabError(f"{len(values)} maps for {len(pictures)} pictures; give one for each")
    panels = []
    for given, value in zip(pictures, values, strict=True):
        picture = read(given)
        panels.append(Panel(picture.name, picture.pixels))
        panels.append(Panel(" ", component_colours(value, components), photo=False))
    words = {
        "pca": f"three main components of {components.pictures} pictures, {components.share:.0%}",
        "nmf": f"{len(components)} parts of {components.pictures} pictures, by NMF",
        "kmeans": f"{len(components)} clusters of {components.pictures} pictures",
    }
    return compose(panels, title or words[components.how], across=2 * _PAIRS)
