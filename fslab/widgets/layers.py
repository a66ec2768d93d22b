"""Which layer is looked at: a backbone's layers by path, narrowed by a part of the name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from operator import attrgetter
from typing import Any

import ipywidgets as widgets

from fslab.backbones import Layer, pick_layers
from fslab.backbones.base import LayersByPath
from fslab.heads import HEAD, whole_of
from fslab.lab import Lab
from fslab.widgets.controls import FULL, STYLE, Hush, Knob, words


class LayerPicker:
    """A list of layers with channels, stride and resolution; `list.value` is the chosen path.

    Heads are listed while the text that narrows the list holds a "#".
    """

    def __init__(self, lab: Lab, hush: Hush, label: str, value: str) -> None:
        self._side = lab.backbone.resolution
        self._layers = lab.layers()
        self._options = self._said(self._layers)
        self._hush = hush
        self.list = widgets.Dropdown(
            options=self._options, value=value, description=label,
            style=STYLE, layout={"width": FULL},
        )  # fmt: skip
        self.filter = words("layers with", "")
        self.filter.continuous_update = True
        self.filter.placeholder = "part of a path: attn2.to_q, up_blocks.1, to_q#0, ..."
        self.filter.observe(self._narrow, "value")
        self.box = widgets.VBox([self.filter, self.list])

    def _narrow(self, change: Mapping[str, Any]) -> None:
        """List the layers whose path holds the text; the chosen one stays in the list."""
        chosen = self.list.value
        wanted = change["new"].strip().lower()
        offered = self._said(_with_heads(self._layers)) if HEAD in wanted else self._options
        kept = [option for option in offered if wanted in option[1].lower() or option[1] == chosen]
        if chosen not in [path for _, path in kept]:  # a head, and heads are not listed now
            kept += self._said([each for each in _with_heads(self._layers) if each.path == chosen])
        with self._hush():
            self.list.options = kept
            self.list.value = chosen

    def offer(self, path: str) -> None:
        """Have a head in the list, as one is about to be chosen; FslabError for none of these."""
        listed = LayersByPath((layer.path, layer) for layer in self._layers)
        known = [each for _, each in self.list.options]
        if path not in known and whole_of(path) in listed:
            with self._hush():
                chosen = self.list.value
                self.list.options = [*self.list.options, *self._said([listed[path]])]
                self.list.value = chosen

    def _said(self, layers: Iterable[Layer]) -> list[tuple[str, str]]:
        return [(_words(layer, self._side), layer.path) for layer in layers]


class LayerKnob(Knob):
    """State that is the chosen path of a `LayerPicker`; a head counts though it is not listed."""

    def __init__(self, picker: str, doc: str) -> None:
        super().__init__(f"{picker}.list", doc)
        self._picker = attrgetter(picker)

    def __set__(self, explorer: Any, value: Any) -> None:
        if isinstance(value, str):
            self._picker(explorer).offer(value)
        super().__set__(explorer, value)


def _with_heads(layers: Iterable[Layer]) -> Iterator[Layer]:
    """Yield the layers that have heads, each with its heads behind it."""
    for layer in layers:
        if layer.heads:
            yield layer
            yield from (layer.head(str(number)) for number in range(layer.heads))


def _words(layer: Layer, side: int) -> str:
    cells = side // layer.stride
    heads = f", {layer.heads} heads" if layer.heads else ""
    return f"{layer.path}: {layer.channels} ch{heads}, stride {layer.stride}, {cells}x{cells}"


def first_layer(lab: Lab) -> str:
    """Return the first layer that the backbone's own recipe reads."""
    return pick_layers(lab.backbone.default_layers, lab.layers())[0].path
