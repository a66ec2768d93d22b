"""A method over pictures without truth: what it makes of each, and no score."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

from fslab.batches import chosen_batch
from fslab.datasets import Dataset, Sample, local, write_mask
from fslab.datasets.read import write_picture
from fslab.evaluate.job import within
from fslab.files import one_file, portable
from fslab.lab import Lab, Result
from fslab.lab.courses import run_many
from fslab.lab.processes import chosen_processes
from fslab.lab.together import Order
from fslab.plots import overlay, segment_picture
from fslab.process import memory_refused
from fslab.records import WIDE_VOID, FslabError, Picture, Recipe, Vocabulary, label_type

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
    batch: int | None = None,
    processes: int | None = None,
) -> Drawn:
    """Write NAME.png, labels with VOC's palette, and NAME.overlay.png for each picture.

    A name is written as `portable` has it. named: give segments their names; without, the labels
    are the segments' numbers. batch, processes: as in `evaluate`. A picture that cannot be read or
    run is reported, the others go on. Raises FslabError where a file would take the place of one of
    the pictures or of another file, and where the folder cannot be written.
    """
    from tqdm.auto import tqdm

    recipe, out = lab.recipe(method), local(out)
    batch = chosen_batch(batch, lab.device)
    processes = chosen_processes(processes, batch, lab.device)
    _check_place(dataset, out)
    write = partial(_write, out, dataset.vocabulary, named)
    order = Order(recipe, dataset.vocabulary, None, named, write)
    sources = (partial(_read, sample) for sample in dataset)
    title = f"{recipe.name} on {dataset.name}"
    made = tqdm(
        run_many(lab, sources, order, batch, processes), title, len(dataset), disable=not progress
    )
    found = {sample.name: each for sample, each in zip(dataset, made, strict=True)}
    refused = {name: str(each) for name, each in found.items() if isinstance(each, FslabError)}
    written = tuple(name for name in found if name not in refused)
    return Drawn(written, refused, sum(found[name] for name in written))


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


def _read(sample: Sample) -> tuple[Picture, str]:
    check_name(sample.name)
    with memory_refused(sample.name):
        return sample.picture(), portable(sample.name)


def _write(
    out: Path, vocabulary: Vocabulary, named: bool, lab: Lab, result: Result, name: str
) -> bool:
    """Write labels [H, W] and their drawing; tell whether the names mean nothing."""
    picture, segments = result.picture, result.segments
    if named:
        labels, shown = within(result.labels.labels, vocabulary), overlay(picture, result.labels)
    elif segments.count > WIDE_VOID:
        raise FslabError(
            f"{picture.name}: {segments.count} segments; a PNG holds {WIDE_VOID} labels"
        )
    else:
        labels = segments.labels.astype(label_type(segments.count))
        shown = segment_picture(picture, segments)
    write_mask(labels, out / f"{name}{ENDINGS[0]}")
    write_picture(shown, out / f"{name}{ENDINGS[1]}")
    return named and bool(lab.caveat(picture))


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
