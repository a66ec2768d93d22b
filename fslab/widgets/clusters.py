"""How features fall into clusters: over the picture, in the plane, and by size."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, Literal, get_args, get_type_hints

import ipywidgets as widgets
import numpy as np

from fslab.cluster import at_cells, coordinates, project
from fslab.cluster.projection import Projection
from fslab.lab import Lab
from fslab.plots.colours import grey, segment_colours
from fslab.plots.places import middle
from fslab.records import (
    CellClustering,
    Extraction,
    Features,
    FslabError,
    KClustering,
    KMeans,
    Recipe,
    Segments,
)
from fslab.score import score_image, summarise
from fslab.widgets.ahead import needs_of, next_timesteps
from fslab.widgets.board import TITLE, Board, Box
from fslab.widgets.code import Script, extraction_code, settings_code, stage_code
from fslab.widgets.controls import Knob, check_value, choice, number, row, typed, whole, words
from fslab.widgets.explorer import RecipeExplorer
from fslab.widgets.methods import MethodKnobs
from fslab.widgets.panel import Panel, side_by_side
from fslab.widgets.pictures import Given, Subject
from fslab.widgets.plane import Bars, Plane
from fslab.widgets.python import Words, call
from fslab.widgets.texts import note_of
from fslab.widgets.worker import Needs

_HINT = (
    "Point at a cluster in any panel and it lights up in all of them. Draw a box or a lasso "
    "around points on the right to see where they lie in the picture. A cluster has one colour in "
    "all panels, which means nothing else and changes with the clustering."
)
_KINDS = get_type_hints(KClustering)
_PLANE_BESIDE = 560
"""The figure's width from which the plane stands beside the picture."""
_NONE = -1
"""No cluster; a list shows None as nothing at all."""


@dataclass(frozen=True)
class _View:
    subject: Subject
    layers: tuple[str, ...]
    timestep: int
    clustering: tuple[tuple[str, Any], ...]
    points: CellClustering
    projection: Literal["PCA", "UMAP"]


@dataclass(frozen=True, eq=False)
class ClusterResult:
    """What `explore_clusters` shows.

    cells: each cell's cluster, int [h, w]; plane: its place in the plane, f32 [h * w, 2];
    points: what the plane's cells are made of; oracle: the oracle mIoU of this one picture, None
    where the truth is not known.
    """

    subject: Subject
    features: Features
    segments: Segments
    cells: np.ndarray
    plane: np.ndarray
    points: CellClustering
    projection: str
    oracle: float | None
    recipe: Recipe
    title: str


