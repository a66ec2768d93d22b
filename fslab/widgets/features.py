"""What a layer sees: its main components as colours, and what is like the pixel clicked on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import ipywidgets as widgets
import numpy as np

from fslab.lab import Lab
from fslab.plots.common import component_colours
from fslab.plots.draw import colours_and_share
from fslab.plots.maps import Joined, cosine_to, cosines_to
from fslab.records import Components, Extraction, FslabError, Picture, Point, Recipe
from fslab.widgets.ahead import beside, needs_of, next_timesteps
from fslab.widgets.board import Board, Box
from fslab.widgets.code import Script, extraction_code
from fslab.widgets.controls import Knob, choice, row, show_only, typed, whole
from fslab.widgets.layers import LayerKnob, LayerPicker, first_layer
from fslab.widgets.panel import SCALE, Panel, side_by_side
from fslab.widgets.pictures import Given, Subject
from fslab.widgets.points import PointExplorer
from fslab.widgets.python import Words, call, code
from fslab.widgets.texts import note_of
from fslab.widgets.worker import Needs

_HINT = (
    "Click any pixel in any panel: the right panel shows how like it every cell is, from the least "
    "(dark) to 1 (light). Like colours in the middle are like features; between two layers they "
    "mean nothing, and between two pictures only where they are of all pictures."
)

ONE, ALL = "this picture", "all pictures"
"""Whose main components are shown."""

MOST_FITTED = 24
"""Pictures, evenly spaced among those given, that common components are fitted to."""


@dataclass(frozen=True)
class _View:
    subject: Subject
    layers: tuple[tuple[str, int], ...]
    points: tuple[Point, ...]
    joined: Joined
    fitted: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class LayerView:
    """One layer of one timestep as it is shown: map f32 [C, h, w] and cosines f32 [h, w]."""

    layer: str
    timestep: int
    features: np.ndarray
    colours: np.ndarray
    share: float
    cosines: np.ndarray


@dataclass(frozen=True, eq=False)
class FeatureResult:
    """What `explore_features` shows."""

    subject: Subject
    points: tuple[Point, ...]
    joined: Joined
    shown: tuple[LayerView, ...]
    recipe: Recipe
    title: str
    fitted: int


class FeatureExplorer(PointExplorer[FeatureResult]):
    """Look at a layer's features, and at what they find alike.

    pictures: a data set, pictures, samples or paths. State, readable and settable: `picture`
    (a name), `layer`, `timestep`, `point` (row, column), `pins` (further points), `joined`
    ("mean" or "highest" over several points), `compare`, `other_layer`, `other_timestep`, `colours`
    ("this picture" or "all pictures": whose main components are shown; of many pictures given, 24
    that are evenly spaced among them).
    """

    layer = LayerKnob("_layers", "The layer's module path, or one with a head's number behind it.")
    timestep = Knob("_timestep", "The timestep, 0..999; 0 where the backbone has none.")
    joined = Knob("_joined", 'How several points count: "mean" or "highest".')
    compare = Knob("_compare", "Whether a second layer or timestep stands below.")
    other_layer = LayerKnob("_others", "The second layer's module path.")
    other_timestep = Knob("_other_timestep", "The second timestep.")
    colours = Knob("_colours", 'Whose main components are shown: "this picture" or "all pictures".')

    def __init__(self, lab: Lab, pictures: Given | Iterable[Given]) -> None:
        super().__init__(lab, _HINT)
        self._pictures = self._picker(pictures)
        start, step = first_layer(lab), lab.backbone.timestep
        self._layers = LayerPicker(lab, self._hush, "layer", start)
        self._others = LayerPicker(lab, self._hush, "other_layer", start)
        self._timestep = whole("timestep", step or 0, 0, 999)
        self._other_timestep = whole("other_timestep", step or 0, 0, 999)
        self._compare = widgets.Checkbox(
            False, description="compare: a second layer or timestep", indent=False,
            layout={"width": "300px"},
        )  # fmt: skip
        self._joined = choice("joined", ["mean", "highest"])
        self._colours = choice("colours", [ONE, ALL])
        self._colours.disabled = len(self._pictures.subjects) < 2
        self._together = _spread(list(self._pictures.subjects.values()), MOST_FITTED)
        for slider in (self._timestep, self._other_timestep):
            slider.disabled = step is None
        self._build_points(self._layers, self._others)
        first = Panel()
        others = (Panel(heat=place % 3 == 2, like=first) for place in range(1, 6))
        self._panels = (first, *others)
        self._board = Board(*self._panels)
        for panel in self._panels:
            panel.on_click(self._go_to)
        self._lay_out()

    @property
    def similarity(self) -> np.ndarray:
        """The cosines on screen, f32 [h, w]."""
        return self._on_screen().shown[0].cosines

    def _lay_out(self) -> None:
        self._second_box = widgets.VBox([self._others.box, typed(self._other_timestep)])
        self._compare.observe(self._show_second, "value")
        self._show_second()
        self._about = widgets.HTML()
        rows = [
            self._pictures.row, self._layers.box, row(typed(self._timestep), self._compare),
            self._second_box, self._colours,
            self._board.frame, self._points_row, self._joined, self._about,
        ]  # fmt: skip
        self._joined.layout.display = "none"
        knobs = [self._pictures.list, self._layers.list, self._timestep, *self._point_knobs]
        knobs += [self._joined, self._compare, self._others.list, self._other_timestep]
        knobs += [self._colours]
        self._begin(rows, knobs)

    def _show_second(self, change: Mapping[str, Any] | None = None) -> None:
        show_only({True: self._second_box}, [self._compare.value])

    def _view(self) -> _View:
        layers = [(self.layer, self.timestep)]
        if self.compare:
            layers.append((self.other_layer, self.other_timestep))
        points = (*self._pins, self.point)
        fitted = tuple(each.name for each in self._together) if self.colours == ALL else ()
        return _View(self._pictures.subject, tuple(layers), points, self.joined, fitted)

    def _picture_of(self, result: FeatureResult) -> Picture:
        return result.subject.picture

    def _compute(self, view: _View) -> FeatureResult:
        shown = tuple(self._layer_view(view, *each) for each in view.layers)
        recipe = self._lab.recipe(Recipe("explored", self._extraction(*view.layers[0])))
        title = f"{view.subject.spoken}: {shown[0].layer}, t = {shown[0].timestep}"
        return FeatureResult(
            view.subject, view.points, view.joined, shown, recipe, title, len(view.fitted)
        )

    def _extraction(self, layer: str, timestep: int) -> Extraction:
        steps = () if self._lab.backbone.timestep is None else (timestep,)
        return Extraction(layers=(layer,), timesteps=steps)

    def _layer_view(self, view: _View, layer: str, timestep: int) -> LayerView:
        picture = view.subject.picture
        settings = self._extraction(layer, timestep)
        key = picture.digest, settings
        steps = settings.timesteps or None
        value = self._once("map", key, lambda: self._lab.extract(picture, [layer], steps)[layer])
        if not np.isfinite(value).all():
            raise FslabError(f"layer {layer!r} gives values that are not finite; choose another")
        colours, share = self._once(
            "colours", (key, view.fitted), lambda: self._coloured(view, value, settings)
        )
        cosines = cosines_to(value, view.points, picture.size, view.joined)
        return LayerView(layer, timestep, value, colours, share, cosines)

    def _coloured(
        self, view: _View, value: np.ndarray, settings: Extraction
    ) -> tuple[np.ndarray, float]:
        """Return a map's colours u8 [h, w, 3], and the share of the variance that they carry."""
        if not view.fitted:
            return colours_and_share(value)
        layer, steps = settings.layers[0], settings.timesteps or None
        sources, count = [each.source for each in self._together], min(3, len(value))
        common: Components = self._once(
            "common", settings,
            lambda: self._lab.components(sources, "pca", count, [layer], steps),
        )  # fmt: skip
        picture = view.subject.picture
        values = self._lab.in_components(picture, common)
        return component_colours(values, common), common.share

    def _needs(self, view: _View) -> Needs:
        needs = needs_of(view.subject, *view.layers)
        if view.fitted:
            for each in self._together:
                theirs = needs_of(each, *view.layers)
                needs = {what: needs[what] | theirs[what] for what in needs}
        return needs

    def _likely(
        self, result: FeatureResult, before: FeatureResult | None
    ) -> Iterable[Callable[[], object]]:
        """The layer at the next timesteps, and its neighbours at this one."""
        layer, now = result.shown[0].layer, result.recipe.extract.timesteps
        steps = next_timesteps(self._lab, result.recipe, before.recipe if before else None)
        passes: list[tuple[tuple[str, ...], tuple[int, ...]]]
        passes = [((layer,), (step,)) for step in steps]
        near = beside([path for _, path in self._layers.list.options], layer)
        passes[1:1] = [(near, now)] if near else []
        picture = result.subject.picture
        return [partial(self._lab.extract, picture, *each) for each in passes]

    def _draw(self, result: FeatureResult) -> None:
        self._joined.layout.display = None if self._pins else "none"
        with self._board.drawing():
            self._place(result)
            for place, shown in enumerate(result.shown):
                _paint(self._panels[3 * place : 3 * place + 3], result, shown)
            for panel in self._panels[3 * len(result.shown) :]:
                panel.title("")
        note_of(self._about, _about(result))

    def _place(self, result: FeatureResult) -> None:
        room = self._board.width - SCALE
        upper = side_by_side(3, result.subject.picture.size, room)
        lower: Sequence[Box | None] = [None] * 3
        bottom = upper[-1].bottom
        if len(result.shown) > 1:
            below = [box._replace(top=box.top + bottom + 8) for box in upper]
            lower, bottom = below, below[-1].bottom
        self._board.arrange(max(bottom, 160) + 4, [*upper, *lower])

    def _code_of(self, result: FeatureResult) -> str:
        script = Script(self._lab)
        picture = script.picture(result.subject)
        for place, shown in enumerate(result.shown):
            name = "second" if place else "features"
            how = extraction_code(self._lab, self._extraction(shown.layer, shown.timestep))
            features = script.set(name, call("lab.extract", picture, **how))
            if result.fitted:
                common = self._common_code(script, place, how)
                values = call("lab.in_components", picture, common)
                script.draw("component_maps", [picture], [values], common)
            else:
                script.draw("feature_colours", features, picture=picture)
            several = {"joined": result.joined} if len(result.points) > 1 else {}
            points = list(result.points) if several else result.points[0]
            script.draw("similarity", features, shown.layer, points, picture, **several)
        return str(script)

    def _common_code(self, script: Script, place: int, how: Mapping[str, Any]) -> Words:
        """Write how the components of several pictures are found, which are read once."""
        if not place:
            script.set("pictures", code(script.places(self._together, "picture")))
        made = call("lab.components", Words("pictures"), **how)
        return script.set("second_common" if place else "common", made)


