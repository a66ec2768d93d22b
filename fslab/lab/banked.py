"""What a lab does to make a bank of regions of one's own pictures."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from fslab.datasets import local
from fslab.errors import FslabWarning
from fslab.lab.banks import check_facts, facts_of
from fslab.lab.recipes import find_recipe
from fslab.lab.stream import Source, opened, sources_of
from fslab.lab.two import Two
from fslab.lab.words import check_agnostic
from fslab.records import FslabError, Picture, Recipe, Segments

if TYPE_CHECKING:
    from fslab.lab.lab import Lab
    from fslab.match import Bank

_EACH = 16
"""Pictures between two writings of what there is so far."""


class Banked(Two):
    """Banks of regions, which help to name those of other pictures."""

    def bank(
        self,
        pictures: Iterable[Source] | str | os.PathLike[str],
        method: str | Recipe = "fslab",
        *,
        out: str | os.PathLike[str],
        progress: bool = True,
    ) -> Bank:
        """Return a bank of the regions of pictures, which need no labels, and write it to `out`.

        pictures: a folder, or what `fslab.read` takes, or samples of a data set. method: whose
        features and segments are taken, of all its clusterings; `match.bank = OUT` then helps names
        by a recipe with the same features. A region's key is its mean features, its value CLIP's
        mask token of it, see `fslab.match.Patches`. Never of pictures that are to be scored: where
        a bank holds one, naming it is refused.

        What is done is written every 16 pictures, and a file that is there is gone on from;
        pictures that it has are passed over. One that cannot be read, or fails, is named in a
        FslabWarning. Raises FslabError for a file that was made in another way, and where no
        picture has a region.
        """
        lab, path = cast("Lab", self), local(out)
        recipe = lab.recipe(find_recipe(method))
        check_agnostic(recipe)
        facts = facts_of(lab, recipe)
        parts = [_gone_on(path, facts)] if path.exists() else []
        known = {digest for each in parts for digest in each.pictures}
        refused = ["there are none"]
        for source in _shown(sources_of(pictures), progress, lab.backbone.name):
            part = _regions_of(lab, source, recipe, facts, known)
            if isinstance(part, FslabError):
                refused.append(str(part))
                warnings.warn(str(part), FslabWarning, stacklevel=2)
            elif part is not None:
                parts.append(part)
                known.update(part.pictures)
            if len(parts) > _EACH:
                parts = [_written(parts, path)]
        if not parts:
            raise FslabError(f"no picture gave a region, so there is no bank: {refused[-1]}")
        return _written(parts, path)


def _shown(sources: Iterable[Source], progress: bool, name: str) -> Iterable[Source]:
    from tqdm.auto import tqdm

    shown: Iterable[Source] = tqdm(
        sources, desc=f"a bank by {name}", unit=" pictures", disable=not progress
    )
    return shown


def _regions_of(
    lab: Lab, source: Source, recipe: Recipe, facts: dict[str, Any], known: set[str]
) -> Bank | FslabError | None:
    """Return one picture's regions; None for one that is known, or what it is refused for."""
    try:
        picture = opened(source)
        return None if picture.digest in known else _one(lab, picture, recipe, facts)
    except FslabError as error:
        return error


def _one(lab: Lab, picture: Picture, recipe: Recipe, facts: dict[str, Any]) -> Bank:
    from fslab.match import Bank, Patches, region_keys

    features = lab._extract(picture, recipe.extract)
    segments = lab._cluster(features, recipe.cluster, 0)
    several: Sequence[Segments] = (segments, *segments.others)
    patches = Patches(picture, lab.matcher)
    keys = np.concatenate([region_keys(features, each) for each in several])
    values = np.concatenate([patches.encode(each.masks()) for each in several])
    return Bank(keys, values, (picture.digest,), facts)


def _written(parts: Sequence[Bank], path: Path) -> Bank:
    from fslab.match.bank import joined_bank

    bank = joined_bank(parts)
    bank.write(path)
    return bank


def _gone_on(path: Path, facts: dict[str, Any]) -> Bank:
    from fslab.match import read_bank

    bank = read_bank(path)
    check_facts(str(path), bank, facts, "give another file, or delete this one")
    return bank
