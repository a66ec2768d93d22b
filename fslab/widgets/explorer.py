"""What all explorers share: knobs that start work, a line that tells of it, code to paste."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, ClassVar, Generic, Protocol, Self, TypeVar

import ipywidgets as widgets
import plotly.graph_objects as go

from fslab.lab import Lab
from fslab.lab.editing import check_no_edit
from fslab.plots import save
from fslab.process import memory_refused
from fslab.records import FslabError, Picture, Recipe
from fslab.widgets.board import Board
from fslab.widgets.canvas import WIDEST
from fslab.widgets.controls import FULL, Hush, Knob
from fslab.widgets.history import History, Moment
from fslab.widgets.pictures import Given, PicturePicker, Subject
from fslab.widgets.still import kept, with_still
from fslab.widgets.texts import Status, code_block, hint, note_of
from fslab.widgets.worker import NOTHING, Needs, Newest, Worker


class Shown(Protocol):
    """What an explorer has on screen."""

    @property
    def recipe(self) -> Recipe:
        """What made it."""

    @property
    def title(self) -> str:
        """What the status line calls it."""


Seen = TypeVar("Seen", bound=Shown)


class Explorer(widgets.VBox, Generic[Seen]):
    """A box of knobs over a figure; each move of a knob computes a new view on a worker's thread.

    A subclass says what the knobs say (`_view`), what follows from it (`_compute`) and how that
    is drawn (`_draw`); the record that `_compute` returns has a `recipe` and a `title`.
    `wait()` returns when the figure shows what the knobs say; `message` is the last refusal, empty
    while all is well; `recipe` belongs to what is on screen. `undo()` and `reset()` go back.
    """

    _kept: ClassVar[tuple[str, ...]] = ()
    """Attributes that are state beside the knobs' values."""

    _board: Board

    def __init__(self, lab: Lab | None, hint_text: str) -> None:
        super().__init__(layout={"width": "100%", "max_width": f"{WIDEST}px"})
        self._given = lab
        self._hush, self._worker = Hush(), Worker()
        if lab is not None:
            check_no_edit(lab, "an explorer")
        self._drawing = threading.RLock()
        self._own = object()  # names what is this explorer's in the memory of the lab
        self._moves, self._opened = 0, False
        self._before: Seen | None = None
        self._shown: Seen | None = None
        self._ahead_of: Seen | None = None
        self._status, self._hint = Status(), hint(hint_text)
        self._code = widgets.HTML()
        self._caveat = widgets.HTML(layout={"width": FULL, "max_width": "100%", "display": "none"})

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self._shown.title if self._shown else 'nothing yet'}>"

    def _repr_mimebundle_(self, **given: Any) -> dict[str, Any]:
        if kept():  # nobody looks on, and the first view would come too late
            self.wait()
        bundle: dict[str, Any] = super()._repr_mimebundle_(**given)
        return bundle if self._shown is None else with_still(bundle, self._board.figure)

    @property
    def _lab(self) -> Lab:
        if self._given is None:
            raise FslabError("there is no lab; give lab=")
        return self._given

    @property
    def recipe(self) -> Recipe:
        """The recipe of what is on screen; raises FslabError while nothing is."""
        return self._on_screen().recipe

    @property
    def code(self) -> str:
        """Python that computes in a cell what is on screen."""
        return self._code_of(self._on_screen())

    @property
    def message(self) -> str:
        """What went wrong last, in one sentence; empty while all is well."""
        return self._status.message

    @property
    def busy(self) -> bool:
        """Whether work is under way."""
        return self._status.busy

    def change(self, **state: Any) -> Self:
        """Set several parts of the state as one move, and return the explorer.

        Raises FslabError for a name that is not part of its state, and for a value that does not
        fit.
        """
        for name in state:
            if not isinstance(getattr(type(self), name, None), (Knob, property)):
                raise FslabError(f"{type(self).__name__} has no state {name!r}")
        if state:
            with self._hush():
                for name, value in state.items():
                    setattr(self, name, value)
            self._moved()
        if not self._opened:
            self._opened, self._history.opening = True, self._history.now()
        return self

    def undo(self) -> None:
        """Go back to what was shown before; nothing where nothing was."""
        moment = self._history.before()
        if moment is not None:
            self._go_back(moment)

    def reset(self) -> None:
        """Go back to where the explorer was opened; `undo` takes that back."""
        self._go_back(self._history.opening)

    def save(
        self, path: str | os.PathLike[str], *, width: float | str | None = None, dpi: int = 300
    ) -> None:
        """Write what is shown as .svg, .pdf or .png, as `fslab.plots.save` does.

        width: in millimetres, or "3.5in", "8.5cm", "column" or "page"; dpi: of a .png. Raises
        FslabError as that does, and while nothing is on screen.
        """
        self._on_screen()
        with self._drawing:
            figure = go.Figure(self._board.figure)
        save(figure, path, width=width, dpi=dpi)

    def _go_back(self, moment: Moment) -> None:
        with self._hush():
            self._history.restore(moment)
        self._moved()

    def wait(self, timeout: float | None = 600) -> None:
        """Return when the figure shows what the knobs say, or `message` says why it does not."""
        self._worker.wait(timeout)

    def _view(self) -> Any:
        """Return what the knobs say, as one hashable or frozen record."""
        raise NotImplementedError

    def _compute(self, view: Any) -> Seen:
        """Return what is to be drawn; raises FslabError where the knobs ask for what is not."""
        raise NotImplementedError

    def _draw(self, result: Seen) -> None:
        """Bring the figure to what was computed."""
        raise NotImplementedError

    def _place(self, result: Seen) -> None:
        """Give the figure's parts their rectangles at its present width; call while drawing."""
        raise NotImplementedError

    def _code_of(self, result: Seen) -> str:
        """Return Python that computes the same."""
        raise NotImplementedError

    def _picker(self, pictures: Given | Iterable[Given]) -> PicturePicker:
        return PicturePicker(pictures, self._hush, self._status.refuse)

    def _begin(
        self,
        rows: Sequence[widgets.Widget],
        knobs: Sequence[widgets.Widget],
        further: Sequence[widgets.Widget] = (),
    ) -> None:
        """Lay out the rows, listen to the knobs and draw the first view.

        further: controls that are state, too, but start no work.
        """
        self._history = History(self, [*further, *knobs], self._kept)
        folded = widgets.Accordion([self._code], titles=["this view as code"])
        folded.layout.width = FULL
        self.children = (self._head(), self._hint, self._caveat, *rows, folded)
        for knob in knobs:
            knob.observe(self._moved, "value")
        self._board.frame.on_width(self._rearrange)
        self._board.frame.observe(self._go_ahead, "painted")
        self._moved()

    def _head(self) -> widgets.HBox:
        """Return the line that tells of work and errors, and the ways back beside it."""
        undo, reset = (
            widgets.Button(description=name, tooltip=words, layout={"width": "72px"})
            for name, words in (
                ("undo", "go back to what was shown before"),
                ("reset", "go back to where this was opened"),
            )
        )
        undo.on_click(lambda button: self.undo())
        reset.on_click(lambda button: self.reset())
        return widgets.HBox([self._status, undo, reset], layout={"width": FULL})

    def close(self) -> None:
        """Leave the browser; work that is under way ends."""
        self._worker.drop()
        self._status.ready()
        super().close()

    def _needs(self, view: Any) -> Needs:
        """Return what the passes for a view compute; a newer view without need of it ends them."""
        return NOTHING

    def _likely(self, result: Seen, before: Seen | None) -> Iterable[Callable[[], object]]:
        """Return what the next moves would have computed, the likeliest first.

        result: what is on screen; before: what was until then, or None.
        """
        return ()

    def _go_ahead(self, change: Mapping[str, Any]) -> None:
        """Work ahead of the next moves once a browser has shown this one: without, nobody looks."""
        with self._drawing:
            shown = self._shown
            if not change["new"] or shown is None or self.busy:
                return
            if shown is not self._ahead_of:
                self._ahead_of = shown
                self._worker.ahead(self._likely(shown, self._before))

    def _rearrange(self, width: int) -> None:
        """Bring what is shown to another width."""
        with self._drawing:
            if self._shown is not None:
                with self._board.drawing():
                    self._place(self._shown)

    def _moved(self, change: Any = None) -> None:
        if self._hush:
            return
        view = self._view()
        self._moves += 1
        move = self._board.frame.wanted = self._moves
        self._status.compute()
        self._worker.submit(lambda newest: self._work(view, move, newest), self._needs(view))

    def _work(self, view: Any, move: int, newest: Newest) -> None:
        with _Reporting(self, newest), memory_refused(type(self).__name__):
            start = time.perf_counter()
            result = self._compute(view)
            with self._drawing:
                if newest():
                    self._board.move, self._board.name = move, result.title
                    with self._board.drawing():
                        self._draw(result)
                    self._before, self._shown = self._shown, result
                    if newest():  # else a control was moved meanwhile
                        self._history.add(self._history.now())
                    self._say_caveat(result)
                    self._code.value = code_block(self._code_of(result))
                    self._status.ready(f"{result.title} ({time.perf_counter() - start:.2f} s)")

    def _picture_of(self, result: Seen) -> Picture | None:
        """Return the one picture that is on screen, where there is one."""
        return None

    def _say_caveat(self, result: Seen) -> None:
        picture = self._picture_of(result)
        words = self._given.caveat(picture) if self._given and picture is not None else ""
        note_of(self._caveat, words)
        self._caveat.layout.display = None if words else "none"

    def _once(self, stage: str, key: Hashable, compute: Callable[[], Any]) -> Any:
        """Return what a stage gave for a key, computed once while the lab has it at hand."""
        return self._lab.recent.get((self._own, stage, key), compute)

    def _on_screen(self) -> Seen:
        if self._shown is None:
            raise FslabError(f"nothing is on screen yet; {self.message or 'call wait() first'}")
        return self._shown


