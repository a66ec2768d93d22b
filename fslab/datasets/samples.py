"""What a data set is made of: samples, each a picture with the truth that belongs to it."""

from __future__ import annotations

import posixpath
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from fslab.datasets.masks import read_mask
from fslab.datasets.oddities import Oddity
from fslab.datasets.places import Place
from fslab.datasets.read import read, size_and_turn
from fslab.errors import FslabWarning
from fslab.records import VOID, FslabError, Picture, Vocabulary, some_labels, typed_labels, void_of

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

        Of more than 255 classes it is u16, and 65535 is void. In the file, the largest number of
        its depth is void.
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
            warnings.warn(turned(self.path, turn), FslabWarning, stacklevel=2)
        present = np.flatnonzero(np.bincount(labels.ravel()))
        void = void_of(labels)
        unknown = present[(present >= self.classes) & (present != void)]
        if unknown.size:
            raise FslabError(
                f"{named} holds labels {some_labels(unknown)}; this vocabulary has 0 to "
                f"{self.classes - 1}, and {void} for void"
            )
        return typed_labels(labels, self.classes)


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
            raise FslabError(f"limit is {count!r}; it must be a whole number from 1 up")
        return replace(self, samples=self.samples[:count])


def counted(names: Sequence[str]) -> str:
    """Say how many files there are."""
    return f"{len(names)} {'file' if len(names) == 1 else 'files'}"


def names_of(files: Sequence[str]) -> list[str]:
    """Name each file by its stem, and those that share one by their whole path."""
    stems = [posixpath.splitext(posixpath.basename(file))[0] for file in files]
    shared = Counter(stems)
    names = [stem if shared[stem] == 1 else file for stem, file in zip(stems, files, strict=True)]
    return names if len(set(names)) == len(names) else list(files)
