"""Successive halving: all choices on a few pictures, the better half on twice as many, and on.

Jamieson and Talwalkar (AISTATS 2016). What was measured is kept by the store, picture by picture,
so a search that was interrupted goes on where it was.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from typing import Any, Protocol

import numpy as np
from scipy.stats import rankdata

from fslab.backbones import Backbone, Layer
from fslab.keys import changed, content, tuning_key
from fslab.records import FslabError, Picture, Recipe
from fslab.score import ImageScore, Metric, score_image, summarise
from fslab.score.image import CONTOURS
from fslab.tune.cells import Cell, plain
from fslab.tune.registry import Criterion
from fslab.tune.sight import Means, Sight, attention_paths

ETA = 2
"""Each round has so many times the pictures of the one before, and one in so many choices."""


class Source(Protocol):
    """A picture that is read when it is its turn, as `fslab.datasets.Sample` is."""

    @property
    def name(self) -> str:
        """What it is called; no two pictures of a search are called alike."""

    def picture(self) -> Picture:
        """Read the picture."""

    def truth(self) -> np.ndarray | None:
        """Read its mask, u8 or u16 [H, W]; None where it has none."""


Seen = tuple[Picture, np.ndarray | None]
"""A picture, and its mask where the judge reads masks."""


class Judge(Protocol):
    """What tells choices apart."""

    @property
    def names(self) -> tuple[str, ...]:
        """What its figures are called."""

    @property
    def by_masks(self) -> bool:
        """Whether it reads masks."""

    def measure(self, seen: Seen, cells: Sequence[Cell]) -> list[Any]:
        """Return what each choice is worth on a picture, or the FslabError that says why not."""

    def figures(self, found: Sequence[Any]) -> dict[str, float]:
        """Return a choice's figures over pictures, by name; more is better."""


@dataclass
class Tried:
    """A choice and what was measured of it: found, picture by picture; refused: why it ended."""

    cell: Cell
    found: dict[str, Any] = field(default_factory=dict)
    refused: str = ""


@dataclass(frozen=True)
class Round:
    """How many choices were tried on how many pictures, those of former rounds included."""

    cells: int
    pictures: int


@dataclass
class Search:
    """A search under way, and its end.

    cells: all choices in the order in which they were asked for. tried: the same, the best first
    once it has ended. seen: pictures in the order in which they came. left_out: why others were
    not measured, by name.
    """

    cells: tuple[Cell, ...]
    tried: list[Tried]
    rounds: list[Round] = field(default_factory=list)
    seen: list[str] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)


