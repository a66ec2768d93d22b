"""Where a point of one picture is in others: click in one, and see what is like it in the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import cycle
from typing import Any

import ipywidgets as widgets
import numpy as np

from fslab.correspond import correspond, mutual_neighbours
from fslab.lab import Lab
from fslab.plots import likeness_picture
from fslab.plots.colours import SEGMENT_COLOURS, css, segment_colours
from fslab.records import (
    Correspondence,
    Extraction,
    Features,
    FslabError,
    Neighbours,
    Picture,
    Point,
    Recipe,
)
from fslab.widgets.ahead import beside, needs_of, next_timesteps
from fslab.widgets.board import Board, Box
from fslab.widgets.code import Script, extraction_code
from fslab.widgets.controls import HALF, STYLE, Knob, number, row, typed, whole
from fslab.widgets.layers import LayerKnob, LayerPicker, first_layer
from fslab.widgets.panel import Panel, in_rows
from fslab.widgets.pictures import Given, Subject
from fslab.widgets.points import PointExplorer
from fslab.widgets.python import call, code
from fslab.widgets.texts import note_of
from fslab.widgets.worker import Needs

_DIFT = "up_blocks.1"
"""What DIFT reads of a UNet, and what finds most points of mini's scenes (docs/results.md)."""
MOST = 3
"""Other pictures that are shown at a time."""

_HINT = (
    "Click any pixel of the picture on the left: the others show how like it every pixel is, and a "
    "circle where it is found: the lightest pixel is the most like, the darkest the least. Each "
    "point has a colour of its own in all pictures; those of lines only tell them apart."
)


@dataclass(frozen=True)
class _View:
    subject: Subject
    others: tuple[Subject, ...]
    layer: str
    timestep: int
    points: tuple[Point, ...]
    temperature: float
    lines: int


@dataclass(frozen=True, eq=False)
class CorrespondenceResult:
    """What `explore_correspondence` shows; neighbours are those of the first of the others."""

    subject: Subject
    others: tuple[Subject, ...]
    points: tuple[Point, ...]
    found: tuple[Correspondence, ...]
    neighbours: Neighbours | None
    lines: int
    recipe: Recipe
    title: str


