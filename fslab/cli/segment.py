"""Pictures in, three files each out, and what sums them up."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from fslab.batches import chosen_batch
from fslab.cli.summary import ENDINGS, facts_of, files_of, write_summary
from fslab.datasets import VOC, read, write_mask
from fslab.datasets.folders import said_of_folder, sorted_out
from fslab.datasets.read import SUFFIXES, write_picture
from fslab.evaluate.job import Job, base_of
from fslab.evaluate.pictures import check_name
from fslab.exports.masks import check_format
from fslab.files import one_file, portable, write_or_refuse
from fslab.keys import masks_key
from fslab.lab import Lab, Result
from fslab.lab.courses import run_many
from fslab.lab.drawn import caveat_of
from fslab.lab.facts import facts
from fslab.lab.processes import chosen_processes
from fslab.lab.together import Order
from fslab.names import did_you_mean
from fslab.plots import overlay
from fslab.process import memory_refused
from fslab.records import FslabError, Picture, Recipe, Unwritable, Vocabulary

_HOPELESS = 3
"""After so many pictures that were read, and none segmented, the command gives up."""


@dataclass(frozen=True)
class Run:
    """Where masks are written, and by which name of settings, weights and makers.

    candidates: classes that were asked for; None where the caption finds them.
    """

    out: Path
    base: str
    candidates: tuple[str, ...] | None

    def key(self, picture: Picture) -> str:
        """Name a picture's files."""
        return masks_key(self.base, picture, self.candidates)


def segment_files(
    lab: Lab,
    paths: Sequence[Path],
    recipe: Recipe,
    classes: Sequence[str],
    open_words: bool,
    out: Path,
    *,
    batch: int | None = None,
    formats: Sequence[str] = (),
) -> None:
    """Segment pictures and write NAME.png, NAME.overlay.png and NAME.json into `out`.

    NAME is a picture's own as `portable` writes it. A folder stands for the pictures in it; what
    it holds beside them is said on stderr. Of a folder, or several pictures, `write_summary` adds
    one table and a contact sheet. batch: pictures that pass at once, as in `Lab.segment_many`.
    formats: of `fslab.exports.write_masks`, each into a folder of its name in `out`.

    Pictures whose files are there, made of the same pixels by the same settings and weights, are
    not made again. A picture that cannot be read or segmented is left out and said on stderr, the
    others go on, and FslabError counts those left out in the end; one picture alone is refused by
    its own sentence. Two pictures of one name, a file that would take a picture's place, and
    unknown classes and formats are refused before anything is read, and settings that fit none of
    the first few pictures end the work.
    """
    for format in formats:
        check_format(format)
    batch = chosen_batch(batch, lab.device)
    vocabulary, candidates = _look_for(classes, open_words)
    recipe = lab.recipe(recipe)
    several = len(paths) > 1 or any(path.is_dir() for path in paths)
    paths = [file for path in paths for file in _files_of(path)]
    _check(paths, out)
    run = Run(out, base_of(lab, Job(recipe, vocabulary, True, "", batch)), candidates)
    done = _done(run, paths)
    order = Order(recipe, vocabulary, candidates, last=partial(_write, run))
    with tqdm(total=len(paths), initial=len(done), desc=recipe.name) as bar:
        refused, tried = _segmented(
            lab, [path for path in paths if path not in done], order, batch, bar
        )
    made = [path for path in paths if path not in refused and path in done | tried]
    if made:
        _say_caveats(out, made)
    if made and (several or formats):
        write_summary(out, made, vocabulary.names, refused, formats, several)
    if refused:
        raise FslabError(_left_out(list(refused.values()), len(made), len(paths)))


def _segmented(
    lab: Lab, paths: Sequence[Path], order: Order, batch: int, bar: Any
) -> tuple[dict[Path, str], set[Path]]:
    """Segment pictures; return why some were refused, and which were tried at all."""
    processes = chosen_processes(None, batch, lab.device)
    read: set[Path] = set()
    sources = (partial(_read, path, read) for path in paths)
    refused: dict[Path, str] = {}
    tried: set[Path] = set()
    seen = 0
    made = run_many(lab, sources, order, batch, processes, bar.set_postfix_str)
    for path, found in zip(paths, made, strict=False):
        bar.update()
        tried.add(path)
        seen += path in read
        if isinstance(found, FslabError):
            refused[path] = str(found)
        if len(refused) == len(tried) and seen >= _HOPELESS:
            break
    made.close()
    return refused, tried


def _done(run: Run, paths: Sequence[Path]) -> set[Path]:
    """Return the pictures whose files are there as this run would make them, and say so."""
    found = set()
    for path in tqdm(paths, desc="what is done", disable=None, leave=False):
        facts = facts_of(run.out, path)
        if facts is None or not all(file.is_file() for file in files_of(run.out, path)):
            continue
        try:
            with memory_refused(path.name):
                if facts.get("key") == run.key(read(path)):
                    found.add(path)
        except FslabError:
            continue  # which is said when it is its turn
    if found:
        said = f"{len(found)} of {len(paths)} pictures are done, by the same settings"
        print(f"{run.out}: {said}", file=sys.stderr)
    return found


def _say_caveats(out: Path, paths: Sequence[Path]) -> None:
    beyond = sum(bool((facts_of(out, path) or {}).get("caveat")) for path in paths)
    if beyond:
        print(f"fslab: {caveat_of(beyond, len(paths))}", file=sys.stderr)


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


def _write(run: Run, lab: Lab, result: Result, name: str) -> None:
    """Write a picture's three files; the JSON, which says what made them, goes first and comes
    last."""
    out, picture = run.out, result.picture
    try:
        (out / f"{name}.json").unlink(missing_ok=True)
    except OSError as error:
        raise Unwritable(f"{out} cannot be written ({error.strerror or error})") from error
    write_mask(result.labels.labels, out / f"{name}.png")
    write_picture(overlay(picture, result.labels), out / f"{name}.overlay.png")
    said = {**facts(result, lab.caveat(picture)), "key": run.key(picture)}
    write_or_refuse(out / f"{name}.json", json.dumps(said, indent=1).encode())
