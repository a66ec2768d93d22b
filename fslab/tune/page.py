"""A search as one HTML file that opens anywhere, without a network."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

import numpy as np

from fslab.plots import heat_map
from fslab.plots.maps import short_path
from fslab.plots.page import figure, heading, page, paragraph, plotly_script, table
from fslab.score import METRICS
from fslab.tune.registry import CRITERIA
from fslab.tune.result import Tuning


def tuning_page(tuning: Tuning) -> str:
    """Return a whole HTML page: what was chosen, a map by criterion, rounds, and all choices.

    Every text is escaped, plotly.js is inside the page once, and nothing is loaded.
    """
    title = f"{tuning.base.name} tuned on {tuning.pictures}"
    parts = [
        f"<h1>{escape(title)}</h1>",
        paragraph(f"Chosen: {tuning.best}."),
        paragraph(_said(tuning)),
        heading("Rounds"),
        table([{"pictures": each.pictures, "choices": each.cells} for each in tuning.rounds]),
        *_maps(tuning),
        heading("All choices, the best first"),
        table([_words(row) for row in tuning.table()]),
        *_left_out(tuning),
        heading("The recipe"),
        f"<pre>{escape(tuning.recipe_text())}</pre>",
    ]
    return page(title, parts, plotly_script())


def _said(tuning: Tuning) -> str:
    how = (
        "by the masks of these pictures"
        if tuning.judge.by_masks
        else "without any mask: what these criteria prefer need not be what a person would"
    )
    several = (
        " Several criteria count alike, by the mean of a choice's ranks."
        if len(tuning.criteria) > 1
        else ""
    )
    return (
        f"Features of {tuning.backbone}. Told apart by {', '.join(tuning.criteria)}, {how}."
        f"{several} All choices were measured on {_pictures(tuning)}, the better half of them on "
        "twice as many, and so on (successive halving)."
    )


def _pictures(tuning: Tuning) -> str:
    count = len(tuning.first)
    return f"{count} picture{'' if count == 1 else 's'}"


def _maps(tuning: Tuning) -> Iterator[str]:
    for number, name in enumerate(tuning.criteria):
        values, layers, steps = tuning.map(name)
        yield heading(name)
        yield paragraph(note_of(name))
        if np.isfinite(values).any():
            where = f"{name}, mean over {_pictures(tuning)}, each with its best K"
            axes = ("layer", "timestep" if any(steps) else "")
            rows = [short_path(layer) for layer in layers]
            rows = rows if len(set(rows)) == len(rows) else layers
            shown = [step or "no timestep" for step in steps]
            yield figure(heat_map(values, rows, shown, where, name, axes=axes), f"map-{number}")


def note_of(name: str) -> str:
    """Return what is known in words of a criterion, or of a metric."""
    if name in CRITERIA:
        return CRITERIA[name].note
    return METRICS[name].note if name in METRICS else ""


def _words(row: dict[str, object]) -> dict[str, object]:
    return {name: "" if value is None else value for name, value in row.items()}


def _left_out(tuning: Tuning) -> list[str]:
    rows = [{"picture": name, "why": why} for name, why in tuning.search.left_out.items()]
    return [heading("Pictures left out"), table(rows)] if rows else []
