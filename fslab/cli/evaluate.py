"""A method over a dataset: figures on the screen, results and a page in a folder."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from fslab import datasets
from fslab.cli.score import class_lines, figure_lines
from fslab.datasets import Dataset, MissingFiles
from fslab.datasets.folders import said_of_folder
from fslab.datasets.oddities import LEFT, by_kind
from fslab.evaluate import Report, draw, evaluate, write_page
from fslab.lab import Lab
from fslab.lab.drawn import caveat_of
from fslab.records import FslabError, Recipe
from fslab.score import find_metric, usual_metric

if TYPE_CHECKING:
    from distributed import Client


def open_set(root: str, split: str, format: str, skip_missing: bool = False) -> Dataset:
    """Open a dataset; where files are missing all are named, one a line, before the refusal."""
    try:
        return datasets.load(root, split, format, skip_missing)
    except MissingFiles as error:
        print("\n".join(error.names), file=sys.stderr)
        hint = "" if skip_missing else "; --skip-missing leaves them out"
        raise FslabError(f"{error.sentence}{hint}") from error


def chosen_metric(metric: str | None, data: Dataset, cluster: str | None) -> str:
    """Return the metric asked for, or the one that the dataset is known by."""
    chosen = metric or usual_metric(data.vocabulary.names)
    if find_metric(chosen, data.vocabulary.names).needs == "guess" and cluster:
        raise FslabError(
            f"--cluster names no pixels, and metric {chosen} counts names; "
            "take --metric hungarian, oracle or mbo, or a --method"
        )
    return chosen


def evaluate_set(
    lab: Lab,
    data: Dataset,
    recipe: Recipe,
    metric: str,
    limit: int | None,
    out: Path | None,
    *,
    client: Client | None,
    as_json: bool,
    batch: int | None = None,
) -> None:
    """Evaluate, print, and write the page where there is a folder.

    Raises FslabError, after all else is done, where pictures were left out that nobody asked to
    leave out: a figure over a part shall not pass for one over the whole.
    """
    report = evaluate(lab, data, recipe, metric, limit, out, client=client, batch=batch)
    if out is not None:
        page = write_page(report, lab, data, out)
    if report.caveat:
        print(f"fslab: {report.caveat}", file=sys.stderr)
    if as_json:
        print(json.dumps(report.to_dict()))
    else:
        print(as_text(report))
        print(f"results, report and page: {page}" if out is not None else "", end="\n" * bool(out))
    if set(report.refused) - set(data.missing):
        raise FslabError(report.left_out)


def draw_set(
    lab: Lab,
    data: Dataset,
    recipe: Recipe,
    limit: int | None,
    out: Path | None,
    *,
    named: bool,
    batch: int | None = None,
) -> None:
    """Write what a method makes of pictures without truth, and say that there is no score."""
    if out is None:
        raise FslabError(
            f"{data.name} has no truth, so there is no score; give --out for its pictures"
        )
    left = [each for each in data.oddities if each.kind == LEFT]
    print(said_of_folder(data.name, len(data), left), file=sys.stderr)
    data = data.limit(limit)
    drawn = draw(lab, data, recipe, out, named, batch=batch)
    if drawn.beyond:
        print(f"fslab: {caveat_of(drawn.beyond, len(drawn.written))}", file=sys.stderr)
    print(
        f"{data.name} has no truth, so there is no score; labels and overlays of "
        f"{len(drawn.written)} pictures: {out}"
    )
    if drawn.refused:
        first = next(iter(drawn.refused.values()))
        raise FslabError(f"{len(drawn.refused)} of {len(data)} pictures left out; first: {first}")


def as_text(report: Report) -> str:
    """Return the figure asked for with its classes, then every other."""
    asked = report.score
    lines = [f"{report.method} on {report.dataset} {report.split}, {report.backbone}"]
    lines += [*figure_lines(asked), *(class_lines(asked) if asked.iou else [])]
    for name, score in report.scores.items():
        if name != asked.metric:
            lines += ["", *figure_lines(score)]
    lines += [line for each in (report.left_out, report.mixed) if each for line in ("", each)]
    for kind, found in by_kind(report.oddities).items():
        lines.append(f"{kind}: {len(found)}; the first: {found[0].why}")
    return "\n".join(lines)
