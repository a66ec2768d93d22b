"""A report as one HTML file that opens anywhere, without a network."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from functools import reduce
from html import escape
from operator import add
from pathlib import Path

import numpy as np

from fslab.datasets import Dataset, Sample, local
from fslab.evaluate.job import ImageResult
from fslab.evaluate.run import Report, figure_row
from fslab.files import write_or_refuse
from fslab.lab import Lab
from fslab.plots import GalleryRow, confusion_matrix, interval_bars, iou_bars
from fslab.plots.gallery import article
from fslab.plots.page import figure, heading, page, paragraph, plotly_script, table
from fslab.records import Confusion, FslabError, Recipe

PAGE = "report.html"

ODD_ROWS = 200
"""So many oddities are shown on a page."""


def write_page(
    report: Report,
    lab: Lab,
    dataset: Dataset,
    out: str | os.PathLike[str],
    pictures: int = 3,
) -> Path:
    """Write report.html into a folder and return its path; see `report_page`.

    Raises FslabError where the folder cannot be written.
    """
    path = local(out) / PAGE
    write_or_refuse(path, report_page(report, lab, dataset, pictures).encode())
    return path


def report_page(report: Report, lab: Lab, dataset: Dataset, pictures: int = 3) -> str:
    """Return a whole HTML page: figures, classes, confusion, best and worst pictures, settings.

    lab and dataset: those of the report; the pictures shown go through the method again, which
    the store makes short. pictures: how many of the best, and as many of the worst. Every text
    is escaped, plotly.js is inside the page once, and nothing is loaded.
    """
    title = f"{report.method} on {report.dataset} {report.split}"
    parts = [
        f"<h1>{escape(title)}</h1>",
        paragraph(_said(report)),
        paragraph(report.caveat),
        paragraph(report.left_out),
        paragraph(report.mixed),
        heading("Figures"),
        table([figure_row(score) for score in report.scores.values()]),
        *_charts(report, title),
        *_pictures(report, lab, dataset, pictures),
        heading("Left out") if report.refused else "",
        table([{"picture": name, "why": why} for name, why in report.refused.items()]),
        heading("Truth"),
        table(
            [{"class": name, **counts} for name, counts in report.truth.items() if counts["pixels"]]
        ),
        heading("Oddities of the data set") if report.oddities else "",
        table(_odd_rows(report)),
        heading("Recipe"),
        table(recipe_rows(report.recipe)),
        heading("Seconds by stage, summed over pictures"),
        table([{"stage": stage, "seconds": spent} for stage, spent in report.seconds.items()]),
        heading("Versions"),
        table(
            [
                {"package": package, "version": number, "pictures": count}
                for package, counts in report.versions.items()
                for number, count in counts.items()
            ]
        ),
    ]
    return page(title, parts, plotly_script())


def _odd_rows(report: Report) -> list[dict[str, object]]:
    """Return what is odd about the data set as rows of a table; report.json has all of them."""
    found = report.oddities
    rows: list[dict[str, object]] = [
        {"kind": each.kind, "where": each.where, "why": each.why} for each in found[:ODD_ROWS]
    ]
    more = len(found) - len(rows)
    return [*rows, {"kind": "", "where": "", "why": f"and {more} more"}] if more else rows


def recipe_rows(recipe: Recipe) -> list[dict[str, object]]:
    """Return every setting of a recipe, as rows of a table."""
    return [
        {"stage": stage, "setting": setting, "value": json.dumps(value)}
        for stage, part in recipe.to_dict().items()
        if isinstance(part, Mapping)
        for setting, value in part.items()
    ]


def _said(report: Report) -> str:
    return (
        f"Features from {report.backbone}, preset {report.preset}, on {report.device}. "
        f"{report.score.images} pictures of {report.dataset}. Intervals hold 95 % of a thousand "
        "draws of the pictures with replacement: they say how far a figure would move with "
        "other pictures of the same kind."
    )


def _charts(report: Report, title: str) -> Iterator[str]:
    scores = list(report.scores.values())
    intervals = [score.interval for score in scores]
    drawn = interval_bars(
        [score.metric for score in scores],
        [score.figure for score in scores],
        [interval.low if interval else None for interval in intervals],
        [interval.high if interval else None for interval in intervals],
        f"{title}: every protocol, with 95 % intervals",
        "mean IoU, or F of contours",
    )
    yield figure(drawn, "protocols")
    if report.score.iou:
        yield heading("Classes")
        yield figure(iou_bars(report.score, title), "classes")
    total = reduce(add, (_counts(row) for row in report.rows))
    if total.counts.any():
        how = "" if report.rows[0].counted.named else ", segments named by their majority class"
        yield heading("Confusion")
        yield figure(confusion_matrix(total, f"{title}{how}"), "confusion")


def _counts(row: ImageResult) -> Confusion:
    """Return an image's confusion: of its names, or where it has none of its best names."""
    score = row.counted
    found = score.named if score.named is not None else score.oracle
    if found is None:
        raise FslabError(f"{row.name} was counted by neither names nor segments")
    return found


def _pictures(report: Report, lab: Lab, dataset: Dataset, count: int) -> Iterator[str]:
    """Show the pictures with the highest mean IoU of their own, then those with the lowest."""
    mious = {row.name: _counts(row).miou for row in report.rows}
    known = [row for row in report.rows if np.isfinite(mious[row.name])]
    ranked = sorted(known, key=lambda row: -mious[row.name])
    samples = {sample.name: sample for sample in dataset}
    best = ranked[:count]
    worst = ranked[max(len(ranked) - count, len(best)) :][::-1]
    for words, rows in (("Best pictures", best), ("Worst pictures", worst)):
        yield heading(words) if rows else ""
        for row in rows:
            try:
                yield article(_gallery_row(report, lab, samples[row.name], row))
            except FslabError as error:
                yield paragraph(str(error))


def _gallery_row(report: Report, lab: Lab, sample: Sample, row: ImageResult) -> GalleryRow:
    picture, truth, counts = sample.picture(), sample.truth(), _counts(row)
    names, is_named = report.vocabulary.names, row.counted.named is not None
    kind = "IoU" if is_named else "IoU of the best names"
    facts = {
        f"mean {kind}": f"{100 * counts.miou:.1f}",
        kind: ", ".join(
            f"{name} {100 * value:.0f}"
            for name, value in zip(names, counts.iou, strict=True)
            if np.isfinite(value)
        ),
    }
    if not is_named:
        segments = lab.segments(picture, report.recipe, report.vocabulary)
        return GalleryRow(picture, segments, None, truth, facts=facts, names=names)
    result = lab.segment(picture, report.recipe, report.vocabulary)
    facts = {"candidates": ", ".join(row.candidates) or "none", **facts}
    return GalleryRow(
        picture, result.segments, result.labels, truth, row.caption, facts, result.named, names
    )
