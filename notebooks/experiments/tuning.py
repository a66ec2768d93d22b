"""What criteria without a truth are worth: their rank correlation with mIoU, and what they choose.

    python notebooks/experiments/tuning.py data/minivoc --split val --limit 30 --out OUT.csv

Each block of the network at each of six timesteps, K = 6, is measured on the same pictures by
each criterion of `fslab.tune`, and by the masks: class-agnostic Hungarian mIoU and mBO. Intervals
are of a thousand draws of the pictures with replacement; each draw chooses anew.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.stats import rankdata, spearmanr

from fslab import Lab
from fslab.datasets import load
from fslab.files import csv_of, write_or_refuse
from fslab.score.intervals import terms_of
from fslab.tune import CRITERIA, DEFAULT, TIMESTEPS, Tuning

K = 6
DRAWS = 1000
METRICS = ("hungarian", "mbo")
TOGETHER = {
    "contours + stability": DEFAULT,
    "silhouette + stability": ("silhouette", "stability"),
    "all but divergence": ("silhouette", "stability", "contours"),
    "all four": tuple(CRITERIA),
}


def measured(lab: Lab, root: str, split: str, limit: int) -> tuple[list[Tuning], Sequence[str]]:
    """Return searches of one round: by all criteria, then by each metric."""
    data = load(root, split).limit(limit)
    asked = {"ks": [K], "timesteps": TIMESTEPS, "first": len(data)}
    found = [lab.tune(data, criteria=tuple(CRITERIA), **asked)]
    found += [lab.tune(data, metric=metric, **asked) for metric in METRICS]
    return found, found[0].search.seen


def values_of(tuning: Tuning, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Return what each criterion says, by criterion: f64 [cells, pictures]."""
    tried = {each.cell: each.found for each in tuning.search.tried}
    cells = tuning.search.cells
    return {
        name: np.array([[tried[cell][one][name] for one in names] for cell in cells])
        for name in tuning.criteria
    }


def figures_of(tuning: Tuning, names: Sequence[str], weights: np.ndarray) -> np.ndarray:
    """Return a metric's figure of each choice in each draw: f64 [cells, draws]."""
    tried = {each.cell: each.found for each in tuning.search.tried}
    (metric,) = tuning.criteria
    terms = (
        terms_of(metric, [tried[cell][name] for name in names]) for cell in tuning.search.cells
    )
    return np.stack([each.resampled(weights) for each in terms])


def drawn(pictures: int) -> np.ndarray:
    """Return how often each picture is in each draw, the first of them each once: f64 [1001, N]."""
    picks = np.random.default_rng(0).integers(0, pictures, (DRAWS, pictures))
    counts = [np.bincount(pick, minlength=pictures) for pick in picks]
    return np.stack([np.ones(pictures), *counts]).astype(np.float64)


def row_of(
    name: str, says: np.ndarray, truth: dict[str, np.ndarray], head: dict[str, object]
) -> dict[str, object]:
    """Return a criterion's row. says, and each metric's figures: f64 [cells, draws]."""
    row: dict[str, object] = {"name": name, **head}
    chosen, each = says.argmax(0), np.arange(says.shape[1])
    for metric, figures in truth.items():
        rank = [spearmanr(says[:, draw], figures[:, draw])[0] for draw in each]
        row |= spread(f"rank_{metric}", np.array(rank))
        row |= spread(metric, figures[chosen, each])
        row |= spread(f"{metric}_below_best", figures.max(0) - figures[chosen, each])
    return row


def chance_of(truth: dict[str, np.ndarray], head: dict[str, object]) -> dict[str, object]:
    """Return the row of a choice by lot: the mean over all choices."""
    row: dict[str, object] = {"name": "by lot", **head}
    for metric, figures in truth.items():
        row |= {f"rank_{metric}{end}": None for end in ("", "_low", "_high")}
        row |= spread(metric, figures.mean(0))
        row |= spread(f"{metric}_below_best", (figures.max(0) - figures).mean(0))
    return row


def spread(name: str, values: np.ndarray) -> dict[str, object]:
    """Return the figure, which comes first, and the middle 95 % of the draws."""
    low, high = np.percentile(values[1:], (2.5, 97.5))
    return {
        name: round(float(values[0]), 4), f"{name}_low": round(float(low), 4),
        f"{name}_high": round(float(high), 4),
    }  # fmt: skip


def rows(lab: Lab, root: str, split: str, limit: int) -> list[dict[str, object]]:
    """Return a row for each criterion, for some together, and for a choice by lot."""
    (by_criteria, *by_masks), names = measured(lab, root, split, limit)
    weights = drawn(len(names))
    says = {
        name: values @ weights.T / weights.sum(1)
        for name, values in values_of(by_criteria, names).items()
    }
    for title, parts in TOGETHER.items():
        says[title] = np.mean([rankdata(says[part], axis=0) for part in parts], axis=0)
    truth = {each.criteria[0]: figures_of(each, names, weights) for each in by_masks}
    cells = by_criteria.search.cells

    def head(place: int | None) -> dict[str, object]:
        choice = "" if place is None else f"{cells[place].layer}, t = {cells[place].timestep}"
        return {
            "choice": choice, "backbone": lab.backbone.name, "dataset": "mini-VOC",
            "split": split, "images": len(names),
        }  # fmt: skip

    says["the masks themselves"] = truth["hungarian"]
    found = [
        row_of(name, each, truth, head(int(each[:, 0].argmax()))) for name, each in says.items()
    ]
    return [*found, chance_of(truth, head(None))]


def main() -> None:
    """Command line: the data set's folder, its split, how many pictures, and the table's place."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("dataset")
    parser.add_argument("--split", default="val")
    parser.add_argument("--limit", type=int, default=30)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    lab = Lab("mini", captioner=None, clip=None)
    write_or_refuse(given.out, csv_of(rows(lab, given.dataset, given.split, given.limit)))


if __name__ == "__main__":
    main()
