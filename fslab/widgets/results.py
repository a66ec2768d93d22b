"""An evaluation picture by picture: the failures first."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ipywidgets as widgets
import numpy as np

from fslab.datasets import Dataset
from fslab.evaluate import ImageResult, Report
from fslab.lab import Lab, Result
from fslab.plots import overlay, segment_picture
from fslab.records import Confusion, FslabError, Picture, Recipe, void_of
from fslab.widgets.board import Board
from fslab.widgets.code import Script, path_code
from fslab.widgets.controls import FULL, STYLE, Knob, check_value, choice, row
from fslab.widgets.explorer import Explorer
from fslab.widgets.history import Moment
from fslab.widgets.panel import Panel, side_by_side
from fslab.widgets.pictures import Subject
from fslab.widgets.python import Code, Words, call
from fslab.widgets.texts import note_of

ORDERS = (("worst first", "worst"), ("best first", "best"), ("by name", "name"))
_HINT = (
    "Pick a picture to see its stages; filter by a class of the truth to see where it fails. "
    "Named masks have VOC's colours by class; those of segments only tell them apart."
)


@dataclass(frozen=True)
class Rows:
    """What an evaluation left: each picture's result, and what says what the run was."""

    title: str
    preset: str
    backbone: str
    recipe: Recipe
    names: tuple[str, ...]
    rows: tuple[ImageResult, ...]


@dataclass(frozen=True)
class _View:
    name: str | None
    dataset: Dataset | None


@dataclass(frozen=True, eq=False)
class BrowseResult:
    """One picture of the evaluation: its result, and its stages where the data set is known."""

    row: ImageResult | None
    subject: Subject | None
    found: Result | None
    recipe: Recipe
    title: str


