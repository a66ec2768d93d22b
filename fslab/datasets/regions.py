"""One annotation's region as pixels: polygons and run lengths, read for sure or refused."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard

import numpy as np

from fslab.records import FslabError

Box = tuple[float, float, float, float]
"""Left, top, right and bottom, in pixels."""

_CORNERS = 6
"""Numbers of the smallest polygon: three points of x and y."""

_APART = 0.1
"""Box and region that share less of their union than this cannot both be the object's."""

_LOOSE = 0.9
"""Box and region that share less of their union than this are worth a look."""

_ROUNDED = 2
"""So many pixels a box's side may be off by rounding."""

_BITS, _MORE, _SIGN = 0x1F, 0x20, 0x10
"""A character of packed run lengths, less 48: five bits, whether more follow, and the sign."""


@dataclass(frozen=True, eq=False)
class Outline:
    """One annotated object: its label, and its region as polygons or a run-length dict.

    label: void (255) where the class is not known; box: as the annotation gives it, or None.
    """

    label: int
    crowd: bool
    region: Any
    source: str
    box: Box | None = None

    def mask(self, height: int, width: int) -> np.ndarray:
        """Paint the region: bool [height, width].

        Polygons go through pycocotools. Raises FslabError, naming the annotation, for one that
        cannot be read or has another size.
        """
        if isinstance(self.region, dict):
            runs = self._runs(height, width)
            inside = np.arange(len(runs)) % 2 == 1
            return np.repeat(inside, runs).reshape(width, height).T
        from pycocotools import mask as coco_mask

        rings = self._rings(height, width)
        merged = coco_mask.merge(coco_mask.frPyObjects(rings, height, width))
        painted: np.ndarray = coco_mask.decode(merged).astype(bool)
        return painted

    def extent(self, height: int, width: int) -> tuple[Box, float]:
        """Return the region's own box and its area in square pixels; nothing is painted.

        Raises FslabError as `mask` does, so what has an extent can be painted.
        """
        if isinstance(self.region, dict):
            return _extent_of_runs(self._runs(height, width), height)
        rings = self._rings(height, width)
        across, down = [ring[0::2] for ring in rings], [ring[1::2] for ring in rings]
        box = min(map(min, across)), min(map(min, down)), max(map(max, across)), max(map(max, down))
        return box, sum(map(_area, across, down))

    def is_empty(self, extent: Box, area: float, height: int, width: int) -> bool:
        """Tell whether a region with this extent and area holds the centre of no pixel."""
        thin = area < (extent[2] - extent[0]) + (extent[3] - extent[1]) or area < 1
        return thin and not self.mask(height, width).any()

    def stray_rings(self) -> int:
        """Count the rings of fewer than three points beside others: they enclose nothing."""
        if not isinstance(self.region, list):
            return 0
        short = [isinstance(ring, list) and len(ring) < _CORNERS for ring in self.region]
        return 0 if all(short) else sum(short)

    def _rings(self, height: int, width: int) -> list[list[float]]:
        """Return the polygons, each flat [x, y, x, y, ...], without those that enclose nothing."""
        given = self.region
        if not isinstance(given, list) or not all(isinstance(ring, list) for ring in given):
            raise FslabError(
                f"{self.source} has a segmentation that cannot be painted ({short(given)}); give "
                "polygons of x, y, x, y..., or a run-length dict of counts and size"
            )
        rings = [ring for ring in given if len(ring) >= _CORNERS]
        if not rings:
            raise FslabError(f"{self.source} has a polygon of fewer than three points")
        for ring in rings:
            if len(ring) % 2 or not all(map(is_number, ring)):
                raise FslabError(
                    f"{self.source} has a polygon of {len(ring)} entries that are not pairs of "
                    "finite numbers; give x and y in pixels"
                )
        self._check_near(rings, height, width)
        return rings

    def _check_near(self, rings: list[list[float]], height: int, width: int) -> None:
        """Refuse points far from the picture: pycocotools walks to them, or ends the process.

        Points all in the first pixel are parts of the picture's sides, not pixels.
        """
        least, most = min(map(min, rings)), max(map(max, rings))
        reach = 2 * max(height, width)
        for ring in rings:
            left, right = min(ring[0::2]) - width / 2, max(ring[0::2]) - width / 2
            top, bottom = min(ring[1::2]) - height / 2, max(ring[1::2]) - height / 2
            if min(left, top) < -reach or max(right, bottom) > reach:
                raise FslabError(
                    f"{self.source} has a polygon with points far outside its picture of "
                    f"{height} x {width}; give x and y in pixels"
                )
        if least >= 0 and most <= 1 and min(height, width) > 2:
            raise FslabError(
                f"{self.source} has a polygon whose points are all between 0 and 1, so they may "
                "be parts of the picture's sides; give x and y in pixels"
            )

    def _runs(self, height: int, width: int) -> np.ndarray:
        """Return run lengths, int64 [N], outside first, down the columns, that fill the picture."""
        size, counts = self.region.get("size"), self.region.get("counts")
        if size != [height, width]:
            raise FslabError(f"{self.source} is {short(size)}; its picture is {height} x {width}")
        runs = _unpacked(counts) if isinstance(counts, str) else counts
        pixels = height * width
        if (
            not isinstance(runs, list)
            or not all(type(run) is int and 0 <= run <= pixels for run in runs)
            or sum(runs) != pixels
        ):
            raise FslabError(
                f"{self.source} has a segmentation that cannot be painted (its counts do not add "
                f"up to the {pixels} pixels of {height} x {width}); give whole run lengths"
            )
        return np.asarray(runs, np.int64)


