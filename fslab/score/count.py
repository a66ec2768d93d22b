"""Pixels counted: truth against a guess, truth against segments."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from fslab.records import (
    WIDE_VOID,
    Confusion,
    FslabError,
    LabelMap,
    Segments,
    label_type,
    some_labels,
    void_of,
)

_SHORT_RUN = 8
"""Pixels in a run, on average, below which counting runs is not worth it."""

_STRIDE = 32
"""Every so many pixels one is looked at to tell long runs from short ones."""


class UnknownLabels(FslabError):
    """A guess with labels that are not classes: a map of segments, or of another vocabulary."""


def confusion(truth: np.ndarray, guess: np.ndarray, names: Sequence[str]) -> Confusion:
    """Count pixels, rows truth and columns guess; truth and guess are u8 or u16 [H, W].

    VOC marks boundaries 255 in the truth; those pixels are left out, whatever the guess there. In
    a truth of u16 it is 65535.
    Sum over images before dividing: VOC's IoU is per data set (Everingham et al., IJCV 2015).

    Raises FslabError where sizes differ, the truth holds a label that is not a class, or the guess
    holds one on a pixel that counts (255 too, as the VOC devkit refuses it).
    """
    check_map(truth, "truth")
    check_map(guess, "guess")
    check_sizes(truth.shape, guess.shape, "guess")
    _check_names(names)
    table, void = _count(guess, truth, int(guess.max()) + 1, len(names))
    known = min(len(table), len(names))
    counts = np.zeros((len(names), len(names)), np.int64)
    counts[:, :known] = table[:known, : len(names)].T
    if counts.sum() + void.sum() < truth.size:
        _check_truth(table, names, truth)
        unknown = np.flatnonzero(table[len(names) :].any(1)) + len(names)
        raise UnknownLabels(
            f"the guess holds labels {some_labels(unknown)} on pixels that count; "
            f"there are 0 to {len(names) - 1}"
        )
    return Confusion(counts, tuple(names))


def oracle(segments: Segments, truth: np.ndarray, names: Sequence[str]) -> LabelMap:
    """Give each segment its majority class: no other naming has more pixels right.

    It is no bound for a mean of IoUs: a class that is nowhere the majority has an IoU of 0, and a
    naming with fewer pixels right may score higher. Void pixels have no say. Ties go to the lowest
    label; a segment of void only is background.
    """
    classes = oracle_classes(overlaps_of(segments, truth, names))
    return LabelMap(classes[segments.labels], tuple(names))


def hungarian(segments: Segments, truth: np.ndarray, names: Sequence[str]) -> LabelMap:
    """Match segments one to one with the classes of this image's truth, background included.

    The matching maximises the pixels that agree, void left out: the usual protocol of
    unsupervised segmentation (IIC, PiCIE), per image as DiffSeg (Tian et al., CVPR 2024) and
    DiffCut (Couairon et al., NeurIPS 2024) have it. Segments left over become background, as in
    DiffCut for sets that have one; so do segments matched to a class they never touch. Among
    equal matchings the one that favours earlier pixels wins, however segments are numbered.
    """
    classes = hungarian_classes(overlaps_of(segments, truth, names), segments)
    return LabelMap(classes[segments.labels], tuple(names))


def best_overlap(segments: Segments, truth: np.ndarray) -> tuple[tuple[int, float], ...]:
    """Return (class, IoU of the best single segment) for each class of the truth but background.

    A region is all pixels of one class; void pixels are in no region and no segment. The mean
    is mBO over classes (Seitzer et al., ICLR 2023), which punishes splitting, as oracle does not.
    """
    return best_overlaps(overlaps_of(segments, truth))


def check_map(labels: np.ndarray, role: str) -> None:
    """Refuse anything but a u8 or u16 [H, W] array with pixels."""
    given = (getattr(labels, "dtype", type(labels).__name__), list(getattr(labels, "shape", ())))
    if given[0] not in (np.uint8, np.uint16) or len(given[1]) != 2 or 0 in given[1]:
        raise FslabError(f"the {role} is {given[0]} {given[1]}; it must be uint8 [H, W], or uint16")


def check_sizes(truth: tuple[int, ...], other: tuple[int, ...], role: str) -> None:
    """Refuse what is not as large as the truth."""
    if truth != other:
        sizes = [f"{height} x {width}" for height, width in (truth, other)]
        raise FslabError(f"the truth is {sizes[0]} pixels (height x width), the {role} {sizes[1]}")


def _check_names(names: Sequence[str]) -> None:
    if not 2 <= len(names) <= WIDE_VOID:
        raise FslabError(
            f"{len(names)} names; labels are 0 to {WIDE_VOID - 1}, the background first"
        )


def _check_truth(table: np.ndarray, names: Sequence[str], truth: np.ndarray) -> None:
    """Refuse columns, the labels of the truth, that are not a class."""
    unknown = np.flatnonzero(table[:, len(names) :].any(0)) + len(names)
    if unknown.size:
        raise FslabError(
            f"the truth holds labels {some_labels(unknown)}; there are 0 to {len(names) - 1}, "
            f"and {void_of(truth)} for void"
        )


def _count(
    labels: np.ndarray, truth: np.ndarray, rows: int, classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Count the pixels that a label, below `rows`, and one of the truth share.

    Returns int64 [rows, columns], of as many columns as there are classes at least, and those of
    void, int64 [rows].

    Maps are flat over long runs of pixels, and a run is counted at once; where runs are short,
    as in noise, pixel by pixel is faster.
    """
    first, second = labels.ravel(), truth.ravel()
    lengths = None
    if _has_long_runs(first) and _has_long_runs(second):
        breaks = first[1:] != first[:-1]
        breaks |= second[1:] != second[:-1]
        ends = np.append(np.flatnonzero(breaks), first.size - 1)
        first, second, lengths = first[ends], second[ends], np.diff(ends, prepend=-1)
    shifted = second + second.dtype.type(1)  # void, the largest, becomes 0: few columns are used
    columns = int(shifted.max()) + 1
    codes: np.ndarray = first.astype(np.uint16 if rows * columns <= WIDE_VOID + 1 else np.int64)
    codes *= columns
    codes += shifted
    counts = np.bincount(codes, lengths, rows * columns).reshape(rows, columns)
    table = np.zeros((rows, max(columns - 1, classes)), np.int64)
    table[:, : columns - 1] = counts[:, 1:]
    return table, counts[:, 0].astype(np.int64)