def halve(
    cells: Sequence[Cell],
    sources: Iterable[Source],
    judge: Judge,
    first: int,
    on_picture: Callable[[str, int], object],
) -> Search:
    """Search, and return all that was tried, the best first.

    first: pictures of the first round. on_picture: told each picture and how many choices it is
    for. A picture that cannot be read, or on which all choices are refused, is left out; a choice
    that alone is refused is out of the search. Raises FslabError where as many pictures as the
    first round has are left out and none was measured.
    """
    search, waiting = Search(tuple(cells), [Tried(cell) for cell in cells]), iter(sources)
    alive, target = list(search.tried), first
    while True:
        before = len(search.seen)
        for source in waiting:
            on_picture(source.name, len(alive))
            alive = _measured(source, alive, judge, search)
            if not search.seen and len(search.left_out) >= first:
                break
            if len(search.seen) == target:
                break
        ended = len(search.seen) < target
        if not search.seen:
            raise FslabError(_nothing_read(search.left_out))
        if len(search.seen) > before:
            search.rounds.append(Round(len(alive), len(search.seen)))
        if ended:
            break
        alive = _ranked(alive, judge)[: -(-len(alive) // ETA)]
        if len(alive) == 1:
            break
        target *= ETA
    _sort(search, judge)
    return search


def standing(figures: Sequence[Mapping[str, float]]) -> list[float]:
    """Return how choices stand by all criteria: the mean of their ranks, brought to 0..1.

    Of one criterion it is the figure itself. Ranks make criteria of other scales count alike.
    """
    names = list(figures[0])
    if len(names) == 1:
        return [each[names[0]] for each in figures]
    ranks = np.mean([rankdata([each[name] for each in figures]) for name in names], axis=0)
    scaled: list[float] = ((ranks - 1) / max(len(figures) - 1, 1)).tolist()
    return scaled


class ByCriteria:
    """Choices told apart without a truth; see `Judge`."""

    def __init__(self, criteria: Sequence[Criterion], recipe: Recipe, means: Means) -> None:
        self.names, self.by_masks = tuple(each.name for each in criteria), False
        self._criteria, self._recipe, self._means = criteria, recipe, means

    def measure(self, seen: Seen, cells: Sequence[Cell]) -> list[Any]:
        """Return each choice's values by criterion, or why it was refused."""
        return _by_timestep(self._at, seen[0], cells, self._recipe, self._means)

    def figures(self, found: Sequence[Mapping[str, float]]) -> dict[str, float]:
        """Return the mean over pictures of each criterion."""
        return {name: float(np.mean([each[name] for each in found])) for name in self.names}

    def _at(self, sight: Sight, recipe: Recipe) -> dict[str, float]:
        given = sight.given(recipe)
        return {each.name: self._value(each, sight, recipe, given) for each in self._criteria}

    def _value(
        self,
        criterion: Criterion,
        sight: Sight,
        recipe: Recipe,
        given: Mapping[str, Callable[[], Any]],
    ) -> float:
        def compute() -> str:
            value = criterion.value(**{name: given[name]() for name in criterion.asks})
            return json.dumps(value)

        read = changed(recipe.extract)
        if criterion.tells_timesteps_only:
            read.pop("layers", None)
            how: dict[str, Any] = {"extract": read}
        else:
            how = {"extract": read, "cluster": changed(recipe.cluster)}
        found: float = json.loads(_kept([criterion], sight, recipe, how, self._means, compute))
        return found


class ByMasks:
    """Choices told apart by the masks of some pictures; see `Judge`."""

    def __init__(self, metric: Metric, names: Sequence[str], recipe: Recipe, means: Means) -> None:
        self.names, self.by_masks = (metric.name,), True
        self._metric, self._classes = metric, tuple(names)
        self._recipe, self._means = recipe, means

    def measure(self, seen: Seen, cells: Sequence[Cell]) -> list[Any]:
        """Return each choice's counts, or why it was refused."""
        picture, truth = seen
        if truth is None:
            why = f"{picture.name} has no mask; give one, or leave the picture out"
            return [FslabError(why) for _ in cells]
        at = partial(self._score, truth)
        return _by_timestep(at, picture, cells, self._recipe, self._means)

    def figures(self, found: Sequence[ImageScore]) -> dict[str, float]:
        """Return the metric over all the pictures."""
        return {self._metric.name: summarise(self._metric.name, found).figure}

    def _score(self, truth: np.ndarray, sight: Sight, recipe: Recipe) -> ImageScore:
        metric, makers = self._metric, [score_image, *(c.function for c in self._metric.counts)]

        def compute() -> str:
            contours = metric.part in CONTOURS
            score = score_image(
                truth, self._classes, segments=sight.segments(recipe), contours=contours,
                counts=metric.counts,
            )  # fmt: skip
            return json.dumps(score.to_dict())

        how = {
            "extract": changed(recipe.extract), "cluster": changed(recipe.cluster),
            "truth": content({"truth": truth}),
        }  # fmt: skip
        text = _kept(makers, sight, recipe, how, self._means, compute)
        return ImageScore.from_dict(json.loads(text), self._classes)


def check_tell_apart(
    criteria: Sequence[Criterion],
    cells: Sequence[Cell],
    backbone: Backbone,
    listing: Sequence[Layer],
    resolution: int | None = None,
) -> None:
    """Refuse criteria that cannot tell these choices apart, before anything is computed.

    resolution: the shorter side that the network sees, its own for None.
    """
    if any("attentions" in each.asks for each in criteria):
        if backbone.timestep is None:
            raise FslabError(
                f"{backbone.name} has no timesteps, so no criterion can compare two of them; leave "
                f"out {', '.join(e.name for e in criteria if 'attentions' in e.asks)}"
            )
        attention_paths(backbone, listing, resolution)
    several = len({(cell.layer, cell.k) for cell in cells}) > 1
    if several and all(each.tells_timesteps_only for each in criteria):
        raise FslabError(
            f"{', '.join(each.name for each in criteria)} tells timesteps apart, and layers and K "
            "not; name another criterion beside it, or one layer and one K"
        )


def _kept(
    makers: Sequence[Any],
    sight: Sight,
    recipe: Recipe,
    how: Mapping[str, Any],
    means: Means,
    compute: Callable[[], str],
) -> str:
    from fslab.cluster import cluster

    backbone = means.backbone
    size = backbone.input_size(sight.picture, recipe.extract)
    return means.kept(tuning_key([*makers, cluster], backbone, sight.picture, size, how), compute)


def _by_timestep(
    at: Callable[[Sight, Recipe], Any],
    picture: Picture,
    cells: Sequence[Cell],
    recipe: Recipe,
    means: Means,
) -> list[Any]:
    """Return what a function makes of each choice, those of a timestep together."""
    found: dict[Cell, Any] = {}
    for _, together in groupby(sorted(cells, key=_timestep), key=_timestep):
        group = list(together)
        recipes = [plain(cell.of(recipe)) for cell in group]
        sight = Sight(picture, recipes, means)
        for cell, one in zip(group, recipes, strict=True):
            try:
                found[cell] = at(sight, one)
            except FslabError as error:
                found[cell] = error
    return [found[cell] for cell in cells]


def _timestep(cell: Cell) -> int:
    return -1 if cell.timestep is None else cell.timestep


def _measured(source: Source, alive: list[Tried], judge: Judge, search: Search) -> list[Tried]:
    """Measure choices on a picture, and return those that were not refused."""
    try:
        seen = source.picture(), source.truth() if judge.by_masks else None
    except FslabError as error:
        search.left_out[source.name] = str(error)
        return alive
    values = judge.measure(seen, [each.cell for each in alive])
    if all(isinstance(value, FslabError) for value in values):
        search.left_out[source.name] = str(values[0])
        return alive
    for each, value in zip(alive, values, strict=True):
        if isinstance(value, FslabError):
            each.refused = f"{source.name}: {value}"
        else:
            each.found[source.name] = value
    search.seen.append(source.name)
    return [each for each in alive if not each.refused]


def _nothing_read(left_out: Mapping[str, str]) -> str:
    if not left_out:
        return "there are no pictures to tune on; give a folder that holds some"
    first = next(iter(left_out.values()))
    return f"none of the first {len(left_out)} pictures can be measured; of the first: {first}"


def _ranked(alive: Sequence[Tried], judge: Judge) -> list[Tried]:
    stands = standing([judge.figures(list(each.found.values())) for each in alive])
    order = np.argsort(-np.array(stands), kind="stable")
    return [alive[place] for place in order]


def _sort(search: Search, judge: Judge) -> None:
    """Bring the best first: those of the last round by their standing, then earlier ones."""
    groups: dict[tuple[bool, int], list[Tried]] = {}
    for each in search.tried:
        ended = bool(each.refused), -len(each.found)
        groups.setdefault(ended, []).append(each)
    search.tried = [
        each
        for ended in sorted(groups)
        for each in (groups[ended] if ended[0] else _ranked(groups[ended], judge))
    ]