def explore_features(lab: Lab, pictures: Given | Iterable[Given], **state: Any) -> FeatureExplorer:
    """Open a `FeatureExplorer`; state: where it begins, such as `timestep=50`."""
    return FeatureExplorer(lab, pictures).change(**state)


def _spread(subjects: Sequence[Subject], most: int) -> tuple[Subject, ...]:
    """Return subjects evenly spaced among those given, all of them where they are few."""
    places = np.linspace(0, len(subjects) - 1, min(most, len(subjects)))
    return tuple(subjects[int(place)] for place in places)


def _paint(panels: Sequence[Panel], result: FeatureResult, shown: LayerView) -> None:
    names = [str(number) for number in range(1, len(result.points) + 1)]
    shape = " x ".join(map(str, shown.features.shape))
    several = f"{result.joined} of {len(names)} points" if len(names) > 1 else "the point"
    picture, colours, cosines = panels
    for panel in panels:
        panel.resize(result.subject.picture.size)
        panel.marks(result.points, names if len(names) > 1 else ())
    picture.image(result.subject.picture.pixels)
    colours.image(shown.colours, photo=False)
    cosines.heat(shown.cosines)
    picture.title(f"{result.subject.name}\n{len(names)} point{'s' * (len(names) > 1)}")
    whose = f" of {result.fitted} pictures" if result.fitted else ""
    colours.title(f"main components{whose}, {shown.share:.0%}\n[{shape}], t = {shown.timestep}")
    cosines.title(f"cosine to {several}\nfrom {shown.cosines.min():.2f} to 1")


def _about(result: FeatureResult) -> str:
    """Say how like the pinned points are to the last one, and to each other's layer."""
    if len(result.points) < 2:
        return ""
    shown, last = result.shown[0], result.points[-1]
    cosines = cosine_to(shown.features, last, result.subject.picture.size)
    cells = [
        tuple(at * count // limit for at, count, limit in zip(
            point, cosines.shape, result.subject.picture.size, strict=True))
        for point in result.points[:-1]
    ]  # fmt: skip
    words = [f"point {number}: {cosines[cell]:.2f}" for number, cell in enumerate(cells, 1)]
    return f"cosine to point {len(result.points)}, the last one: {', '.join(words)}"
