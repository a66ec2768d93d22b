"""Your own picture through a whole method, and its masks to take home."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ipywidgets as widgets

from fslab.datasets import VOC, write_mask
from fslab.lab import METHODS, Lab, Result
from fslab.lab.facts import facts
from fslab.plots import overlay, segment_picture
from fslab.records import FslabError, Picture, Recipe
from fslab.widgets.board import Board
from fslab.widgets.code import Script
from fslab.widgets.controls import Knob, check_value, choice, row, tags, words
from fslab.widgets.explorer import Explorer
from fslab.widgets.panel import Panel, side_by_side
from fslab.widgets.pictures import Given, PicturePicker, Subject, read_upload, subjects_of
from fslab.widgets.python import Code, Words, call
from fslab.widgets.texts import download_link, note_of

STAGES = ("caption", "extract", "cluster", "match", "refine")
"""The stages of a whole method, in the order in which `Lab.segment` tells of them."""

_FROM_PATH = "Upload a picture, or give the path of one and press Enter."
_FROM_LIST = "Choose a picture, or upload one of your own."
_DRAWN = ("segments", "labels")
"""What of a result is drawn beside the picture."""
_HINT = "Without classes the caption says what to look for; words beyond them are looked for too."


@dataclass(frozen=True)
class _View:
    subject: Subject
    method: str
    classes: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class SegmentedResult:
    """What `segment_yours` shows: every stage, and the files as bytes."""

    subject: Subject
    classes: tuple[str, ...]
    found: Result
    recipe: Recipe
    mask: bytes
    report: bytes
    title: str


class SegmentYours(Explorer[SegmentedResult]):
    """Take a picture through a whole method, stage by stage, and download what came out.

    pictures: what to choose from, in place of a path: then no file is read that the reader names,
    as is fit for a page that others open too. State: `file` (a path) or, of given pictures,
    `picture` (a name); `method`, `classes` (empty: the caption's). `segment()` is what the button
    does; it runs when a picture is given too.
    """

    method = Knob("_method", "The method's name.")
    _kept = ("_subject",)

    def __init__(self, lab: Lab, pictures: Given | Iterable[Given] | None = None) -> None:
        super().__init__(lab, f"{_FROM_PATH if pictures is None else _FROM_LIST} {_HINT}")
        self._subject: Subject | None = None
        self._pictures = None if pictures is None else self._picker(pictures)
        self._upload = widgets.FileUpload(
            accept="image/*", description="upload a picture", layout={"width": "190px"}
        )
        self._file = words("file", "", "470px")
        self._file.placeholder = "holiday.jpg"
        self._method = choice("method", list(METHODS), "fslab")
        self._tags, self._tag_row = tags("classes", ())
        self._go = widgets.Button(
            description="segment", button_style="primary", layout={"width": "150px"}
        )
        self._links, self._about = widgets.HTML(), widgets.HTML()
        first = Panel()
        self._panels = first, Panel(like=first), Panel(like=first)
        self._board = Board(*self._panels)
        self._lay_out()

    @property
    def file(self) -> str:
        """The path of the picture, as it was given."""
        return str(self._file.value)

    @file.setter
    def file(self, path: str) -> None:
        if self._pictures is not None:
            raise FslabError("pictures were given to choose from; set `picture` to the name of one")
        self._file.value = str(path)

    @property
    def picture(self) -> str:
        """The name of the picture that is chosen of those given."""
        return str(self._picker_given.list.value)

    @picture.setter
    def picture(self, name: str) -> None:
        check_value(self._picker_given.list, name, "picture")
        self._picker_given.list.value = name

    @property
    def _picker_given(self) -> PicturePicker:
        if self._pictures is None:
            raise FslabError("no pictures were given to choose from; set `file` to a path")
        return self._pictures

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes that are looked for; empty where the caption finds them."""
        return tuple(self._tags.value)

    @classes.setter
    def classes(self, names: Iterable[str]) -> None:
        if isinstance(names, str):
            raise FslabError(f"classes is {names!r}; give a list of words")
        self._tags.value = list(dict.fromkeys(names))

    @property
    def result(self) -> Result:
        """Every stage of what is on screen."""
        return self._on_screen().found

    def segment(self) -> None:
        """Run the method on the picture that was given."""
        self._moved()

    def _lay_out(self) -> None:
        self._go.on_click(lambda button: self.segment())
        self._figure_box = widgets.VBox([self._board.frame], layout={"display": "none"})
        rows = [
            self._source(), row(self._method, self._go), self._tag_row,
            self._figure_box, self._about, self._links,
        ]  # fmt: skip
        knobs = [self._pictures.list] if self._pictures else []
        self._begin(rows, knobs, [self._method, self._tags])

    def _source(self) -> widgets.HBox:
        """Return the row that a picture comes from, and listen to it."""
        if self._pictures is not None:
            return self._pictures.row
        self._upload.observe(self._take_upload, "value")
        self._file.observe(lambda change: self._take_path(change["new"]), "value")
        return row(self._upload, self._file)

    def _take_upload(self, change: Any) -> None:
        for entry in change["new"]:
            try:
                picture = read_upload(entry)
            except FslabError as error:
                self._status.refuse(str(error))
            else:
                self._subject = Subject(picture.name, picture)
                self._moved()

    def _take_path(self, path: str) -> None:
        if path.strip():
            self._subject = next(iter(subjects_of(Path(path.strip()).expanduser()).values()))
            self._moved()

    def _moved(self, change: Any = None) -> None:
        if self._pictures is not None:
            self._subject = self._pictures.subject
        if self._subject is not None:
            super()._moved(change)
        elif self.children:
            self._status.ready("no picture yet")

    def _view(self) -> _View:
        assert self._subject is not None  # `_moved` asks for a view of a picture only
        return _View(self._subject, self.method, self.classes)

    def _compute(self, view: _View) -> SegmentedResult:
        recipe = self._lab.recipe(view.method)
        vocabulary = VOC.extended(view.classes)
        found = self._lab.segment(
            view.subject.picture, recipe, vocabulary, view.classes or None, self._tell
        )
        report = json.dumps(facts(found, self._lab.caveat(found.picture)), indent=1).encode()
        title = f"{view.subject.name}: {recipe.name}"
        return SegmentedResult(
            view.subject, view.classes, found, recipe, _mask_bytes(found), report, title
        )

    def _picture_of(self, result: SegmentedResult) -> Picture:
        return result.found.picture

    def _tell(self, stage: str) -> None:
        self._status.doing(f"{stage} ({STAGES.index(stage) + 1} of {len(STAGES)})")

    def _draw(self, result: SegmentedResult) -> None:
        found, picture = result.found, result.found.picture
        self._figure_box.layout.display = None
        drawn = {
            f"{picture.name}\n{picture.size[1]} x {picture.size[0]} pixels": picture.pixels,
            f"{found.segments.count} segments": segment_picture(picture, found.segments),
            f"named by {result.recipe.name}": overlay(picture, found.labels),
        }
        with self._board.drawing():
            self._place(result)
            for panel, (title, pixels) in zip(self._panels, drawn.items(), strict=True):
                panel.resize(picture.size)
                panel.image(pixels)
                panel.title(title)
        note_of(self._about, _about(found))
        self._links.value = _links(result)

    def _place(self, result: SegmentedResult) -> None:
        boxes = side_by_side(3, result.found.picture.size, self._board.width)
        self._board.arrange(boxes[-1].bottom, boxes)

    def _code_of(self, result: SegmentedResult) -> str:
        script = Script(self._lab)
        picture = script.picture(result.subject)
        asked: list[Code] = [script.recipe(self._lab, result.recipe, result.recipe.name)]
        if result.classes:
            words = script.words("classes", result.classes)
            asked += [script.extended(VOC, result.classes, words), words]
        found = script.set("result", call("lab.segment", picture, *asked))
        script.draw("fslab.show", picture, *(Words(f"{found}.{each}") for each in _DRAWN))
        return str(script)


def segment_yours(
    lab: Lab, pictures: Given | Iterable[Given] | None = None, **state: Any
) -> SegmentYours:
    """Open a `SegmentYours`; state: where it begins, such as `method="freeseg-diff"`."""
    return SegmentYours(lab, pictures).change(**state)


def _mask_bytes(found: Result) -> bytes:
    """Return the labels as an index PNG with VOC's palette."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mask.png"
        write_mask(found.labels.labels, path)
        return path.read_bytes()


def _links(result: SegmentedResult) -> str:
    name = result.found.picture.name
    return "<div>" + "".join((
        download_link(result.mask, "image/png", f"{name}.png", "masks (index PNG)"),
        download_link(result.report, "application/json", f"{name}.json", "names and recipe (JSON)"),
    )) + "</div>"  # fmt: skip


def _about(found: Result) -> str:
    caption = f"caption: {found.caption.text}; " if found.caption.text else ""
    names = ", ".join(found.caption.candidates) or "none"
    seen = ", ".join(f"{name} {score:.2f}" for name, score in found.labels.scores.items()) or "none"
    return f"{caption}looked for: {names}; found: {seen}"
