"""Pictures with their label maps, as other programs' files take them: checked, and by class."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fslab.files import one_file, portable
from fslab.records import FslabError, LabelMap, Picture, check_kind, void_of

Pairs = Iterable[tuple[Picture, LabelMap]]
"""Pictures, each with its labels."""


@dataclass(frozen=True, eq=False)
class Pair:
    """One picture with its labels. `file`: how files of it are called, without an ending."""

    picture: Picture
    labels: LabelMap
    file: str

    def masks(self) -> Iterator[tuple[int, NDArray[np.bool_]]]:
        """Yield each class that is there, by its label, with its pixels [H, W].

        Background and void are none. Raises FslabError for a label beyond the names.
        """
        labels, names = self.labels.labels, self.labels.names
        for label in np.unique(labels).tolist():
            if label in (0, void_of(labels)):
                continue
            if label >= len(names):
                raise FslabError(
                    f"a label map holds {label}, and its names end at {len(names) - 1}"
                )
            yield label, labels == label

    def score(self, label: int) -> float | None:
        """Return the matching probability of a class, where it has one."""
        found = self.labels.scores.get(self.labels.names[label])
        return None if found is None else float(found)


def checked(pairs: Pairs) -> Iterator[Pair]:
    """Yield pairs one after the other.

    Raises FslabError for what is none, a pair of two sizes, names of pictures that would be one
    file's, and labels that have other classes than those before.
    """
    names: tuple[str, ...] | None = None
    seen: set[str] = set()
    for picture, labels in pairs:
        check_kind(picture, Picture, "a picture")
        check_kind(labels, LabelMap, "its labels")
        names = labels.names if names is None else names
        pair = Pair(picture, labels, _file_of(picture.name))
        _check(pair, names, seen)
        yield pair


def _file_of(name: str) -> str:
    """Return a name as a path within a folder, whatever it is."""
    return "/".join(part or "%" for part in portable(name).split("/"))


def _check(pair: Pair, names: tuple[str, ...], seen: set[str]) -> None:
    picture, labels = pair.picture, pair.labels
    if labels.size != picture.size:
        raise FslabError(
            f"{picture.name} is {picture.size[0]} x {picture.size[1]} pixels (height x width), its "
            f"labels {labels.size[0]} x {labels.size[1]}; both belong to one picture"
        )
    if labels.names != names:
        raise FslabError(
            f"the labels of {picture.name} have other classes than those before it; what is "
            "written has one list of classes: give all pictures one vocabulary"
        )
    if one_file(pair.file) in seen:
        raise FslabError(
            f"two pictures are called {picture.name!r}, or as good as that where case does not "
            "count, and files tell them apart by it; give each its own: "
            "dataclasses.replace(picture, name=...)"
        )
    seen.add(one_file(pair.file))