class ClusterExplorer(RecipeExplorer[ClusterResult]):
    """Cluster a picture's features and see the clusters from three sides.

    pictures: a data set, pictures, samples or paths; recipe: gives the features and where the
    knobs begin. State: `picture`, `layers` (patterns), `timestep`, `method`, `k`, `k_is`,
    `normalise`, `upsample`, `position`, each method's own (`tau`, `alpha`, `threshold`),
    `projection` ("PCA" or "UMAP"), `highlight` (a cluster or None), `selected` (numbers of cells,
    row by row).
    """

    _first_words = _HINT
    _selected: tuple[int, ...] = ()

    timestep = Knob("_timestep", "The timestep, 0..999; 0 where the backbone has none.")
    method = Knob("_method", "The clustering method, as in `Clustering`.")
    k = Knob("_k", "Clusters, where the method does not find their number itself.")
    k_is = Knob("_k_is", "How k is meant, as in `Clustering`.")
    normalise = Knob("_normalise", 'Each cell at unit length ("l2") or as it is ("none").')
    upsample = Knob("_upsample", "What is brought to the picture's size: features or labels.")
    position = Knob("_position", "The weight of each cell's place in the picture.")
    projection = Knob("_projection", 'The plane of the points: "PCA" or "UMAP".')

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers' paths or patterns."""
        return tuple(part.strip() for part in self._layers.value.split(",") if part.strip())

    @layers.setter
    def layers(self, patterns: Iterable[str]) -> None:
        self._layers.value = ", ".join([patterns] if isinstance(patterns, str) else patterns)

    @property
    def highlight(self) -> int | None:
        """The cluster that is lit up, or None."""
        return None if self._highlight.value == _NONE else self._highlight.value

    @highlight.setter
    def highlight(self, cluster: int | None) -> None:
        wanted = _NONE if cluster is None else int(cluster)
        check_value(self._highlight, wanted, "highlight")
        self._highlight.value = wanted

    @property
    def selected(self) -> tuple[int, ...]:
        """The cells that are selected, counted row by row."""
        return self._selected

    @selected.setter
    def selected(self, cells: Iterable[int]) -> None:
        count = self._on_screen().cells.size
        chosen = tuple(sorted({int(cell) for cell in cells}))
        if chosen and not 0 <= chosen[0] <= chosen[-1] < count:
            raise FslabError(f"cells are {chosen[0]} to {chosen[-1]}; there are 0 to {count - 1}")
        self._selected = chosen
        self._light()

    @property
    def segments(self) -> Segments:
        """The segments on screen."""
        return self._on_screen().segments

    def _build_knobs(self) -> None:
        extract, start = self._start.extract, self._start.cluster
        self._layers = words("layers", ", ".join(extract.layers))
        self._timestep = whole("timestep", (extract.timesteps or (0,))[0], 0, 999)
        self._timestep.disabled = self._lab.backbone.timestep is None
        self._methods = MethodKnobs(self, "cluster", self._start)
        self._method = self._methods.list
        self._k_is = choice(
            "k_is", [name for name in get_args(_KINDS["k_is"]) if name != "candidates"]
        )
        self._k = whole("k", start.k if isinstance(start, KClustering) else KMeans().k, 1, 24)
        cells = start if isinstance(start, CellClustering) else CellClustering()
        self._normalise = choice("normalise", get_args(_KINDS["normalise"]), cells.normalise)
        self._upsample = choice("upsample", get_args(_KINDS["upsample"]), start.upsample)
        self._position = number("position", cells.position, 0.0, 2.0, 0.05)
        self._projection = choice(
            "projection", [("PCA", "PCA"), ("UMAP (slow the first time)", "UMAP")]
        )
        self._highlight = choice("highlight", [("no cluster", _NONE)])
        self._clear = widgets.Button(description="clear selection", layout={"width": "140px"})

    def _build_figures(self) -> None:
        self._panel, self._plane, self._bars = Panel(), Plane(), Bars()
        self._board = Board(self._panel, self._plane, self._bars, select=True)
        leave = self._leave
        self._panel.on_hover(self._point_at_pixel, leave)
        self._plane.on_hover(self._point_at_cell, leave)
        self._bars.on_hover(self._point_at, leave)
        self._plane.on_select(lambda cells: setattr(self, "selected", cells))

    def _lay_out(self) -> None:
        self._by_method = {"k": row(self._k, self._k_is)}
        self._method.observe(lambda change: self._show_own(), "value")
        self._show_own()
        self._about = widgets.HTML()
        rows = [
            self._pictures.row, self._layers, row(typed(self._timestep), self._method),
            self._by_method["k"], row(*self._methods.sliders.values()),
            row(self._normalise, self._upsample), row(self._position, self._projection),
            self._board.frame,
            row(self._highlight, self._clear), self._about,
        ]  # fmt: skip
        self._clear.on_click(lambda button: setattr(self, "selected", ()))
        self._highlight.observe(lambda change: self._light_chosen(), "value")
        knobs = [self._pictures.list, self._layers, self._timestep, self._method, self._k]
        knobs += [self._k_is, *self._methods.sliders.values(), self._normalise]
        self._begin(rows, [*knobs, self._upsample, self._position, self._projection])

    def _show_own(self) -> None:
        self._methods.show(self._by_method)

    def _view(self) -> _View:
        beside = ("k", "k_is", "normalise", "upsample", "position")
        settings = self._methods.settings({name: getattr(self, name) for name in beside})
        points = CellClustering(
            grid=self._start.cluster.grid, normalise=self.normalise, position=self.position
        )
        return _View(
            self._pictures.subject, self.layers, self.timestep, tuple(settings.items()),
            points, self.projection,
        )  # fmt: skip

    def _recipe_of(self, view: _View) -> Recipe:
        steps = () if self._lab.backbone.timestep is None else (view.timestep,)
        extract = replace(
            self._start.extract, layers=view.layers, timesteps=steps, attention="none"
        )
        settings = dict(view.clustering)
        if "k" in settings:
            settings["also"] = ()
        base = Recipe("explored", extract, self._start.cluster)
        return self._lab.recipe(self._methods.recipe(base, settings))

    def _compute(self, view: _View) -> ClusterResult:
        recipe, picture = self._recipe_of(view), view.subject.picture
        features = self._once(
            "features",
            (picture.digest, recipe.extract),
            lambda: self._features(view.subject, recipe.extract),
        )
        segments = self._once(
            "segments",
            (picture.digest, recipe.digest),
            lambda: self._lab.cluster(features, method=recipe.cluster),
        )
        cells = coordinates(features, view.points)
        plane = self._once(
            "plane",
            (picture.digest, recipe.extract, view.points, view.projection),
            lambda: self._projected(cells.reshape(len(cells), -1).T, view.projection),
        )
        labels = at_cells(segments.labels, cells.shape[1:])
        title = f"{view.subject.spoken}: {segments.count} clusters by {recipe.cluster.method}"
        return ClusterResult(
            view.subject, features, segments, labels, plane, view.points, view.projection,
            _oracle(view.subject, segments), recipe, title,
        )  # fmt: skip

    def _projected(self, cells: np.ndarray, how: Projection) -> np.ndarray:
        first = ", which compiles code at its first use" if how == "UMAP" else ""
        self._status.doing(f"{how} of {len(cells)} cells{first}")
        return project(cells, how)

    def _features(self, subject: Subject, extract: Extraction) -> Features:
        settings = asdict(extract)
        steps = settings.pop("timesteps")
        steps = None if self._lab.backbone.timestep is None else steps
        return self._lab.extract(subject.picture, timesteps=steps, **settings)

    def _needs(self, view: _View) -> Needs:
        return needs_of(view.subject, (view.layers, view.timestep))

    def _likely(
        self, result: ClusterResult, before: ClusterResult | None
    ) -> Iterable[Callable[[], object]]:
        """The layers at the next timesteps."""
        extract = result.recipe.extract
        steps = next_timesteps(self._lab, result.recipe, before.recipe if before else None)
        near = (replace(extract, timesteps=(step,)) for step in steps)
        return [partial(self._features, result.subject, each) for each in near]

    def _draw(self, result: ClusterResult) -> None:
        self._selected = ()
        clusters = [("no cluster", _NONE)]
        clusters += [(f"cluster {number}", number) for number in range(result.segments.count)]
        with self._hush():
            self._highlight.options = clusters
        colours = segment_colours(result.segments.count)
        shares = np.bincount(result.segments.labels.ravel()) / result.segments.labels.size
        middles = [middle(mask) for mask in result.segments.masks()]
        with self._board.drawing():
            self._place(result)
            self._panel.resize(result.subject.picture.size)
            self._panel.image(grey(result.subject.picture.pixels))
            self._panel.title(f"{result.subject.name}\n{result.segments.count} clusters")
            self._panel.marks(middles, list(map(str, range(len(middles)))), cross=False)
            self._plane.show(result.plane, result.cells.ravel(), colours, result.projection)
            self._bars.show(shares, colours)
        note_of(self._about, _about(result))
        self._light(result)

    def _place(self, result: ClusterResult) -> None:
        self._board.arrange(*_places(result.subject.picture.size, self._board.width))

    def _point_at(self, cluster: int) -> None:
        self.highlight = int(cluster)

    def _point_at_pixel(self, row: int, column: int) -> None:
        self._point_at(self._on_screen().segments.labels[row, column])

    def _point_at_cell(self, cell: int) -> None:
        self._point_at(self._on_screen().cells.ravel()[cell])

    def _leave(self) -> None:
        self.highlight = None

    def _light_chosen(self) -> None:
        if not self._hush:
            self._light()

    def _light(self, result: ClusterResult | None = None) -> None:
        """Show which cluster or cells are meant: the rest fades, in every panel."""
        with self._drawing:
            result = result or self._on_screen()
            labels, lit = result.segments.labels, self.highlight
            strength = np.full(labels.shape, 0.65)
            if lit is not None:
                strength = np.where(labels == lit, 0.95, 0.15)
            elif self._selected:
                strength = np.where(_chosen_pixels(result, self._selected), 0.95, 0.15)
            layer = np.dstack([segment_colours(result.segments.count)[labels], 255 * strength])
            with self._board.drawing():
                self._panel.layer(np.rint(layer).astype(np.uint8))
                self._plane.light(result.cells.ravel(), lit, self._selected)
                self._bars.light(lit)

    def _code_of(self, result: ClusterResult) -> str:
        script, recipe = Script(self._lab), result.recipe
        picture = script.picture(result.subject)
        how = extraction_code(self._lab, recipe.extract)
        features = script.set("features", call("lab.extract", picture, **how))
        segments = script.set("segments", stage_code("lab.cluster", recipe.cluster, features))
        script.draw("fslab.show", picture, segments)
        script.use("fslab.cluster", "at_cells", "coordinates", "project")
        cells = script.set("cells", call("coordinates", features, settings_code(result.points)))
        flat = Words(f"{cells}.reshape(len({cells}), -1).T")
        points = script.set("points", call("project", flat, result.projection))
        labels = call("at_cells", Words(f"{segments}.labels"), Words(f"{cells}.shape[1:]"))
        labels = script.set("labels", labels)
        title = f"cells by {result.projection}"
        script.draw("scatter", points, Words(f"{labels}.ravel()"), (), title)
        script.score("oracle", result.subject, segments=segments)
        return str(script)


