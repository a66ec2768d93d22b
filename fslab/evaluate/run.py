"""A method over a dataset: one line a picture, appended as it comes, so that a run can go on."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import numpy as np

from fslab.batches import chosen_batch
from fslab.datasets import Dataset, Sample
from fslab.datasets.check import glance
from fslab.datasets.oddities import Oddity, by_kind
from fslab.errors import FslabWarning
from fslab.evaluate.job import ImageResult, Job, plan, score_samples
from fslab.evaluate.log import Log
from fslab.html import line, table
from fslab.lab import Lab
from fslab.lab.processes import chosen_processes
from fslab.records import FslabError, Recipe, Vocabulary
from fslab.score import ImageScore, Score, find_metric, summarise, summarise_all
from fslab.score.image import Tally

if TYPE_CHECKING:
    from distributed import Client

REPORT = "report.json"

SampleMap = Callable[[Iterable[Sample]], Generator[ImageResult]]
"""Where pictures are scored: here one after the other, or elsewhere, in any order."""

DRAWS = 1000
"""How often the pictures are drawn again for an interval, as `summarise_all` does."""

_LOOKED_AT = 24
"""Pictures of a data set, evenly spaced, that tell whether it is of mini's drawn world."""
_HOPELESS = 3
"""After so many pictures that the method refused, and none scored, a run is given up."""


@dataclass(frozen=True)
class Report:
    """A method's figures over a dataset, and the pictures' results that they were made of.

    scores: every metric that could be computed, each with its interval; score: the one that
    was asked for. rows: the scored pictures in the dataset's order; refused: why each of the
    others has no score, by name. device: what the models ran on; batch: how many pictures passed
    at once.
    oddities: what is odd about the data set, by its lists and the headers of its files.
    caveat: what must be said of the names; "" where nothing.
    """

    dataset: str
    split: str
    method: str
    preset: str
    backbone: str
    vocabulary: Vocabulary
    recipe: Recipe
    score: Score
    rows: tuple[ImageResult, ...]
    scores: Mapping[str, Score] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)
    device: str = "cpu"
    oddities: tuple[Oddity, ...] = ()
    caveat: str = ""
    batch: int = 1

    def __repr__(self) -> str:
        figure = f"{self.score.metric} {100 * self.score.figure:.1f} %"
        pictures = f"{len(self.rows)} pictures of {self.dataset} {self.split}"
        return f"Report({self.method} on {pictures}: {figure})"

    def _repr_html_(self) -> str:
        said = f"{self.method} on {self.dataset} {self.split}, features from {self.backbone}"
        more = [each for each in (self.caveat, self.left_out, self.mixed) if each]
        figures = table([figure_row(score) for score in self.scores.values()])
        return "".join(map(line, [said, *more])) + figures

    @cached_property
    def seconds(self) -> dict[str, float]:
        """Seconds by stage, summed over the pictures, as they were when each was computed."""
        stages = dict.fromkeys(stage for row in self.rows for stage in row.seconds)
        return {stage: sum(row.seconds.get(stage, 0.0) for row in self.rows) for stage in stages}

    @cached_property
    def truth(self) -> dict[str, dict[str, int]]:
        """Pictures and pixels of each class in the scored pictures' truth; void is left out."""
        names = self.vocabulary.names
        pixels, pictures = np.zeros((2, len(names)), np.int64)
        for row in self.rows:
            of_class = _truth_pixels(row.counted, len(names))
            pixels, pictures = pixels + of_class, pictures + (of_class > 0)
        return {
            name: {"pictures": int(pictures[label]), "pixels": int(pixels[label])}
            for label, name in enumerate(names)
        }

    @cached_property
    def versions(self) -> dict[str, dict[str, int]]:
        """By package, the versions that made the rows, and of how many; see `ImageResult`."""
        found: dict[str, dict[str, int]] = {}
        for row in self.rows:
            for package, number in row.versions.items():
                counts = found.setdefault(package, {})
                counts[number] = counts.get(number, 0) + 1
        return found

    @property
    def mixed(self) -> str:
        """Say which packages' versions were not the same for all rows; empty where all were."""
        several = {package: counts for package, counts in self.versions.items() if len(counts) > 1}
        if not several:
            return ""
        said = "; ".join(
            f"{package} {', '.join(f'{each} ({count})' for each, count in counts.items())}"
            for package, counts in several.items()
        )
        return f"Not all {len(self.rows)} pictures were computed by the same versions: {said}."

    @property
    def left_out(self) -> str:
        """Say how many pictures have no score, and why the first has none; empty for none."""
        if not self.refused:
            return ""
        count, all_of_them = len(self.refused), len(self.refused) + len(self.rows)
        first = next(iter(self.refused.values()))
        return (
            f"{count} of {all_of_them} pictures were left out of every figure; the first: {first}"
        )

    def rescored(self, metric: str) -> Score:
        """Return another figure of the same pictures."""
        return summarise(metric, [row.counted for row in self.rows])

    def to_dict(self) -> dict[str, Any]:
        """Return the figures with everything that says what they are, for JSON."""
        return {
            "dataset": self.dataset,
            "split": self.split,
            "method": self.method,
            "preset": self.preset,
            "backbone": self.backbone,
            "device": self.device,
            "batch": self.batch,
            **self.score.to_dict(),
            "scores": {name: score.to_dict() for name, score in self.scores.items()},
            "caveat": self.caveat,
            "refused": dict(self.refused),
            "truth": self.truth,
            "oddities": {
                kind: [{"where": each.where, "why": each.why} for each in found]
                for kind, found in by_kind(self.oddities).items()
            },
            "seconds": self.seconds,
            "recipe": self.recipe.to_dict(),
            "versions": self.versions,
        }


