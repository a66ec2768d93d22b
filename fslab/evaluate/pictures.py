"""A method over pictures without truth: what it makes of each, and no score."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from fslab.datasets import Dataset, local, write_mask
from fslab.datasets.read import write_picture
from fslab.evaluate.job import within
from fslab.files import one_file, portable
from fslab.lab import Lab
from fslab.plots import overlay, segment_picture
from fslab.process import memory_refused
from fslab.records import VOID, FslabError, Picture, Recipe

ENDINGS = (".png", ".overlay.png")
"""How the two files of a picture end."""

_NAME_BYTES = 255
"""The longest name of a file on the file systems in use."""


@dataclass(frozen=True)
class Drawn:
    """What was written, by the pictures' names, and why each of the others was not.

    beyond: of how many of those written the names mean nothing, as `Lab.caveat` says.
    """

    written: tuple[str, ...]
    refused: dict[str, str]
    beyond: int = 0


def draw(
    lab: Lab,
    dataset: Dataset,
    method: str | Recipe,
    out: str | os.PathLike[str],
    named: bool = True,
    progress: bool = True,
) -> Drawn:
    """Write NAME.png, labels with VOC's palette, and NAME.overlay.png for each picture.

    A name is written as `portable` has it. named: give segments their names; without, the labels
    are the segments' numbers. A picture that cannot be read or run is reported, the others go on.
    Raises FslabError where a file would take the place of one of the pictures or of another file,
    and where the folder cannot be written.
    """
    from tqdm.auto import tqdm

    recipe, out = lab.recipe(method), local(out)
    _check_place(dataset, out)
    written, refused, beyond = [], {}, 0
    for sample in tqdm(dataset, desc=f"{recipe.name} on {dataset.name}", disable=not progress):
        try:
            check_name(sample.name)
            with memory_refused(sample.name):
                picture = sample.picture()
                labels, shown = _run(lab, dataset, recipe, picture, named)
        except FslabError as error:
            refused[sample.name] = str(error)
            continue
        write_mask(labels, out / f"{portable(sample.name)}{ENDINGS[0]}")
        write_picture(shown, out / f"{portable(sample.name)}{ENDINGS[1]}")
        written.append(sample.name)
        beyond += named and bool(lab.caveat(picture))
    return Drawn(tuple(written), refused, beyond)


def check_name(name: str) -> None:
    """Refuse a picture whose files' names are too long for a file system, or lead out of a folder.

    A name is a path where two pictures share a stem: cam1/f.png.
    """
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise FslabError(
            f"{name!r} leads out of the folder that its files are written to; give the picture a "
            "path below its data set"
        )
    longest = _NAME_BYTES - max(map(len, ENDINGS))
    if max(len(os.fsencode(part)) for part in portable(name).split("/")) > longest:
        raise FslabError(
            f"{name!r} is too long a name for the files made of the picture; give it one of at "
            f"most {longest} bytes"
        )


def _run(
    lab: Lab, dataset: Dataset, recipe: Recipe, picture: Picture, named: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Return labels, u8 [H, W], and their drawing, u8 [nH, nW, 3]."""
    if named:
        result = lab.segment(picture, recipe, dataset.vocabulary)
        return within(result.labels.labels, dataset.vocabulary), overlay(picture, result.labels)
    segments = lab.segments(picture, recipe, dataset.vocabulary)
    if segments.count > VOID:
        raise FslabError(f"{picture.name}: {segments.count} segments; a PNG holds {VOID} labels")
    return segments.labels.astype(np.uint8), segment_picture(picture, segments)


def _check_place(dataset: Dataset, out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise FslabError(f"{out} is a file; give a folder")
    check_apart(sample.name for sample in dataset)
    inputs = {os.path.realpath(str(sample.path)) for sample in dataset}
    for sample in dataset:
        for ending in ENDINGS:
            if os.path.realpath(out / f"{portable(sample.name)}{ending}") in inputs:
                raise FslabError(f"{out} holds the pictures themselves; give another folder")


def check_apart(names: Iterable[str]) -> None:
    """Refuse two pictures whose files would be one, at least where case does not count."""
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault(one_file(name), name)
        if other is not name:
            raise FslabError(
                f"{other!r} and {name!r} would both become {f'{portable(name)}.png'!r}, at "
                "least where case does not count; rename one"
            )
