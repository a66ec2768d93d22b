"""fslab's own folder of weights: models of which the hub has pickles only, converted once."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fslab import __version__
from fslab.files import hold
from fslab.records import FslabError
from fslab.weights.convert import convert
from fslab.weights.digests import file_digest
from fslab.weights.download import bring
from fslab.weights.hub import NOTE, own_folder
from fslab.weights.listing import Plan, explained
from fslab.weights.parts import DIFFUSERS


def incoming_of(name: str) -> Path:
    """Return where a model's files come to before it is whole."""
    return own_folder() / f".{name.replace('/', '--')}.incoming"


def bring_to_own(
    plan: Plan, bar: Any, look: Callable[[Path], None], check: Callable[[Path], None]
) -> Path:
    """Bring a model into fslab's own folder, its pickles as safetensors; return where it lies.

    look: told the folder when the small files are there, check: when all of it is; both refuse.
    The folder appears whole or not at all. A pickle that is refused leaves nothing. Raises
    FslabError as `bring` and `convert` do, and as look and check.
    """
    name = plan.listing.id
    incoming, place = incoming_of(name), own_folder() / name.replace("/", "--")
    pickles = {file.name for files in plan.pickles.values() for file in files}
    with explained(name):
        incoming.mkdir(parents=True, exist_ok=True)
        with hold(incoming.with_suffix(".held")):
            for file in plan.all_files:
                if file.name not in pickles:
                    bring(plan.listing, file, incoming / file.name, bar)
            try:
                look(incoming)
                for folder in plan.pickles:
                    _bring_converted(plan, folder, incoming, bar)
                check(incoming)
            except Refused:
                shutil.rmtree(incoming)
                raise
            _note(plan, incoming)
            _put(incoming, place)
    return place


class Refused(FslabError):
    """A model that came whole and is not what it is said to be."""


def _bring_converted(plan: Plan, folder: str, incoming: Path, bar: Any) -> None:
    """Bring the pickles of a part and leave safetensors in their place."""
    stem = DIFFUSERS if DIFFUSERS in plan.pickles[folder][0].name else "model"
    target = incoming / folder / f"{stem}.safetensors"
    if target.is_file():
        return
    places = [incoming / file.name for file in plan.pickles[folder]]
    for file, place in zip(plan.pickles[folder], places, strict=True):
        bring(plan.listing, file, place, bar)
    aside = target.with_suffix(".aside")
    try:
        convert(places, aside, plan.listing.id)
    except FslabError as error:
        raise Refused(str(error)) from error
    aside.replace(target)
    for place in places:
        place.unlink()


def _note(plan: Plan, folder: Path) -> None:
    """Write beside the weights where they are from: ids, digests, and who converted them."""
    import torch

    pickles = [file for files in plan.pickles.values() for file in files]
    written = sorted(folder.rglob("*.safetensors"))
    note = {
        "id": plan.listing.id,
        "revision": plan.listing.revision,
        "commit": plan.listing.commit,
        "pickle": ", ".join(file.name for file in pickles),
        "digest": ", ".join(file.digest for file in pickles),
        "written": ", ".join(path.relative_to(folder).as_posix() for path in written),
        "written_digest": ", ".join(file_digest(path) for path in written),
        "by": f"fslab {__version__}, PyTorch {torch.__version__}",
    }
    (folder / NOTE).write_text(json.dumps(note, indent=1) + "\n", encoding="utf-8")


def _put(incoming: Path, place: Path) -> None:
    """Put a whole model in its place, where one that is not whole may lie."""
    old = place.with_name(f".{place.name}.old")
    if place.exists():
        shutil.rmtree(old, ignore_errors=True)
        place.replace(old)
    incoming.replace(place)
    shutil.rmtree(old, ignore_errors=True)
