"""The methods of a stage in an explorer: a list of them, and the knobs of the chosen one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import ipywidgets as widgets

from fslab.records import FslabError, Own, Recipe, Slider
from fslab.records.recipe import METHODS
from fslab.widgets.controls import Knob, choice, number, show_only, whole


class MethodKnobs:
    """A list of a stage's methods, and a slider for each setting that has one in the registry.

    explorer: has each slider as state, by its setting's name. stage: such as "cluster". start: the
    recipe that says where the knobs begin; a function of one's own in it stands in the list too.
    """

    def __init__(self, explorer: widgets.Widget, stage: str, start: Recipe) -> None:
        self._stage, self._start = stage, start
        self._methods = METHODS[stage]
        before = getattr(start, stage)
        own = [before.method] if isinstance(before, Own) else []
        self.list = choice("method", [*self._methods, *own], before.method)
        self.sliders: dict[str, widgets.Widget] = {}
        self._settings: dict[str, list[str]] = {name: [] for name in own}
        for part in self._methods.values():
            defaults = {entry.name: entry.default for entry in fields(part.settings)}
            self._settings[part.name] = [*defaults]
            for each in part.knobs:
                if each.name not in self.sliders:
                    value = getattr(before, each.name, defaults.get(each.name))
                    self.sliders[each.name] = _slider(each, value)
                    _have(explorer, each, self.sliders[each.name])

    def settings(self, controls: Mapping[str, Any]) -> dict[str, Any]:
        """Return the chosen method and what it is set by: of the sliders, and of other controls."""
        known = {name: slider.value for name, slider in self.sliders.items()} | dict(controls)
        names = self._settings[self.list.value]
        return {"method": self.list.value} | {
            name: value for name, value in known.items() if name in names
        }

    def show(self, parts: Mapping[str, widgets.Widget]) -> None:
        """Show those of the sliders and of other parts that the chosen method is set by."""
        show_only({**self.sliders, **parts}, self._settings[self.list.value])

    def recipe(self, base: Recipe, settings: Mapping[str, Any]) -> Recipe:
        """Return a recipe with a method and what it is set by, as `settings` gave them."""
        before = getattr(self._start, self._stage)
        if isinstance(before, Own):
            if settings["method"] == before.method:
                return base.change({self._stage: before})
            base = base.change({self._stage: settings["method"]})
        return base.change({f"{self._stage}.{name}": value for name, value in settings.items()})


def _slider(each: Slider, value: Any) -> widgets.Widget:
    slider: widgets.Widget
    if isinstance(each.step, int):
        slider = whole(each.name, int(value), int(each.low), int(each.high))
    else:
        slider = number(each.name, value, each.low, each.high, each.step)
    slider.tooltip = each.words
    return slider


def _have(explorer: widgets.Widget, each: Slider, slider: widgets.Widget) -> None:
    """Make a slider state of an explorer."""
    kind = type(explorer)
    if not hasattr(kind, each.name):
        knob = Knob(f"_{each.name}", f"The setting {each.name!r}.")
        knob.__set_name__(kind, each.name)
        setattr(kind, each.name, knob)
    if not isinstance(getattr(kind, each.name), Knob):
        raise FslabError(
            f"an explorer cannot have a knob {each.name!r}, which is a name of its own; call the "
            "setting otherwise"
        )
    setattr(explorer, f"_{each.name}", slider)
