"""What is chosen among: layers by timesteps by K, each a recipe."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

from fslab.backbones import UNET_BLOCKS, Backbone, Layer, pick_layers
from fslab.records import FslabError, KClustering, Own, Recipe
from fslab.records.checks import check_timestep

TIMESTEPS = (0, 50, 100, 200, 300, 500)
"""The timesteps that are tried where none is named."""

KS = (4, 6, 8, 12)
"""The numbers of segments that are tried where none is named."""


@dataclass(frozen=True)
class Cell:
    """One choice: a layer's path or a pattern, a timestep, K.

    layer: "" for all that the backbone reads by default, joined. timestep: None where time has no
    meaning. k: None where the recipe's own is kept.
    """

    layer: str
    timestep: int | None
    k: int | None

    def __str__(self) -> str:
        """Say it in words."""
        words = [self.layer or "the usual layers"]
        words += [f"t = {self.timestep}"] if self.timestep is not None else []
        return ", ".join([*words, f"K = {self.k}"] if self.k is not None else words)

    def of(self, recipe: Recipe) -> Recipe:
        """Return a recipe with this choice in it; its further K (`also`) are kept, without ours."""
        changes: dict[str, object] = {}
        if self.layer:
            changes["extract.layers"] = (self.layer,)
        if self.timestep is not None:
            changes["extract.timesteps"] = (self.timestep,)
        if self.k is not None and isinstance(recipe.cluster, KClustering):
            changes["cluster.k"] = self.k
            changes["cluster.also"] = tuple(k for k in recipe.cluster.also if k != self.k)
        return recipe.change(changes)


def cells_of(
    backbone: Backbone,
    listing: Sequence[Layer],
    recipe: Recipe,
    layers: Sequence[str],
    timesteps: Sequence[int],
    ks: Sequence[int],
) -> tuple[Cell, ...]:
    """Return all choices: each of the layers at each timestep with each K, the usual where empty.

    Raises FslabError for a layer, a timestep or a K that the backbone or the recipe does not have,
    and where only one choice is left.
    """
    if isinstance(recipe.extract, Own):
        raise FslabError(
            f"extract of {recipe.name} is a function of one's own, which has no layers to choose "
            "among; take a method that reads a backbone"
        )
    if recipe.extract.attention != "none":
        raise FslabError(
            f"extract.attention of {recipe.name} is {recipe.extract.attention!r}; layers are "
            "compared without words, so set it to 'none'"
        )
    if recipe.extract.prompted != "given":
        raise FslabError(
            f"extract.prompted of {recipe.name} is {recipe.extract.prompted!r}; layers are "
            "compared without captions, so set it to 'given'"
        )
    patterns = tuple(layers) or block_patterns(backbone, listing)
    for pattern in patterns:
        if pattern:
            pick_layers((pattern,), listing)
    steps, numbers = _timesteps(backbone, timesteps), _ks(recipe, ks)
    for what, values in (("layers", patterns), ("timesteps", steps), ("ks", numbers)):
        if len(set(values)) < len(values):
            raise FslabError(f"{what} are {list(values)}; name each once")
    cells = tuple(itertools.starmap(Cell, itertools.product(patterns, steps, numbers)))
    if len(cells) < 2:
        raise FslabError(
            f"{backbone.name} with {recipe.name} leaves one choice, {cells[0]}, and nothing to "
            "tune; name several layers, timesteps or K"
        )
    return cells


def block_patterns(backbone: Backbone, listing: Sequence[Layer]) -> tuple[str, ...]:
    """Return a network's blocks, each a layer: a UNet's seven or so, or a transformer's blocks.

    They are the modules called by a number that are in no other such; "" alone, all that is read
    by default, of what has none.
    """
    if backbone.has_unet:
        return tuple(layer.path for layer in pick_layers(UNET_BLOCKS, listing))
    named = {layer.path: layer.path.split(".") for layer in listing}
    numbered = {path: words for path, words in named.items() if words[-1].isdigit()}
    outer = (path for path, words in numbered.items() if not any(map(str.isdigit, words[:-1])))
    return tuple(outer) or ("",)


def plain(recipe: Recipe) -> Recipe:
    """Return a recipe whose clustering gives the first segmentation alone."""
    if isinstance(recipe.cluster, KClustering) and recipe.cluster.also:
        return replace(recipe, cluster=replace(recipe.cluster, also=()))
    return recipe


def _timesteps(backbone: Backbone, timesteps: Sequence[int]) -> tuple[int | None, ...]:
    if backbone.timestep is None:
        if timesteps:
            raise FslabError(
                f"{backbone.name} has no timesteps; leave them out, not {list(timesteps)}"
            )
        return (None,)
    for timestep in timesteps:
        check_timestep(timestep)
    return tuple(timesteps) or TIMESTEPS


def _ks(recipe: Recipe, ks: Sequence[int]) -> tuple[int | None, ...]:
    cluster = recipe.cluster
    if not isinstance(cluster, KClustering) or cluster.k_is != "fixed":
        if ks:
            raise FslabError(
                f"{recipe.name} finds K for each picture by {cluster.method!r}; leave K out, not "
                f"{list(ks)}"
            )
        return (None,)
    for k in ks:
        replace(cluster, k=k, also=())  # which refuses what is no K
    return tuple(ks) or KS