def _has_long_runs(flat: np.ndarray) -> bool:
    """Say whether few of the pixels differ from the next, by a sample of them."""
    breaks = np.count_nonzero(flat[1::_STRIDE] != flat[:-1:_STRIDE])
    return int(breaks) * _SHORT_RUN * _STRIDE < flat.size


def overlaps_of(
    segments: Segments, truth: np.ndarray, names: Sequence[str] | None = None
) -> np.ndarray:
    """Count the pixels that segment and class share, void left out: int64 [segments, classes]."""
    check_map(truth, "truth")
    check_sizes(truth.shape, segments.labels.shape, "segments")
    if names is None:
        return _count(segments.labels, truth, segments.count, 1)[0]
    _check_names(names)
    table = _count(segments.labels, truth, segments.count, len(names))[0]
    _check_truth(table, names, truth)
    return table[:, : len(names)]


def oracle_classes(table: NDArray[np.int64]) -> np.ndarray:
    """Return each segment's majority class: u8 [segments], or u16 of more than 255 classes."""
    classes: np.ndarray = table.argmax(1).astype(label_type(table.shape[1]))
    return classes


def hungarian_classes(table: np.ndarray, segments: Segments) -> np.ndarray:
    """Return each segment's matched class, 0 where there is none: as `oracle_classes`."""
    order = np.argsort(_first_pixels(segments))
    classes = np.zeros(len(table), label_type(table.shape[1]))
    classes[order] = matched_classes(table[order])
    return classes


def matched_classes(table: np.ndarray) -> np.ndarray:
    """Return each row's class by one Hungarian assignment, 0 where there is none: as above.

    table: int64 [rows, classes] of pixels in common. Among equal matchings earlier rows win.
    """
    present = np.flatnonzero(table.any(0))
    rows, columns = linear_sum_assignment(table[:, present], maximize=True)
    labels = present[columns]
    classes = np.zeros(len(table), label_type(table.shape[1]))
    classes[rows] = np.where(table[rows, labels] > 0, labels, 0)
    return classes


def _first_pixels(segments: Segments) -> np.ndarray:
    """Return where each segment begins in reading order: an order that no renumbering changes."""
    flat = segments.labels.ravel()
    starts = np.append(0, np.flatnonzero(flat[1:] != flat[:-1]) + 1)[::-1]
    first = np.zeros(segments.count, np.int64)
    first[flat[starts]] = starts
    return first


def best_overlaps(table: np.ndarray) -> tuple[tuple[int, float], ...]:
    """Return (class, IoU of the best single segment) of each class present but background."""
    union = table.sum(1, keepdims=True) + table.sum(0) - table
    best = (table / np.maximum(union, 1)).max(0)
    present = np.flatnonzero(table.any(0))
    return tuple((int(label), float(best[label])) for label in present if label != 0)


def regrouped(table: np.ndarray, classes: np.ndarray, names: Sequence[str]) -> Confusion:
    """Return the confusion of a label map that gives each segment its class."""
    by_guess = np.zeros((len(names), len(names)), np.int64)
    np.add.at(by_guess, classes, table)
    return Confusion(by_guess.T.copy(), tuple(names))
