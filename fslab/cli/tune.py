"""A search over layers, timesteps and K: what was chosen, and the first few, on the screen."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fslab.cli.text import aligned
from fslab.lab import Lab
from fslab.records import Recipe
from fslab.tune import Tuning
from fslab.tune.result import PAGE, RECIPE

_SHOWN = 10


def tune_folder(
    lab: Lab, pictures: str, split: str | None, recipe: Recipe, out: Path, **asked: Any
) -> str:
    """Tune on a folder of pictures, or on a split of a data set, and return what to print."""
    from fslab.datasets import load

    source: Any = pictures if split is None else load(pictures, split)
    tuning = lab.tune(source, recipe, out=out, **asked)
    return (
        f"{as_text(tuning)}\n\npage: {out / PAGE}\nfslab segment PICTURE --recipe {out / RECIPE} "
        "--out DIR"
    )


def as_text(tuning: Tuning) -> str:
    """Return the rounds and the best choices with their figures."""
    rounds = ", ".join(f"{each.cells} on {each.pictures}" for each in tuning.rounds)
    lines = [["layer", "t", "K", "pictures", *tuning.criteria]]
    for row in tuning.table()[:_SHOWN]:
        lines.append([row["layer"] or "usual layers", *map(_said, _figures(row, tuning.criteria))])
    left_out = len(tuning.search.left_out)
    ending = [f"{left_out} pictures were left out: see the page"] if left_out else []
    return "\n".join(
        [
            f"chosen for {tuning.pictures}: {tuning.best}",
            f"choices on pictures, round by round: {rounds}; the best first",
            aligned(lines),
            *ending,
        ]
    )


def _figures(row: dict[str, Any], criteria: Sequence[str]) -> list[Any]:
    return [row["timestep"], row["k"], row["pictures"], *(row[name] for name in criteria)]


def _said(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.3f}" if isinstance(value, float) else str(value)