def figure_row(score: Score) -> dict[str, object]:
    """Return a figure in per cent with all that says what it is, as a row of a table."""
    interval = score.interval
    return {
        "metric": score.metric,
        "%": f"{100 * score.figure:.1f}",
        "95 % interval": interval.percent if interval else "",
        "pictures": score.images,
        "background": score.background,
        "vocabulary": score.vocabulary,
        "protocol": score.note,
    }


def evaluate(
    lab: Lab,
    dataset: Dataset,
    method: str | Recipe = "freeseg-diff",
    metric: str = "voc21",
    limit: int | None = None,
    out: str | os.PathLike[str] | None = None,
    progress: bool = True,
    client: Client | None = None,
    batch: int | None = None,
    processes: int | None = None,
    **stages: Any,
) -> Report:
    """Score a method on a dataset's first `limit` pictures, or on all.

    Every metric is computed in the one pass; `metric` is the one that `report.score` holds. A
    class-agnostic one runs features and clusters only, and has the class-agnostic ones beside
    it. With `out`, each picture's result is appended to results.jsonl as it comes, a run that
    was stopped goes on where it was, and report.json holds the figures. client: of a Dask
    scheduler, whose workers then do the work.

    batch: pictures that pass through the networks at once, for each worker where there are some;
    left out, one on a CPU and eight on a GPU. What passed together is within 1e-5 of the largest
    value in fp32, and neither its features nor its results are taken for those of pictures that
    passed one by one. stages: functions of one's own in stages' places, as in `Lab.segment`; a
    worker must be able to import what they import. processes: how many others cluster, name,
    sharpen and score meanwhile; left out, one for each processor, and none where pictures pass one
    by one, or on a cluster.

    A picture that cannot be read or scored is left out of every figure, and `report.refused`
    says why. Raises FslabError where none is left, for a dataset without truth, for a folder
    that another run has or that cannot be written, and for settings that no picture can be
    run with; what was done is kept.
    """
    dataset = dataset.limit(limit)
    check_truth(dataset)
    odd = look_first(dataset)
    batch = chosen_batch(batch, lab.device)
    processes = chosen_processes(processes, batch, lab.device)
    recipe = lab.recipe(method, **stages)
    job = plan(lab, recipe, dataset.vocabulary, [metric], batch)
    with Log(out, job.vocabulary.names) if out is not None else nullcontext() as log:
        found = gather(job, dataset, log, _sample_map(lab, job, client, processes), progress)
        report = replace(_report(lab, dataset, job, metric, found), oddities=odd)
        if log is not None:
            log.settle()
            log.write(REPORT, report_json(report))
    return report


def gather(
    job: Job, dataset: Dataset, log: Log | None, run: SampleMap, progress: bool
) -> list[ImageResult]:
    """Return every sample's result in the dataset's order, those that the log has from there."""
    from tqdm.auto import tqdm

    found: dict[str, ImageResult] = {}
    title = f"{job.recipe.name} on {dataset.name}"
    with tqdm(total=len(dataset), desc=title, disable=not progress) as bar:
        pending = []
        for sample in dataset:
            known = log.done(job, sample) if log else None
            if known is None:
                pending.append(sample)
            else:
                found[sample.name] = known
                bar.update()
        with closing(run(pending)) as results:
            for result in results:
                if log and not result.refused:
                    log.append(result)
                found[result.name] = result
                check_some_scored(found)
                bar.update()
    return [found[sample.name] for sample in dataset]


def figures(metric: str, per_image: list[ImageScore]) -> dict[str, Score]:
    """Return the figure asked for and every other that these scores give, each with its interval.

    Raises FslabError where nothing of the truth counts for the one asked for.
    """
    others = summarise_all(per_image)
    asked = others[metric] if metric in others else summarise(metric, per_image, DRAWS)
    return {metric: asked, **others}


