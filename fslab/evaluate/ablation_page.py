"""An ablation as one HTML file that opens anywhere, without a network."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

import numpy as np

from fslab.evaluate.ablation import Ablation, AblationRow
from fslab.plots import heat_map, interval_bars
from fslab.plots.page import figure, heading, page, paragraph, plotly_script, table
from fslab.score import METRICS


def ablation_page(ablation: Ablation) -> str:
    """Return a whole HTML page: the table in per cent, and for each metric its figures.

    A grid of two axes is drawn as a map, all else as bars with their intervals. Every text is
    escaped, plotly.js is inside the page once, and nothing is loaded.
    """
    where = f"{ablation.dataset} {ablation.split}"
    parts = [
        f"<h1>{escape(ablation.title)}</h1>",
        paragraph(
            f"{where}, preset {ablation.preset}. Figures in per cent with 95 % intervals over "
            "resampled pictures; gains are over the first row, on the same pictures drawn "
            "together."
        ),
        table([_percent(row, ablation.metrics) for row in ablation.rows]),
        *_left_out(ablation),
    ]
    for number, metric in enumerate(ablation.metrics):
        parts += [heading(metric), paragraph(METRICS[metric].note)]
        parts += _drawn(ablation, metric, f"{ablation.title}: {metric} on {where}", number)
    return page(ablation.title, parts, plotly_script())


def _percent(row: AblationRow, metrics: tuple[str, ...]) -> dict[str, object]:
    flat: dict[str, object] = {"row": row.name, "features from": row.backbone}
    flat["pictures"] = row.images
    for metric in metrics:
        score, gain = row.scores[metric], row.gains.get(metric)
        flat[metric] = f"{100 * score.figure:.1f}"
        flat[f"{metric}, 95 %"] = score.interval.percent if score.interval else ""
        flat[f"{metric}, gain"] = (
            f"{100 * gain.value:+.1f} ({100 * gain.low:+.1f} to {100 * gain.high:+.1f})"
            + ("" if gain.is_clear else ", not clear")
            if gain
            else ""
        )
    return flat


def _left_out(ablation: Ablation) -> list[str]:
    rows = [
        {"row": row.name, "picture": name, "why": why}
        for row in ablation.rows
        for name, why in row.refused.items()
    ]
    return [heading("Left out"), table(rows)] if rows else []


def _drawn(ablation: Ablation, metric: str, title: str, number: int) -> Iterator[str]:
    axes = list(ablation.rows[0].axes)
    if len(axes) == 2:
        yield figure(_map(ablation, metric, title, axes), f"map-{number}")
        return
    scores = [row.scores[metric] for row in ablation.rows]
    spreads = [score.interval for score in scores]
    bars = interval_bars(
        [row.name for row in ablation.rows],
        [score.figure for score in scores],
        [spread.low if spread else None for spread in spreads],
        [spread.high if spread else None for spread in spreads],
        title,
        metric,
    )
    yield figure(bars, f"bars-{number}")


def _map(ablation: Ablation, metric: str, title: str, axes: list[str]) -> object:
    rows, columns = (list(dict.fromkeys(row.axes[axis] for row in ablation.rows)) for axis in axes)
    values = np.full((len(rows), len(columns)), np.nan)
    for row in ablation.rows:
        down, across = (row.axes[axis] for axis in axes)
        values[rows.index(down), columns.index(across)] = row.scores[metric].figure
    return heat_map(values, rows, columns, title, metric)
