"""Pictures in, three files each out."""

from __future__ import annotations

import difflib
import json
from collections.abc import Sequence
from pathlib import Path

from tqdm.auto import tqdm

from fslab.datasets import VOC, read, write_mask
from fslab.datasets.read import write_picture
from fslab.files import write_or_refuse
from fslab.lab import Lab, Result
from fslab.lab.facts import facts
from fslab.plots import overlay
from fslab.records import FslabError, Recipe, Vocabulary

ENDINGS = (".png", ".overlay.png", ".json")
"""How the three files of a picture end."""


def segment_files(
    lab: Lab,
    paths: Sequence[Path],
    recipe: Recipe,
    classes: Sequence[str],
    open_words: bool,
    out: Path,
) -> None:
    """Segment pictures and write NAME.png, NAME.overlay.png and NAME.json into `out`.

    Every picture is read once before the first is segmented, so that a bad one leaves nothing
    behind. Raises FslabError for it, for two pictures of one name, and for unknown classes.
    """
    vocabulary, candidates = _look_for(classes, open_words)
    recipe = lab.recipe(recipe)
    _check(paths, out)
    bar = tqdm(paths, desc=recipe.name)
    for path in bar:
        picture = read(path)
        result = lab.segment(picture, recipe, vocabulary, candidates, bar.set_postfix_str)
        _write(result, path.stem, out)


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
            near = difflib.get_close_matches(word, VOC.classes, n=3)
            hint = f" (near it: {', '.join(near)})" if near else ""
            raise FslabError(
                f"{word!r} is no class of the vocabulary{hint}; "
                f"it holds {', '.join(VOC.classes)}; --open takes any word"
            )
        found.append(name)
    return vocabulary, tuple(dict.fromkeys(found))


def _check(paths: Sequence[Path], out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise FslabError(f"--out {out} is a file; give a folder")
    inputs = {path.resolve() for path in paths}
    seen: dict[str, Path] = {}
    for path in paths:
        for ending in ENDINGS:
            target = out / f"{path.stem}{ending}"
            if target.resolve() in inputs:
                raise FslabError(f"{target} is a picture that was given; choose another --out")
        if path.stem.endswith(".overlay"):
            raise FslabError(f"{path} is named like an overlay; give the picture itself")
        if path.stem in seen:
            raise FslabError(f"{seen[path.stem]} and {path} would both become {path.stem}.png")
        seen[path.stem] = path
        read(path)


def _write(result: Result, name: str, out: Path) -> None:
    shown = overlay(result.picture, result.labels)
    write_mask(result.labels.labels, out / f"{name}.png")
    write_picture(shown, out / f"{name}.overlay.png")
    write_or_refuse(out / f"{name}.json", json.dumps(facts(result), indent=1).encode())