def explore_clusters(
    lab: Lab, pictures: Given | Iterable[Given], recipe: str | Recipe = "fslab", **state: Any
) -> ClusterExplorer:
    """Open a `ClusterExplorer`; state: where it begins, such as `k=8`."""
    return ClusterExplorer(lab, pictures, recipe).change(**state)


def _places(size: tuple[int, int], width: int) -> tuple[float, list[Box]]:
    """Return the figure's height, and where the picture, the plane and the bars go.

    The plane stands beside the picture where there is room, and below it else.
    """
    beside = width >= _PLANE_BESIDE
    (picture,) = side_by_side(1, size, (width - 10) / 2 if beside else width, tallest=460)
    if beside:
        left = picture.width + 10
        plane = Box(left, TITLE, width - left - 2, max(picture.height, 200))
    else:
        plane = Box(0, picture.bottom + TITLE, width - 2, 260)
    bars = Box(44, max(picture.bottom, plane.bottom) + TITLE, width - 46, 80)
    return bars.bottom + 44, [picture, plane, bars]


def _chosen_pixels(result: ClusterResult, cells: Iterable[int]) -> np.ndarray:
    """Return the pixels of the chosen cells, bool [H, W]."""
    flat = np.zeros(result.cells.size, bool)
    flat[list(cells)] = True
    chosen = flat.reshape(result.cells.shape)
    places = [
        np.arange(limit) * count // limit
        for limit, count in zip(result.segments.size, result.cells.shape, strict=True)
    ]
    return chosen[np.ix_(*places)]


def _oracle(subject: Subject, segments: Segments) -> float | None:
    if subject.truth is None:
        return None
    score = score_image(subject.truth, subject.vocabulary.names, segments=segments)
    return summarise("oracle", [score]).miou


def _about(result: ClusterResult) -> str:
    if result.oracle is None:
        return "oracle mIoU: the truth of this picture is not known"
    return (
        f"oracle mIoU {100 * result.oracle:.1f} % on this one picture ({result.subject.spoken}): "
        "each cluster takes its majority class of the truth"
    )
