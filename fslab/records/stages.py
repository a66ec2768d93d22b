"""What stages hand to each other."""

from __future__ import annotations

import hashlib
import operator
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, Any, SupportsIndex

import numpy as np
import xxhash
from numpy.typing import NDArray

from fslab.errors import FslabError
from fslab.html import drawing, line, small_drawings, table
from fslab.names import spelt, written_as_one
from fslab.records.base import (
    VOID,
    WIDE_VOID,
    check_unicode,
    described,
    is_array,
    voc_palette,
    words_of,
)
from fslab.vectors import glance

if TYPE_CHECKING:
    from torch import Tensor

_SHOWN = 4
"""So many layers or classes stand in a record's one line."""
_ROWS = 30
"""So many segments, or layers, stand in a table."""
_DRAWN = 8
"""So many layers are drawn."""


@dataclass(frozen=True, eq=False)
class Picture:
    """One picture. `pixels` is u8 [H, W, 3], RGB, upright; `name` is what messages call it."""

    pixels: NDArray[np.uint8]
    name: str = "picture"

    def __post_init__(self) -> None:
        given = self.pixels
        if not is_array(given) or given.dtype != np.uint8 or given.ndim != 3:
            kind = f"{given.dtype} {list(given.shape)}" if is_array(given) else type(given).__name__
            raise FslabError(f"{self.name}: pixels are {kind}; a Picture holds uint8 [H, W, 3]")
        if given.shape[2] != 3 or 0 in given.shape:
            raise FslabError(
                f"{self.name}: pixels are {list(given.shape)}; a Picture holds uint8 [H, W, 3]"
            )

    def __repr__(self) -> str:
        return f"Picture({self.name!r}, {_by(self.size)})"

    def _repr_html_(self) -> str:
        return line(f"{self.name}, {_by(self.size)} pixels") + drawing(self.pixels, self.name)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.pixels.shape[0], self.pixels.shape[1]

    @property
    def digest(self) -> str:
        """Name of the pixels' content, which may be written; the picture's name plays no part."""
        content = np.ascontiguousarray(self.pixels)
        quick = xxhash.xxh3_128_hexdigest(content.reshape(-1).data)
        known: dict[str, str] = self.__dict__.get("_digests", {})
        if quick not in known:  # SHA-256 takes many times as long, and is asked for each layer
            head = repr(content.shape).encode()
            found = hashlib.sha256(head + content.tobytes()).hexdigest()[:32]
            known = self.__dict__["_digests"] = {quick: found}
        return known[quick]


@dataclass(frozen=True, eq=False)
class Features(Mapping[str, NDArray[np.float32]]):
    """Feature maps by layer path: f32 [C, h, w]; strides differ, so h and w do too.

    With one timestep the keys are layer paths. With more, a key is "path@timestep" and
    `at(timestep)` gives the maps of one of them under their plain paths. A pattern gives the
    features of the layers that it fits: `features["up_blocks.1*"]`.
    """

    maps: Mapping[str, NDArray[np.float32]]
    size: tuple[int, int]
    name: str = "picture"

    def __post_init__(self) -> None:
        if not isinstance(self.maps, Mapping):
            raise FslabError(
                f"{self.name}: maps are {described(self.maps)}; Features hold a dict, "
                "layer -> f32 [C, h, w]"
            )
        maps = {layer: _feature_map(self.name, layer, each) for layer, each in self.maps.items()}
        object.__setattr__(self, "maps", maps)
        object.__setattr__(self, "size", _size(self.name, self.size))

    def __repr__(self) -> str:
        said = [f"{layer} {_by(value.shape)}" for layer, value in self.maps.items()]
        more = [f"and {len(said) - _SHOWN} more"] if len(said) > _SHOWN else []
        return f"Features({self.name!r}, {_by(self.size)}: {', '.join(said[:_SHOWN] + more)})"

    def _repr_html_(self) -> str:
        glances = ((layer, glance(self.maps[layer])) for layer in islice(self.maps, _DRAWN))
        drawings = {layer: drawn for layer, drawn in glances if drawn is not None}
        rows = [
            {"layer": layer, "channels": len(value), "cells": _by(value.shape[1:])}
            for layer, value in islice(self.maps.items(), _ROWS)
        ]
        more = f"and {len(self) - _ROWS} more" if len(self) > _ROWS else ""
        said = line(f"{self.name}, {_by(self.size)} pixels")
        return said + small_drawings(drawings) + table(rows) + line(more)

    def __getitem__(self, key: str) -> Any:
        if not isinstance(key, str):
            raise FslabError(
                f"{self.name}: features are asked for {key!r}; they are found by a layer's path or "
                f"a pattern, such as {next(iter(self.maps), '')!r}"
            )
        if key in self.maps:
            return self.maps[key]
        fitting = {layer: each for layer, each in self.maps.items() if fnmatchcase(layer, key)}
        if not fitting:
            raise KeyError(f"{key!r}; these features hold {', '.join(self.maps)}")
        return Features(fitting, self.size, self.name)

    def torch(self) -> dict[str, Tensor]:
        """Return the maps as tensors f32 [C, h, w] on the CPU, which are one's own to change."""
        import torch

        return {layer: torch.from_numpy(value.copy()) for layer, value in self.maps.items()}

    def __contains__(self, key: object) -> bool:
        return key in self.maps  # a pattern is no layer

    def __iter__(self) -> Iterator[str]:
        return iter(self.maps)

    def __len__(self) -> int:
        return len(self.maps)

    def at(self, timestep: int) -> Features:
        """Return the maps of one timestep, keyed by plain layer path."""
        ending = f"@{timestep}"
        maps = {
            key.removesuffix(ending): value
            for key, value in self.maps.items()
            if key.endswith(ending)
        }
        if not maps:
            raise FslabError(
                f"{self.name}: no features at timestep {timestep}; there are {', '.join(self.maps)}"
            )
        return Features(maps, self.size, self.name)


