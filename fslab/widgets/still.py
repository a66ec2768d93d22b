"""What stands in a notebook's outputs for readers who do not run it."""

from __future__ import annotations

import os
from typing import Any

import plotly.graph_objects as go
import plotly.io

WIDGET = "application/vnd.jupyter.widget-view+json"
_KEPT = ("plotly_mimetype", "png")
"""Of plotly's renderers those that outputs keep."""


def kept() -> list[str]:
    """Return what PLOTLY_RENDERER asks outputs to keep of figures: data, a picture, or both."""
    wanted = os.environ.get("PLOTLY_RENDERER", "").split("+")
    return [name for name in _KEPT if name in wanted]


def with_still(bundle: dict[str, Any], figure: go.Figure) -> dict[str, Any]:
    """Return a widget's output with what is to be kept of its figure.

    Where that is a picture, nobody looks on, and it stands in place of the widget: a viewer that
    cannot open widgets would show nothing.
    """
    for name in kept():
        bundle = bundle | plotly.io.renderers[name].to_mimebundle(figure.to_dict())
    return {kind: value for kind, value in bundle.items() if kind != WIDGET or "png" not in kept()}