class CorrespondenceExplorer(PointExplorer[CorrespondenceResult]):
    """Look for points of one picture in others.

    pictures: a data set, pictures, samples or paths. State, readable and settable: `picture`
    (a name), `others` (up to three names), `layer`, `timestep`, `temperature` (0 for the most like
    pixel, else of the soft-argmax), `point` (row, column), `pins` (further points), `lines` (how
    many mutual nearest neighbours are joined, of the picture and the first of the others).
    """

    layer = LayerKnob("_layers", "The layer's module path, or one with a head's number behind it.")
    timestep = Knob("_timestep", "The timestep, 0..999; 0 where the backbone has none.")
    temperature = Knob("_temperature", "The softmax's temperature; 0 is the most like pixel.")
    lines = Knob("_lines", "How many mutual nearest neighbours are joined.")

    def __init__(self, lab: Lab, pictures: Given | Iterable[Given]) -> None:
        super().__init__(lab, _HINT)
        self._pictures = self._picker(pictures)
        step = lab.backbone.timestep
        self._layers = LayerPicker(lab, self._hush, "layer", _start(lab))
        self._timestep = whole("timestep", step or 0, 0, 999)
        self._timestep.disabled = step is None
        self._temperature = number("temperature", 0.0, 0.0, 0.3, 0.01)
        self._lines = whole("lines", 0, 0, 60)
        names = list(self._pictures.subjects)
        self._others = widgets.SelectMultiple(
            options=names, value=tuple(names[1 : 1 + MOST] or names), rows=4,
            description="others", style=STYLE, layout={"width": HALF},
        )  # fmt: skip
        self._pictures.list.observe(self._list_others, "options")
        self._build_points(self._layers)
        self._panels = tuple(Panel() for _ in range(1 + MOST))
        self._board = Board(*self._panels)
        self._panels[0].on_click(self._go_to)
        self._lay_out()

    @property
    def others(self) -> tuple[str, ...]:
        """The names of the pictures in which points are looked for."""
        chosen: tuple[str, ...] = self._others.value
        return chosen

    @others.setter
    def others(self, names: Sequence[str]) -> None:
        wanted = (names,) if isinstance(names, str) else tuple(names)
        for name in wanted:
            if name not in self._others.options:
                listed = ", ".join(map(repr, self._others.options[:12]))
                raise FslabError(f"others hold {name!r}; the pictures are {listed}")
        self._others.value = wanted

    @property
    def found(self) -> tuple[Correspondence, ...]:
        """What is on screen, for each of the others."""
        return self._on_screen().found

    def _list_others(self, change: Mapping[str, Any]) -> None:
        with self._hush():
            chosen = self._others.value
            self._others.options = change["new"]
            self._others.value = chosen

    def _lay_out(self) -> None:
        self._about = widgets.HTML()
        sliders = widgets.VBox([typed(self._timestep), self._temperature, self._lines])
        rows = [
            self._pictures.row, self._layers.box, row(self._others, sliders),
            self._board.frame, self._points_row, self._about,
        ]  # fmt: skip
        knobs = [self._pictures.list, self._others, self._layers.list, self._timestep]
        self._begin(rows, [*knobs, self._temperature, self._lines, *self._point_knobs])

    def _view(self) -> _View:
        others = tuple(self._pictures.subjects[name] for name in self.others)
        points = (*self._pins, self.point)
        return _View(
            self._pictures.subject, others, self.layer, self.timestep, points, self.temperature,
            self.lines,
        )  # fmt: skip

    def _picture_of(self, result: CorrespondenceResult) -> Picture:
        return result.subject.picture

    def _compute(self, view: _View) -> CorrespondenceResult:
        if not 1 <= len(view.others) <= MOST:
            raise FslabError(
                f"{len(view.others)} other pictures are chosen; choose one to {MOST} in the list"
            )
        settings = self._extraction(view)
        found = tuple(
            replace(self._found(view, other, settings), temperature=view.temperature)
            for other in view.others
        )
        near = self._neighbours(view, settings) if view.lines else None
        recipe = self._lab.recipe(Recipe("explored", settings))
        title = f"{view.subject.spoken}: {view.layer}, t = {view.timestep}"
        return CorrespondenceResult(
            view.subject, view.others, view.points, found, near, view.lines, recipe, title
        )

    def _extraction(self, view: _View) -> Extraction:
        steps = () if self._lab.backbone.timestep is None else (view.timestep,)
        return Extraction(layers=(view.layer,), timesteps=steps)

    def _features(self, subject: Subject, settings: Extraction) -> Features:
        picture, steps = subject.picture, settings.timesteps or None

        def read() -> Features:
            return self._lab.extract(picture, settings.layers, steps)

        features: Features = self._once("features", (picture.digest, settings), read)
        return features

    def _found(self, view: _View, other: Subject, settings: Extraction) -> Correspondence:
        points = view.points
        key = view.subject.picture.digest, other.picture.digest, points, settings
        features = partial(self._features, settings=settings)
        found: Correspondence = self._once(
            "found", key, lambda: correspond(features(view.subject), points, features(other))
        )
        return found

    def _neighbours(self, view: _View, settings: Extraction) -> Neighbours:
        other = view.others[0]
        key = view.subject.picture.digest, other.picture.digest, settings
        features = partial(self._features, settings=settings)
        found: Neighbours = self._once(
            "neighbours", key, lambda: mutual_neighbours(features(view.subject), features(other))
        )
        return found

    def _needs(self, view: _View) -> Needs:
        each = [
            needs_of(subject, (view.layer, view.timestep))
            for subject in (view.subject, *view.others)
        ]
        return {
            kind: frozenset().union(*(needs[kind] for needs in each))
            for kind in ("latent", "layers")
        }

    def _likely(
        self, result: CorrespondenceResult, before: CorrespondenceResult | None
    ) -> Iterable[Callable[[], object]]:
        """The layer at the next timesteps, and its neighbours at this one, of each picture."""
        (layer,), now = result.recipe.extract.layers, result.recipe.extract.timesteps
        steps = next_timesteps(self._lab, result.recipe, before.recipe if before else None)
        passes: list[tuple[tuple[str, ...], tuple[int, ...]]]
        passes = [((layer,), (step,)) for step in steps]
        near = beside([path for _, path in self._layers.list.options], layer)
        passes[1:1] = [(near, now)] if near else []
        pictures = [subject.picture for subject in (result.subject, *result.others)]
        return [partial(self._lab.extract, one, *each) for each in passes for one in pictures]

    def _draw(self, result: CorrespondenceResult) -> None:
        with self._board.drawing():
            self._place(result)
            _paint(self._panels, result)
            for panel in self._panels[1 + len(result.others) :]:
                panel.title("")
        note_of(self._about, _about(result))

    def _place(self, result: CorrespondenceResult) -> None:
        sizes = [subject.picture.size for subject in (result.subject, *result.others)]
        boxes = in_rows(sizes, self._board.width)
        figure = self._board.width, round(max(box.bottom for box in boxes) + 4)
        hidden = [None] * (1 + MOST - len(boxes))
        self._board.arrange(figure[1], [*boxes, *hidden])
        self._board.figure.layout.shapes = _lines(result, boxes, figure)

    def _code_of(self, result: CorrespondenceResult) -> str:
        script = Script(self._lab)
        picture = script.picture(result.subject)
        places = script.places(result.others, "other")
        points = script.set("points", code(list(result.points)))
        how = extraction_code(self._lab, result.recipe.extract)
        warm = result.found[0].temperature
        beside = {"temperature": warm} if warm else {}
        for which, place in enumerate(places, 1):
            ending = f"_{which}" if len(places) > 1 else ""
            other = script.read(place, f"other{ending}")
            found = call("lab.correspond", picture, points, other, **how, **beside)
            found = script.set(f"found{ending}", found)
            script.draw("correspondences", picture, found, other)
            if which == 1 and result.neighbours is not None:
                near = call("lab.mutual_neighbours", picture, other, **how, most=result.lines)
                script.draw("neighbours", picture, script.set("near", near), other)
        return str(script)


