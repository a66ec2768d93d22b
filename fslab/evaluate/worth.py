"""What parts of a network are worth to masks: each edited in turn, each head read by itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fslab.backbones import pick_layers
from fslab.backbones.attention import word_columns
from fslab.datasets import Dataset, Sample
from fslab.edits import zero
from fslab.evaluate.run import DRAWS, Report, evaluate
from fslab.heads import HEAD, whole_of
from fslab.html import table
from fslab.lab import Lab
from fslab.lab.words import check_reads_text, sentence_of
from fslab.records import FslabError, Recipe
from fslab.score import Difference, find_metric, paired_bootstrap


@dataclass(frozen=True)
class Worth:
    """What a method gives with the network as it is, and with each of its parts edited.

    clean: the report without an edit; reports: by the edited part, in the order asked for. metrics:
    those that the table shows.
    """

    clean: Report
    reports: Mapping[str, Report]
    metrics: tuple[str, ...]

    def change(self, part: str, metric: str) -> Difference:
        """Return how much higher a figure is with a part edited, over the pictures of both.

        Its 95 % interval is by bootstrap over pictures, each drawn with and without the edit.
        """
        theirs = {row.name: row.counted for row in self.reports[part].rows}
        shared = [row for row in self.clean.rows if row.name in theirs]
        mine = [row.counted for row in shared]
        return paired_bootstrap(metric, mine, [theirs[row.name] for row in shared], draws=DRAWS)

    def table(self) -> list[dict[str, Any]]:
        """Return a row for each part: its name, pictures, and by metric the figure and change."""
        return [
            {"edited": part, "pictures": len(report.rows), **self._figures(part, report)}
            for part, report in self.reports.items()
        ]

    def _figures(self, part: str, report: Report) -> dict[str, float]:
        found: dict[str, float] = {}
        for metric in self.metrics:
            change = self.change(part, metric)
            found |= {metric: report.scores[metric].figure, f"{metric}_change": change.value}
            found |= {f"{metric}_low": change.low, f"{metric}_high": change.high}
        return found

    def _repr_html_(self) -> str:
        rows = []
        for row in self.table():
            said = {"edited": row["edited"]}
            for metric in self.metrics:
                said[f"{metric}, %"] = f"{100 * row[metric]:.1f}"
                change, low, high = (100 * row[f"{metric}_{x}"] for x in ("change", "low", "high"))
                said[f"{metric}, change"] = f"{change:+.1f} ({low:+.1f} to {high:+.1f})"
            rows.append(said)
        return table(rows)


def layer_worth(
    lab: Lab,
    dataset: Dataset,
    parts: Sequence[str],
    edit: Any = zero,
    method: str | Recipe = "fslab",
    metrics: Sequence[str] = ("mbo",),
    limit: int | None = None,
) -> Worth:
    """Return what a method loses on a dataset where each part of the network is edited in turn.

    parts: module paths or patterns, or heads, as `Lab.edit` takes them; all modules of one pattern
    are edited together. edit: any that `Lab.edit` takes, to nothing if left out. metrics: names as
    in `evaluate`; class-agnostic ones alone ask no text side.
    Raises FslabError as `Lab.edit` and `evaluate` do.
    """
    if isinstance(parts, str) or not parts:
        raise FslabError(f"parts are {parts!r}; give a list of module paths or patterns")
    naming = [each for each in metrics if find_metric(each).needs == "guess"]
    metric = (naming or list(metrics))[0]
    asked: dict[str, Any] = {"metric": metric, "limit": limit, "progress": False}
    clean = evaluate(lab, dataset, method, **asked)
    reports = {}
    for part in parts:
        with lab.edit({part: edit}):
            reports[part] = evaluate(lab, dataset, method, **asked)
    return Worth(clean, reports, tuple(metrics))


def head_reports(
    lab: Lab,
    dataset: Dataset,
    layers: Sequence[str],
    method: str | Recipe = "fslab",
    metric: str = "mbo",
    limit: int | None = None,
) -> dict[str, Report]:
    """Return a method's report on each layer alone, and on each of its heads alone, by path.

    layers: patterns of layers that have heads. All of them are read in one pass a picture.
    """
    recipe = lab.recipe(method)
    picked = _with_heads(lab, layers)
    paths = [each for path, heads in picked.items() for each in (path, *heads)]
    together = recipe.change({"extract.layers": paths})
    for sample in dataset.limit(limit):
        lab._extract(sample.picture(), together.extract)
    return {
        path: evaluate(
            lab, dataset, recipe.change({"extract.layers": [path]}), metric, limit, progress=False
        )
        for path in paths
    }  # fmt: skip


def word_shares(
    lab: Lab,
    dataset: Dataset,
    layers: Sequence[str] = ("*.to_text",),
    timesteps: int | None = None,
    limit: int | None = None,
) -> dict[str, np.ndarray]:
    """Return how much of a word's map each head carries, f64 [pictures], by the head's path.

    layers: patterns of where cells look at text. Words are those of the classes in a picture's
    truth, all in one prompt. A layer's map of a word is its heads' mean; a head's share is the
    covariance of its own map with that, over cells, as a part of all heads', so that the shares of
    a layer sum to 1: a head that looks at the word evenly carries nothing, and one that looks away
    from where the others look has a share below 0. Mean over words.
    """
    check_reads_text(lab.backbone)
    picked = _with_heads(lab, layers)
    found: dict[str, list[float]] = {head: [] for heads in picked.values() for head in heads}
    for sample in dataset.limit(limit):
        for head, share in _shares_of(lab, sample, dataset, picked, timesteps):
            found[head].append(share)
    return {head: np.array(shares, np.float64) for head, shares in found.items()}


def _with_heads(lab: Lab, patterns: Sequence[str]) -> dict[str, list[str]]:
    """Return the heads of the layers that patterns fit, by the layer's path."""
    picked = pick_layers([f"{whole_of(each)}{HEAD}*" for each in patterns], lab.layers())
    found: dict[str, list[str]] = {}
    for head in picked:
        found.setdefault(head.whole, []).append(head.path)
    return found


