"""Plain folders: pictures, masks beside them, and what was left with the reason."""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np

from fslab.datasets import oddities
from fslab.datasets.masks import read_mask
from fslab.datasets.oddities import Oddity
from fslab.datasets.places import Place, Url, entries, place
from fslab.datasets.read import SUFFIXES
from fslab.datasets.samples import Dataset, MissingFiles, Sample, counted
from fslab.datasets.vocabularies import VOC
from fslab.records import FslabError, Vocabulary

MASKS = frozenset((".png",))
"""How the names of masks end."""

_OVERLAY = ".overlay"
"""How the stems of the drawings end that `fslab segment` writes beside its masks."""

_NAMED = 20
"""So many files that were left are named in a sentence; all of them are in `oddities`."""


def folder(
    pictures: str | os.PathLike[str] | Url,
    masks: str | os.PathLike[str] | Url | None = None,
    vocabulary: Vocabulary = VOC,
) -> Dataset:
    """Open a folder of pictures, with a folder of index PNGs of the same stems as truth, if any.

    Both may be one folder: its PNGs are the masks then. Both may be fsspec urls. The data set's
    oddities name each file that was left, and why. Raises FslabError where a folder is missing or
    empty, two pictures share a stem, or a picture has no mask.
    """
    pictures, masks = place(pictures), place(masks) if masks is not None else None
    shared = masks is not None and masks.resolve() == pictures.resolve()
    taken, left = sorted_out(pictures, SUFFIXES - MASKS if shared else SUFFIXES)
    found = by_stem(taken, pictures)
    if not found:
        raise FslabError(f"{str(pictures)!r} holds no pictures ({', '.join(sorted(SUFFIXES))})")
    truths, beside = masks_in(masks) if masks is not None else ({}, [])
    missing = [f"{name}.png" for name in found if name not in truths] if masks is not None else []
    if missing:
        sentence = f"{str(masks)!r} lacks {counted(missing)}, masks of pictures that exist"
        raise MissingFiles(sentence, missing)
    known = len(vocabulary.names)
    samples = (Sample(name, path, truths.get(name), known) for name, path in found.items())
    left = [each for each in left if each.where not in {path.name for path in truths.values()}]
    left += [] if shared else beside
    left += [_unpaired(path) for name, path in truths.items() if name not in found]
    name = pictures.resolve().name
    return Dataset(name, vocabulary, "all", tuple(samples), oddities=tuple(left))


def _unpaired(mask: Place) -> Oddity:
    return Oddity(oddities.LEFT, mask.name, f"{mask.name!r} is a mask of no picture")


def mask_pairs(
    pred_dir: str | os.PathLike[str] | Url, truth_dir: str | os.PathLike[str] | Url
) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Pair index PNGs of two folders by stem: (name, truth, guess), both u8 [H, W], read lazily.

    Overlays that `fslab segment` writes beside its masks (NAME.overlay.png) are left out.
    Raises FslabError at once where a folder is missing or empty, a truth has no prediction, or
    a prediction has no truth: a score over a part would pass for one over the whole.
    """
    guesses, truths = (masks_in(each)[0] for each in (pred_dir, truth_dir))
    for home, found in ((pred_dir, guesses), (truth_dir, truths)):
        if not found:
            raise FslabError(f"{str(home)!r} holds no PNG masks")
    for home, there, here in ((pred_dir, truths, guesses), (truth_dir, guesses, truths)):
        missing = [f"{name}.png" for name in there if name not in here]
        if missing:
            other = truth_dir if home is pred_dir else pred_dir
            sentence = f"{str(home)!r} lacks {counted(missing)} that {str(other)!r} has"
            raise MissingFiles(sentence, missing)
    return ((name, read_mask(path), read_mask(guesses[name])) for name, path in truths.items())


def masks_in(folder: str | os.PathLike[str] | Url) -> tuple[dict[str, Place], list[Oddity]]:
    """Return a folder's masks by stem, and why each other entry was left, overlays among them."""
    home = place(folder)
    taken, left = sorted_out(home, MASKS)
    drawn = [path for path in taken if path.stem.endswith(_OVERLAY)]
    why = "is an overlay, drawn from a mask"
    left += [Oddity(oddities.LEFT, path.name, f"{path.name!r} {why}") for path in drawn]
    return by_stem([path for path in taken if path not in drawn], home), left


def sorted_out(folder: Place, suffixes: frozenset[str]) -> tuple[list[Place], list[Oddity]]:
    """Return a folder's files of these endings, sorted, and why each other entry was left.

    Raises FslabError where there is no such folder.
    """
    if not folder.is_dir():
        raise FslabError(f"{str(folder)!r} is not a folder; check the path")
    taken: list[Place] = []
    left: list[Oddity] = []
    for path in entries(folder):
        if path.name.startswith("."):
            why = "is hidden"
        elif path.suffix.lower() in suffixes:
            taken.append(path)
            continue
        elif path.is_dir():
            why = "is a folder"
        else:
            why = f"ends in {path.suffix!r}, which no picture that is read does"
            why = why if path.suffix else "has no ending that says it is a picture"
        left.append(Oddity(oddities.LEFT, path.name, f"{path.name!r} {why}"))
    return taken, left


def said_of_folder(folder: str, taken: int, left: list[Oddity], what: str = "picture") -> str:
    """Say how many files of a folder were taken, and which were left, and why."""
    count = f"{taken} {what}{'' if taken == 1 else 's'}"
    if not left:
        return f"{folder}: {count}, and nothing else"
    named = "; ".join(each.why for each in left[:_NAMED])
    more = f"; and {len(left) - _NAMED} more" if len(left) > _NAMED else ""
    return f"{folder}: {count}; {len(left)} left: {named}{more}"


def by_stem(paths: list[Place], folder: Place) -> dict[str, Place]:
    """Return files by stem; FslabError where two have one."""
    found: dict[str, Place] = {}
    for path in paths:
        if path.stem in found:
            pair = f"{found[path.stem].name!r} and {path.name!r}"
            raise FslabError(f"{str(folder)!r} holds {pair}: one name for two pictures")
        found[path.stem] = path
    return found