def explore_correspondence(
    lab: Lab, pictures: Given | Iterable[Given], **state: Any
) -> CorrespondenceExplorer:
    """Open a `CorrespondenceExplorer`; state: where it begins, such as `temperature=0.05`."""
    return CorrespondenceExplorer(lab, pictures).change(**state)


def _start(lab: Lab) -> str:
    """Return the layer that is looked at first."""
    known = {layer.path for layer in lab.layers()}
    return _DIFT if _DIFT in known else first_layer(lab)


def _paint(panels: Sequence[Panel], result: CorrespondenceResult) -> None:
    colours = [css(colour) for colour in segment_colours(len(result.points))]
    several = len(result.points) > 1
    names = [str(number) for number in range(1, len(result.points) + 1)] if several else []
    first = panels[0]
    first.resize(result.subject.picture.size)
    first.image(result.subject.picture.pixels)
    first.marks(result.points, names, colours=colours)
    first.title(f"{result.subject.name}\n{len(result.points)} point{'s' * several}")
    for panel, other, found in zip(panels[1:], result.others, result.found, strict=False):
        panel.resize(other.picture.size)
        panel.image(likeness_picture(other.picture, found.likeness[-1]))
        panel.marks(found.matches.tolist(), names, colours=colours, symbol="circle")
        low, high = found.likeness[-1].min(), found.cosines[-1]
        which = f"point {len(names)}" if several else "cosine"
        panel.title(f"{other.name}\n{which}: {low:.2f} to {high:.2f}")


def _lines(
    result: CorrespondenceResult, boxes: Sequence[Box], figure: tuple[int, int]
) -> list[dict[str, Any]]:
    """Return a line for each pair of mutual neighbours, across the first two panels.

    figure: its width and height in pixels.
    """
    if result.neighbours is None:
        return []
    sizes = [subject.picture.size for subject in (result.subject, result.others[0])]
    cells = (result.neighbours.first[: result.lines], result.neighbours.second[: result.lines])
    ends = [
        _on_figure(places, size, box, figure)
        for places, size, box in zip(cells, sizes, boxes[:2], strict=True)
    ]
    return [
        {
            "type": "line", "xref": "paper", "yref": "paper",
            "x0": start[0], "y0": start[1], "x1": end[0], "y1": end[1],
            "line": {"color": css(colour), "width": 1.5},
        }
        for start, end, colour in zip(
            ends[0].tolist(), ends[1].tolist(), cycle(SEGMENT_COLOURS), strict=False
        )
    ]  # fmt: skip


def _on_figure(
    places: np.ndarray, size: tuple[int, int], box: Box, figure: tuple[int, int]
) -> np.ndarray:
    """Return where (row, column) of a picture in a box are in the figure, as shares of it."""
    down, across = ((places + 0.5) / size).T
    x = (box.left + across * box.width) / figure[0]
    return np.stack([x, 1 - (box.top + down * box.height) / figure[1]], 1)


def _about(result: CorrespondenceResult) -> str:
    """Say where the last point is found, and how many lines there could be."""
    words = []
    for other, found in zip(result.others, result.found, strict=True):
        row, column = found.matches[-1]
        words.append(f"{other.name}: row {row:.0f}, column {column:.0f}")
    said = f"found at {'; '.join(words)}"
    if result.neighbours is None:
        return said
    shown = min(result.lines, len(result.neighbours))
    return (
        f"{said}. {shown} of {len(result.neighbours)} mutual nearest neighbours with "
        f"{result.others[0].name}, the most like"
    )
