"""What is known of one picture at one timestep while layers are compared: computed if asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import numpy as np

from fslab.backbones import Backbone, Layer, pick_layers
from fslab.records import Clustering, Extraction, Features, FslabError, Picture, Recipe, Segments

MOST_CELLS = 1024
"""Self-attention over more cells than that is not read: its maps take their square."""

GAP = 20
"""Timesteps between two self-attentions that are compared: a step of 50 over a thousand."""

_LAST = 999


@dataclass(frozen=True)
class Means:
    """What a search asks of a lab.

    extract, cluster: its stages. kept: returns the text of a key, made where the store lacks it.
    """

    backbone: Backbone
    listing: Sequence[Layer]
    extract: Callable[[Picture, Extraction], Features]
    cluster: Callable[[Features, Clustering], Segments]
    kept: Callable[[str, Callable[[], str]], str]


class Sight:
    """One picture at one timestep, for recipes that differ in layers and K.

    All layers of the recipes are read in one pass, with any noise, and what criteria ask for is
    computed once.
    """

    def __init__(self, picture: Picture, recipes: Sequence[Recipe], means: Means) -> None:
        self.picture, self._means = picture, means
        self._read = recipes[0].extract
        self._layers = tuple(
            dict.fromkeys(path for recipe in recipes for path in self._paths(recipe))
        )
        self._features: dict[str, Features] = {}

    def given(self, recipe: Recipe) -> Mapping[str, Callable[[], Any]]:
        """Return what makes each thing that a criterion may ask for, see `Criterion`."""
        return {
            "picture": lambda: self.picture,
            "features": partial(self._of, "first", recipe),
            "segments": partial(self.segments, recipe),
            "settings": lambda: recipe.cluster,
            "repeats": partial(self._repeats, recipe),
            "attentions": lambda: self.attentions,
        }

    def segments(self, recipe: Recipe) -> Segments:
        """Return the picture's segments."""
        return self._means.cluster(self._of("first", recipe), recipe.cluster)

    @cached_property
    def attentions(self) -> tuple[Features, Features]:
        """Self-attention at the timestep and a step away, of layers with few enough cells."""
        (step,) = self._read.timesteps
        paths = attention_paths(self._means.backbone, self._means.listing, self._read.resolution)
        other = step + GAP if step + GAP <= _LAST else step - GAP
        read = [replace(self._read, layers=paths, timesteps=(each,)) for each in (step, other)]
        first, second = (self._means.extract(self.picture, each) for each in read)
        return first, second

    def _repeats(self, recipe: Recipe) -> tuple[Segments, ...]:
        found = []
        if self._means.backbone.timestep is not None and self._read.noise == "added":
            found.append(self._means.cluster(self._of("noise", recipe), recipe.cluster))
        turned = self._means.cluster(self._of("mirrored", recipe), recipe.cluster)
        found.append(Segments(np.ascontiguousarray(turned.labels[:, ::-1])))
        return tuple(found)

    def _of(self, which: str, recipe: Recipe) -> Features:
        """Return the features of a recipe's layers: as they are, with other noise, or mirrored."""
        if which not in self._features:
            settings = replace(self._read, layers=self._layers)
            if which == "noise":
                settings = replace(settings, seed=settings.seed + 1)
            picture = mirrored(self.picture) if which == "mirrored" else self.picture
            self._features[which] = self._means.extract(picture, settings)
        known = self._features[which]
        maps = {path: known[path] for path in self._paths(recipe)}
        return Features(maps, known.size, known.name)

    def _paths(self, recipe: Recipe) -> tuple[str, ...]:
        patterns = recipe.extract.layers or self._means.backbone.default_layers
        return tuple(layer.path for layer in pick_layers(patterns, self._means.listing))


def mirrored(picture: Picture) -> Picture:
    """Return a picture with left and right exchanged."""
    return Picture(np.ascontiguousarray(picture.pixels[:, ::-1]), picture.name)


def attention_paths(
    backbone: Backbone, listing: Sequence[Layer], resolution: int | None = None
) -> tuple[str, ...]:
    """Return the self-attentions whose maps are small enough; FslabError where there is none.

    resolution: the shorter side that the network sees, its own for None; cells are those of a
    square.
    """
    share = ((resolution or backbone.resolution) / backbone.resolution) ** 2
    cells = {each.path: each.channels * share for each in listing if each.path.endswith(".probs")}
    few = tuple(path for path, count in cells.items() if count <= MOST_CELLS)
    if not few:
        least = f"{min(cells.values(), default=0):.0f}"
        why = f"its self-attention has {least} cells or more" if cells else "it has none"
        raise FslabError(
            f"{backbone.name} shows no self-attention over {MOST_CELLS} cells or fewer ({why}), so "
            "no criterion can compare it at two timesteps; take other criteria, or a smaller "
            "extract.resolution"
        )
    return few
