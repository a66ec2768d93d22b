"""What an explorer's controls said before: a way back, move by move or to where it was opened."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ipywidgets as widgets

from fslab.widgets.controls import option_values

Moment = tuple[Any, ...]
"""What all controls said, and the explorer's further state, in the history's order."""

_LONGEST = 200
"""Moments that are kept."""


class History:
    """The moments of an explorer that were shown, the newest last.

    controls: those whose values are its state; further: names of its attributes that are, too.
    """

    def __init__(
        self, owner: Any, controls: Sequence[widgets.Widget], further: Sequence[str]
    ) -> None:
        self._owner, self._controls, self._further = owner, tuple(controls), tuple(further)
        self.opening = self.now()
        self._shown: list[Moment] = []

    def now(self) -> Moment:
        """Return the present moment."""
        values = [(control.value, getattr(control, "max", None)) for control in self._controls]
        return (*values, *(getattr(self._owner, name) for name in self._further))

    def add(self, moment: Moment) -> None:
        """Keep a moment that is shown now."""
        if not self._shown or self._shown[-1] != moment:
            self._shown = [*self._shown[1 - _LONGEST :], moment]

    def before(self) -> Moment | None:
        """Return the moment to go back to, the last that was another than this; None without."""
        while self._shown and self._shown[-1] == self.now():
            self._shown.pop()
        return self._shown[-1] if self._shown else None

    def restore(self, moment: Moment) -> None:
        """Bring controls and attributes to a moment; call while the explorer's hush lasts."""
        count = len(self._controls)
        for control, (value, most) in zip(self._controls, moment[:count], strict=True):
            if most is not None:
                control.max = max(control.max, most)  # a larger picture's last row, for one
            if hasattr(control, "options") and not isinstance(control, widgets.Combobox):
                known = option_values(control)
                if not isinstance(control, widgets.SelectMultiple) and value not in known:
                    control.options = [*control.options, value]
            control.value = value
        for name, value in zip(self._further, moment[count:], strict=True):
            setattr(self._owner, name, value)