def read_box(given: Any, height: int, width: int) -> Box | None:
    """Return a box [left, top, width, height] as far as it lies in the picture, or None for none.

    One that is all within the first pixel may be in parts of the picture's sides: none either.
    """
    if not isinstance(given, list) or len(given) != 4 or not all(map(is_number, given)):
        return None
    left, top, wide, high = given
    if wide <= 0 or high <= 0 or max(left + wide, top + high) <= 1:
        return None
    box = max(left, 0), max(top, 0), min(left + wide, width), min(top + high, height)
    return box if box[0] < box[2] and box[1] < box[3] else None


def paint_box(box: Box, height: int, width: int) -> np.ndarray:
    """Return the pixels that a box touches: bool [height, width]."""
    painted = np.zeros((height, width), bool)
    left, top, right, bottom = box
    rows = slice(max(math.floor(top), 0), max(math.ceil(bottom), 0))
    painted[rows, max(math.floor(left), 0) : max(math.ceil(right), 0)] = True
    return painted


def disagreement(extent: Box, area: float, annotation: Mapping[str, Any]) -> str:
    """Say how an annotation's box or area contradicts its region's; empty where neither does."""
    boxes = _boxes(annotation.get("bbox"))
    shared = max((_overlap(extent, box) for box in boxes), default=1.0)
    if shared < _LOOSE and not any(_rounded(extent, box) for box in boxes):
        return f"its box shares {100 * shared:.0f} % with its segmentation"
    said, boxed = annotation.get("area"), (extent[2] - extent[0]) * (extent[3] - extent[1])
    if is_number(said) and said > 0 and not (_alike(said, area) or _alike(said, boxed)):
        return f"its area is {said:g}, and its segmentation has {area:g}"
    return ""


def apart(extent: Box, annotation: Mapping[str, Any]) -> bool:
    """Tell whether box and region are of different places, so that one of them is wrong."""
    boxes = _boxes(annotation.get("bbox"))
    return bool(boxes) and max(_overlap(extent, box) for box in boxes) < _APART


def _boxes(given: Any) -> list[Box]:
    """Return a box as COCO means it, with width and height, and as others write it, by corners."""
    if not isinstance(given, list) or len(given) != 4 or not all(map(is_number, given)):
        return []
    left, top, third, fourth = map(float, given)
    boxes = [(left, top, left + third, top + fourth), (left, top, third, fourth)]
    return [box for box in boxes if box[0] < box[2] and box[1] < box[3]]


def _overlap(one: Box, other: Box) -> float:
    """Return what two boxes share of their union; a region without an area counts as one pixel."""
    one, other = _at_least_a_pixel(one), _at_least_a_pixel(other)
    wide = min(one[2], other[2]) - max(one[0], other[0])
    high = min(one[3], other[3]) - max(one[1], other[1])
    shared = max(wide, 0.0) * max(high, 0.0)
    areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other))
    return shared / (areas - shared)


def _rounded(one: Box, other: Box) -> bool:
    return all(abs(a - b) <= _ROUNDED for a, b in zip(one, other, strict=True))


def _at_least_a_pixel(box: Box) -> Box:
    left, top, right, bottom = box
    return left, top, max(right, left + 1), max(bottom, top + 1)


def _alike(one: float, other: float) -> bool:
    return min(one, other) > 0.5 * max(one, other) or abs(one - other) <= 2


def _area(across: list[float], down: list[float]) -> float:
    """Return the area of a polygon by the shoelace formula."""
    ends = zip(across, down, across[1:] + across[:1], down[1:] + down[:1], strict=True)
    return abs(sum(x * below - right * y for x, y, right, below in ends)) / 2


def _extent_of_runs(runs: np.ndarray, height: int) -> tuple[Box, float]:
    ends = np.cumsum(runs)
    lengths = runs[1::2]
    stops = ends[1::2][lengths > 0]
    starts = stops - lengths[lengths > 0]
    if not len(stops):
        return (0.0, 0.0, 0.0, 0.0), 0.0
    first, last = starts // height, (stops - 1) // height
    spans = first != last
    top = 0 if spans.any() else int((starts % height).min())
    bottom = height if spans.any() else int(((stops - 1) % height).max()) + 1
    box = float(first.min()), float(top), float(last.max() + 1), float(bottom)
    return box, float(lengths.sum())


def _unpacked(text: str) -> list[int] | None:
    """Return the run lengths of pycocotools' packed text (rleFrString); None for any other text."""
    runs: list[int] = []
    value = shift = 0
    for character in text:
        code = ord(character) - 48
        if not 0 <= code < 64 or shift > 60:
            return None
        value |= (code & _BITS) << shift
        shift += 5
        if code & _MORE:
            continue
        if code & _SIGN:
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value = shift = 0
    return None if shift else runs


def is_number(value: Any) -> TypeGuard[float]:
    """Tell finite numbers of json from all else: true and false are none, nor what is too large."""
    return type(value) in (int, float) and abs(value) < 1e9


def short(value: Any) -> str:
    """Say a value in a few words."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else f"{text[:57]}..."
