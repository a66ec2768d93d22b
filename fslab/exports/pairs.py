"""Pictures with their label maps, as other programs' files take them: checked, and by class."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fslab.files import one_file, portable
from fslab.records import FslabError, Instances, LabelMap, Picture, check_kind, void_of

Pairs = Iterable[tuple[Picture, LabelMap | Instances]]
"""Pictures, each with its labels, or with its things."""


@dataclass(frozen=True, eq=False)
class Region:
    """What is told apart in a picture: a class, or a thing of one.

    number: from 1 up, a class's is its label; label: of its class; mask: its pixels [H, W];
    score: a probability, where it has one.
    """

    number: int
    label: int
    mask: NDArray[np.bool_]
    score: float | None


@dataclass(frozen=True, eq=False)
class Pair:
    """One picture with its labels. `file`: how files of it are called, without an ending.

    things: the labels' things, where they are told apart.
    """

    picture: Picture
    labels: LabelMap
    file: str
    things: Instances | None = None

    def regions(self) -> Iterator[Region]:
        """Yield each thing, or each class that is there.

        Background and void are none. Raises FslabError for a label beyond the names.
        """
        if self.things is None:
            yield from self._classes()
            return
        scores = self.things.scores or (None,) * self.things.count
        for number, (label, score) in enumerate(zip(self.things.classes, scores, strict=True), 1):
            yield Region(number, label, self.things.things == number, score)

    def _classes(self) -> Iterator[Region]:
        labels, names = self.labels.labels, self.labels.names
        for label in np.unique(labels).tolist():
            if label in (0, void_of(labels)):
                continue
            if label >= len(names):
                raise FslabError(
                    f"a label map holds {label}, and its names end at {len(names) - 1}"
                )
            score = self.labels.scores.get(names[label])
            yield Region(label, label, labels == label, None if score is None else float(score))


def checked(pairs: Pairs) -> Iterator[Pair]:
    """Yield pairs one after the other.

    Raises FslabError for what is none, a pair of two sizes, names of pictures that would be one
    file's, labels that have other classes than those before, and things beside mere labels.
    """
    first: Pair | None = None
    seen: set[str] = set()
    for picture, labels in pairs:
        check_kind(picture, Picture, "a picture")
        pair = _paired(picture, labels)
        first = first or pair
        _check(pair, first, seen)
        yield pair


def _paired(picture: Picture, labels: LabelMap | Instances) -> Pair:
    if isinstance(labels, Instances):
        return Pair(picture, labels.labels, _file_of(picture.name), labels)
    check_kind(labels, LabelMap, "its labels")
    return Pair(picture, labels, _file_of(picture.name))


def _file_of(name: str) -> str:
    """Return a name as a path within a folder, whatever it is."""
    return "/".join(part or "%" for part in portable(name).split("/"))


def _check(pair: Pair, first: Pair, seen: set[str]) -> None:
    picture, labels = pair.picture, pair.labels
    if labels.size != picture.size:
        raise FslabError(
            f"{picture.name} is {picture.size[0]} x {picture.size[1]} pixels (height x width), its "
            f"labels {labels.size[0]} x {labels.size[1]}; both belong to one picture"
        )
    if (pair.things is None) != (first.things is None):
        raise FslabError(
            f"{picture.name} has {'mere labels' if pair.things is None else 'its things'}, unlike "
            "the pictures before it; give all label maps, or all Instances"
        )
    if labels.names != first.labels.names:
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
