"""Pixels counted: truth against a guess, truth against segments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from fslab.records import VOID, Confusion, FslabError, LabelMap, Segments


def confusion(truth: np.ndarray, guess: np.ndarray, names: Sequence[str]) -> Confusion:
    """Count pixels, rows truth and columns guess; truth and guess are u8 [H, W].

    VOC marks boundaries 255 in the truth; those pixels are left out, whatever the guess there.
    Sum over images before dividing: VOC's IoU is per data set (Everingham et al., IJCV 2015).

    Raises FslabError where sizes differ, the truth holds a label that is no class, or the guess
    holds one on a pixel that counts (255 too, as the VOC devkit refuses it).
    """
    check_map(truth, "truth")
    check_map(guess, "guess")
    _check_sizes(truth.shape, guess.shape, "guess")
    table = _count((truth.astype(np.uint16) << 8) | guess, VOID + 1)
    _check_labels(table, names)
    unknown = np.flatnonzero(table[:VOID, len(names) :].any(0)) + len(names)
    if unknown.size:
        raise FslabError(
            f"the guess holds labels {unknown.tolist()} on pixels that count; "
            f"there are 0 to {len(names) - 1}"
        )
    return Confusion(table[: len(names), : len(names)].copy(), tuple(names))


def oracle(segments: Segments, truth: np.ndarray, names: Sequence[str]) -> LabelMap:
    """Give each segment its majority class: the most that naming can make of a clustering.

    Void pixels have no say. Ties go to the lowest label; a segment of void only is background.
    """
    classes = _oracle_classes(_overlaps(segments, truth, names))
    return LabelMap(classes[segments.labels], tuple(names))


def hungarian(segments: Segments, truth: np.ndarray, names: Sequence[str]) -> LabelMap:
    """Match segments one to one with the classes of this image's truth, background included.

    The matching maximises the pixels that agree, void left out: the usual protocol of
    unsupervised segmentation (IIC, PiCIE), per image as DiffSeg (Tian et al., CVPR 2024) and
    DiffCut (Couairon et al., NeurIPS 2024) have it. Segments left over become background, as in
    DiffCut for sets that have one; so do segments matched to a class they never touch. Among
    equal matchings the one that favours earlier pixels wins, however segments are numbered.
    """
    classes = _hungarian_classes(_overlaps(segments, truth, names), segments)
    return LabelMap(classes[segments.labels], tuple(names))


def best_overlap(segments: Segments, truth: np.ndarray) -> tuple[tuple[int, float], ...]:
    """Return (class, IoU of the best single segment) for each class of the truth but background.

    A region is all pixels of one class; void pixels are in no region and no segment. The mean
    is mBO over classes (Seitzer et al., ICLR 2023), which punishes splitting, as oracle does not.
    """
    return _best_overlaps(_overlaps(segments, truth))


@dataclass(frozen=True, eq=False)
class ImageScore:
    """What one image adds to every figure; the parts that were not computed are None or empty.

    named: of the guessed label map; oracle, hungarian: of the segments named by the truth;
    overlaps: (class, best IoU) of each region.
    """

    named: Confusion | None = None
    oracle: Confusion | None = None
    hungarian: Confusion | None = None
    overlaps: tuple[tuple[int, float], ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return a small JSON-able dict: confusions as [row, column, count] of what occurs."""
        parts = {"named": self.named, "oracle": self.oracle, "hungarian": self.hungarian}
        data: dict[str, Any] = {key: _triples(part) for key, part in parts.items() if part}
        return {**data, "overlaps": [list(pair) for pair in self.overlaps]}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], names: Sequence[str]) -> ImageScore:
        """Return the score that `to_dict` gave, to the last bit."""
        parts = {
            key: _confusion_of(data[key], names)
            for key in ("named", "oracle", "hungarian")
            if key in data
        }
        pairs = tuple((int(label), float(overlap)) for label, overlap in data["overlaps"])
        return cls(**parts, overlaps=pairs)


def score_image(
    truth: np.ndarray,
    names: Sequence[str],
    guess: np.ndarray | None = None,
    segments: Segments | None = None,
) -> ImageScore:
    """Count one image: a guess, u8 [H, W], by names; segments by what the truth makes of them."""
    named = confusion(truth, guess, names) if guess is not None else None
    if segments is None:
        return ImageScore(named)
    table = _overlaps(segments, truth, names)
    return ImageScore(
        named,
        _regrouped(table, _oracle_classes(table), names),
        _regrouped(table, _hungarian_classes(table, segments), names),
        _best_overlaps(table),
    )


