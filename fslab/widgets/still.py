"""What stands in a notebook's outputs for readers who do not run it."""

from __future__ import annotations

import os
from typing import Any

import plotly.graph_objects as go
import plotly.io

WIDGET = "application/vnd.jupyter.widget-view+json"
_KEPT = ("plotly_mimetype", "png")
"""Of plotly's renderers those that outputs keep."""


def with_still(bundle: dict[str, Any], figure: go.Figure) -> dict[str, Any]:
    """Return a widget's output with what PLOTLY_RENDERER asks of figures: data, a picture, or both.

    Where it names `png`, nobody looks on, and the picture stands in place of the widget: a viewer
    that cannot open widgets would show nothing. Without the variable the output is as given.
    """
    wanted = os.environ.get("PLOTLY_RENDERER", "").split("+")
    for name in _KEPT:
        if name in wanted:
            bundle = bundle | plotly.io.renderers[name].to_mimebundle(figure.to_dict())
    if "png" in wanted:
        del bundle[WIDGET]
    return bundle