class ResultBrowser(Explorer[BrowseResult]):
    """Go through an evaluation's pictures by how well they came out.

    report: a `Report`, or the folder that `evaluate(..., out=...)` wrote. dataset: where its
    pictures are; without it there are figures only. lab: what the run used, if that was not
    the preset alone. State: `order` ("worst", "best", "name"), `class_name` (or None for all),
    `picture`; `listed` gives the names in the order shown.
    """

    order = Knob("_order", 'What comes first: "worst", "best" or "name".')
    picture = Knob("_list", "The chosen picture's name.")

    def __init__(
        self,
        report: Report | str | os.PathLike[str],
        dataset: Dataset | None = None,
        lab: Lab | None = None,
    ) -> None:
        super().__init__(lab, _HINT)
        self._report, self._run = report, rows_of(report)
        self._dataset = dataset
        if dataset is not None and lab is None:
            self._given = _lab_of(self._run)
        self._rows = {each.name: each for each in self._run.rows}
        self._samples = {each.name: each for each in dataset.samples} if dataset else {}
        self._order = choice("order", ORDERS, "worst")
        self._class = choice("class_name", [("all classes", ""), *_classes(self._run)])
        self._list = widgets.Select(
            options=self._options(), rows=8, description="picture",
            style=STYLE, layout={"width": FULL},
        )  # fmt: skip
        self._previous, self._next = (
            widgets.Button(description=name, layout={"width": "110px"})
            for name in ("previous", "next")
        )
        self._about, first = widgets.HTML(), Panel()
        self._panels = (first, *(Panel(like=first) for _ in range(3)))
        self._board = Board(*self._panels)
        self._lay_out()

    @property
    def class_name(self) -> str | None:
        """The class that is looked at, or None for all."""
        return self._class.value or None

    @class_name.setter
    def class_name(self, name: str | None) -> None:
        check_value(self._class, name or "", "class_name")
        self._class.value = name or ""

    @property
    def listed(self) -> tuple[str, ...]:
        """The pictures' names in the order shown."""
        return tuple(name for _, name in self._list.options)

    def _lay_out(self) -> None:
        for control in (self._order, self._class):
            control.observe(lambda change: self._relist(), "value")
        title = note_of(widgets.HTML(layout={"width": FULL}), self._run.title)
        pictures = [self._board.frame] if self._dataset is not None else []
        rows = [title, row(self._order, self._class), self._list]
        rows += [row(self._previous, self._next), *pictures, self._about]
        self._previous.on_click(lambda button: self._step(-1))
        self._next.on_click(lambda button: self._step(1))
        self._begin(rows, [self._list], [self._order, self._class])

    def _step(self, by: int) -> None:
        """Go on in the list; a notebook keeps the arrow keys of a list to itself."""
        if self.listed:
            place = self.listed.index(self.picture) + by
            self.picture = self.listed[min(max(place, 0), len(self.listed) - 1)]

    def _options(self) -> list[tuple[str, str]]:
        kept = [
            (iou, each.name)
            for each in self._run.rows
            if (iou := iou_of(each, self._run.names, self.class_name)) is not None
        ]
        if self.order == "name":
            kept.sort(key=lambda pair: pair[1])
        else:
            kept.sort(key=lambda pair: (-pair[0] if self.order == "best" else pair[0], pair[1]))
        return [(f"{100 * iou:5.1f} %  {name}", name) for iou, name in kept]

    def _relist(self) -> None:
        if self._hush:
            return
        with self._hush():
            self._list.options = self._options()
        self._moved()

    def _go_back(self, moment: Moment) -> None:
        super()._go_back(moment)
        with self._hush():
            name = self._list.value
            self._list.options = self._options()
            self._list.value = name

    def _view(self) -> _View:
        return _View(self.picture, self._dataset)

    def _picture_of(self, result: BrowseResult) -> Picture | None:
        return result.subject.picture if result.subject is not None else None

    def _compute(self, view: _View) -> BrowseResult:
        each = None if view.name is None else self._rows.get(view.name)
        if view.name is None or each is None or view.dataset is None:
            return BrowseResult(each, None, None, self._run.recipe, view.name or "no picture")
        if view.name not in self._samples:
            raise FslabError(
                f"{view.dataset.name} {view.dataset.split} has no picture {view.name!r}; give the "
                "data set that was evaluated"
            )
        origin = f"{view.dataset.name} {view.dataset.split}"
        subject = Subject(view.name, self._samples[view.name], view.dataset.vocabulary, origin)
        found = self._once(
            "found",
            view.name,
            lambda: self._lab.segment(subject.picture, self._run.recipe, subject.vocabulary),
        )
        return BrowseResult(each, subject, found, self._run.recipe, subject.spoken)

    def _draw(self, result: BrowseResult) -> None:
        if result.row is not None and result.subject is not None and result.found is not None:
            self._paint(result.row, result.subject, result.found)
        note_of(self._about, self._words(result))

    def _paint(self, each: ImageResult, subject: Subject, found: Result) -> None:
        picture, names, truth = subject.picture, subject.vocabulary.names, subject.truth
        if truth is None:
            raise FslabError(f"{subject.name} has no truth; give the data set that was evaluated")
        counted = _confusion(each).counts.sum(1)
        here = np.bincount(truth[truth != void_of(truth)], minlength=len(counted))
        if not np.array_equal(here, counted):
            raise FslabError(
                f"{subject.spoken} has another truth than the picture that was scored; give the "
                "data set that was evaluated"
            )
        drawn = {
            f"{subject.name}\npicture": picture.pixels,
            "truth": overlay(picture, truth, names),
            f"{found.segments.count} segments": segment_picture(picture, found.segments),
            "prediction": overlay(picture, found.labels),
        }
        with self._board.drawing():
            self._place_of(picture)
            for panel, (title, pixels) in zip(self._panels, drawn.items(), strict=True):
                panel.resize(picture.size)
                panel.image(pixels)
                panel.title(title)

    def _place(self, result: BrowseResult) -> None:
        if result.subject is not None:
            self._place_of(result.subject.picture)

    def _place_of(self, picture: Picture) -> None:
        boxes = side_by_side(len(self._panels), picture.size, self._board.width, tallest=300)
        self._board.arrange(boxes[-1].bottom, boxes)

    def _words(self, result: BrowseResult) -> str:
        if result.row is None:
            return "no picture of the evaluation has this class"
        confusion = _confusion(result.row)
        parts = [
            f"{name} {100 * value:.0f}"
            for name, value, count in zip(
                self._run.names, confusion.iou, confusion.counts.sum(1), strict=True
            )
            if count
        ]
        said = f"caption: {result.row.caption}; " if result.row.caption else ""
        where = "" if self._dataset else "; its picture needs the data set (dataset=, --dataset)"
        return f"{said}IoU in percent: {', '.join(parts)}{where}"

    def _code_of(self, result: BrowseResult) -> str:
        if result.subject is None:
            return self._figures_code(result)
        script, subject = Script(self._lab), result.subject
        picture = script.picture(subject)
        recipe = script.recipe(self._lab, result.recipe, result.recipe.name)
        known = script.vocabulary(subject.vocabulary)
        found = script.set("result", call("lab.segment", picture, recipe, *known))
        maps = [Words(f"{found}.segments"), Words(f"{found}.labels")]
        script.draw("fslab.show", picture, *script.truth(subject), *maps)
        return str(script)

    def _figures_code(self, result: BrowseResult) -> str:
        """Return how this browser is opened, which without a data set has figures alone."""
        script = Script(None)
        script.use("fslab.widgets", "browse_results")
        if isinstance(self._report, Report):
            script.note("report: the one that the browser was given")
            report: Code = Words("report")
        else:
            report = path_code(os.fspath(self._report))
        chosen = {} if result.row is None else {"picture": result.row.name}
        script.do(call("browse_results", report, **chosen))
        return str(script)


