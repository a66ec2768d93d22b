"""A FigureWidget that the browser shows as it is, also where the machine is busy."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import ipywidgets as widgets
import plotly.graph_objects as go

_PATIENCE = 4.0
"""Seconds that a browser may take over one change of a figure that it shows."""


ANSWER = "_js2py_traceDeltas"
"""The trait of a figure by which a browser says that it has carried a change out."""


class WholeFigure(go.FigureWidget):
    """A figure that is announced to the browser once it is whole, and again if need be.

    Plotly's own is announced empty and filled after; a browser that draws in between, as busy
    ones do, shows it empty for good.
    """

    def __init__(self, figure: go.Figure) -> None:
        self._whole = False
        super().__init__(figure)

    def open(self) -> None:
        """Do nothing while the figure is not whole; `announce` opens it."""
        if self._whole:
            super().open()

    def announce(self) -> None:
        """Tell the browser of the figure as it is now, as if it were new."""
        if self._whole:
            self.close()
            self._model_id = None
        self._whole = True
        self._widget_data = deepcopy(self._data)
        self._widget_layout = deepcopy(self._layout_obj._props)
        self.open()


class Frame(widgets.Box):
    """Shows a figure from its first drawing on, and sees that the browser keeps up.

    A browser that needs more than two seconds to load plotly ignores all later changes of that
    figure (anywidget's limit). A change that is carried out is answered with its number; where
    the answer is missing, the figure is put before the browser anew.
    """

    def __init__(self, figure: WholeFigure) -> None:
        super().__init__()
        self._figure, self._loop = figure, _running_loop()
        self._answered, self._alive, self._sent = 0, False, 0.0
        figure.observe(self._note_answer, ANSWER)

    def drawn(self) -> None:
        """Show the figure, or see in a while whether the browser took the change."""
        self._sent = time.monotonic()
        if not self.children:
            self.renew()
        self._check_in(_PATIENCE)

    def renew(self) -> None:
        """Put the figure before the browser as it is now."""
        nothing: tuple[widgets.Widget, ...] = ()
        self.children, self._alive = nothing, False
        self._figure.announce()
        self.children = (self._figure,)

    @property
    def overdue(self) -> bool:
        """Whether a browser that shows the figure has not answered its last change in time."""
        late = time.monotonic() - self._sent > _PATIENCE
        return self._alive and late and self._answered < self._figure._last_trace_edit_id

    def _note_answer(self, change: Mapping[str, Any]) -> None:
        if change["new"]:
            self._alive = True
            self._answered = max(self._answered, change["new"]["trace_edit_id"])
            self._check_in(_PATIENCE)  # a page that opened late may have missed a change

    def _check_in(self, seconds: float) -> None:
        """Look after the figure later, on the kernel's own thread, where answers arrive too."""
        loop = self._loop
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(lambda: loop.call_later(seconds, self._check, loop))

    def _check(self, loop: asyncio.AbstractEventLoop, sure: bool = False) -> None:
        if not self.overdue:
            return
        if sure:
            self.renew()
        else:  # a cell kept the kernel busy, perhaps: let the answers that wait come first
            loop.call_later(1.0, self._check, loop, True)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    """Return the kernel's event loop; None outside a kernel, where no browser looks on."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
