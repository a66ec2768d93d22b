"""A method over a dataset: one line a picture, appended as it comes, so that a run can go on."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from fslab.datasets import Dataset, Sample
from fslab.files import write_aside
from fslab.lab import Lab
from fslab.records import FslabError, Picture, Recipe, Vocabulary, digest_of
from fslab.score import ImageScore, Score, find_metric, score_image, summarise

RESULTS = "results.jsonl"
REPORT = "report.json"


@dataclass(frozen=True)
class ImageResult:
    """What one picture gave: its counts, its caption and candidates, seconds by stage."""

    name: str
    score: ImageScore
    seconds: Mapping[str, float]
    caption: str = ""
    candidates: tuple[str, ...] = ()


@dataclass(frozen=True)
class Report:
    """A method's figure over a dataset, and the pictures' results that it was made of."""

    dataset: str
    split: str
    method: str
    preset: str
    backbone: str
    vocabulary: Vocabulary
    recipe: Recipe
    score: Score
    rows: tuple[ImageResult, ...]

    @cached_property
    def seconds(self) -> dict[str, float]:
        """Seconds by stage, summed over the pictures, as they were when each was computed."""
        stages = dict.fromkeys(stage for row in self.rows for stage in row.seconds)
        return {stage: sum(row.seconds.get(stage, 0.0) for row in self.rows) for stage in stages}

    def rescored(self, metric: str) -> Score:
        """Return another figure of the same pictures."""
        return summarise(metric, [row.score for row in self.rows])

    def to_dict(self) -> dict[str, Any]:
        """Return the figure with everything that says what it is, for JSON."""
        return {
            "dataset": self.dataset,
            "split": self.split,
            "images": self.score.images,
            "method": self.method,
            "preset": self.preset,
            "backbone": self.backbone,
            "metric": self.score.metric,
            "protocol": self.score.note,
            "miou": self.score.miou,
            "iou": dict(self.score.iou),
            "absent": list(self.score.absent),
            "seconds": self.seconds,
            "recipe": self.recipe.to_dict(),
        }


def evaluate(
    lab: Lab,
    dataset: Dataset,
    method: str | Recipe = "freeseg-diff",
    metric: str = "voc21",
    limit: int | None = None,
    out: str | os.PathLike[str] | None = None,
    progress: bool = True,
) -> Report:
    """Score a method on a dataset's first `limit` pictures, or on all.

    A class-agnostic metric runs features and clusters only. With `out`, each picture's result
    is appended to results.jsonl as it comes, a run that was stopped goes on where it was, and
    report.json holds the figure. Raises FslabError for a picture or a truth that cannot be
    read, a dataset without truth, and whatever the stages refuse; what was done is kept.
    """
    from tqdm.auto import tqdm

    dataset = dataset.limit(limit) if limit is not None else dataset
    named = find_metric(metric).needs == "guess"
    recipe = lab.recipe(method)
    log = _Log(Path(out) / RESULTS, dataset.vocabulary) if out is not None else None
    base = _base_key(lab, recipe, dataset.vocabulary, named)
    rows = []
    for sample in tqdm(dataset, desc=f"{recipe.name} on {dataset.name}", disable=not progress):
        picture, truth = sample.picture(), _truth(sample)
        key = digest_of([base, sample.name, picture.digest, hashlib.sha256(truth).hexdigest()])
        row = log.get(key) if log else None
        if row is None:
            row = _run(lab, recipe, dataset.vocabulary, sample.name, picture, truth, named)
            if log:
                log.append(key, row)
        rows.append(row)
    score = summarise(metric, [row.score for row in rows])
    report = Report(
        dataset.name, dataset.split, recipe.name, lab.preset.name, lab.backbone.name,
        dataset.vocabulary, recipe, score, tuple(rows),
    )  # fmt: skip
    if out is not None:
        write_aside(Path(out) / REPORT, json.dumps(report.to_dict(), indent=1).encode())
    return report


def within(labels: np.ndarray, vocabulary: Vocabulary) -> np.ndarray:
    """Return labels u8 [H, W] with words outside the dataset's vocabulary as background."""
    return np.where(labels < len(vocabulary.names), labels, 0).astype(np.uint8)


def _truth(sample: Sample) -> np.ndarray:
    truth = sample.truth()
    if truth is None:
        raise FslabError(f"{sample.name} has no truth; an evaluation needs a mask of every picture")
    return truth


def _run(
    lab: Lab,
    recipe: Recipe,
    vocabulary: Vocabulary,
    name: str,
    picture: Picture,
    truth: np.ndarray,
    named: bool,
) -> ImageResult:
    if not named:
        segments, seconds = lab.timed_segments(picture, recipe)
        return ImageResult(name, score_image(truth, vocabulary.names, segments=segments), seconds)
    result = lab.segment(picture, recipe, vocabulary)
    score = score_image(
        truth, vocabulary.names, within(result.labels.labels, vocabulary), result.segments
    )
    return ImageResult(name, score, result.seconds, result.caption.text, result.caption.candidates)


def _base_key(lab: Lab, recipe: Recipe, vocabulary: Vocabulary, named: bool) -> str:
    """Name what all pictures of a run share: settings, weights, vocabulary."""
    stages = recipe.to_dict()
    parts: list[Any] = [lab.backbone.fingerprint, vocabulary.names]
    if named:
        texts = [dict(vocabulary.spoken), dict(vocabulary.synonyms)]
        parts += [stages, texts, lab.text_fingerprint]
    else:
        parts += [stages["extract"], stages["cluster"]]
    return digest_of(["result-1", named, *parts])


class _Log:
    """Results by key in a file of JSON lines; the line that a kill cut short is dropped."""

    def __init__(self, path: Path, vocabulary: Vocabulary) -> None:
        self._path, self._names = path, vocabulary.names
        if path.parent.exists() and not path.parent.is_dir():
            raise FslabError(f"{path.parent} is a file; give a folder for the results")
        self._lines = dict(self._read())

    def get(self, key: str) -> ImageResult | None:
        """Return a picture's result if it was computed before."""
        if key not in self._lines:
            return None
        entry = self._lines[key]
        score = ImageScore.from_dict(entry["score"], self._names)
        return ImageResult(
            entry["name"], score, entry["seconds"], entry["caption"], tuple(entry["candidates"])
        )

    def append(self, key: str, row: ImageResult) -> None:
        """Add a line and see it to the disk."""
        entry = {
            "key": key,
            "name": row.name,
            "caption": row.caption,
            "candidates": row.candidates,
            "seconds": dict(row.seconds),
            "score": row.score.to_dict(),
        }
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("ab") as file:
                file.write(json.dumps(entry).encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise FslabError(f"{self._path} cannot be written: {error}") from error

    def _read(self) -> Iterator[tuple[str, dict[str, Any]]]:
        if not self._path.is_file():
            return
        data = self._path.read_bytes()
        whole = data[: data.rfind(b"\n") + 1]
        if len(whole) < len(data):
            write_aside(self._path, whole)
        for number, line in enumerate(whole.splitlines(), 1):
            try:
                entry = json.loads(line)
                yield entry["key"], entry
            except (ValueError, KeyError, TypeError) as error:
                raise FslabError(
                    f"{self._path}: line {number} is no result; remove the file"
                ) from error
