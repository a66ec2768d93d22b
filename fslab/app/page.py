"""A heading, what the page is, and explorers under tabs, each made once somebody looks at it."""

from __future__ import annotations

from collections.abc import Callable
from html import escape

import anywidget
import ipywidgets as widgets
import traitlets
from IPython.display import display

from fslab.app.shown import Shown
from fslab.records import FslabError
from fslab.widgets import browse_results, explore_features, segment_yours
from fslab.widgets.pictures import subjects_of
from fslab.widgets.texts import note_of
from fslab.widgets.worker import Worker

_ABOUT = (
    "What a text-to-image diffusion model computes on its way through a picture is grouped into "
    "segments; a caption says which words are worth trying, and CLIP gives each segment one of "
    "them. Nothing was trained for it."
)
_MINI = (
    "This page runs the preset mini: small models that know a drawn world only, emoji on painted "
    "grounds. A photograph runs too, but the names that it gets mean nothing."
)


class _Bell(anywidget.AnyWidget):
    """Rings when a browser shows it.

    A browser first asks for all widgets as they are, and takes them over a while later; a change
    in between reaches nobody. What is made after the bell is seen.
    """

    _esm = """
    export default {
      render({model}) { model.set("rung", model.get("rung") + 1); model.save_changes(); }
    };
    """
    rung = traitlets.Int(0).tag(sync=True)


class Page(widgets.VBox):
    """The whole page: `tabs` holds the explorers, each made when a browser first shows its tab.

    The first one's picture is worked on before, while the page waits for a visitor.
    """

    def __init__(self, shown: Shown) -> None:
        self._shown, self._lab, self._pictures = shown, shown.lab(), shown.pictures()
        self._makers: dict[str, Callable[[], widgets.Widget]] = {
            "a picture": lambda: segment_yours(self._lab, self._pictures),
            "features": lambda: explore_features(self._lab, self._pictures),
        }
        results = shown.results
        if results is not None:
            self._makers["results"] = lambda: browse_results(results, shown.data())
        places = [widgets.VBox() for _ in self._makers]
        self.tabs = widgets.Tab(places, titles=list(self._makers), selected_index=0)
        self.tabs.observe(lambda change: self._open(change["new"]), "selected_index")
        self._bell = _Bell()
        self._bell.observe(lambda change: self._open(self.tabs.selected_index), "rung")
        head = _head(shown.preset, self._lab.knows_drawings_only)
        super().__init__([head, self.tabs, self._bell])
        self.add_class("fslab-page")
        self._worker = Worker()
        self._worker.submit(lambda newest: self._work_on_first())

    def _work_on_first(self) -> None:
        subjects = subjects_of(self._pictures).values()
        self._lab.segment(next(iter(subjects)).picture)

    def _open(self, number: int | None) -> None:
        if number is None or self.tabs.children[number].children:
            return
        try:
            made = self._makers[self.tabs.titles[number]]()
        except FslabError as error:  # what was given may have gone since the page was started
            made = note_of(widgets.HTML(), str(error))
        self.tabs.children[number].children = (made,)


def show() -> None:
    """Display the page that this process was told of."""
    display(Page(Shown.of_process()))  # type: ignore[no-untyped-call]


def _head(preset: str, drawn_only: bool) -> widgets.HTML:
    said = f"{_ABOUT} {_MINI}" if drawn_only else f"{_ABOUT} This page runs {preset}."
    return widgets.HTML(f"<h1>fslab: what a diffusion model sees</h1><p>{escape(said)}</p>")