@dataclass(frozen=True, eq=False)
class Segments:
    """Class-agnostic segments: `labels` is int32 [H, W] with ids 0..count-1, each in use.

    others: further segmentations of the same picture, which vote beside this one on names.
    """

    labels: NDArray[np.int32]
    others: tuple[Segments, ...] = ()

    def __post_init__(self) -> None:
        labels = whole_numbers(self.labels, "segments")
        highest = int(labels.max())
        if labels.min() < 0:
            raise FslabError(f"segments hold the number {int(labels.min())}; they count from 0")
        unused = highest
        if highest < labels.size:
            unused = int((np.bincount(labels.ravel().astype(np.intp, copy=False)) == 0).sum())
        if unused:
            raise FslabError(
                f"segments go up to number {highest} and {unused} below it are in no pixel; number "
                "them without gaps: np.unique(labels, return_inverse=True)[1]"
            )
        object.__setattr__(self, "labels", labels.astype(np.int32, copy=False))
        others = tuple(self.others)
        for each in others:
            if not isinstance(each, Segments) or each.size != self.size:
                raise FslabError(
                    f"others of segments hold {described(getattr(each, 'labels', each))}; each "
                    f"must be Segments of the same {self.size[0]} x {self.size[1]} pixels"
                )
        object.__setattr__(self, "others", others)

    def __repr__(self) -> str:
        more = f" and {len(self.others)} others" if self.others else ""
        return f"Segments({self.count} in {_by(self.size)}{more})"

    def _repr_html_(self) -> str:
        pixels = np.bincount(self.labels.ravel())
        coloured = voc_palette()[1 + self.labels % VOID]
        return (
            line(repr(self))
            + drawing(coloured, repr(self))
            + table(
                [
                    {"segment": number, "share of the pixels": f"{count / self.labels.size:.1%}"}
                    for number, count in enumerate(pixels[:_ROWS])
                ]
            )
        )

    @cached_property
    def count(self) -> int:
        """Number of segments, K."""
        return int(self.labels.max()) + 1

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.labels.shape[0], self.labels.shape[1]

    def masks(self) -> NDArray[np.bool_]:
        """Return one mask a segment: bool [K, H, W]."""
        masks: NDArray[np.bool_] = self.labels[None] == np.arange(self.count)[:, None, None]
        return masks


