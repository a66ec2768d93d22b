"""What a search found: the winner, all that was tried, and how both are written down."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from fslab.datasets import local
from fslab.files import csv_of, write_or_refuse
from fslab.html import line, table
from fslab.records import FslabError, Recipe, recipe_text
from fslab.tune.cells import Cell
from fslab.tune.search import Judge, Round, Search, Tried

TABLE, DATA, PAGE, RECIPE = "tune.csv", "tune.json", "tune.html", "recipe.toml"

_SHOWN = 10
_PLACES = 4


@dataclass(frozen=True)
class Tuning:
    """A search over layers, timesteps and K, and what it chose.

    base: the method that the choices were put in. backbone, pictures: what they are called. judge:
    what told them apart. search: all that was measured.
    """

    base: Recipe
    backbone: str
    pictures: str
    judge: Judge
    search: Search

    @property
    def best(self) -> Cell:
        """The choice that stands first: with several criteria by the mean of its ranks."""
        return self.search.tried[0].cell

    @property
    def recipe(self) -> Recipe:
        """The method with the best choice in it."""
        return self.best.of(self.base).change(name=f"{self.base.name}, {self.best}")

    @property
    def criteria(self) -> tuple[str, ...]:
        """What the choices were told apart by."""
        return self.judge.names

    @property
    def rounds(self) -> tuple[Round, ...]:
        """How many choices were measured on how many pictures."""
        return tuple(self.search.rounds)

    @property
    def first(self) -> tuple[str, ...]:
        """The pictures of the first round, which all choices were measured on."""
        return tuple(self.search.seen[: self.search.rounds[0].pictures])

    def table(self) -> list[dict[str, Any]]:
        """Return a flat dict for each choice, the best first; figures to four decimals.

        layer, timestep, k; pictures: how many it was measured on; by each criterion its figure
        over them, and as NAME_first over those of the first round; refused: why it was given up.
        None where there is no figure.
        """
        return [self._row(each) for each in self.search.tried]

    def map(self, criterion: str) -> tuple[np.ndarray, list[str], list[str]]:
        """Return a criterion's figures by layer and timestep, with the names of both: f64 [L, T].

        Over the pictures of the first round, of each layer and timestep its best K. NaN where none
        was measured.
        """
        if criterion not in self.criteria:
            raise FslabError(f"{criterion!r} was not asked; there is {', '.join(self.criteria)}")
        cells = [each.cell for each in self.search.tried]
        layers = list(dict.fromkeys(cell.layer for cell in self.search.cells))
        steps = sorted({-1 if cell.timestep is None else cell.timestep for cell in cells})
        values = np.full((len(layers), len(steps)), np.nan)
        for each in self.search.tried:
            figures = self._first(each)
            if figures:
                step = -1 if each.cell.timestep is None else each.cell.timestep
                place = layers.index(each.cell.layer), steps.index(step)
                values[place] = np.fmax(values[place], figures[criterion])
        names = [layer or "usual layers" for layer in layers]
        return values, names, ["" if step < 0 else f"{step}" for step in steps]

    def write(self, folder: str | os.PathLike[str]) -> None:
        """Write tune.html, tune.csv, tune.json and recipe.toml; FslabError where it cannot."""
        from fslab.tune.page import tuning_page

        page, place = tuning_page(self), local(folder)
        write_or_refuse(place / TABLE, csv_of(self.table()))
        write_or_refuse(place / DATA, json.dumps(self.to_dict(), indent=1).encode())
        write_or_refuse(place / PAGE, page.encode())
        write_or_refuse(place / RECIPE, self.recipe_text().encode())

    def recipe_text(self) -> str:
        """Return the winner's recipe as a TOML file, which `fslab.read_recipe` reads."""
        seen = len(self.search.tried[0].found)
        return recipe_text(
            self.recipe,
            f"chosen by {', '.join(self.criteria)} among {len(self.search.tried)}, on {seen} "
            f"pictures of {self.pictures}, features of {self.backbone}",
        )

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as plain data, for JSON: each choice's figures, picture by picture."""
        return {
            "method": self.base.name,
            "backbone": self.backbone,
            "pictures": self.pictures,
            "criteria": list(self.criteria),
            "by_masks": self.judge.by_masks,
            "recipe": self.recipe.to_dict(),
            "rounds": [vars(each) for each in self.rounds],
            "seen": list(self.search.seen),
            "left_out": dict(self.search.left_out),
            "tried": [
                {**vars(each.cell), "refused": each.refused, "found": self._each(each)}
                for each in self.search.tried
            ],
        }

    def __repr__(self) -> str:
        return (
            f"Tuning({self.best}: first of {len(self.search.tried)} by "
            f"{', '.join(self.criteria)}, {self.rounds[-1].pictures} pictures)"
        )

    def _repr_html_(self) -> str:
        return line(repr(self)) + table(self.table()[:_SHOWN])

    def _each(self, tried: Tried) -> dict[str, Any]:
        """Return a choice's figures on each picture by itself."""
        return {name: self.judge.figures([value]) for name, value in tried.found.items()}

    def _first(self, tried: Tried) -> Mapping[str, float]:
        found = [tried.found[name] for name in self.first if name in tried.found]
        return self.judge.figures(found) if len(found) == len(self.first) else {}

    def _row(self, tried: Tried) -> dict[str, Any]:
        figures = self.judge.figures(list(tried.found.values())) if tried.found else {}
        first = self._first(tried)
        row: dict[str, Any] = {
            "layer": tried.cell.layer, "timestep": tried.cell.timestep, "k": tried.cell.k,
            "pictures": len(tried.found),
        }  # fmt: skip
        for name in self.criteria:
            row[name] = _rounded(figures.get(name))
            row[f"{name}_first"] = _rounded(first.get(name))
        return {**row, "refused": tried.refused}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, _PLACES)