def check_map(labels: np.ndarray, role: str) -> None:
    """Refuse what is no u8 [H, W] array with pixels."""
    given = (getattr(labels, "dtype", type(labels).__name__), list(getattr(labels, "shape", ())))
    if given[0] != np.uint8 or len(given[1]) != 2 or 0 in given[1]:
        raise FslabError(f"the {role} is {given[0]} {given[1]}; it is uint8 [H, W]")


def _check_sizes(truth: tuple[int, ...], other: tuple[int, ...], role: str) -> None:
    if truth != other:
        sizes = [f"{height} x {width}" for height, width in (truth, other)]
        raise FslabError(f"the truth is {sizes[0]} pixels (height x width), the {role} {sizes[1]}")


def _check_labels(table: np.ndarray, names: Sequence[str]) -> None:
    """Refuse names that no u8 can count, and rows, the truth, that are no class and not void."""
    if not 2 <= len(names) <= VOID:
        raise FslabError(f"{len(names)} names; labels are 0 to {VOID - 1}, the background first")
    unknown = np.flatnonzero(table[len(names) : VOID].any(1)) + len(names)
    if unknown.size:
        raise FslabError(
            f"the truth holds labels {unknown.tolist()}; there are 0 to {len(names) - 1}, "
            f"and {VOID} for void"
        )


def _count(codes: np.ndarray, rows: int) -> np.ndarray:
    """Count codes row * 256 + column: int64 [rows, 256]."""
    return np.bincount(codes.ravel(), minlength=rows * 256).reshape(rows, 256)


def _overlaps(
    segments: Segments, truth: np.ndarray, names: Sequence[str] | None = None
) -> np.ndarray:
    """Count the pixels that segment and class share, void left out: int64 [segments, classes]."""
    check_map(truth, "truth")
    _check_sizes(truth.shape, segments.labels.shape, "segments")
    table = _count(segments.labels.astype(np.int64) * 256 + truth, segments.count)
    if names is None:
        return table[:, :VOID]
    _check_labels(table.T, names)
    return table[:, : len(names)]


def _oracle_classes(table: np.ndarray) -> np.ndarray:
    """Return each segment's majority class: u8 [segments]."""
    return table.argmax(1).astype(np.uint8)


def _hungarian_classes(table: np.ndarray, segments: Segments) -> np.ndarray:
    """Return each segment's matched class, 0 where there is none: u8 [segments]."""
    order = np.argsort(_first_pixels(segments))
    present = np.flatnonzero(table.any(0))
    rows, columns = linear_sum_assignment(table[np.ix_(order, present)], maximize=True)
    matched, labels = order[rows], present[columns]
    classes = np.zeros(len(table), np.uint8)
    classes[matched] = np.where(table[matched, labels] > 0, labels, 0)
    return classes


def _first_pixels(segments: Segments) -> np.ndarray:
    """Return where each segment begins in reading order: an order that no renumbering changes."""
    flat = segments.labels.ravel()
    first = np.zeros(segments.count, np.int64)
    first[flat[::-1]] = np.arange(flat.size - 1, -1, -1)
    return first


def _best_overlaps(table: np.ndarray) -> tuple[tuple[int, float], ...]:
    union = table.sum(1, keepdims=True) + table.sum(0) - table
    best = (table / np.maximum(union, 1)).max(0)
    present = np.flatnonzero(table.any(0))
    return tuple((int(label), float(best[label])) for label in present if label != 0)


def _regrouped(table: np.ndarray, classes: np.ndarray, names: Sequence[str]) -> Confusion:
    """Return the confusion of a label map that gives each segment its class."""
    by_guess = np.zeros((len(names), len(names)), np.int64)
    np.add.at(by_guess, classes, table)
    return Confusion(by_guess.T.copy(), tuple(names))


def _triples(part: Confusion) -> list[list[int]]:
    rows, columns = np.nonzero(part.counts)
    return np.stack([rows, columns, part.counts[rows, columns]], axis=1).tolist()


def _confusion_of(triples: Sequence[Sequence[int]], names: Sequence[str]) -> Confusion:
    counts = np.zeros((len(names), len(names)), np.int64)
    for row, column, count in triples:
        counts[row, column] = count
    return Confusion(counts, tuple(names))
