"""Pictures clustered together: index PNGs, and figures where there is truth."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from fslab.cli.text import aligned
from fslab.datasets import Dataset, write_mask
from fslab.evaluate.common import said_rows, score_cosegments
from fslab.evaluate.pictures import check_name
from fslab.files import portable
from fslab.lab import Lab
from fslab.records import FslabError
from fslab.score.common import NOTE


def cosegment_set(lab: Lab, data: Dataset, k: int, out: Path | None, **settings: Any) -> None:
    """Write NAME.png of each picture into `out`, and print the figures where all have a truth.

    Labels are 1 to k, those of most cells first. settings: as in `Lab.cosegment`. Raises FslabError
    where there is neither a truth nor a folder to write to, before anything is read.
    """
    has_truth = all(sample.has_truth for sample in data)
    if out is None and not has_truth:
        raise FslabError(
            f"{data.name} has no truth, so there is no score; give --out for its label maps"
        )
    for sample in data:
        check_name(sample.name)
    if out is not None:
        maps = lab.cosegment(data, k, **settings)
        shown = tqdm(zip(data, maps, strict=True), total=len(data), desc="cosegment", disable=None)
        for sample, labels in shown:
            write_mask(labels.labels, out / f"{portable(sample.name)}.png")
        print(f"label maps of {len(data)} pictures, labels 1 to {k}: {out}", file=sys.stderr)
    if has_truth:
        found = score_cosegments(lab, data, k, **settings)
        rows = said_rows(found.table())
        print(f"{found.subject}\n{NOTE}\nin %, 95 % interval over pictures")
        print(aligned([list(rows[0]), *(list(row.values()) for row in rows)]))
