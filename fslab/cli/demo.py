"""What comes out, at a glance: a table of methods, and a page of pictures."""

from __future__ import annotations

from pathlib import Path

from fslab.cli.text import aligned
from fslab.datasets import Dataset
from fslab.evaluate import Report, evaluate
from fslab.files import write_or_refuse
from fslab.lab import Lab
from fslab.plots import GalleryRow, gallery

RUNS = (
    ("freeseg-diff", None),
    ("fslab", None),
    ("fslab", "random"),
    ("fslab", "rgb"),
    ("fslab", "handmade"),
)
"""Method and where its features come from: the preset's network, then the floors under it."""

PAGE = "demo.html"


def run_demo(dataset: Dataset, preset: str, pictures: int, out: Path) -> str:
    """Evaluate every run on a dataset, write the page, and return the table as text.

    pictures: how many the page shows. Each run resumes from `out` where it was done before.
    Raises FslabError as `evaluate` does, and where the page cannot be written.
    """
    reports = []
    for method, backbone in RUNS:
        lab = Lab(preset, backbone)
        place = out / "evaluations" / f"{method}-{backbone or preset}"
        reports.append(evaluate(lab, dataset, method, out=place))
    table = [_line(report) for report in reports]
    lab = Lab(preset)
    rows = [_row(lab, reports[1], dataset, number) for number in range(min(pictures, len(dataset)))]
    note = f"{_title(dataset)}: {reports[0].score.note}. The pictures are by {reports[1].method}."
    page = gallery(rows, f"fslab on {_title(dataset)}", note, table)
    write_or_refuse(out / PAGE, page.encode())
    return (
        f"{_title(dataset)}\n{_as_text(table)}\n\npictures, clusters, names and truth: {out / PAGE}"
    )


def _title(dataset: Dataset) -> str:
    return f"{dataset.name} {dataset.split}"


def _line(report: Report) -> dict[str, str | float]:
    each = sum(report.seconds.values()) / report.score.images
    return {
        "method": report.method,
        "features": report.backbone,
        "preset": report.preset,
        "images": report.score.images,
        "mIoU (VOC21)": round(100 * report.score.miou, 1),
        "s / picture": round(each, 3),
    }


def _row(lab: Lab, report: Report, dataset: Dataset, number: int) -> GalleryRow:
    sample, picture = dataset.samples[number], dataset.samples[number].picture()
    result = lab.segment(picture, report.method, dataset.vocabulary)
    named = report.rows[number].counted.named
    known = () if named is None else zip(named.names, named.iou.tolist(), strict=True)
    iou = {name: value for name, value in known if value >= 0}
    facts = {
        "candidates": ", ".join(result.caption.candidates) or "none",
        "found": ", ".join(f"{k} {v:.2f}" for k, v in result.labels.scores.items()) or "none",
        "IoU": ", ".join(f"{name} {100 * value:.0f}" for name, value in iou.items()),
    }
    return GalleryRow(
        picture, result.segments, result.labels, sample.truth(), result.caption.text, facts
    )


def _as_text(table: list[dict[str, str | float]]) -> str:
    """Return rows under their headings, columns aligned."""
    heads = list(table[0])
    return aligned([heads, *([str(row[head]) for head in heads] for row in table)])
