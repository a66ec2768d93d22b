"""Figures made of counts; every one says in words how it was computed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fslab.process import memory_refused
from fslab.records import FslabError, Segments
from fslab.score.count import check_map
from fslab.score.image import CONTOURS, ImageScore, score_image
from fslab.score.intervals import Interval, intervals_of, terms_of
from fslab.score.protocols import METRICS, Metric, applicable, find_metric
from fslab.score.terms import Terms


@dataclass(frozen=True)
class Score:
    """A figure with its protocol in words.

    figure: the number, 0..1, which the metric says what it is: mostly a mean IoU, of contours a
    mean F; iou: of a mean IoU the values by class, None where the class does not occur; images: how
    many; note: the protocol; interval: 95 % over resampled images, None where it was not asked for
    or there is one image; sides: of another figure the values beside it, such as precision and
    recall.
    """

    metric: str
    figure: float
    iou: Mapping[str, float | None]
    images: int
    note: str
    interval: Interval | None = None
    sides: Mapping[str, float | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.metric not in METRICS:
            raise FslabError(f"there is no metric {self.metric!r}; {METRICS.offer(self.metric)}")
        if not isinstance(self.images, int) or self.images < 1:
            raise FslabError(f"images is {self.images!r}; it must be a whole number from 1 up")
        if not np.isfinite(self.figure):
            raise FslabError(f"the figure of {self.metric!r} is {self.figure}; it must be finite")

    @property
    def miou(self) -> float:
        """The figure of a metric that is a mean IoU; FslabError for another, such as contours'."""
        how = METRICS[self.metric]
        if not how.is_iou:
            raise FslabError(
                f"metric {self.metric!r} is no mean IoU but a {how.figure}; read score.figure"
            )
        return self.figure

    @property
    def absent(self) -> tuple[str, ...]:
        """The classes that do not occur, and so are in no mean."""
        return tuple(name for name, value in self.iou.items() if value is None)

    @property
    def background(self) -> str:
        """What the background counts as."""
        return METRICS[self.metric].background

    @property
    def vocabulary(self) -> str:
        """Whose names a pixel could have."""
        metric = METRICS[self.metric]
        if metric.needs == "segments":
            return "none: segments have no names, the truth gives them"
        if metric.part in CONTOURS:
            return "no name counts, only where names change"
        if not metric.is_iou:
            return "as the protocol says"
        if metric.background.startswith("void"):
            return f"{len(self.iou)} classes"
        return f"{len(self.iou) - 1} classes and the background"

    def to_dict(self) -> dict[str, Any]:
        """Return the figure and everything that says what it is, for JSON."""
        data: dict[str, Any] = {
            "metric": self.metric,
            "protocol": self.note,
            "figure": self.figure,
            "figure_is": METRICS[self.metric].figure,
            "miou": self.figure if METRICS[self.metric].is_iou else None,
            "interval": [self.interval.low, self.interval.high] if self.interval else None,
            "images": self.images,
            "background": self.background,
            "vocabulary": self.vocabulary,
            "iou": dict(self.iou),
            "absent": list(self.absent),
            "sides": dict(self.sides),
        }
        return {**self.sides, **data}


def summarise(metric: str, per_image: Sequence[ImageScore], draws: int = 0, seed: int = 0) -> Score:
    """Make one figure of all images' scores; their order does not matter.

    draws: how many times to draw the images again for the interval, 0 for none; one image has
    none either. Raises FslabError where the metric is unknown or made for other classes, there
    is no image, an image lacks the metric's part, or nothing of the truth counts.
    """
    scores = _scores({metric: terms_of(metric, per_image)}, draws, seed)
    if metric not in scores:
        raise FslabError(f"metric {metric!r}: no pixel of {len(per_image)} images counts")
    return scores[metric]