@dataclass(frozen=True)
class Vocabulary:
    """Class names in the order of their labels; `names[0]` is the background.

    spoken: how a class is said where its name is not a word ("tvmonitor" -> "tv monitor");
    synonyms: other words for a class, tried beside it where a recipe asks for them.
    """

    names: tuple[str, ...]
    spoken: Mapping[str, str] = field(default_factory=dict)
    synonyms: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    _named: Mapping[str, str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", words_of(self.names, "a vocabulary's names"))
        if len(set(self.names)) != len(self.names) or len(self.names) < 2:
            raise FslabError(
                f"a vocabulary holds the background and distinct classes, not {self.names!r}"
            )
        for what in ("spoken", "synonyms"):
            if not isinstance(getattr(self, what), Mapping):
                raise FslabError(f"{what} is {getattr(self, what)!r}; give a dict by class")
        for name in self.names:
            words_of(self.synonyms.get(name, ()), f"the synonyms of {name!r}")
            for text in (name, *words_of(self.texts(name, synonyms=True), f"texts of {name!r}")):
                _check_text(text, name)
        object.__setattr__(self, "_named", self._read_names())

    def _read_names(self) -> dict[str, str]:
        """Return what each form of a name, of how it is said and of its synonyms names.

        Raises FslabError for a form that names two.
        """
        found: dict[str, tuple[str, str]] = {}
        for name in self.names:
            for text in (name, *self.texts(name, synonyms=True)):
                for form in written_as_one(text):
                    other, before = found.setdefault(form, (name, text))
                    if other != name:
                        raise FslabError(_one_for_two(other, before, name, text))
        return {form: name for form, (name, _) in found.items()}

    @property
    def classes(self) -> tuple[str, ...]:
        """The names without the background."""
        return self.names[1:]

    def texts(self, name: str, synonyms: bool = False) -> tuple[str, ...]:
        """Return a class as it is said, then its synonyms if asked for."""
        others = self.synonyms.get(name, ()) if synonyms else ()
        return (self.spoken.get(name, name), *others)

    def find(self, word: str) -> str | None:
        """Return the class that a word names: itself, as it is said or a synonym; or None.

        Case, spaces, hyphens, underscores and plurals are ways of writing, and so is a compound
        written as one word. Raises FslabError for a word that may name two classes.
        """
        (word,) = words_of((word,), "words")
        named = {self._named[form] for form in written_as_one(word) if form in self._named}
        if len(named) > 1:
            both = " or ".join(map(repr, sorted(named)))
            raise FslabError(f"{word!r} may be {both}; write it as one of them")
        found = next(iter(named), None)
        return None if found == self.names[0] else found

    def extended(self, words: tuple[str, ...]) -> Vocabulary:
        """Return a vocabulary with the words that it lacks added behind its own.

        A word that is written in several ways ("zebra", "Zebra", "zebras") is added as it is
        written first; the background is none of the classes.
        """
        taken, new = set(written_as_one(self.names[0])), []
        for word in words_of(words, "words"):
            if taken.isdisjoint(written_as_one(word)) and self.find(word) is None:
                taken |= written_as_one(word)
                new.append(word)
        return Vocabulary((*self.names, *new), self.spoken, self.synonyms)


def _check_text(text: str, name: str) -> None:
    """Refuse a class's text that says nothing, or that no encoder takes."""
    if not spelt(text):
        which = "a class's name" if text == name else f"a text of the class {name!r}"
        raise FslabError(f"{which} is {text!r}; it must have a letter or a sign")
    check_unicode(text)


def _one_for_two(one: str, text: str, other: str, same: str) -> str:
    """Say that two classes are written alike, or that a word is said to be both."""
    if (text, same) == (one, other):
        return (
            f"the classes {one!r} and {other!r} are one name written in two ways, and each would "
            "take the other's share; keep one, or call them what tells them apart"
        )
    word = text if text == same else f"{text}' or '{same}"
    return (
        f"'{word}' is said to name {one!r} and {other!r}, so which of them it is cannot be known; "
        "leave it to one of them"
    )


@dataclass(frozen=True)
class Caption:
    """A caption, its nouns in order, and the candidate classes they led to."""

    text: str
    nouns: tuple[str, ...] = ()
    candidates: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.text, str):
            raise FslabError(f"a caption's text is {described(self.text)}; it must be a text")
        for name in ("nouns", "candidates"):
            object.__setattr__(self, name, words_of(getattr(self, name), f"a caption's {name}"))


