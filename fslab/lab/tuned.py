"""What a lab does to find the layer, the timestep and K that suit some pictures."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

from fslab.datasets import Dataset, PictureLike, local
from fslab.lab.recipes import find_recipe
from fslab.lab.things import Things
from fslab.lab.words import check_agnostic
from fslab.records import FslabError, Recipe

if TYPE_CHECKING:
    from fslab.lab.lab import Lab
    from fslab.tune import Cell, Judge, Tuning


class Tuned(Things):
    """A search over layers, timesteps and K, by the pictures themselves or by a few masks."""

    def tune(
        self,
        pictures: str | os.PathLike[str] | Dataset | Iterable[PictureLike],
        method: str | Recipe = "fslab",
        *,
        layers: Sequence[str] = (),
        timesteps: Sequence[int] = (),
        ks: Sequence[int] = (),
        criteria: Any = (),
        masks: str | os.PathLike[str] | None = None,
        metric: str | None = None,
        first: int = 4,
        limit: int | None = None,
        seed: int = 0,
        out: str | os.PathLike[str] | None = None,
        progress: bool = True,
    ) -> Tuning:
        """Return which layer, timestep and K suit pictures, and all that was tried.

        pictures: a folder, a `Dataset`, or several as `fslab.read` takes them, of any sizes.
        method: what the choices are put in; its own other settings stay. layers: paths or patterns,
        each a choice, the network's blocks if empty; timesteps, ks: likewise, 0 to 500 and 4 to 12
        if empty. criteria: names of `fslab.tune.CRITERIA`, or functions of one's own; contours and
        stability if empty. masks: a folder of index PNGs of some of the pictures; metric: by which
        class-agnostic one they tell choices apart, "hungarian" if left out; given without masks it
        reads those of a `Dataset`. With either no criterion is asked.

        Successive halving: all choices on `first` pictures, the better half on twice as many, up
        to all, or to `limit`; seed: the order in which they come. Layers of one timestep share a
        pass, and what was measured is kept by the store, so that an interrupted search goes on.
        out: a folder for a page, a table, all figures, and the winner's recipe, which
        `fslab.read_recipe` reads. Raises FslabError where there is nothing to choose, for a layer,
        timestep, K, criterion or metric that does not exist, and where no picture can be measured.
        """
        from fslab.tune import Tuning, cells_of, halve
        from fslab.tune.sources import sources_of

        lab = cast("Lab", self)
        _check(first, layers, criteria, masks is not None or metric is not None)
        place = None if out is None else local(out)
        if place is not None and place.exists() and not place.is_dir():
            raise FslabError(f"{place} is a file; give a folder")
        recipe = lab.recipe(method)
        check_agnostic(recipe)
        cells = cells_of(lab.backbone, lab.layers(), recipe, layers, timesteps, ks)
        if masks is not None and metric is None:
            metric = "hungarian"
        sources = sources_of(pictures, masks, metric is not None, limit, seed)
        judge = _judge(lab, recipe, criteria, metric, sources.classes, cells)
        with _told(progress, f"tuning {recipe.name}") as told:
            search = halve(cells, sources.each, judge, first, told)
        tuning = Tuning(find_recipe(method), lab.backbone.name, sources.name, judge, search)
        if place is not None:
            tuning.write(place)
        return tuning


def _check(first: Any, layers: Any, criteria: Any, by_masks: bool) -> None:
    """Refuse what cannot be asked for together, or is of another kind."""
    if isinstance(first, bool) or not isinstance(first, int) or first < 1:
        raise FslabError(f"first is {first!r}; it must be a whole number from 1 up")
    if isinstance(layers, str):
        raise FslabError(f"layers are {layers!r}; give a list of paths or patterns, each a choice")
    if by_masks and criteria:
        raise FslabError(
            "criteria are for pictures without masks; give criteria, or masks and a metric"
        )


def _judge(
    lab: Lab,
    recipe: Recipe,
    criteria: Any,
    metric: str | None,
    classes: Sequence[str],
    cells: Sequence[Cell],
) -> Judge:
    """Return what tells choices apart."""
    from fslab.score import find_metric
    from fslab.tune import DEFAULT, ByCriteria, ByMasks, Means, check_tell_apart, find_criteria

    kept = lab._memory.text
    means = Means(
        lab.backbone,
        lab.layers(),
        lambda picture, settings: lab._extract(picture, settings),
        lambda features, settings: lab._cluster(features, settings, 0),
        kept,
    )
    if metric is None:
        found = find_criteria(criteria or DEFAULT)
        side = recipe.extract.resolution
        check_tell_apart(found, cells, lab.backbone, lab.layers(), side)
        return ByCriteria(found, recipe, means)
    how = find_metric(metric, classes)
    if how.needs != "segments":
        raise FslabError(
            f"metric {metric!r} counts names, and segments have none; take hungarian, mbo, oracle "
            "or boundary"
        )
    return ByMasks(how, classes, recipe, means)


@contextmanager
def _told(progress: bool, title: str) -> Iterator[Callable[[str, int], object]]:
    """Show each picture as its turn comes, and for how many choices."""
    from tqdm.auto import tqdm

    with tqdm(desc=title, unit=" pictures", disable=not progress) as bar:

        def told(name: str, cells: int) -> None:
            bar.set_postfix_str(f"{cells} choices, {name}")
            bar.update()

        yield told
