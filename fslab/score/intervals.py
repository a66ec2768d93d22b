"""How sure a figure is: images drawn again, with replacement (Efron, Annals of Statistics 1979)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fslab.records import FslabError
from fslab.records.base import described
from fslab.score.image import ImageScore, Tally
from fslab.score.protocols import Metric, find_metric, lacking
from fslab.score.terms import Terms

LEVEL = 95
"""Per cent of the draws that an interval holds, the same share left out on either side."""

_BLOCK = 4_000_000
"""Weights held at a time, so that 100,000 images need no more memory than 5,000."""


@dataclass(frozen=True)
class Interval:
    """The middle 95 % of a figure over resampled images: 0..1, or less than 0 for a difference."""

    low: float
    high: float

    @property
    def percent(self) -> str:
        """Say it in per cent, such as 43.1 to 50.2."""
        return f"{100 * self.low:.1f} to {100 * self.high:.1f}"


@dataclass(frozen=True)
class Difference:
    """How much the second of two figures is above the first, with the middle 95 % of the draws."""

    value: float
    low: float
    high: float

    @property
    def is_clear(self) -> bool:
        """Whether the interval leaves zero out."""
        return self.low > 0 or self.high < 0


def terms_of(name: str, per_image: Sequence[ImageScore]) -> Terms:
    """Return the sums of a metric; raises FslabError where it is unknown or an image lacks it."""
    metric = find_metric(name)
    missing = lacking(metric, per_image)
    if missing or not per_image:
        raise FslabError(
            f"metric {name!r} needs {metric.needs} of every image; "
            f"{missing} of {len(per_image)} images have none"
        )
    names = _names_of(metric, per_image)
    if names:
        find_metric(name, names)
    found = metric.function(per_image, metric.part)
    if not isinstance(found, Terms) or len(found.hits) != len(per_image):
        raise FslabError(
            f"metric {metric.name!r} returned {described(found)}; it must return fslab.score.Terms "
            f"with a row for each of {len(per_image)} images"
        )
    return found


def bootstrap(
    metric: str, per_image: Sequence[ImageScore], draws: int = 1000, seed: int = 0
) -> Interval:
    """Return the 95 % percentile interval of a figure over images drawn with replacement.

    Each draw has as many images as there are, and sums before it divides, as the figure does: a
    class that a draw does not hold is left out of that draw's mean. It says how far the figure
    would move with other images of the same kind, not with other seeds or models. The same seed
    draws the same images for every metric. Raises FslabError for fewer than two images.
    """
    return intervals_of({metric: terms_of(metric, per_image)}, draws, seed)[metric]


def intervals_of(terms: Mapping[str, Terms], draws: int, seed: int) -> dict[str, Interval]:
    """Return the interval of each metric's sums, all over the same draws."""
    images = len(next(iter(terms.values())).hits)
    blocks = [
        [part.resampled(weights) for part in terms.values()]
        for weights in _weights(images, draws, seed)
    ]
    drawn = zip(terms, zip(*blocks, strict=True), strict=True)
    return {name: Interval(*_middle(name, np.concatenate(values))) for name, values in drawn}


def paired_bootstrap(
    metric: str,
    first: Sequence[ImageScore],
    second: Sequence[ImageScore],
    draws: int = 1000,
    seed: int = 0,
) -> Difference:
    """Return how much the second is above the first on the same images, with its interval.

    Both are drawn together, so what makes an image hard for both cancels out: a difference can
    be clear where the two intervals overlap. Raises FslabError where the two are not scores of
    the same images in the same order, as far as their truths tell.
    """
    sides = [terms_of(metric, per_image) for per_image in (first, second)]
    _check_same_images(metric, first, second)
    return difference_of(metric, sides[0], sides[1], draws, seed)


def difference_of(name: str, first: Terms, second: Terms, draws: int, seed: int) -> Difference:
    """Return how much a figure of the second sums is above that of the first, over shared draws."""
    gains = [
        second.resampled(part) - first.resampled(part)
        for part in _weights(len(first.hits), draws, seed)
    ]
    value = second.values()[0] - first.values()[0]
    return Difference(value, *_middle(name, np.concatenate(gains)))


def _weights(images: int, draws: int, seed: int) -> Iterator[np.ndarray]:
    """Give how often each image is in each draw, block by block: f64 [some draws, images]."""
    if images < 2:
        raise FslabError(f"{images} image cannot be drawn again; an interval takes two or more")
    if draws < 1:
        raise FslabError(f"draws is {draws}; it must be a whole number from 1 up, such as 1000")
    generator = np.random.default_rng(seed)
    block = max(1, _BLOCK // images)
    for start in range(0, draws, block):
        rows = min(block, draws - start)
        drawn = generator.integers(0, images, (rows, images))
        drawn += np.arange(rows)[:, None] * images
        counts = np.bincount(drawn.ravel(), minlength=rows * images)
        yield counts.reshape(rows, images).astype(np.float64)


def _middle(metric: str, values: np.ndarray) -> tuple[float, float]:
    """Return the percentiles that leave out the same share of the draws on either side."""
    known = values[np.isfinite(values)]
    if not known.size:
        raise FslabError(f"metric {metric!r}: no pixel of any drawn image counts")
    outside = (100 - LEVEL) / 2
    low, high = np.percentile(known, (outside, 100 - outside))
    return float(low), float(high)


def _names_of(metric: Metric, per_image: Sequence[ImageScore]) -> tuple[str, ...]:
    """Return the classes that a metric's part counts; none where it counts no classes."""
    parts = [image.parts[metric.part] for image in per_image]
    names = dict.fromkeys(part.names for part in parts if isinstance(part, Tally))
    if len(names) > 1:
        raise FslabError("scores over different classes cannot be put in one figure")
    return next(iter(names), ())


def _check_same_images(
    metric: str, first: Sequence[ImageScore], second: Sequence[ImageScore]
) -> None:
    part = find_metric(metric).part
    if len(first) != len(second):
        raise FslabError(
            f"{len(first)} images against {len(second)}; pairs are the same images twice"
        )
    for number, (one, other) in enumerate(zip(first, second, strict=True)):
        if not np.array_equal(_truth_of(one, part), _truth_of(other, part)):
            raise FslabError(
                f"image {number} differs in truth; give scores of the same images in one order"
            )


def _truth_of(image: ImageScore, part: str) -> np.ndarray:
    """Return what a score tells of the truth: pixels by class, or of its contours.

    What a metric counts by itself says nothing of it, and what is counted beside does.
    """
    known = [image.parts[part], *image.parts.values()]
    found = next((each for each in known if not isinstance(each, np.ndarray)), None)
    if isinstance(found, Tally):
        return np.bincount(found.cells[:, 0], found.cells[:, 2], len(found.names))
    return np.array([] if found is None else [found.pixels, found.truth])
