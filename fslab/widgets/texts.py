"""Words in the explorers: hints, errors, code to paste, files to save; all of it escaped."""

from __future__ import annotations

import base64
import threading
import time
from html import escape

import ipywidgets as widgets

from fslab.widgets.controls import FULL

_INK = "var(--jp-ui-font-color1, inherit)"
_SOFT = "var(--jp-ui-font-color2, inherit)"
_ERROR = "var(--jp-error-color1, #c62828)"
_CODE = (
    "margin:0; padding:6px 8px; white-space:pre-wrap; overflow-wrap:anywhere; "
    "font-family:var(--jp-code-font-family, monospace); font-size:12px; line-height:1.45; "
    f"color:{_INK}; background:var(--jp-layout-color2, transparent)"
)
_LINE = "font-size:13px; line-height:1.4; overflow-wrap:anywhere"


class Status(widgets.HTML):
    """One line that says whether an explorer computes, what went wrong, or what it shows.

    `message` is the error in words, empty where there is none; `busy` whether work is under way,
    whose seconds are counted.
    """

    def __init__(self) -> None:
        super().__init__(layout={"flex": "1 1 240px", "width": "auto", "min_height": "28px"})
        self.busy, self.message = False, ""
        self._what, self._since = "", 0.0
        self._changing = threading.Lock()
        self._counts = False

    def compute(self) -> None:
        """Say that work is under way."""
        with self._changing:
            self.busy, self._what, self._since = True, "", time.monotonic()
            self._say_work()
            if not self._counts:
                self._counts = True
                threading.Thread(target=self._count, name="fslab-status", daemon=True).start()

    def doing(self, what: str) -> None:
        """Say what the work is at."""
        with self._changing:
            self._what = what
            if self.busy:
                self._say_work()

    def ready(self, text: str = "") -> None:
        """Say that what is shown is up to date."""
        with self._changing:
            self.busy, self.message = False, ""
            self._write(escape(text) or "&nbsp;", _SOFT)

    def refuse(self, message: str, shown: str = "") -> None:
        """Say in one sentence what went wrong, and what the figure still shows."""
        still = f" The figure, grey, still shows {shown}." if shown else ""
        with self._changing:
            self.busy, self.message = False, message
            self._write(escape(f"{message}.{still}".replace("..", ".")), _ERROR)

    def _count(self) -> None:
        """Write the seconds that the work takes, until it ends."""
        while True:
            time.sleep(1)
            with self._changing:
                if not self.busy:
                    self._counts = False
                    return
                self._say_work()

    def _say_work(self) -> None:
        seconds = int(time.monotonic() - self._since)
        passed = f' <span aria-hidden="true">{seconds} s</span>' if seconds else ""
        words = f": {escape(self._what)}" if self._what else ""
        self._write(f"&#9679; computing{words} &hellip;{passed}", "var(--jp-brand-color1, #1976d2)")

    def _write(self, inner: str, colour: str) -> None:
        self.value = (
            f'<div role="status" aria-live="polite" style="{_LINE}; color:{colour}">{inner}</div>'
        )


def hint(text: str) -> widgets.HTML:
    """Return a line that says what can be done here."""
    return note_of(widgets.HTML(layout={"width": FULL, "max_width": "100%"}), text, soft=True)


def note_of(line: widgets.HTML, text: str, soft: bool = False) -> widgets.HTML:
    """Write a plain text into a line and return it."""
    line.value = f'<div style="{_LINE}; color:{_SOFT if soft else _INK}">{escape(text)}</div>'
    return line


def code_block(code: str) -> str:
    """Return code to be copied, as HTML."""
    return f'<pre style="{_CODE}">{escape(code)}</pre>'


def download_link(data: bytes, kind: str, name: str, text: str) -> str:
    """Return a link that saves bytes as a file; no server takes part.

    kind: the media type; name: the file's, as the browser shall propose it.
    """
    encoded = base64.b64encode(data).decode()
    return (
        f'<a href="data:{escape(kind)};base64,{encoded}" download="{escape(name)}" '
        'style="color:var(--jp-content-link-color, #1565c0); margin-right:18px; font-size:13px">'
        f"{escape(text)}</a>"
    )