class SubjectShown(Shown, Protocol):
    """What an explorer of given pictures has on screen."""

    @property
    def subject(self) -> Subject:
        """The picture, and what is known of it."""


SeenSubject = TypeVar("SeenSubject", bound=SubjectShown)


class RecipeExplorer(Explorer[SeenSubject]):
    """An explorer of given pictures whose knobs begin where a recipe says.

    A subclass has the words of its hint, and makes its knobs and figures before it lays them out.
    """

    picture = Knob("_pictures.list", "The chosen picture's name.")
    _first_words: ClassVar[str]

    def __init__(
        self, lab: Lab, pictures: Given | Iterable[Given], recipe: str | Recipe = "fslab"
    ) -> None:
        super().__init__(lab, self._first_words)
        self._start = lab.recipe(recipe)
        self._pictures = self._picker(pictures)
        self._build_knobs()
        self._build_figures()
        self._lay_out()

    def _picture_of(self, result: SeenSubject) -> Picture:
        return result.subject.picture

    def _build_knobs(self) -> None:
        """Make the knobs, at the recipe's settings."""
        raise NotImplementedError

    def _build_figures(self) -> None:
        """Make the panels and their board."""
        raise NotImplementedError

    def _lay_out(self) -> None:
        """Put knobs and figures into rows, and begin."""
        raise NotImplementedError


class _Reporting:
    """Says in the widget what went wrong inside; a refusal ends there, a fault goes on."""

    def __init__(self, explorer: Explorer[Any], newest: Newest) -> None:
        self._explorer, self._newest = explorer, newest

    def __enter__(self) -> None:
        return None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        if error is not None and self._newest():
            refused = isinstance(error, FslabError)
            words = str(error) if refused else f"{type(error).__name__}: {error}"
            shown = self._explorer._shown
            self._explorer._status.refuse(words, shown.title if shown is not None else "")
        return isinstance(error, FslabError)
