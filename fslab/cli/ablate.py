"""An ablation file over a dataset: a table on the screen, and in a folder with its figure."""

from __future__ import annotations

from pathlib import Path

from fslab.cli.evaluate import open_set
from fslab.cli.text import aligned
from fslab.evaluate import Ablation, AblationRow, ablate, read_experiment
from fslab.evaluate.ablation import FIGURE, TABLE


def ablate_file(
    file: Path,
    root: str,
    split: str | None,
    *,
    format: str,
    preset: str,
    limit: int | None,
    out: Path | None,
    precision: str | None,
) -> None:
    """Run an ablation file and print its table; the file is checked before the dataset."""
    experiment = read_experiment(file)
    data = open_set(root, split or experiment.split, format)
    found = ablate(experiment, data, out, limit, preset, precision=precision)
    print(as_text(found))
    if out is not None:
        print(f"\ntable and figure: {out / TABLE}, {out / FIGURE}")


def as_text(ablation: Ablation) -> str:
    """Return the rows in per cent: each figure, its interval, and its gain over the first row."""
    heads = ["row", "features", "pictures", *ablation.metrics]
    lines = [heads]
    for row in ablation.rows:
        figures = [_said(row, metric) for metric in ablation.metrics]
        lines.append([row.name, row.backbone, str(row.images), *figures])
    title = f"{ablation.title}: {ablation.dataset} {ablation.split}, preset {ablation.preset}"
    legend = "in %, 95 % interval, gain over the first row (* where its interval leaves zero out)"
    left_out = sum(len(row.refused) for row in ablation.rows)
    ending = [f"{left_out} results are missing: see the page"] if left_out else []
    return "\n".join([title, legend, aligned(lines), *ending])


def _said(row: AblationRow, metric: str) -> str:
    """Say a figure as 46.9 (43.1 to 50.2), +3.1 over the first row; a * where that is clear."""
    score, gain = row.scores[metric], row.gains.get(metric)
    words = f"{100 * score.figure:.1f}"
    if score.interval:
        words += f" ({score.interval.percent})"
    if gain:
        words += f" {100 * gain.value:+.1f}{'*' if gain.is_clear else ''}"
    return words
