"""Fill the tables of documents from the tables that ablations wrote.

    python notebooks/experiments/tables.py README.md docs/results.md docs/method.md

A table stands between two comments; the first says what it shows:

    <!-- table methods: method | val = voc21 | gain = voc21_gain | hard = methods-hard:voc21 -->
    <!-- end of table -->

With `FILE[PATTERN]` only rows are shown in whose name the regular expression is found.
The first heading is of the rows' names; the others name a column of results/methods.csv, or of
another file's row of the same name. Files are looked for from results/. A figure is in percent,
with its interval.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path

from fslab.evaluate import read_table
from fslab.files import write_aside

RESULTS = Path(__file__).parent / "results"
PLACE = re.compile(
    r"(?P<start><!-- table (?P<file>[\w./-]+)(\[(?P<only>.+?)\])?: (?P<columns>.+?) -->\n)"
    r"(?P<body>.*?)(?P<end><!-- end of table -->)",
    re.DOTALL,
)


def filled(text: str) -> str:
    """Return a document with every table between its comments made anew."""
    return PLACE.sub(lambda found: found["start"] + _table(found) + found["end"], text)


def _table(found: re.Match[str]) -> str:
    first, *others = (part.strip() for part in found["columns"].split("|"))
    asked = [tuple(map(str.strip, other.split("="))) for other in others]
    lines = [[first, *(heading for heading, _ in asked)], ["---"] * (1 + len(asked))]
    only = re.compile(found["only"] or "")
    for name, row in _rows(found["file"]).items():
        if not only.search(name):
            continue
        lines.append([name, *(_figure(name, row, column) for _, column in asked)])
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines).replace("| --- ", "|---")


def _rows(file: str) -> dict[str, Mapping[str, object]]:
    return {row["name"]: row for row in read_table(RESULTS / f"{file}.csv")}


def _figure(name: str, row: Mapping[str, object], column: str) -> str:
    """Say a figure and its interval; nothing where there is none."""
    file, _, column = column.rpartition(":")
    row = _rows(file)[name] if file else row
    if row[column] is None:
        return ""
    sign = "+" if column.endswith("_gain") else ""
    value, low, high = (
        f"{100 * row[key]:{sign}.1f}" for key in (column, f"{column}_low", f"{column}_high")
    )
    return f"{value} ({low} to {high})"


def main() -> None:
    """Command line: the documents."""
    for path in map(Path, sys.argv[1:]):
        write_aside(path, filled(path.read_text()).encode())


if __name__ == "__main__":
    main()
