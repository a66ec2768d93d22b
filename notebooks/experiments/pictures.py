"""How well each picture of a split comes out: its own mean IoU by several methods.

    python notebooks/experiments/pictures.py data/minivoc --split val --out pictures.csv

A picture that is shown as an example ranks somewhere among the others; this table says where.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

from fslab.datasets import voc
from fslab.evaluate import evaluate
from fslab.lab import Lab
from fslab.score import summarise

METHODS = ("freeseg-diff", "fslab")


def main() -> None:
    """Command line: a VOC-layout folder, a split; writes a table, the best picture first."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--split", default="val")
    parser.add_argument("--preset", default="mini")
    parser.add_argument("--out", type=Path, required=True, help="write the table here, as CSV")
    asked = parser.parse_args()
    lab, dataset = Lab(asked.preset), voc(asked.folder, asked.split)
    found: dict[str, list[float]] = {}
    for method in METHODS:
        for row in evaluate(lab, dataset, method).rows:
            found.setdefault(row.name, []).append(summarise("per-image", [row.score]).miou)
    with asked.out.open("w", newline="") as file:
        lines = csv.writer(file, lineterminator="\n")
        lines.writerow(["name", "dataset", "split", "images", *METHODS])
        for name, figures in sorted(found.items(), key=lambda each: -each[1][0]):
            shown = [f"{figure:.4f}" for figure in figures]
            lines.writerow([name, dataset.name, dataset.split, len(found), *shown])


if __name__ == "__main__":
    main()
