"""What sums up the masks of many pictures: one table, a contact sheet, other programs' formats."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from fslab.datasets import read, read_mask
from fslab.datasets.read import shown_name
from fslab.exports import write_masks
from fslab.files import csv_of, portable, write_or_refuse
from fslab.plots.contact import Card, contact_sheet
from fslab.records import FslabError, LabelMap, Picture, label_type

ENDINGS = (".png", ".overlay.png", ".json")
"""How the three files of a picture end."""

TABLE = "classes.csv"
SHEET = "contact"

_CARDS = 100
"""So many pictures are on one page, which then has a few megabytes."""


def files_of(out: Path, path: Path) -> list[Path]:
    """Return the three files of a picture."""
    return [out / f"{portable(path.stem)}{ending}" for ending in ENDINGS]


def facts_of(out: Path, path: Path) -> dict[str, Any] | None:
    """Return what a picture's JSON says; None where there is none, or it is no longer whole."""
    try:
        found = json.loads(files_of(out, path)[-1].read_bytes())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def write_summary(
    out: Path,
    paths: Sequence[Path],
    names: Sequence[str],
    refused: Mapping[Path, str],
    formats: Sequence[str],
    sheet: bool,
) -> None:
    """Write what sums up pictures whose files are there.

    names: of the vocabulary. refused: why others were left out. formats: of
    `fslab.exports.write_masks`. sheet: write the table and the contact sheet.
    """
    every = [(path, _facts(out, path)) for path in paths]
    if sheet:
        rows = [row for path, facts in every for row in _rows(path, facts)]
        write_or_refuse(out / TABLE, csv_of(rows))
        _write_sheets(out, every, list(refused.values()))
    known = tuple(
        dict.fromkeys([*names, *(each["name"] for _, facts in every for each in facts["classes"])])
    )
    for format in formats:
        pairs = (_pair(out, path, facts, known) for path, facts in every)
        write_masks(pairs, out / format, format)


def _facts(out: Path, path: Path) -> dict[str, Any]:
    found = facts_of(out, path)
    if found is None:
        raise FslabError(f"{str(files_of(out, path)[-1])!r} was taken away while it was needed")
    return found


def _rows(path: Path, facts: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield a row of the table for each class of a picture, the background first."""
    height, width = facts["size"]
    background = {"name": "background", "label": 0, "share": facts["background_share"]}
    for each in [background, *facts["classes"]]:
        score = each.get("score")
        yield {
            "file": shown_name(path.as_posix()),
            "height": height,
            "width": width,
            "class": each["name"],
            "label": each["label"],
            "pixels": round(each["share"] * height * width),
            "share": f"{each['share']:.6f}",
            "score": "" if score is None else f"{score:.6f}",
        }


def _write_sheets(
    out: Path, every: Sequence[tuple[Path, Mapping[str, Any]]], refused: Sequence[str]
) -> None:
    """Write the contact sheet, of many pictures on several pages; take away pages of before."""
    groups = [every[start : start + _CARDS] for start in range(0, len(every), _CARDS)]
    files = [
        f"{SHEET}{f'-{number}' if number > 1 else ''}.html" for number in range(1, len(groups) + 1)
    ]
    for file, group in zip(files, groups, strict=True):
        cards = (_card(out, path, facts) for path, facts in group)
        note = f"{len(every)} pictures by {every[0][1]['recipe']['name']}; {TABLE} has the figures"
        links = {f"page {number}": other for number, other in enumerate(files, 1) if other != file}
        text = contact_sheet(cards, "Contact sheet", note, links, refused)
        write_or_refuse(out / file, text.encode())
    number = len(files) + 1
    while (before := out / f"{SHEET}-{number}.html").exists():
        before.unlink()
        number += 1


def _card(out: Path, path: Path, facts: Mapping[str, Any]) -> Card:
    drawn = files_of(out, path)[1]
    link = quote(os.fsencode(drawn.name))  # a name need not be text
    return Card(shown_name(path.name), read(drawn).pixels, link, facts["classes"])


def _pair(
    out: Path, path: Path, facts: Mapping[str, Any], names: tuple[str, ...]
) -> tuple[Picture, LabelMap]:
    """Return a picture and its labels, numbered as names of all pictures are.

    Where words are open, each picture has numbered its own.
    """
    labels = read_mask(files_of(out, path)[0])
    numbered = np.zeros(labels.shape, label_type(len(names)))
    for each in facts["classes"]:
        numbered[labels == each["label"]] = names.index(each["name"])
    scores = {each["name"]: each["score"] for each in facts["classes"] if each["score"] is not None}
    picture = read(path)
    return Picture(picture.pixels, shown_name(path.stem)), LabelMap(numbered, names, scores)
