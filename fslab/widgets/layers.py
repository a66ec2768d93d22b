"""Which layer is looked at: a backbone's layers by path, narrowed by a part of the name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from operator import attrgetter
from typing import Any

import ipywidgets as widgets

from fslab.backbones import Layer, pick_layers
from fslab.backbones.base import LAST, LayersByPath
from fslab.heads import HEAD, whole_of
from fslab.lab import Lab
from fslab.records import FslabError, Picture, Recipe
from fslab.widgets.controls import FULL, STYLE, Hush, Knob, words


class LayerPicker:
    """A list of layers with channels, stride and cells; `list.value` is the chosen path.

    What narrows it is a part of a path, or a pattern as `Lab.extract` takes it. Heads are listed
    while it holds a "#".
    """

    def __init__(self, lab: Lab, hush: Hush, label: str, value: str) -> None:
        self._backbone, self._taken = lab.backbone, lab.recipe(Recipe()).extract
        self._size = (lab.backbone.resolution,) * 2
        self._layers = lab.layers()
        self._options = self._said(self._layers)
        self._hush = hush
        self.list = widgets.Dropdown(
            options=self._options, value=value, description=label,
            style=STYLE, layout={"width": FULL},
        )  # fmt: skip
        self.filter = words("layers with", "")
        self.filter.continuous_update = True
        self.filter.placeholder = "part of a path, or a pattern: attn2.to_q, up_blocks.?, to_q#0"
        self.filter.observe(lambda change: self._narrow(), "value")
        self.box = widgets.VBox([self.filter, self.list])

    def look_at(self, picture: Picture) -> None:
        """Say of how many cells each layer is for this picture."""
        size = self._backbone.input_size(picture, self._taken)
        if size != self._size:
            self._size = size
            self._options = self._said(self._layers)
            self._narrow()

    def _narrow(self) -> None:
        """List the layers that are asked for; the chosen one stays in the list."""
        chosen = self.list.value
        kept = self._said(self._asked_for(self.filter.value.strip()))
        if chosen not in [path for _, path in kept]:
            known = [*self._layers, *_with_heads(self._layers)]
            kept += self._said([each for each in known if each.path == chosen][:1])
        with self._hush():
            self.list.options = kept
            self.list.value = chosen

    def _asked_for(self, wanted: str) -> Sequence[Layer]:
        if wanted.startswith(LAST) or any(sign in wanted for sign in "*?["):
            try:
                return pick_layers([wanted], self._layers)
            except FslabError:
                return ()  # half a pattern fits nothing yet
        offered = [*_with_heads(self._layers)] if HEAD in wanted else self._layers
        return [layer for layer in offered if wanted.lower() in layer.path.lower()]

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
        return [(_words(layer, self._size), layer.path) for layer in layers]


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


def _words(layer: Layer, size: tuple[int, ...]) -> str:
    cells = " x ".join(str(side // layer.stride) for side in size)
    heads = f", {layer.heads} heads" if layer.heads else ""
    return f"{layer.path}: {layer.channels} ch{heads}, stride {layer.stride}, {cells} cells"


def first_layer(lab: Lab) -> str:
    """Return the first layer that the backbone's own recipe reads."""
    return pick_layers(lab.backbone.default_layers, lab.layers())[0].path
