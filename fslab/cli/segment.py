"""Pictures in, three files each out."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from tqdm.auto import tqdm

from fslab.batches import chosen_batch
from fslab.datasets import VOC, read, write_mask
from fslab.datasets.folders import said_of_folder, sorted_out
from fslab.datasets.read import SUFFIXES, write_picture
from fslab.evaluate.pictures import check_name
from fslab.files import one_file, portable, write_or_refuse
from fslab.lab import Lab, Result
from fslab.lab.courses import run_many
from fslab.lab.drawn import caveat_of
from fslab.lab.facts import facts
from fslab.lab.processes import chosen_processes
from fslab.lab.together import Order
from fslab.names import did_you_mean
from fslab.plots import overlay
from fslab.process import memory_refused
from fslab.records import FslabError, Picture, Recipe, Vocabulary

ENDINGS = (".png", ".overlay.png", ".json")
"""How the three files of a picture end."""

_HOPELESS = 3
"""After so many pictures that were read, and none segmented, the command gives up."""


def segment_files(
    lab: Lab,
    paths: Sequence[Path],
    recipe: Recipe,
    classes: Sequence[str],
    open_words: bool,
    out: Path,
    *,
    batch: int | None = None,
) -> None:
    """Segment pictures and write NAME.png, NAME.overlay.png and NAME.json into `out`.

    NAME is a picture's own as `portable` writes it. A folder stands for the pictures in it; what
    it holds beside them is said on stderr. batch: pictures that pass at once, as in
    `Lab.segment_many`.

    A picture that cannot be read or segmented is left out and said on stderr, the others go on,
    and FslabError counts those left out in the end; one picture alone is refused by its own
    sentence. Two pictures of one name, a file that would take a picture's place, and unknown
    classes are refused before anything is read, and settings that fit none of the first few
    pictures end the work.
    """
    batch = chosen_batch(batch, lab.device)
    vocabulary, candidates = _look_for(classes, open_words)
    recipe = lab.recipe(recipe)
    paths = [file for path in paths for file in _files_of(path)]
    _check(paths, out)
    order = Order(recipe, vocabulary, candidates, last=partial(_write, out))
    processes = chosen_processes(None, batch, lab.device)
    read: set[Path] = set()
    sources = (partial(_read, path, read) for path in paths)
    refused: list[str] = []
    seen = written = beyond = 0
    with tqdm(total=len(paths), desc=recipe.name) as bar:
        made = run_many(lab, sources, order, batch, processes, bar.set_postfix_str)
        for path, found in zip(paths, made, strict=True):
            bar.update()
            seen += path in read
            if not isinstance(found, FslabError):
                written, beyond = written + 1, beyond + found
                continue
            refused.append(str(found))
            if not written and seen >= _HOPELESS:
                break
    if beyond:
        print(f"fslab: {caveat_of(beyond, written)}", file=sys.stderr)
    if refused:
        raise FslabError(_left_out(refused, written, len(paths)))


def _files_of(path: Path) -> list[Path]:
    """Return the pictures of a folder, and say what was taken and left; a file is itself."""
    if not path.is_dir():
        return [path]
    taken, left = sorted_out(path, SUFFIXES)
    print(said_of_folder(str(path), len(taken), left), file=sys.stderr)
    if not taken:
        raise FslabError(f"{str(path)!r} holds no pictures ({', '.join(sorted(SUFFIXES))})")
    return [Path(str(each)) for each in taken]


def _left_out(refused: Sequence[str], written: int, given: int) -> str:
    """Say every refusal on stderr, and return the sentence that counts them."""
    if given == 1:
        return refused[0]
    print("\n".join(refused), file=sys.stderr)
    tried = written + len(refused)
    unseen = f"; {given - tried} more were not tried" if tried < given else ""
    return f"{len(refused)} of {tried} pictures were left out, as said above{unseen}"


def _look_for(
    classes: Sequence[str], open_words: bool
) -> tuple[Vocabulary, tuple[str, ...] | None]:
    """Return the vocabulary, and the classes to look for, or None where the caption finds them."""
    if not classes:
        return VOC, None
    vocabulary = VOC.extended(tuple(classes)) if open_words else VOC
    found = []
    for word in classes:
        name = vocabulary.find(word)
        if name is None:
            if open_words:
                raise FslabError(f"{word!r} is the background, which is what no class takes")
            raise FslabError(
                f"{word!r} is not a class of the vocabulary, which holds {', '.join(VOC.classes)}; "
                f"--open takes any word{did_you_mean(word, VOC.classes)}"
            )
        found.append(name)
    return vocabulary, tuple(dict.fromkeys(found))


def _check(paths: Sequence[Path], out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise FslabError(f"--out {out} is a file; give a folder")
    inputs = {os.path.realpath(path) for path in paths}
    seen: dict[str, Path] = {}
    for path in paths:
        for ending in ENDINGS:
            target = out / f"{portable(path.stem)}{ending}"
            if os.path.realpath(target) in inputs:
                raise FslabError(
                    f"{str(target)!r} is a picture that was given; choose another --out"
                )
        if path.stem.endswith(".overlay"):
            raise FslabError(f"{str(path)!r} is named like an overlay; give the picture itself")
        other = seen.setdefault(one_file(path.stem), path)
        if other is not path:
            how = "" if other.stem == path.stem else " where case does not count"
            raise FslabError(
                f"{str(other)!r} and {str(path)!r} would both become "
                f"{f'{portable(path.stem)}.png'!r}{how}"
            )


def _read(path: Path, seen: set[Path]) -> tuple[Picture, str]:
    check_name(path.stem)
    with memory_refused(path.name):
        picture = read(path)
    seen.add(path)
    return picture, portable(path.stem)


def _write(out: Path, lab: Lab, result: Result, name: str) -> bool:
    """Write a picture's three files; tell whether something must be said of its names."""
    caveat, shown = lab.caveat(result.picture), overlay(result.picture, result.labels)
    write_mask(result.labels.labels, out / f"{name}.png")
    write_picture(shown, out / f"{name}.overlay.png")
    write_or_refuse(out / f"{name}.json", json.dumps(facts(result, caveat), indent=1).encode())
    return bool(caveat)
