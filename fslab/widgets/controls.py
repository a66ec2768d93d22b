"""The knobs of the explorers, alike in width and wording, and the state that mirrors them."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from operator import attrgetter
from typing import Any

import ipywidgets as widgets
from traitlets import TraitError, link

from fslab.records import FslabError

FULL, HALF = "auto", "338px"
"""How wide a row is, and a control that shares it with another."""

_LABEL = "118px"
STYLE = {"description_width": _LABEL}
"""The style that sets all controls' labels at one width."""

Options = Sequence[tuple[str, Any]]


class Knob:
    """State of an explorer that is a control's value: reading and setting it go there.

    control: where the explorer has it, such as "_timestep" or "_pictures.list". Setting it to
    what the control cannot take raises FslabError, where the control itself would quietly take
    the nearest.
    """

    def __init__(self, control: str, doc: str) -> None:
        self._control, self.__doc__ = attrgetter(control), doc

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, explorer: Any, owner: type | None = None) -> Any:
        return self if explorer is None else self._control(explorer).value

    def __set__(self, explorer: Any, value: Any) -> None:
        control = self._control(explorer)
        check_value(control, value, self._name)
        try:
            control.value = value
        except TraitError as error:
            raise FslabError(f"{self._name} is {value!r}; {error}") from error


def check_value(control: widgets.Widget, value: Any, name: str) -> None:
    """Refuse a value outside a control's options or limits."""
    if hasattr(control, "options") and not isinstance(control, widgets.Combobox):
        known = option_values(control)
        if value not in known:
            listed = ", ".join(map(repr, known[:12])) + (", ..." if len(known) > 12 else "")
            raise FslabError(f"{name} is {value!r}; it must be one of {listed}")
    elif hasattr(control, "min") and not control.min <= value <= control.max:
        raise FslabError(
            f"{name} is {value!r}; it must lie between {control.min} and {control.max}"
        )


def option_values(control: widgets.Widget) -> list[Any]:
    """Return the values that a choice offers."""
    return [entry[1] if isinstance(entry, tuple) else entry for entry in control.options]


class Hush:
    """While a thread hushes, its own changes to controls do not count as the reader's."""

    def __init__(self) -> None:
        self._own = threading.local()

    def __bool__(self) -> bool:
        return getattr(self._own, "deep", 0) > 0

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Hush for as long as the `with` block runs."""
        self._own.deep = getattr(self._own, "deep", 0) + 1
        try:
            yield
        finally:
            self._own.deep -= 1


def choice(words: str, options: Options | Sequence[str], value: Any = None) -> widgets.Dropdown:
    """Return a drop-down list; the first option is chosen unless `value` says otherwise."""
    value = option_of(options[0]) if value is None and options else value
    return widgets.Dropdown(
        options=options, value=value, description=words, style=STYLE, layout={"width": HALF}
    )


def option_of(entry: Any) -> Any:
    """Return an option's value: of a pair (label, value) the second."""
    return entry[1] if isinstance(entry, tuple) else entry


def whole(words: str, value: int, low: int, high: int) -> widgets.IntSlider:
    """Return a slider over whole numbers."""
    return widgets.IntSlider(
        value, low, high, description=words, style=STYLE, layout={"width": HALF}
    )


def number(words: str, value: float, low: float, high: float, step: float) -> widgets.FloatSlider:
    """Return a slider over numbers."""
    return widgets.FloatSlider(
        value=value, min=low, max=high, step=step, description=words, style=STYLE,
        layout={"width": HALF}, readout_format=".2f" if step < 0.1 else ".1f",
    )  # fmt: skip


def typed(slider: widgets.IntSlider) -> widgets.HBox:
    """Return a slider beside its number, which can be typed too."""
    slider.readout = False
    number = widgets.BoundedIntText(
        slider.value, slider.min, slider.max, disabled=slider.disabled,
        tooltip=slider.description, layout={"width": "70px"},
    )  # fmt: skip
    link((slider, "value"), (number, "value"))
    return widgets.HBox([slider, number])


def words(label: str, value: str, width: str = FULL) -> widgets.Text:
    """Return a line of text that counts when Enter is pressed or the line is left."""
    return widgets.Text(
        value=value, description=label, continuous_update=False, style=STYLE,
        layout={"width": width, "max_width": "100%"},
    )  # fmt: skip


def tags(label: str, value: Sequence[str]) -> tuple[widgets.TagsInput, widgets.HBox]:
    """Return editable tags, and the row that they stand in with their label.

    A word is added by Enter in the line beside them.
    """
    control = widgets.TagsInput(
        value=list(value),
        allow_duplicates=False,
        layout={"width": "auto", "flex": "1 1 200px"},
    )
    line = widgets.Text(
        placeholder="a word, then Enter", continuous_update=False, layout={"width": "150px"}
    )

    def add(change: Mapping[str, Any]) -> None:
        word = change["new"].strip()
        if word:
            control.value = list(dict.fromkeys([*control.value, word]))
            line.value = ""

    line.observe(add, "value")
    name = widgets.Label(
        label, layout={"width": _LABEL, "display": "flex", "justify_content": "flex-end"}
    )
    return control, row(name, control, line)


def row(*controls: widgets.Widget) -> widgets.HBox:
    """Return controls side by side, wrapped where the column is narrow."""
    return widgets.HBox(
        list(controls), layout={"width": FULL, "max_width": "100%", "flex_flow": "row wrap"}
    )


def show_only(parts: Mapping[Any, widgets.Widget], wanted: Sequence[Any]) -> None:
    """Show those of the parts whose keys are wanted, and hide the others."""
    for key, part in parts.items():
        part.layout.display = None if key in wanted else "none"
