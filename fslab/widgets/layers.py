"""Which layer is looked at: a backbone's layers by path, narrowed by a part of the name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import ipywidgets as widgets

from fslab.backbones import Layer, pick_layers
from fslab.lab import Lab
from fslab.widgets.controls import FULL, STYLE, Hush, words


class LayerPicker:
    """A list of layers with channels, stride and resolution; `list.value` is the chosen path."""

    def __init__(self, lab: Lab, hush: Hush, label: str, value: str) -> None:
        side = lab.backbone.resolution
        self._options = [(_words(layer, side), layer.path) for layer in lab.layers()]
        self._hush = hush
        self.list = widgets.Dropdown(
            options=self._options, value=value, description=label,
            style=STYLE, layout={"width": FULL},
        )  # fmt: skip
        self.filter = words("layers with", "")
        self.filter.continuous_update = True
        self.filter.placeholder = "part of a path: attn2.to_q, up_blocks.1, ..."
        self.filter.observe(self._narrow, "value")
        self.box = widgets.VBox([self.filter, self.list])

    def _narrow(self, change: Mapping[str, Any]) -> None:
        """List the layers whose path holds the text; the chosen one stays in the list."""
        chosen = self.list.value
        wanted = change["new"].strip().lower()
        kept = [
            option for option in self._options if wanted in option[1].lower() or option[1] == chosen
        ]
        with self._hush():
            self.list.options = kept
            self.list.value = chosen


def _words(layer: Layer, side: int) -> str:
    cells = side // layer.stride
    return f"{layer.path}: {layer.channels} ch, stride {layer.stride}, {cells}x{cells}"


def first_layer(lab: Lab) -> str:
    """Return the first layer that the backbone's own recipe reads."""
    return pick_layers(lab.backbone.default_layers, lab.layers())[0].path