def report_json(report: Report) -> bytes:
    """Return what report.json holds: all of a report that is the same on every run."""
    data = {key: value for key, value in report.to_dict().items() if key != "seconds"}
    return json.dumps(data, indent=1).encode() + b"\n"


def _sample_map(lab: Lab, job: Job, client: Client | None, processes: int) -> SampleMap:
    if client is None:
        return partial(score_samples, lab, job, processes=processes)
    from fslab.evaluate.workers import map_samples
    from fslab.lab.editing import check_no_edit

    check_no_edit(lab, "a cluster")
    return partial(map_samples, client, lab, job)


def _report(lab: Lab, dataset: Dataset, job: Job, metric: str, found: list[ImageResult]) -> Report:
    rows = tuple(result for result in found if not result.refused)
    refused = {name: f"{file} is not there" for name, file in dataset.missing.items()}
    refused |= {result.name: result.refused for result in found if result.refused}
    if not rows:
        raise FslabError(_nothing_left(found))
    _check_classes(rows, dataset.vocabulary.names)
    scores = figures(metric, [row.counted for row in rows])
    named = find_metric(metric, dataset.vocabulary.names).needs == "guess"
    return Report(
        dataset.name, dataset.split, job.recipe.name, lab.preset.name, lab.backbone.name,
        dataset.vocabulary, job.recipe, scores[metric], rows, scores, refused,
        str(lab.device), caveat=_caveat(lab, dataset, rows) if named else "", batch=job.batch,
    )  # fmt: skip


def _caveat(lab: Lab, dataset: Dataset, rows: Sequence[ImageResult]) -> str:
    """Say of how many pictures the names mean nothing, looked at in a few of those scored."""
    if not lab.knows_drawings_only:
        return ""
    from fslab.lab.drawn import caveat_of

    scored = {row.name for row in rows}
    samples = [sample for sample in dataset if sample.name in scored]
    some = samples[:: -(-len(samples) // _LOOKED_AT)]
    beyond = sum(bool(lab.caveat(sample.picture())) for sample in some)
    return caveat_of(beyond, len(some)) if 2 * beyond > len(some) else ""


def check_truth(dataset: Dataset) -> None:
    """Refuse a dataset that has no truth at all."""
    if not any(sample.has_truth for sample in dataset):
        raise FslabError(
            f"{dataset.name} has no truth, so there is no score; an evaluation needs a mask of "
            "every picture"
        )


def look_first(dataset: Dataset) -> tuple[Oddity, ...]:
    """Return what is odd about a dataset by its opening and its files' headers; warn of these.

    It costs a header a file: `fslab check` reads everything.
    """
    seen = glance(dataset)
    if seen:
        kinds = ", ".join(f"{len(each)} x {kind}" for kind, each in by_kind(seen).items())
        warnings.warn(
            f"{dataset.name} {dataset.split} is not all as it should be ({kinds}); the first: "
            f"{seen[0].why}", FslabWarning, stacklevel=3,
        )  # fmt: skip
    known = {(each.kind, each.where) for each in dataset.oddities}
    return (*dataset.oddities, *(each for each in seen if (each.kind, each.where) not in known))


def _truth_pixels(score: ImageScore, classes: int) -> np.ndarray:
    """Return the truth's pixels by class, int64 [classes], of the first part that counts them."""
    tallies = [part for part in score.parts.values() if isinstance(part, Tally)]
    counted = np.zeros(classes, np.int64)
    for truth, _, pixels in tallies[0].cells if tallies else ():
        counted[truth] += pixels
    return counted


def _check_classes(rows: Sequence[ImageResult], names: Sequence[str]) -> None:
    """Refuse a truth without one class: a figure over background alone would say nothing."""
    if not any(_truth_pixels(row.counted, len(names))[1:].any() for row in rows):
        raise FslabError(
            f"the truth of all {len(rows)} pictures is background or void, so there is no figure; "
            "is it of this vocabulary? `fslab check` says what it holds"
        )


def check_some_scored(found: Mapping[str, ImageResult]) -> None:
    """Stop a run whose settings fit no picture before it has gone through them all."""
    if any(not result.refused for result in found.values()):
        return
    if sum(result.refused_by == "stage" for result in found.values()) >= _HOPELESS:
        raise FslabError(_nothing_left(list(found.values())))


def _nothing_left(found: list[ImageResult]) -> str:
    """Say why there is no figure: a setting that fits no picture says more than a bad file."""
    by_stage = [result.refused for result in found if result.refused_by == "stage"]
    first = by_stage[0] if by_stage else found[0].refused
    return f"{first}; none of {len(found)} pictures could be scored" if len(found) > 1 else first
