"""Figures made of counts; every one says in words how it was computed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from types import MappingProxyType
from typing import Literal

import numpy as np

from fslab.records import FslabError, Segments
from fslab.score.count import ImageScore, check_map, score_image


@dataclass(frozen=True)
class Score:
    """A figure with its protocol in words.

    miou: the mean, 0..1; iou: by class, None where the class does not occur; images: how many.
    """

    metric: str
    miou: float
    iou: Mapping[str, float | None]
    images: int
    note: str

    @property
    def absent(self) -> tuple[str, ...]:
        """The classes that do not occur, and so are in no mean."""
        return tuple(name for name, value in self.iou.items() if value is None)


Part = Literal["named", "oracle", "hungarian"]
Figures = tuple[float, Mapping[str, float]]


@dataclass(frozen=True)
class Metric:
    """How one figure is computed.

    needs: what an image must bring, a "guess" (named pixels) or "segments" (no names at all);
    part: the confusion of an ImageScore it reads; figures: its mean and its values by class.
    """

    needs: Literal["guess", "segments"]
    part: Part
    figures: Callable[[Sequence[ImageScore], Part], Figures]
    note: str


def summarise(metric: str, per_image: Sequence[ImageScore]) -> Score:
    """Make one figure of all images' scores, in the order given.

    Raises FslabError where the metric is unknown, there is no image, an image lacks the metric's
    part, or nothing of the truth counts.
    """
    how = find_metric(metric)
    lacking = sum(getattr(image, how.part) is None for image in per_image)
    if lacking or not per_image:
        raise FslabError(
            f"metric {metric!r} needs {how.needs} of every image; "
            f"{lacking} of {len(per_image)} images have none"
        )
    miou, by_class = how.figures(per_image, how.part)
    if not np.isfinite(miou):
        raise FslabError(f"metric {metric!r}: no pixel of {len(per_image)} images counts")
    iou = {name: float(value) if np.isfinite(value) else None for name, value in by_class.items()}
    return Score(metric, float(miou), iou, len(per_image), how.note)


def find_metric(name: str) -> Metric:
    """Return a metric by name; raises FslabError with those there are."""
    if name not in METRICS:
        raise FslabError(f"there is no metric {name!r}; there is {', '.join(METRICS)}")
    return METRICS[name]


def score_pairs(
    pairs: Iterable[tuple[str, np.ndarray, np.ndarray]],
    names: Sequence[str],
    metric: str = "voc21",
) -> Score:
    """Score (name, truth, guess) triples of u8 [H, W]; where a metric needs segments, the guess's
    distinct values are the segments.

    Raises FslabError as `confusion` does, with the pair's name in front.
    """
    needs = find_metric(metric).needs
    per_image = []
    for name, truth, guess in pairs:
        try:
            given = {needs: guess if needs == "guess" else _segments_of(guess)}
            per_image.append(score_image(truth, names, **given))
        except FslabError as error:
            raise FslabError(f"{name!r}: {error}") from error
    return summarise(metric, per_image)


def _segments_of(labels: np.ndarray) -> Segments:
    """Number the values of a u8 map 0, 1, ..."""
    check_map(labels, "guess")
    used = np.bincount(labels.ravel(), minlength=256) > 0
    return Segments((np.cumsum(used) - 1).astype(np.int32)[labels])


def _whole(per_image: Sequence[ImageScore], part: Part) -> Figures:
    """Sum over images, divide once."""
    total = reduce(add, (getattr(image, part) for image in per_image))
    return total.miou, dict(zip(total.names, total.iou, strict=True))


def _without_background(per_image: Sequence[ImageScore], part: Part) -> Figures:
    """Sum over images with the truth's background as void; its column stays, as misses."""
    total = reduce(add, (getattr(image, part) for image in per_image))
    objects = total.counts[1:]
    hits = np.diag(objects[:, 1:]).astype(np.float64)
    union = objects.sum(1) + objects[:, 1:].sum(0) - hits
    iou = np.divide(hits, union, out=np.full(len(hits), np.nan), where=union > 0)
    return _mean(iou), dict(zip(total.names[1:], iou, strict=True))


def _by_image(per_image: Sequence[ImageScore], part: Part) -> Figures:
    """Average over the classes of each image's truth, then over images."""
    parts = [getattr(image, part) for image in per_image]
    present = np.stack([each.counts.sum(1) > 0 for each in parts])
    iou = np.where(present, np.stack([each.iou for each in parts]), np.nan)
    by_class = [_mean(column) for column in iou.T]
    return _mean([_mean(row) for row in iou]), dict(zip(parts[0].names, by_class, strict=True))


def _by_region(per_image: Sequence[ImageScore], part: Part) -> Figures:
    """Average the best overlaps over all regions of all images."""
    names = getattr(per_image[0], part).names
    pairs = [pair for image in per_image for pair in image.overlaps]
    by_class = {
        name: _mean([best for found, best in pairs if found == label])
        for label, name in enumerate(names)
        if label != 0
    }
    return _mean([best for _, best in pairs]), by_class


def _mean(values: Sequence[float] | np.ndarray) -> float:
    """Mean of the finite values; NaN where there is none."""
    values = np.asarray(values, np.float64)
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if finite.size else float("nan")


METRICS: Mapping[str, Metric] = MappingProxyType(
    {
        "voc21": Metric(
            "guess",
            "named",
            _whole,
            "IoU over the whole data set, mean over all classes that occur; the background is a "
            "class; void pixels left out",
        ),
        "voc20": Metric(
            "guess",
            "named",
            _without_background,
            "IoU over the whole data set, mean over the object classes that occur; the truth's "
            "background is void; background guessed on an object is a miss",
        ),
        "per-image": Metric(
            "guess",
            "named",
            _by_image,
            "mean over images of the mean IoU over the classes in that image's truth, background "
            "included (FreeSeg-Diff's own, more lenient than VOC's); void pixels left out",
        ),
        "hungarian": Metric(
            "segments",
            "hungarian",
            _whole,
            "class-agnostic: per image, segments matched one to one to the truth's classes by "
            "pixels in common, others background; then IoU over the whole data set, background "
            "a class; void pixels left out",
        ),
        "oracle": Metric(
            "segments",
            "oracle",
            _whole,
            "class-agnostic ceiling: each segment takes its majority class of the truth; then IoU "
            "over the whole data set, background a class; void pixels left out",
        ),
        "mbo": Metric(
            "segments",
            "oracle",
            _by_region,
            "class-agnostic mean best overlap: per class region of the truth, the best single "
            "segment's IoU; mean over all regions; background no region; void pixels left out",
        ),
    }
)
"""Every metric by the name the command line has for it."""
