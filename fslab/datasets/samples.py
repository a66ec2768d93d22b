"""Data sets in VOC's layout and plain folders: pictures with the truth that belongs to them."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from fslab.datasets.masks import read_mask
from fslab.datasets.oddities import Oddity
from fslab.datasets.places import Place, place
from fslab.datasets.read import SUFFIXES, read, size_and_turn
from fslab.datasets.vocabularies import VOC
from fslab.records import VOID, FslabError, Picture, Vocabulary

SPOKEN = {"minivoc": "mini-VOC"}
"""What a data set is called where its folder's name will not do: a mini score is never VOC's."""


class MissingFiles(FslabError):
    """Files that a data set lists and does not hold: the sentence that counts them, then all."""

    def __init__(self, sentence: str, names: Iterable[str]) -> None:
        self.sentence, self.names = sentence, tuple(names)
        super().__init__(f"{sentence}: {', '.join(map(repr, self.names))}")


@dataclass(frozen=True, eq=False)
class Sample:
    """One picture and its truth, read when asked for.

    truth_path: an index PNG, None where there is no truth; classes: how many labels are known.
    """

    name: str
    path: Place
    truth_path: Place | None = None
    classes: int = VOID

    @property
    def has_truth(self) -> bool:
        """Whether there is a truth to read at all."""
        return self.truth_path is not None

    def picture(self) -> Picture:
        """Read the picture: u8 [H, W, 3]."""
        return read(self.path)

    def truth(self) -> np.ndarray | None:
        """Read the truth, u8 [H, W] of 0..classes-1 and 255 (void); None where there is none.

        Warns where the picture is shown turned (EXIF) and the sizes do not tell whether the truth
        is. Raises FslabError where its size is not the picture's, or a label is no class.
        """
        if self.truth_path is None:
            return None
        labels = read_mask(self.truth_path)
        named = repr(str(self.truth_path))
        size, turn = size_and_turn(self.path)
        if labels.shape != size:
            raise FslabError(
                f"{named} is {labels.shape[0]} x {labels.shape[1]} pixels (height x width), but "
                f"its picture {self.path.name!r} is {size[0]} x {size[1]}"
                f"{sideways(size, labels.shape, turn)}"
            )
        if turn != 1:
            warnings.warn(turned(self.path, turn), RuntimeWarning, stacklevel=2)
        present = np.flatnonzero(np.bincount(labels.ravel(), minlength=VOID + 1)).tolist()
        unknown = [label for label in present if self.classes <= label != VOID]
        if unknown:
            raise FslabError(
                f"{named} holds labels {unknown}; this vocabulary has 0 to {self.classes - 1}, "
                f"and {VOID} for void"
            )
        return labels


def sideways(found: tuple[int, ...], wanted: tuple[int, ...], turn: int) -> str:
    """Say that an EXIF turn is why a picture's height and width are not its truth's, if it is."""
    if turn < 5 or found[::-1] != wanted:
        return ""
    return (
        f", because the picture carries an EXIF turn (orientation {turn}) that its truth was drawn "
        "without; save the picture upright, without the EXIF entry, and turn the truth like it"
    )


def turned(picture: Place, turn: int) -> str:
    """Say that a picture is shown turned, and that its truth may not be."""
    return (
        f"{str(picture)!r} carries an EXIF turn (orientation {turn}) and is shown by it; if its "
        "truth was drawn on the unturned pixels, the two do not lie on each other: save the "
        "picture upright, without the EXIF entry"
    )


@dataclass(frozen=True, eq=False)
class Dataset:
    """Samples in a fixed order, and the vocabulary that their labels count in.

    missing: the file that is not there, by the name of each sample that was left out for it.
    oddities: what opening it found that is not as it should be. Results are filed by samples'
    names, so FslabError is raised where two have one name.
    """

    name: str
    vocabulary: Vocabulary
    split: str
    samples: tuple[Sample, ...]
    missing: Mapping[str, str] = field(default_factory=dict)
    oddities: tuple[Oddity, ...] = ()

    def __post_init__(self) -> None:
        names = Counter(sample.name for sample in self.samples)
        if twice := [name for name, count in names.items() if count > 1]:
            raise FslabError(
                f"{self.name!r} has {names[twice[0]]} samples called {twice[0]!r}; results are "
                "filed by name, so give each its own"
            )

    def __iter__(self) -> Iterator[Sample]:
        return iter(self.samples)

    def __len__(self) -> int:
        return len(self.samples)

    def limit(self, count: int | None) -> Dataset:
        """Return the first `count` samples, or all for None and where there are fewer."""
        if count is None:
            return self
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            raise FslabError(f"limit is {count!r}; it is a whole number from 1 up")
        return replace(self, samples=self.samples[:count])


def voc(
    root: str | os.PathLike[str],
    split: str = "val",
    vocabulary: Vocabulary = VOC,
    skip_missing: bool = False,
) -> Dataset:
    """Open a folder in the layout of VOC 2012 (Everingham et al., IJCV 2015).

    ImageSets/Segmentation/SPLIT.txt lists names; JPEGImages/NAME.{jpg,jpeg,png} are the
    pictures, SegmentationClass/NAME.png the truth. A folder that holds VOC2012/ or
    VOCdevkit/VOC2012/ will do too, and so will any fsspec url of one (s3://..., memory://...,
    zip://VOC2012::voc.zip). split: one list, or several joined, as in "train+val". skip_missing:
    leave out the names whose files are not there.

    Raises FslabError where the split is unknown, or, naming all, where files are missing.
    """
    home = voc_home(root)
    if home is None:
        raise FslabError(f"{str(root)!r} holds no ImageSets/Segmentation; is it a VOC folder?")
    names = _split_names(home, split)
    pictures = _by_stem(home / "JPEGImages", frozenset((".jpg", ".jpeg", ".png")))
    masks = _by_stem(home / "SegmentationClass", frozenset((".png",)))
    absent = [(name, f"JPEGImages/{name}.jpg") for name in names if name not in pictures]
    absent += [(name, f"SegmentationClass/{name}.png") for name in names if name not in masks]
    missing = dict(reversed(absent))
    if absent and (not skip_missing or len(missing) == len(names)):
        files = [file for _, file in absent]
        raise MissingFiles(f"{str(home)!r} lacks {counted(files)} of split {split!r}", files)
    known = len(vocabulary.names)
    there = [name for name in names if name not in missing]
    samples = (Sample(name, pictures[name], masks[name], known) for name in there)
    name = home.resolve().name
    return Dataset(SPOKEN.get(name, name), vocabulary, split, tuple(samples), missing)


def folder(
    pictures: str | os.PathLike[str],
    masks: str | os.PathLike[str] | None = None,
    vocabulary: Vocabulary = VOC,
) -> Dataset:
    """Open a folder of pictures, with a folder of index PNGs of the same stems as truth, if any.

    Both may be one folder: its PNGs are the masks then. Both may be fsspec urls. Raises
    FslabError where a folder is missing or empty, two pictures share a stem, or a picture has no
    mask.
    """
    pictures, masks = place(pictures), place(masks) if masks is not None else None
    shared = masks is not None and masks.resolve() == pictures.resolve()
    found = _by_stem(pictures, SUFFIXES - {".png"} if shared else SUFFIXES)
    if not found:
        raise FslabError(f"{str(pictures)!r} holds no pictures ({', '.join(sorted(SUFFIXES))})")
    truths = _by_stem(masks, frozenset((".png",))) if masks is not None else {}
    missing = [f"{name}.png" for name in found if name not in truths] if masks is not None else []
    if missing:
        sentence = f"{str(masks)!r} lacks {counted(missing)}, masks of pictures that exist"
        raise MissingFiles(sentence, missing)
    known = len(vocabulary.names)
    samples = (Sample(name, path, truths.get(name), known) for name, path in found.items())
    return Dataset(pictures.resolve().name, vocabulary, "all", tuple(samples))


def voc_home(root: str | os.PathLike[str]) -> Place | None:
    """Return the folder that holds ImageSets/Segmentation: root, or VOC2012 below it; or None."""
    root = place(root)
    for home in (root, root / "VOC2012", root / "VOCdevkit" / "VOC2012"):
        if (home / "ImageSets" / "Segmentation").is_dir():
            return home
    return None


def mask_pairs(
    pred_dir: str | os.PathLike[str], truth_dir: str | os.PathLike[str]
) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Pair index PNGs of two folders by stem: (name, truth, guess), both u8 [H, W], read lazily.

    Overlays that `fslab segment` writes beside its masks (NAME.overlay.png) are left out.
    Raises FslabError at once where a folder is missing or empty, a truth has no prediction, or
    a prediction has no truth: a score over a part would pass for one over the whole.
    """
    guesses, truths = (
        {name: path for name, path in found.items() if not name.endswith(".overlay")}
        for found in (_by_stem(place(each), frozenset((".png",))) for each in (pred_dir, truth_dir))
    )
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


def _split_names(home: Place, split: str) -> list[str]:
    """Return the names that a split lists, in its order; of several, one after the other."""
    folder = home / "ImageSets" / "Segmentation"
    found = sorted(folder.iterdir(), key=lambda path: path.name)
    lists = {path.stem: path for path in found if path.suffix == ".txt"}
    parts = [split] if split in lists else split.split("+")
    for part in parts:
        if part not in lists:
            there = ", ".join(lists) or "none"
            raise FslabError(f"{str(home)!r} has no split {part!r}; there is {there}")
    names = [name for part in parts for name in _names_in(lists[part])]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        named = ", ".join(map(repr, twice))
        where = " and ".join(repr(str(lists[part])) for part in parts)
        raise FslabError(f"{where} lists a name more than once: {named}")
    return names


def _names_in(path: Place) -> list[str]:
    """Return the names that a list holds, one a line."""
    lines = path.read_bytes().decode("utf-8", "surrogateescape").splitlines()
    names = [line.strip() for line in lines if line.strip()]
    if not names:
        raise FslabError(f"{str(path)!r} lists no names")
    return names


def _by_stem(folder: Place, suffixes: frozenset[str]) -> dict[str, Place]:
    """Return a folder's files by stem, sorted; hidden ones are left out."""
    if not folder.is_dir():
        raise FslabError(f"{str(folder)!r} is no folder; check the path")
    found: dict[str, Place] = {}
    for path in sorted(folder.iterdir(), key=lambda path: path.name):
        if path.suffix.lower() not in suffixes or path.name.startswith("."):
            continue
        if path.stem in found:
            pair = f"{found[path.stem].name!r} and {path.name!r}"
            raise FslabError(f"{str(folder)!r} holds {pair}: one name for two pictures")
        found[path.stem] = path
    return found


def counted(names: Sequence[str]) -> str:
    """Say how many files there are."""
    return f"{len(names)} {'file' if len(names) == 1 else 'files'}"