def _shares_of(
    lab: Lab,
    sample: Sample,
    dataset: Dataset,
    picked: Mapping[str, Sequence[str]],
    timesteps: int | None,
) -> Iterator[tuple[str, float]]:
    """Yield each head's mean share in the maps of the words of one picture's classes."""
    truth, known = sample.truth(), dataset.vocabulary
    labels = [] if truth is None else [n for n in np.unique(truth) if 0 < n < len(known.names)]
    words = list(dict.fromkeys(known.texts(known.names[label])[0] for label in labels))
    if not words:
        return
    backbone, prompt = check_reads_text(lab.backbone), sentence_of(words)
    columns = [word_columns(backbone, prompt, word, words) for word in words]
    paths = [head for heads in picked.values() for head in heads]
    features = lab.extract(sample.picture(), paths, timesteps, prompt=prompt)
    for heads in picked.values():
        maps = np.stack([[features[head][each].sum(0) for each in columns] for head in heads])
        for head, share in zip(heads, map_shares(maps).mean(1), strict=True):
            yield head, float(share)


def map_shares(maps: np.ndarray) -> np.ndarray:
    """Return the share of each head in words' maps, f64 [heads, words], of f [heads, words, h, w].

    The covariance of a head's map with the mean of all over cells, as a part of all heads'; NaN for
    a word whose mean map is even.
    """
    centred = maps.astype(np.float64) - maps.mean((2, 3), keepdims=True, dtype=np.float64)
    parts = (centred * centred.mean(0)).sum((2, 3))
    with np.errstate(invalid="ignore", divide="ignore"):
        shares: np.ndarray = parts / parts.sum(0)
    return shares