def summarise_all(
    per_image: Sequence[ImageScore], draws: int = 1000, seed: int = 0
) -> dict[str, Score]:
    """Make every figure that applies (see `applicable`) of the same images, with intervals.

    A metric for which nothing of the truth counts is left out, as mbo is where no image shows
    an object. Raises FslabError where nothing at all counts.
    """
    terms = {metric: terms_of(metric, per_image) for metric in applicable(per_image)}
    scores = _scores(terms, draws, seed)
    if not scores:
        raise FslabError(f"no figure can be made: no pixel of {len(per_image)} images counts")
    return scores


def count_pairs(
    pairs: Iterable[tuple[str, np.ndarray, np.ndarray]],
    names: Sequence[str],
    metric: str | None = None,
) -> list[ImageScore]:
    """Count (name, truth, guess) triples of u8 or u16 [H, W], one pass over each.

    The guess's labels are names, and its distinct values are segments too; the contours of both
    are the same, and are counted once, as the segments'. metric: count only what this one needs;
    a class-agnostic one takes maps whose values are not labels.

    Raises FslabError as `confusion` does, with the pair's name in front.
    """
    how = find_metric(metric, names) if metric is not None else None
    per_image = []
    for name, truth, guess in pairs:
        with memory_refused(name):
            try:
                per_image.append(_count_pair(truth, guess, names, how))
            except FslabError as error:
                raise type(error)(f"{name!r}: {error}") from error
    return per_image


def _count_pair(
    truth: np.ndarray, guess: np.ndarray, names: Sequence[str], how: Metric | None
) -> ImageScore:
    if how is not None:
        named = guess if how.needs == "guess" else None
        segments = None if how.needs == "guess" else _segments_of(guess)
        return score_image(truth, names, named, segments, how.part in CONTOURS, how.counts)
    named = score_image(truth, names, guess, contours=False)
    agnostic = score_image(truth, names, segments=_segments_of(guess))
    return ImageScore({**named.parts, **agnostic.parts}, agnostic.overlaps)


def score_pairs(
    pairs: Iterable[tuple[str, np.ndarray, np.ndarray]],
    names: Sequence[str],
    metric: str = "voc21",
) -> Score:
    """Score (name, truth, guess) triples of u8 or u16 [H, W] by one metric; see `count_pairs`."""
    return summarise(metric, count_pairs(pairs, names, metric))


def _scores(terms: Mapping[str, Terms], draws: int, seed: int) -> dict[str, Score]:
    """Return the figures of which there is something to count, with intervals if asked for."""
    figures = {metric: part.values() for metric, part in terms.items()}
    counted = {metric: terms[metric] for metric in terms if np.isfinite(figures[metric][0])}
    several = any(len(part.hits) > 1 for part in counted.values())
    intervals = intervals_of(counted, draws, seed) if draws and several else {}
    return {
        metric: _score(metric, len(terms[metric].hits), *figures[metric], intervals.get(metric))
        for metric in counted
    }


def _score(
    metric: str, images: int, figure: float, values: Mapping[str, float], interval: Interval | None
) -> Score:
    how = METRICS[metric]
    known = {name: value if np.isfinite(value) else None for name, value in values.items()}
    nothing: dict[str, float | None] = {}
    classes, sides = (known, nothing) if how.is_iou else (nothing, known)
    return Score(metric, figure, classes, images, how.note, interval, sides)


def _segments_of(labels: np.ndarray) -> Segments:
    """Number the values of a u8 or u16 map 0, 1, ..."""
    check_map(labels, "guess")
    flat = labels.ravel()
    if labels.dtype != np.uint8:
        return Segments(
            np.unique(flat, return_inverse=True)[1].reshape(labels.shape).astype(np.int32)
        )
    used = np.zeros(256, bool)
    used[flat[np.append(0, np.flatnonzero(flat[1:] != flat[:-1]) + 1)]] = True
    numbers = (np.cumsum(used) - 1).astype(np.uint8)
    renumbered = np.frombuffer(flat.tobytes().translate(numbers.tobytes()), np.uint8)
    return Segments(renumbered.reshape(labels.shape).astype(np.int32))
