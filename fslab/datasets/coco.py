"""COCO-Object: the 80 things of COCO's instances json as label maps."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fslab.datasets.instances import Listed, parse, read_instances
from fslab.datasets.oddities import Oddity, by_kind
from fslab.datasets.places import Place, Url, is_file, place
from fslab.datasets.read import size_and_turn
from fslab.datasets.regions import Box, Outline, paint_box
from fslab.datasets.samples import Dataset, MissingFiles, Sample, counted, sideways, turned
from fslab.datasets.vocabularies import COCO_OBJECT
from fslab.errors import FslabWarning
from fslab.records import VOID, FslabError, Picture


@dataclass(frozen=True, eq=False)
class CocoSample(Sample):
    """A picture whose truth is painted from outlines: nothing but plain data, so it pickles."""

    size: tuple[int, int] = (0, 0)
    outlines: tuple[Outline, ...] = ()
    doubts: tuple[Box, ...] = ()
    refused: str = ""

    @property
    def has_truth(self) -> bool:
        """Whether there is a truth: always, a picture without an object is all background."""
        return True

    def picture(self) -> Picture:
        """Read the picture: u8 [H, W, 3]; FslabError where its entry in the json is refused."""
        if self.refused:
            raise FslabError(self.refused)
        return super().picture()

    def truth(self) -> np.ndarray:
        """Paint the truth, u8 [H, W]: 0 background, 1..80 things, 255 what is not known.

        Larger objects are painted first, so that smaller ones before them stay visible (COCO
        keeps no depth order). Crowd regions are void where no single object lies on them, and so
        are regions of an unknown class and boxes of objects whose region is not known.
        """
        self._check()
        labels = np.zeros(self.size, np.uint8)
        things = [(each, each.mask(*self.size)) for each in self._things()]
        for outline, mask in sorted(things, key=lambda thing: -int(thing[1].sum())):
            labels[mask] = outline.label
        for outline in self.outlines:
            if outline.crowd or outline.label == VOID:
                labels[outline.mask(*self.size) & (labels == 0)] = VOID
        for box in self.doubts:
            labels[paint_box(box, *self.size) & (labels == 0)] = VOID
        return labels

    def _things(self) -> Iterator[Outline]:
        return (each for each in self.outlines if not each.crowd and each.label != VOID)

    def _check(self) -> None:
        """Refuse a picture whose entry is refused, or whose file has another size."""
        if self.refused:
            raise FslabError(self.refused)
        found, turn = size_and_turn(self.path)
        if found != self.size:
            raise FslabError(
                f"{str(self.path)!r} is {found[0]} x {found[1]} pixels (height x width), but its "
                f"annotations are for {self.size[0]} x {self.size[1]}"
                f"{sideways(found, self.size, turn)}"
            )
        if turn != 1:
            warnings.warn(turned(self.path, turn), FslabWarning, stacklevel=3)


def coco(
    root_or_json: str | os.PathLike[str] | Url, split: str = "val2017", skip_missing: bool = False
) -> Dataset:
    """Open COCO-Object: pictures of ROOT/SPLIT/, truth from ROOT/annotations/instances_SPLIT.json.

    A json's own path will do too (the split is what follows "instances_" in its name then), and
    so will fsspec urls of either. Every picture of the json takes part, also those without an
    object (all background), unless its file is not there and skip_missing says to leave it out.

    What is odd about single entries (no region, no such picture, an id of two pictures) costs
    these entries alone: the data set's oddities name them, and a warning counts them. Raises
    FslabError where files are missing (naming them) or the json is not of that kind.
    """
    given = place(root_or_json)
    inside = given / "annotations" / f"instances_{split}.json"
    source = given if given.suffix == ".json" else inside
    split = source.stem.removeprefix("instances_")
    root = source.parent.parent
    listed, odd = read_instances(parse(_content(source), source), source, root / split)
    samples = tuple(_sample(each, root / split, source) for each in listed)
    files = {each.name: each.file for each in listed if not each.refused}
    missing = _absent(files, root / split)
    if missing and (not skip_missing or len(missing) == len(files)):
        lacking = list(missing.values())
        raise MissingFiles(
            f"{str(root / split)!r} lacks {counted(lacking)} that the json names", lacking
        )
    if odd:
        warnings.warn(_said(odd, source), FslabWarning, stacklevel=2)
    there = tuple(sample for sample in samples if sample.name not in missing)
    return Dataset(root.resolve().name, COCO_OBJECT, split, there, missing, odd)


def coco_labels(categories: Iterable[Mapping[str, Any]]) -> dict[int, int]:
    """Map a json's category ids (1..90 with gaps) to labels 1..80 of COCO_OBJECT, by name."""
    labels = {}
    for category in categories:
        if category["name"] not in COCO_OBJECT.classes:
            raise FslabError(f"category {category['name']!r} is not one of COCO's 80 things")
        labels[category["id"]] = COCO_OBJECT.names.index(category["name"])
    return labels


def _absent(files: Mapping[str, str], folder: Place) -> dict[str, str]:
    """Return the files that are not there; behind a url one list a folder answers for all."""
    if not isinstance(folder, Url):
        return {name: file for name, file in files.items() if not is_file(folder / file)}
    places = {file: (folder / file).parent for file in files.values()}
    homes = {str(home): home for home in places.values()}
    there = {
        (where, path.name)
        for where, home in homes.items()
        for path in (home.iterdir() if home.is_dir() else ())
    }
    return {
        name: file
        for name, file in files.items()
        if (str(places[file]), (folder / file).name) not in there
    }


def _content(source: Place) -> bytes:
    """Read the json's bytes, or say which splits there are."""
    if source.is_file():
        return source.read_bytes()
    folder = source.parent
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    there = [name for name in names if name.startswith("instances_") and name.endswith(".json")]
    hint = f"there is {', '.join(there)}" if there else "COCO keeps it in annotations/"
    raise FslabError(f"{str(source)!r} does not exist; {hint}")


def _sample(listed: Listed, pictures: Place, source: Place) -> CocoSample:
    path = source if listed.refused else pictures / listed.file
    return CocoSample(
        listed.name, path, None, len(COCO_OBJECT.names), listed.size, listed.outlines,
        listed.doubts, listed.refused,
    )  # fmt: skip


def _said(odd: Sequence[Oddity], source: Place) -> str:
    kinds = ", ".join(f"{len(each)} x {kind}" for kind, each in by_kind(odd).items())
    return f"{str(source)!r} is not all as it should be ({kinds}); the first: {odd[0].why}"
