"""VOC's layout: lists of names, pictures and masks that belong together by name."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from fslab.datasets import oddities
from fslab.datasets.folders import MASKS, sorted_out
from fslab.datasets.lists import lines_of, odd_line
from fslab.datasets.oddities import Oddity
from fslab.datasets.places import Place, Url, entries, is_file, place
from fslab.datasets.read import SUFFIXES
from fslab.datasets.samples import SPOKEN, Dataset, MissingFiles, Sample, counted
from fslab.datasets.vocabularies import VOC
from fslab.records import FslabError, Vocabulary

_PICTURES, _MASKS = "JPEGImages", "SegmentationClass"


def voc(
    root: str | os.PathLike[str] | Url,
    split: str = "val",
    vocabulary: Vocabulary = VOC,
    skip_missing: bool = False,
) -> Dataset:
    """Open a folder in the layout of VOC 2012 (Everingham et al., IJCV 2015).

    ImageSets/Segmentation/SPLIT.txt lists names, or pictures' files, or a picture's and a mask's
    path a line; JPEGImages/NAME with any ending of `SUFFIXES` are the pictures,
    SegmentationClass/NAME.png the truth. A folder that holds VOC2012/ or
    VOCdevkit/VOC2012/ will do too, and so will any fsspec url of one (s3://..., memory://...,
    zip://VOC2012::voc.zip). split: one list, or several joined, as in "train+val". skip_missing:
    leave out the names whose files are not there.

    Raises FslabError where the split is unknown, or, naming all, where files are missing.
    """
    home = voc_home(root)
    if home is None:
        raise FslabError(f"{str(root)!r} holds no ImageSets/Segmentation; is it a VOC folder?")
    rows = _rows(home, split, skip_missing)
    absent = [(row.name, f"{_PICTURES}/{row.name}.jpg") for row in rows if row.picture is None]
    absent += [(row.name, f"{_MASKS}/{row.name}.png") for row in rows if row.mask is None]
    missing = dict(reversed(absent))
    if absent and (not skip_missing or len(missing) == len(rows)):
        files = [file for _, file in absent]
        raise MissingFiles(f"{str(home)!r} lacks {counted(files)} of split {split!r}", files)
    known, shared = len(vocabulary.names), Counter(row.name for row in rows)
    samples = [
        Sample(row.name if shared[row.name] == 1 else row.file, row.picture, row.mask, known)
        for row in rows
        if row.picture is not None and row.name not in missing
    ]
    name = home.resolve().name
    odd = tuple(_shared_masks(samples))
    return Dataset(SPOKEN.get(name, name), vocabulary, split, tuple(samples), missing, odd)


def _shared_masks(samples: Iterable[Sample]) -> Iterator[Oddity]:
    """Yield the masks that a list of pairs gives to several pictures."""
    owners: dict[str, list[str]] = defaultdict(list)
    for sample in samples:
        owners[str(sample.truth_path)].append(sample.name)
    for mask, names in owners.items():
        if len(names) > 1:
            why = f"{mask!r} is listed as the mask of {len(names)} pictures, {names[0]!r} first"
            yield Oddity(oddities.SHARED, names[1], why)


def voc_home(root: str | os.PathLike[str] | Url) -> Place | None:
    """Return the folder that holds ImageSets/Segmentation: root, or VOC2012 below it; or None."""
    root = place(root)
    for home in (root, root / "VOC2012", root / "VOCdevkit" / "VOC2012"):
        if (home / "ImageSets" / "Segmentation").is_dir():
            return home
    return None


@dataclass(frozen=True)
class _Row:
    """What a line of a list stands for; file: the picture's path in the data set, as text."""

    name: str
    file: str
    picture: Place | None = None
    mask: Place | None = None

    @property
    def identity(self) -> str:
        """What tells its picture from those of other lines."""
        return str(self.picture) if self.picture is not None else self.name


class _Shelf:
    """The files of JPEGImages and SegmentationClass, found by what lines of lists call them."""

    def __init__(self, home: Place) -> None:
        self._home = home
        self._pictures = _by_stem(sorted_out(home / _PICTURES, SUFFIXES)[0])
        self._masks = _by_stem(sorted_out(home / _MASKS, MASKS)[0])
        self._stems: dict[str, set[str]] = defaultdict(set)
        for stem in (*self._pictures, *self._masks):
            self._stems[unicodedata.normalize("NFC", stem)].add(stem)

    def find(self, line: str) -> _Row:
        """Return what a line stands for: a name, a picture's file, or a pair of files.

        Raises FslabError where two pictures have the name.
        """
        if (stem := self._stem(line)) is not None:
            row, other = self._named(stem), self._file(line)
            if other and other.picture and row.picture and other.picture != row.picture:
                raise FslabError(
                    f"{line!r} is the name of {row.picture.name!r} and the file "
                    f"{other.picture.name!r}; list the one meant by its path below the data set"
                )
            return row
        return self._file(line) or self._pair(line) or _Row(line, line)

    def _named(self, stem: str) -> _Row:
        return _Row(stem, stem, _only(self._pictures.get(stem)), _only(self._masks.get(stem)))

    def _stem(self, name: str) -> str | None:
        """Return the stem that a name is, or the only one that is written in the same letters."""
        if name in self._pictures or name in self._masks:
            return name
        alike = self._stems.get(unicodedata.normalize("NFC", name), set())
        return next(iter(alike)) if len(alike) == 1 else None

    def _file(self, line: str) -> _Row | None:
        """Return the picture of JPEGImages whose file's name or path a line is, with its mask."""
        folder, _, name = self._below(line).rpartition("/")
        stem = name.rpartition(".")[0]
        if folder not in ("", _PICTURES) or not stem:
            return None
        alike = [path for path in self._pictures.get(stem, []) if path.name.lower() == name.lower()]
        found = [path for path in alike if path.name == name] or alike
        if len(found) != 1:
            return None
        return _Row(stem, found[0].name, found[0], _only(self._masks.get(stem)))

    def _pair(self, line: str) -> _Row | None:
        """Return the picture and the mask that the two columns of a line lead to."""
        columns = line.split("\t") if "\t" in line else line.split()
        if len(columns) != 2:
            return None
        picture, mask = (self._below(column.strip()) for column in columns)
        if not picture.lower().endswith(tuple(SUFFIXES)) or not mask.lower().endswith(tuple(MASKS)):
            return None
        found = [self._home / picture, self._home / mask]
        there = all(map(is_file, found))
        return _Row(found[0].stem, picture, *found) if there else None

    def _below(self, text: str) -> str:
        """Return a path of a list as it is below the data set, with slashes."""
        text = text.replace("\\", "/")
        top = f"{str(self._home).rstrip('/')}/"
        return text.removeprefix(top).removeprefix("./").lstrip("/")


def _only(found: list[Place] | None) -> Place | None:
    """Return the file of a stem, None where there is none; FslabError where there are two."""
    if found and len(found) > 1:
        pair = f"{found[0].name!r} and {found[1].name!r}"
        raise FslabError(
            f"{str(found[0].parent)!r} holds {pair}: one name for two pictures; list the one that "
            "is meant with its ending, or remove the other"
        )
    return found[0] if found else None


def _by_stem(paths: Iterable[Place]) -> dict[str, list[Place]]:
    found: dict[str, list[Place]] = defaultdict(list)
    for path in paths:
        found[path.stem].append(path)
    return dict(found)


def _lists(home: Place, split: str) -> Iterator[tuple[Place, list[tuple[int, str]]]]:
    """Yield the lists that a split is made of, and their lines."""
    folder = home / "ImageSets" / "Segmentation"
    lists = {
        path.stem: path
        for path in entries(folder)
        if path.suffix.lower() == ".txt" and is_file(path)
    }
    for part in [split] if split in lists else split.split("+"):
        if part not in lists:
            there = ", ".join(lists) or "none"
            raise FslabError(f"{str(home)!r} has no split {part!r}; there is {there}")
        yield lists[part], lines_of(lists[part])


def _rows(home: Place, split: str, skip_missing: bool) -> list[_Row]:
    """Return what a split lists, in its order, each picture once."""
    shelf, rows, sources = _Shelf(home), [], []
    for source, lines in _lists(home, split):
        sources.append(source)
        for number, line in lines:
            row = shelf.find(line)
            if row.picture is None and row.mask is None and not skip_missing:
                odd_line(source, number, line)
            rows.append(row)
    times = Counter(row.identity for row in rows)
    twice = dict.fromkeys(row.name for row in rows if times[row.identity] > 1)
    if twice:
        named = ", ".join(map(repr, twice))
        where = " and ".join(repr(str(source)) for source in sources)
        raise FslabError(f"{where} lists a name more than once: {named}")
    return rows
