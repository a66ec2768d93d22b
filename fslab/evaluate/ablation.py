"""Many recipes over the same pictures, and what each is above the first."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fslab.datasets import Dataset, load, local
from fslab.evaluate.experiment import Experiment, Variant, read_experiment
from fslab.evaluate.job import ImageResult, Job, plan, score_sample
from fslab.evaluate.log import Log
from fslab.evaluate.run import DRAWS, check_some_scored, check_truth, look_first
from fslab.files import csv_of, write_or_refuse
from fslab.records import FslabError, Recipe, Vocabulary
from fslab.score import Difference, Interval, Score, paired_bootstrap, summarise

if TYPE_CHECKING:
    from fslab.evaluate.shared import SharedLab

TABLE = "table.csv"
FIGURE = "figure.html"
_PLACES = 4
"""Decimals of a table's figures: a hundredth of a per cent, far finer than any interval."""


@dataclass(frozen=True)
class AblationRow:
    """One recipe's figures. axes: its place in a grid; backbone: where its features came from.

    scores: by metric, with intervals; gains: by metric, how much it is above the first row over
    the pictures that both have, None for the first row itself and where they share fewer than
    two. refused: why pictures were left out, by name.
    """

    name: str
    axes: dict[str, str]
    recipe: Recipe
    backbone: str
    scores: dict[str, Score]
    images: int
    gains: dict[str, Difference | None] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Ablation:
    """An experiment's rows over one dataset, in the file's order."""

    title: str
    dataset: str
    split: str
    preset: str
    metrics: tuple[str, ...]
    rows: tuple[AblationRow, ...]

    def table(self) -> list[dict[str, Any]]:
        """Return one flat dict a row, all with the same keys, figures as 0..1 to four decimals.

        For a metric m: m, m_low and m_high (the figure with its 95 % interval), m_gain,
        m_gain_low and m_gain_high (the same above the first row); None where there is none.
        """
        return [self._flat(row) for row in self.rows]

    def write(self, folder: str | os.PathLike[str]) -> None:
        """Write table.csv and figure.html; FslabError where the folder cannot be written."""
        from fslab.evaluate.ablation_page import ablation_page

        page, folder = ablation_page(self), local(folder)
        write_or_refuse(folder / TABLE, csv_of(self.table()))
        write_or_refuse(folder / FIGURE, page.encode())

    def _flat(self, row: AblationRow) -> dict[str, Any]:
        flat: dict[str, Any] = {"name": row.name, **row.axes, "backbone": row.backbone}
        flat |= {"dataset": self.dataset, "split": self.split, "images": row.images}
        for metric in self.metrics:
            score, gain = row.scores[metric], row.gains.get(metric)
            flat |= _spread(metric, score.figure, score.interval)
            flat |= _spread(f"{metric}_gain", gain.value if gain else None, gain)
        return flat


def ablate(
    experiment: Experiment | str | os.PathLike[str],
    dataset: Dataset | str | os.PathLike[str],
    out: str | os.PathLike[str] | None = None,
    limit: int | None = None,
    preset: str = "mini",
    progress: bool = True,
    precision: str | None = None,
) -> Ablation:
    """Run an ablation over a dataset's first `limit` pictures, or over all.

    experiment: a file, or what `read_experiment` made of one. dataset: an open one, or a folder
    whose split the file names. What rows share is done once: rows of one backbone go over each
    picture together, and its features, caption and CLIP views stay in memory meanwhile. With
    `out`, each result is appended to results.jsonl there, a run that was stopped goes on where
    it was, and table.csv and figure.html are written at the end. precision: as in `Lab`.

    Raises FslabError, before anything runs, where the file is not right (which row, what was
    expected), and as `evaluate` does.
    """
    from fslab.evaluate.shared import SharedLab

    if not isinstance(experiment, Experiment):
        experiment = read_experiment(experiment)
    if not isinstance(dataset, Dataset):
        dataset = load(dataset, experiment.split)
    dataset = dataset.limit(limit)
    check_truth(dataset)
    look_first(dataset)
    known = dataset.vocabulary
    groups = [
        _Group(SharedLab(preset, backbone, precision=precision), variants, experiment, known)
        for backbone, variants in _by_backbone(experiment.variants)
    ]
    with Log(out, dataset.vocabulary.names) if out is not None else nullcontext() as log:
        found = _run_all(groups, experiment, dataset, log, progress)
        ablation = _summary(experiment, dataset, preset, found)
        if log is not None and out is not None:
            log.settle()
            ablation.write(out)
    return ablation


