"""The pictures of a search, with masks where there are some."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fslab.datasets import Dataset, PictureLike, Sample, folder, place, read
from fslab.datasets.folders import masks_in
from fslab.datasets.read import check_several
from fslab.records import VOID, FslabError, Picture
from fslab.tune.search import Source

NUMBERS = ("background", *(f"{number}" for number in range(1, VOID)))
"""What the labels of masks are called whose classes nobody named."""


@dataclass(frozen=True)
class Given:
    """A picture that was given by itself."""

    name: str
    given: PictureLike

    def picture(self) -> Picture:
        """Read it."""
        return read(self.given)

    def truth(self) -> np.ndarray | None:
        """Return None: it has no mask."""
        return None


@dataclass(frozen=True)
class Sources:
    """Pictures in the order in which they are looked at, what they are called, and classes."""

    each: tuple[Source, ...]
    name: str
    classes: tuple[str, ...]


def sources_of(
    pictures: Any,
    masks: str | os.PathLike[str] | None,
    by_masks: bool,
    limit: int | None,
    seed: int,
) -> Sources:
    """Return a search's pictures, at most `limit`, in an order drawn by the seed.

    pictures: a folder, a `Dataset`, or several pictures as `fslab.read` takes them. masks: a folder
    of index PNGs of some of the pictures' stems. by_masks: take those with a mask alone.
    Raises FslabError where there are none, and for what is no such thing.
    """
    name, classes = "pictures", NUMBERS
    each: Sequence[Source]
    if isinstance(pictures, Dataset):
        if masks is not None:
            raise FslabError("masks are given beside a Dataset, which has its own; leave them out")
        each, classes = pictures.samples, pictures.vocabulary.names
        name = f"{pictures.name} {pictures.split}"
    elif _is_folder(pictures):
        opened = folder(pictures)
        each, name = opened.samples, opened.name
    else:
        each = _listed(pictures)
    if masks is not None:
        each = _with_masks(each, masks)
    elif by_masks:
        each = [one for one in each if isinstance(one, Sample) and one.has_truth]
        if not each:
            raise FslabError(
                f"{name} has no masks to tune by; give a folder of index PNGs as masks"
            )
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 1):
        raise FslabError(f"limit is {limit!r}; it must be a whole number from 1 up")
    order = np.random.default_rng(seed).permutation(len(each))[:limit]
    return Sources(tuple(each[place] for place in order), name, classes)


def _is_folder(pictures: Any) -> bool:
    if not isinstance(pictures, (str, os.PathLike)):
        return False
    found = place(pictures)
    if not found.is_dir():
        raise FslabError(f"{str(pictures)!r} is not a folder; give one, or a list of pictures")
    return True


def _listed(pictures: Iterable[PictureLike]) -> list[Given]:
    check_several(pictures)
    found: dict[str, Given] = {}
    for number, each in enumerate(pictures, 1):
        name = Path(each).name if isinstance(each, (str, os.PathLike)) else f"picture {number}"
        name = getattr(each, "name", name) if isinstance(each, Picture) else name
        name = f"{name} ({number})" if name in found else name
        found[name] = Given(name, each)
    return list(found.values())


def _with_masks(each: Sequence[Source], masks: str | os.PathLike[str]) -> list[Source]:
    truths = masks_in(masks)[0]
    found: list[Source] = []
    for one in each:
        if not isinstance(one, Sample):
            raise FslabError("masks are a folder; pictures must be one too, with files of one stem")
        if one.name in truths:
            found.append(Sample(one.name, one.path, truths[one.name]))
    if not found:
        raise FslabError(f"{str(masks)!r} holds no mask of these pictures: no PNG of one stem")
    return found