def browse_results(
    report: Report | str | os.PathLike[str],
    dataset: Dataset | None = None,
    lab: Lab | None = None,
    **state: Any,
) -> ResultBrowser:
    """Open a `ResultBrowser`; state: where it begins, such as `class_name="dog"`."""
    return ResultBrowser(report, dataset, lab).change(**state)


def iou_of(each: ImageResult, names: Sequence[str], class_name: str | None) -> float | None:
    """Return a picture's IoU: of one class, or the mean over those of its truth; None if absent."""
    confusion = _confusion(each)
    present = np.flatnonzero(confusion.counts.sum(1))
    if class_name is None:
        return float(confusion.iou[present].mean()) if present.size else None
    label = tuple(names).index(class_name)
    return float(confusion.iou[label]) if label in present else None


def rows_of(report: Report | str | os.PathLike[str]) -> Rows:
    """Return an evaluation's rows, from a report or from the folder that it was written to.

    Raises FslabError where the folder holds none.
    """
    if isinstance(report, Report):
        data, names, rows = report.to_dict(), report.vocabulary.names, report.rows
        return _rows(data, names, rows)
    folder = Path(report)
    try:
        data = json.loads((folder / "report.json").read_text(encoding="utf-8"))
        lines = (folder / "results.jsonl").read_text(encoding="utf-8").splitlines()
        scores = data["scores"].values()
        names = max((tuple(score["iou"]) for score in scores), key=len)
        rows = tuple(ImageResult.from_dict(json.loads(line), names) for line in lines)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FslabError(
            f"{str(folder)!r} holds no finished evaluation ({error}); give the folder that "
            "evaluate or `fslab evaluate --out` wrote"
        ) from error
    return _rows(data, names, rows)


def _rows(data: Mapping[str, Any], names: Sequence[str], rows: Sequence[ImageResult]) -> Rows:
    figure = data.get("figure", data["miou"])  # which a report of before 0.2 has alone
    title = (
        f"{data['dataset']} {data['split']}, {data['method']} on {data['backbone']}: "
        f"{data['metric']} {100 * figure:.1f} % over {data['images']} pictures; the IoUs below are "
        "each of one picture"
    )
    kept = tuple(each for each in rows if each.score is not None)
    return Rows(
        title, data["preset"], data["backbone"], Recipe.from_dict(data["recipe"]), tuple(names),
        kept,
    )  # fmt: skip


def _confusion(each: ImageResult) -> Confusion:
    """Return a picture's counts: of the named map, or of a class-agnostic run's oracle."""
    found = each.counted.named or each.counted.oracle
    if found is None:
        raise FslabError(f"{each.name} has contours only, and there is no IoU to browse by")
    return found


def _classes(run: Rows) -> list[tuple[str, str]]:
    seen = sum(_confusion(each).counts.sum(1) for each in run.rows)
    return [(name, name) for name, count in zip(run.names, seen, strict=True) if count]


def _lab_of(run: Rows) -> Lab:
    lab = Lab(run.preset)
    if lab.backbone.name != run.backbone:
        raise FslabError(
            f"the evaluation took its features from {run.backbone!r}, and preset {run.preset!r} "
            f"is {lab.backbone.name!r}; give lab=, the one that it used"
        )
    return lab
