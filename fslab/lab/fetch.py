"""A preset's models from the hub: sizes said first, brought, converted if need be, then opened."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from fslab.lab.opening import check_opened, check_type
from fslab.records import FslabError
from fslab.weights import PRESET_SOURCES, Source, own_folder, place_of, source_of
from fslab.weights.download import blob_of, bring_to_cache, bytes_here
from fslab.weights.hub import cache_folder
from fslab.weights.listing import Plan, RemoteFile, plan_for
from fslab.weights.own import Refused, bring_to_own, incoming_of
from fslab.weights.sources import BLIP, CLIP, SPOKEN, is_hub_id

PRECISIONS = ("fp32", "fp16")
SMALL = 1 << 20
"""Bytes up to which a file is brought before a model's type is looked at."""


def fetch(
    name: str,
    *,
    captioner: str = BLIP.id,
    clip: str = CLIP.id,
    precision: str | None = None,
) -> tuple[Path, ...]:
    """Fetch a preset's diffusion model, captioner and CLIP; return the folders where they lie.

    name: a large preset, or an id of the hub (ID@REVISION for one revision), with which the
    captioner and CLIP come; the id of a captioner or CLIP that fslab knows comes alone. captioner,
    clip: ids in the place of BLIP base and CLIP ViT-B/32. precision: "fp16" takes the diffusion
    model's files of half precision where the hub has them, "fp32" the others; the preset's own
    choice if left out. Says what comes, how large it is and its licence before anything is
    downloaded. Only what is missing comes, and an interrupted run goes on where it stopped.
    Raises FslabError where the hub refuses or cannot be reached, where the disk is too small or
    cannot be written, and where what came cannot be opened.
    """
    if precision not in (None, *PRECISIONS):
        raise FslabError(f"precision is {precision!r}; it must be fp32 or fp16")
    first, *others = sources_for(name, captioner, clip)
    variant = first.variant if precision is None else precision.replace("fp32", "")
    sources = (replace(first, variant=variant), *others)
    folders = {}
    for source in sources:
        place = place_of(source)
        if place and not place.faults and (precision is None or source.what in SPOKEN_BESIDE):
            folders[source] = place.folder
            print(f"{_named(source)}: here already, in {place.folder}")
    plans = {
        source: plan_for(source, source.variant or "fp32")
        for source in sources
        if source not in folders
    }
    for plan in plans.values():
        print(said_of(plan))
    check_disk(tuple(plans.values()))
    for source, plan in plans.items():
        folders[source] = _bring(plan)
        print(f"{_named(source)}: here, opened and found whole, in {folders[source]}")
    return tuple(folders[source] for source in sources)


SPOKEN_BESIDE = ("captioner", "clip")
"""The kinds of models that come beside the one that is named."""


def sources_for(name: str, captioner: str = BLIP.id, clip: str = CLIP.id) -> tuple[Source, ...]:
    """Return the models that are fetched for a name, the named one first.

    Raises FslabError for a name that is neither a large preset nor an id of the hub.
    """
    for given in (captioner, clip):
        if not is_hub_id(given):
            raise FslabError(f"{given!r} is not an id of the hub; it must be like ORG/NAME")
    if name == "mini":
        raise FslabError("the preset mini comes with fslab; there is nothing to fetch for it")
    if name not in PRESET_SOURCES and (not is_hub_id(name) or Path(name).exists()):
        raise FslabError(
            f"there is nothing called {name!r} to fetch; there are the data sets voc and coco, the "
            f"presets {', '.join(PRESET_SOURCES)}, and models of the hub by id, such as ORG/NAME"
        )
    known = name in PRESET_SOURCES
    named = PRESET_SOURCES[name][0] if known else source_of(name, "backbone")
    if named.what in SPOKEN_BESIDE:
        return (named,)
    return named, source_of(captioner, "captioner"), source_of(clip, "clip")


def said_of(plan: Plan) -> str:
    """Return a line that says what comes of a model, how large it is, and its licence."""
    files = plan.all_files
    size = sum(file.size for file in files)
    there = sum(bytes_here(_place_of(plan, file)) for file in files)
    licence = plan.source.licence or plan.listing.licence or "not stated on the hub"
    parts = [f"{_gigabytes(size)} in {len(files)} files"]
    parts += [f"{_gigabytes(there)} of them here"] if there else []
    parts += [f"licence {licence}"]
    if plan.listing.revision != "main":
        parts.append(f"revision {plan.listing.revision}")
    if plan.pickles:
        parts.append("a pickle, which is converted to safetensors once")
    return f"{_named(plan.source, plan.listing.id)}: {', '.join(parts)}"


def check_disk(plans: Sequence[Plan]) -> None:
    """Refuse what the disk has no room for, before anything is downloaded."""
    wanted: dict[int, list[Any]] = {}
    for plan in plans:
        home = own_folder() if plan.pickles else cache_folder()
        missing = sum(f.size - min(f.size, bytes_here(_place_of(plan, f))) for f in plan.all_files)
        missing += sum(file.size for files in plan.pickles.values() for file in files)
        there = _nearest(home)
        entry = wanted.setdefault(os.stat(there).st_dev, [home, there, 0])
        entry[2] += missing
    for home, there, missing in wanted.values():
        free = shutil.disk_usage(there).free
        if missing > free:
            variable = "FSLAB_WEIGHTS" if home == own_folder() else "HF_HOME"
            raise FslabError(
                f"{home} has {_gigabytes(free)} free and {_gigabytes(missing)} are to come; make "
                f"room, or name another place by {variable}, and run the same command again"
            )


def _bring(plan: Plan) -> Path:
    """Bring a model to where it belongs, and open it there."""
    files, kind = plan.all_files, plan.kind
    look, check = (partial(_refusing, each, plan.listing.id, kind) for each in _LOOKS)
    with _bar(plan) as bar:
        if plan.pickles:
            return bring_to_own(plan, bar, look, check)
        small = [file for file in files if file.size <= SMALL]
        look(bring_to_cache(plan.listing, small, bar))
        folder = bring_to_cache(plan.listing, files, bar)
    check(folder)
    return folder


_LOOKS = (check_type, check_opened)


def _refusing(look: Any, name: str, kind: str, folder: Path) -> None:
    try:
        look(folder, kind)
    except FslabError as error:
        raise Refused(f"{name} cannot be used: {error}") from error


@contextmanager
def _bar(plan: Plan) -> Iterator[Any]:
    files = plan.all_files
    there = sum(bytes_here(_place_of(plan, file)) for file in files)
    total = sum(file.size for file in files)
    with tqdm(
        total=total, initial=there, unit="B", unit_scale=True, desc=plan.listing.id.split("/")[-1]
    ) as bar:
        yield bar


def _place_of(plan: Plan, file: RemoteFile) -> Path:
    """Return where a file comes to: among the cache's blobs, or what is to be converted aside."""
    if plan.pickles:
        return incoming_of(plan.listing.id) / file.name
    return blob_of(plan.listing, file)


def _named(source: Source, name: str = "") -> str:
    return f"{name or source.id} ({SPOKEN[source.what]})"


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.2f} GB" if size >= 1e7 else f"{size / 1e6:.2f} MB"


def _nearest(path: Path) -> Path:
    """Return a folder that is there: the path itself or the nearest above it."""
    return next(each for each in (path, *path.parents) if each.exists())
