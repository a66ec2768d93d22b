"""What the picture's edges do to a label map: before, after, and where they differ."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import ipywidgets as widgets
import numpy as np

from fslab.evaluate import within
from fslab.lab import Lab
from fslab.plots import overlay
from fslab.plots.colours import class_colours, grey
from fslab.records import LabelMap, Recipe, Unrefined, void_of
from fslab.score import score_image, summarise
from fslab.widgets.board import Board
from fslab.widgets.code import Script
from fslab.widgets.controls import Knob, row
from fslab.widgets.explorer import RecipeExplorer
from fslab.widgets.methods import MethodKnobs
from fslab.widgets.panel import Panel, side_by_side
from fslab.widgets.pictures import Given, Subject
from fslab.widgets.python import Words, call
from fslab.widgets.texts import note_of

_HINT = (
    "Widths are in pixels (position) and grey levels (colour): a pixel is pulled towards the label "
    "of others within them. Where the truth is known, blue pixels were put right, orange ones made "
    "wrong, and yellow ones are as wrong as before; else changed pixels have their new class's "
    "colour."
)
_WON, _LOST, _OTHER = (0, 114, 178), (213, 94, 0), (240, 228, 66)


@dataclass(frozen=True)
class _View:
    subject: Subject
    settings: tuple[tuple[str, Any], ...]


@dataclass(frozen=True, eq=False)
class RefinementResult:
    """What `explore_refinement` shows; the mIoUs are of this one picture, None without truth."""

    subject: Subject
    before: LabelMap
    after: LabelMap
    miou_before: float | None
    miou_after: float | None
    recipe: Recipe
    title: str

    @property
    def changed(self) -> np.ndarray:
        """The pixels whose label changed, bool [H, W]."""
        changed: np.ndarray = self.before.labels != self.after.labels
        return changed


class RefinementExplorer(RecipeExplorer[RefinementResult]):
    """Turn the knobs of a refinement over a label map that a method made.

    pictures: a data set, pictures, samples or paths; recipe: makes the label map and says where
    the knobs begin. State: `picture`, `method`, `iterations`, `certainty`, `gaussian_sxy`,
    `gaussian_compat`, `bilateral_sxy`, `bilateral_srgb`, `bilateral_compat`.
    """

    _first_words = _HINT

    method = Knob("_method", "The method, as in `Refinement`.")

    @property
    def labels(self) -> LabelMap:
        """The refined label map on screen."""
        return self._on_screen().after

    def _build_knobs(self) -> None:
        self._methods = MethodKnobs(self, "refine", self._start)
        self._method = self._methods.list

    def _build_figures(self) -> None:
        first = Panel()
        self._panels = first, Panel(like=first), Panel(like=first)
        self._board = Board(*self._panels)

    def _lay_out(self) -> None:
        self._method.observe(lambda change: self._show_own(), "value")
        self._show_own()
        self._about = widgets.HTML()
        knobs = [self._method, *self._methods.sliders.values()]
        rows = [self._pictures.row, row(*knobs), self._board.frame, self._about]
        self._begin(rows, [self._pictures.list, *knobs])

    def _show_own(self) -> None:
        self._methods.show({})

    def _view(self) -> _View:
        return _View(self._pictures.subject, tuple(self._methods.settings({}).items()))

    def _compute(self, view: _View) -> RefinementResult:
        subject, picture = view.subject, view.subject.picture
        base = replace(self._start, name="explored")
        recipe = self._methods.recipe(base, dict(view.settings)).renewed()
        plain = replace(recipe, refine=Unrefined())
        before = self._once(
            "named",
            (picture.digest, subject.vocabulary.names),
            lambda: self._lab.segment(picture, plain, subject.vocabulary).named,
        )
        after = self._lab.refine(picture, before, method=recipe.refine)
        title = f"{subject.spoken}: {recipe.refine.method}"
        mious = _miou(subject, before), _miou(subject, after)
        return RefinementResult(subject, before, after, *mious, recipe, title)

    def _draw(self, result: RefinementResult) -> None:
        picture, changed = result.subject.picture, result.changed
        before, after, between = self._panels
        with self._board.drawing():
            self._place(result)
            for panel in self._panels:
                panel.resize(picture.size)
            before.image(overlay(picture, result.before))
            after.image(overlay(picture, result.after))
            between.image(grey(picture.pixels))
            between.layer(difference(result))
            before.title(f"{result.subject.name}: before{_percent(result.miou_before)}")
            after.title(f"after {result.recipe.refine.method}{_percent(result.miou_after)}")
            between.title(f"difference\n{changed.mean():.1%} of the pixels")
        note_of(self._about, _about(result))

    def _place(self, result: RefinementResult) -> None:
        boxes = side_by_side(3, result.subject.picture.size, self._board.width)
        self._board.arrange(boxes[-1].bottom, boxes)

    def _code_of(self, result: RefinementResult) -> str:
        script = Script(self._lab)
        picture = script.picture(result.subject)
        recipe = script.recipe(self._lab, result.recipe, self._start.name)
        known = script.vocabulary(result.subject.vocabulary)
        found = script.set("result", call("lab.segment", picture, recipe, *known))
        maps = [Words(f"{found}.named"), Words(f"{found}.labels")]
        script.draw("fslab.show", picture, *maps)
        changed = script.set("changed", Words(f"{maps[0]}.labels != {maps[1]}.labels"))
        script.draw("value_maps", picture, {"changed": changed}, "", "changed")
        for each in maps:
            script.score("voc21", result.subject, Words(f"{each}.labels"))
        return str(script)


def explore_refinement(
    lab: Lab, pictures: Given | Iterable[Given], recipe: str | Recipe = "fslab", **state: Any
) -> RefinementExplorer:
    """Open a `RefinementExplorer`; state: where it begins, such as `iterations=5`."""
    return RefinementExplorer(lab, pictures, recipe).change(**state)


def difference(result: RefinementResult) -> np.ndarray:
    """Return the changed pixels in colour, u8 [H, W, 4], clear elsewhere.

    With truth: blue where the label was put right, orange where it was spoilt, yellow where it
    is as wrong as before. Without: the new class's colour.
    """
    before, after, truth = result.before.labels, result.after.labels, result.subject.truth
    colours = class_colours()[after]
    if truth is not None:
        colours = np.full((*after.shape, 3), _OTHER, np.uint8)
        colours[after == truth], colours[before == truth] = _WON, _LOST
    strength = np.where(result.changed, 255, 0)
    if truth is not None:
        strength[truth == void_of(truth)] = 0
    return np.dstack([colours, strength]).astype(np.uint8)


def _miou(subject: Subject, labels: LabelMap) -> float | None:
    if subject.truth is None:
        return None
    names = subject.vocabulary.names
    guess = within(labels.labels, subject.vocabulary)
    return summarise("voc21", [score_image(subject.truth, names, guess)]).miou


def _percent(miou: float | None) -> str:
    return "" if miou is None else f"\nmIoU {100 * miou:.1f} %"


def _about(result: RefinementResult) -> str:
    if result.miou_before is None or result.miou_after is None:
        return ""
    gained = 100 * (result.miou_after - result.miou_before)
    return (
        f"mIoU {gained:+.2f} points on this one picture ({result.subject.spoken}), background a "
        "class; void pixels left out"
    )
