"""A look at a whole data set before a long run: what is in it, and what is odd about it."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fslab.datasets import oddities
from fslab.datasets.coco import CocoSample
from fslab.datasets.oddities import Oddity, by_kind
from fslab.datasets.read import header
from fslab.datasets.samples import Dataset, Sample, sideways, turned
from fslab.records import VOID, FslabError, label_type

SHOWN = 5
"""So many oddities of a kind are shown on the page; the others are counted."""

_SIZES = 6


@dataclass(frozen=True)
class Checked:
    """What a whole data set holds.

    pictures: those that can be read; pixels, shown, regions: by class, how many pixels of the
    truth, in how many pictures, and as how many annotated regions (COCO alone knows these);
    void: pixels that do not count; sizes: how many pictures have each height and width.
    """

    dataset: Dataset
    pictures: int
    pixels: Mapping[str, int]
    shown: Mapping[str, int]
    regions: Mapping[str, int]
    void: int
    sizes: Mapping[tuple[int, int], int]
    oddities: tuple[Oddity, ...]


def glance(dataset: Dataset) -> tuple[Oddity, ...]:
    """Return what headers alone say is odd: files of no kind, sizes that differ, EXIF turns.

    No pixel is decoded, so it costs well under a millisecond a file on a local disk. Behind a
    url a header costs a transfer, so only what opening the set found is known there.
    """
    return tuple(found for sample in dataset for found in _glance(sample))


def check(dataset: Dataset) -> Checked:
    """Read every picture and every truth once, and say what is there.

    What cannot be read is an oddity, not an error: nothing is raised for single pictures.
    """
    names = dataset.vocabulary.names
    void = np.iinfo(label_type(len(names))).max
    counts, shown = np.zeros((2, void + 1), np.int64)
    regions: Counter[str] = Counter()
    sizes: Counter[tuple[int, int]] = Counter()
    first: dict[str, str] = {}
    odd = [*dataset.oddities]
    odd += [
        Oddity(oddities.MISSING, name, f"{file} is not there")
        for name, file in dataset.missing.items()
    ]
    known = {(each.kind, each.where) for each in odd}
    for sample in dataset:
        found, size, digest, truth = _read(sample)
        odd += [each for each in found if (each.kind, each.where) not in known]
        if size is None:
            continue
        sizes[size] += 1
        if digest in first:
            why = f"{sample.name!r} holds the same pixels as {first[digest]!r}"
            odd.append(Oddity(oddities.SAME, sample.name, why))
        first.setdefault(digest, sample.name)
        if truth is not None:
            pixels = np.bincount(truth.ravel(), minlength=void + 1)
            counts, shown = counts + pixels, shown + (pixels > 0)
        if isinstance(sample, CocoSample):
            regions.update(names[each.label] for each in sample.outlines if each.label != VOID)
    if counts.any() and not counts[1 : len(names)].any():
        why = "the truth of every picture is background or void, so no figure can be made of it"
        odd.append(Oddity(oddities.CLASSES, dataset.name, why))
    by_name = range(len(names))
    return Checked(
        dataset, sizes.total(), {names[label]: int(counts[label]) for label in by_name},
        {names[label]: int(shown[label]) for label in by_name}, dict(regions),
        int(counts[void]), dict(sizes), tuple(odd),
    )  # fmt: skip


def as_page(checked: Checked) -> str:
    """Return all of it as one page of text."""
    data = checked.dataset
    lines = [f"{data.name} {data.split}: {checked.pictures} of {len(data)} pictures can be read"]
    lines += [f"  sizes, height x width: {_sizes(checked.sizes)}"]
    total = sum(checked.pixels.values()) + checked.void
    lines += [*_classes(checked, total)] if total else ["  no truth"]
    if not checked.oddities:
        return "\n".join([*lines, "nothing odd"])
    for kind, found in by_kind(checked.oddities).items():
        lines.append(f"{kind}: {len(found)}")
        lines += [f"  {each.why}" for each in found[:SHOWN]]
        lines += [f"  and {len(found) - SHOWN} more"] if len(found) > SHOWN else []
    return "\n".join(lines)


def _classes(checked: Checked, total: int) -> Iterator[str]:
    absent = [name for name, pixels in checked.pixels.items() if not pixels]
    regions = f" {'regions':>9}" if checked.regions else ""
    yield f"  {'class':<16} {'pictures':>9} {'pixels':>12} {'share':>7}{regions}"
    for name, pixels in checked.pixels.items():
        if pixels:
            count = f" {checked.regions.get(name, 0):9d}" if checked.regions else ""
            share = f"{100 * pixels / total:6.2f}%"
            yield f"  {name:<16} {checked.shown[name]:9d} {pixels:12d} {share}{count}"
    yield f"  {'void':<16} {'':9} {checked.void:12d} {100 * checked.void / total:6.2f}%"
    if absent:
        yield f"  in no picture: {', '.join(absent)}"


def _sizes(sizes: Mapping[tuple[int, int], int]) -> str:
    ordered = sorted(sizes.items(), key=lambda pair: (-pair[1], pair[0]))
    said = ", ".join(f"{high} x {wide} ({count})" for (high, wide), count in ordered[:_SIZES])
    rest = len(ordered) - _SIZES
    return (f"{said}, and {rest} more sizes" if rest > 0 else said) or "none"


def _read(
    sample: Sample,
) -> tuple[list[Oddity], tuple[int, int] | None, str, np.ndarray | None]:
    """Return what is odd about a sample, its size, its picture's digest and its truth."""
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always", RuntimeWarning)
        try:
            picture, truth = sample.picture(), sample.truth()
        except (FslabError, MemoryError) as error:
            why = str(error) or "memory ran out"
            return [Oddity(oddities.PICTURE, sample.name, why)], None, "", None
    turns = [str(each.message) for each in heard if issubclass(each.category, RuntimeWarning)]
    odd = [Oddity(oddities.TURN, sample.name, why) for why in turns]
    return odd, picture.size, picture.digest, truth


def _glance(sample: Sample) -> Iterator[Oddity]:
    if not isinstance(sample.path, Path) or (isinstance(sample, CocoSample) and sample.refused):
        return
    wanted = sample.size if isinstance(sample, CocoSample) else None
    try:
        size, turn = header(sample.path)
        if isinstance(sample.truth_path, Path):
            wanted, _ = header(sample.truth_path)
    except FslabError as error:
        yield Oddity(oddities.PICTURE, sample.name, str(error))
        return
    if wanted is not None and wanted != size:
        yield Oddity(
            oddities.PICTURE,
            sample.name,
            f"{str(sample.path)!r} is {size[0]} x {size[1]} pixels (height x width), and its truth "
            f"{wanted[0]} x {wanted[1]}{sideways(size, wanted, turn)}",
        )
    elif turn != 1 and wanted is not None:
        yield Oddity(oddities.TURN, sample.name, turned(sample.path, turn))