@dataclass(frozen=True, eq=False)
class LabelMap:
    """Named pixels: `labels` is u8 [H, W], indices into `names`; 0 is the background.

    Of more than 255 names `labels` is u16. The type's largest number, 255 or 65535, is void.
    scores: the matching probability of each class that was found. beliefs: where segments
    voted, how probable each label that stood to choice is at each pixel: label -> f32 [H, W].
    """

    labels: np.ndarray
    names: tuple[str, ...]
    scores: Mapping[str, float] = field(default_factory=dict)
    beliefs: Mapping[int, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        labels = whole_numbers(self.labels, "a label map")
        object.__setattr__(self, "names", words_of(self.names, "a label map's names"))
        least, most = int(labels.min()), int(labels.max())
        wide = len(self.names) > VOID or (
            labels.dtype in (np.uint16, np.dtype(">u2")) and most > VOID
        )
        if least < 0 or most > (WIDE_VOID if wide else VOID):
            raise FslabError(
                f"a label map of {len(self.names)} names holds {least} to {most}; labels are 0 to "
                f"{WIDE_VOID if wide else VOID}"
            )
        kind = np.uint16 if wide else np.uint8
        object.__setattr__(self, "labels", labels.astype(kind, copy=False))
        if not isinstance(self.beliefs, Mapping):
            raise FslabError(f"beliefs are {described(self.beliefs)}; give a dict, label -> f32")
        for label, belief in self.beliefs.items():
            if not _is_label(label, self._largest):
                raise FslabError(f"a belief is in label {label!r}; labels are 0 to {self._largest}")
            if not is_array(belief) or belief.dtype.kind != "f" or belief.shape != self.size:
                raise FslabError(
                    f"the belief in label {label} is {described(belief)}; it must be f32 "
                    f"{list(self.labels.shape)}, a probability for each pixel"
                )

    @property
    def _largest(self) -> int:
        return int(np.iinfo(self.labels.dtype).max)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.labels.shape[0], self.labels.shape[1]

    def __repr__(self) -> str:
        shares = list(self.shares().items())
        said = [f"{name} {share:.0%}" for name, share in shares[:_SHOWN]]
        more = [f"and {len(shares) - _SHOWN} more"] if len(shares) > _SHOWN else []
        return f"LabelMap({_by(self.size)}: {', '.join(said + more)})"

    def _repr_html_(self) -> str:
        coloured = voc_palette()[_bytes_of(self.labels)]
        return line(f"{_by(self.size)} pixels") + drawing(coloured, repr(self)) + self.table()

    def table(self) -> str:
        """Return the classes, their shares of the pixels and their scores as an HTML table."""
        return table(
            [
                {
                    "class": name,
                    "share of the pixels": f"{share:.1%}",
                    "score": f"{self.scores[name]:.2f}" if name in self.scores else "",
                }
                for name, share in self.shares().items()
            ]
        )

    def shares(self) -> dict[str, float]:
        """Return each present class's share of the pixels, background included, largest first."""
        counts = np.bincount(self.labels.ravel(), minlength=len(self.names)) / self.labels.size
        order = np.argsort(-counts, kind="stable")
        called = [*self.names, *(f"class {index}" for index in range(len(self.names), len(counts)))]
        return {called[index]: float(counts[index]) for index in order if counts[index] > 0}


def _bytes_of(labels: np.ndarray) -> np.ndarray:
    """Return labels as colours' numbers: void is the last, and those beyond it begin anew."""
    if labels.dtype == np.uint8:
        return labels
    return np.where(labels == WIDE_VOID, VOID, labels % VOID)


def _by(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))


def _feature_map(name: str, layer: object, value: object) -> NDArray[np.float32]:
    """Return one layer's map as f32 [C, h, w]; FslabError for anything else."""
    if not isinstance(layer, str):
        raise FslabError(f"{name}: a layer is called {layer!r}; names of layers are texts")
    if not is_array(value) or value.dtype.kind not in "iuf":
        raise FslabError(
            f"{name}: features of {layer!r} are {described(value)}; give a numpy array "
            "f32 [C, h, w]"
        )
    if value.ndim != 3 or 0 in value.shape:
        raise FslabError(
            f"{name}: features of {layer!r} are {described(value)}; they must be f32 [C, h, w], "
            "with at least one channel and one cell"
        )
    return value.astype(np.float32, copy=False)


def _size(name: str, given: Iterable[SupportsIndex]) -> tuple[int, int]:
    """Return a height and a width as plain numbers."""
    try:
        height, width = map(operator.index, given)
    except (TypeError, ValueError):
        height = width = 0
    if min(height, width) < 1:
        raise FslabError(
            f"{name}: the size is {given!r}; it must be a height and a width in pixels"
        )
    return height, width


def _is_label(given: object, largest: int) -> bool:
    if isinstance(given, bool) or not isinstance(given, (int, np.integer)):
        return False
    return 0 <= int(given) <= largest


def whole_numbers(labels: object, what: str) -> np.ndarray:
    """Return whole numbers [H, W] as they are; FslabError for what is something else."""
    if not is_array(labels) or labels.dtype.kind not in "iub":
        raise FslabError(
            f"{what}: labels are {described(labels)}; they must be whole numbers [H, W]"
        )
    if labels.ndim != 2 or 0 in labels.shape:
        raise FslabError(
            f"{what}: labels are {described(labels)}; they must be [H, W], with one pixel at least"
        )
    return labels


@dataclass(frozen=True, eq=False)
class Confusion:
    """Pixel counts int64 [K, K], rows truth, columns guess, summed over `images` pictures."""

    counts: NDArray[np.int64]
    names: tuple[str, ...]
    images: int = 1

    def __add__(self, other: Confusion) -> Confusion:
        if self.names != other.names:
            raise FslabError("two confusions over different classes cannot be added")
        return Confusion(self.counts + other.counts, self.names, self.images + other.images)

    @cached_property
    def iou(self) -> NDArray[np.float64]:
        """Intersection over union by class: f64 [K]; NaN where a class is in neither map."""
        hits = np.diag(self.counts).astype(np.float64)
        union = self.counts.sum(0) + self.counts.sum(1) - hits
        known = union > 0
        iou: NDArray[np.float64] = np.divide(hits, union, np.full(len(hits), np.nan), where=known)
        return iou

    @property
    def miou(self) -> float:
        """Mean over the classes that occur; NaN where none does."""
        return float(np.nanmean(self.iou)) if np.isfinite(self.iou).any() else float("nan")