def read_table(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Read a table.csv: one dict a row, numbers as numbers and empty cells as None.

    The text columns (name, backbone, dataset, split, and a grid's axes) stay text.
    Raises FslabError where there is no such table.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise FslabError(f"{path} is not a table that can be read: {error}") from error
    rows = list(csv.DictReader(io.StringIO(text)))
    if not rows or not {"name", "images"} <= rows[0].keys():
        raise FslabError(f"{path} is not the table of an ablation; `fslab ablate` writes one")
    columns = list(rows[0])
    numbers = columns[columns.index("images") :]
    return [
        {key: _number(value) if key in numbers else value for key, value in row.items()}
        for row in rows
    ]


@dataclass
class _Group:
    """The rows of one backbone, planned; its lab is let go of when they are done."""

    lab: SharedLab
    variants: Sequence[Variant]
    experiment: Experiment
    vocabulary: Vocabulary

    def __post_init__(self) -> None:
        self.backbone: str = self.lab.backbone.name
        self.jobs: list[Job] = []
        for variant in self.variants:
            try:
                metrics = self.experiment.metrics
                asked = variant.recipe, self.vocabulary, metrics
                self.jobs.append(plan(self.lab, *asked, given=variant.given))
            except FslabError as error:
                raise FslabError(f"row {variant.name!r}: {error}") from error

    def run(self, dataset: Dataset, log: Log | None, done: Callable[[], None]) -> Iterator[_Found]:
        """Go over the pictures, and over the rows for each; give each row's results at the end."""
        from fslab.evaluate.shared import HeldSample, extract_together

        results: list[dict[str, ImageResult]] = [{} for _ in self.jobs]
        for sample in dataset:
            held: Any = HeldSample(sample)
            known = [log.done(job, held) if log else None for job in self.jobs]
            missing = [job for job, one in zip(self.jobs, known, strict=True) if one is None]
            extract_together(self.lab, missing, held)
            for place, (variant, job) in enumerate(zip(self.variants, self.jobs, strict=True)):
                results[place][sample.name] = known[place] or self._score(job, held, log)
                _check_row(variant, results[place])
                done()
        self.lab.close()
        del self.lab
        for variant, job, found in zip(self.variants, self.jobs, results, strict=True):
            yield _Found(variant, job, self.backbone, list(found.values()))

    def _score(self, job: Job, sample: Any, log: Log | None) -> ImageResult:
        result = score_sample(self.lab, job, sample)
        if log and not result.refused:
            log.append(result)
        return result


@dataclass(frozen=True)
class _Found:
    """A row's results in the dataset's order."""

    variant: Variant
    job: Job
    backbone: str
    results: list[ImageResult]

    @cached_property
    def rows(self) -> dict[str, ImageResult]:
        return {result.name: result for result in self.results if not result.refused}


def _by_backbone(variants: Sequence[Variant]) -> list[tuple[str | None, list[Variant]]]:
    groups: dict[str | None, list[Variant]] = {}
    for variant in variants:
        groups.setdefault(variant.backbone, []).append(variant)
    return list(groups.items())


def _run_all(
    groups: Sequence[_Group],
    experiment: Experiment,
    dataset: Dataset,
    log: Log | None,
    progress: bool,
) -> list[_Found]:
    """Return all rows' results, in the file's order."""
    from tqdm.auto import tqdm

    total = len(dataset) * len(experiment.variants)
    with tqdm(total=total, desc=experiment.title, disable=not progress) as bar:
        found = [each for group in groups for each in group.run(dataset, log, bar.update)]
    place = {variant.name: number for number, variant in enumerate(experiment.variants)}
    return sorted(found, key=lambda each: place[each.variant.name])


def _check_row(variant: Variant, found: dict[str, ImageResult]) -> None:
    try:
        check_some_scored(found)
    except FslabError as error:
        raise FslabError(f"row {variant.name!r}: {error}") from error


def _summary(
    experiment: Experiment, dataset: Dataset, preset: str, found: Sequence[_Found]
) -> Ablation:
    rows = [_row(each, experiment.metrics) for each in found]
    rows[1:] = [
        replace(row, gains={metric: _gain(metric, found[0], each) for metric in experiment.metrics})
        for row, each in zip(rows[1:], found[1:], strict=True)
    ]
    return Ablation(
        experiment.title, dataset.name, dataset.split, preset, experiment.metrics, tuple(rows)
    )


def _row(found: _Found, metrics: Sequence[str]) -> AblationRow:
    results = list(found.rows.values())
    refused = {each.name: each.refused for each in found.results if each.refused}
    variant = found.variant
    if not results:
        raise FslabError(f"row {variant.name!r}: {next(iter(refused.values()))}")
    per_image = [result.counted for result in results]
    scores = {metric: summarise(metric, per_image, DRAWS) for metric in metrics}
    return AblationRow(
        variant.name, dict(variant.axes), found.job.recipe, found.backbone, scores, len(results),
        refused=refused,
    )  # fmt: skip


def _gain(metric: str, first: _Found, other: _Found) -> Difference | None:
    """Return how much a row is above the first over the pictures that both have."""
    mine, theirs = first.rows, other.rows
    shared = [name for name in mine if name in theirs]
    if len(shared) < 2:
        return None
    one, another = ([rows[name].counted for name in shared] for rows in (mine, theirs))
    return paired_bootstrap(metric, one, another, draws=DRAWS)


def _spread(
    name: str, value: float | None, found: Interval | Difference | None
) -> dict[str, float | None]:
    """Return a figure and its interval as three rounded entries, None where there is none."""
    ends = (found.low, found.high) if found else (None, None)
    entries = zip((name, f"{name}_low", f"{name}_high"), (value, *ends), strict=True)
    return {key: None if end is None else round(end, _PLACES) for key, end in entries}


def _number(value: str | None) -> float | int | None:
    if not value:
        return None
    return int(value) if value.lstrip("-").isdigit() else float(value)
