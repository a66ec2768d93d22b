"""Every metric by name: what it needs, how it is computed, and what it says of itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from fslab.parts import Part, Registry
from fslab.records import COCO_THINGS, FslabError
from fslab.score.image import PARTS, Count, ImageScore, Tally
from fslab.score.terms import (
    by_contour,
    by_contour_relative,
    by_image,
    by_region,
    over_all_pixels,
    over_object_pixels,
)

MEAN_IOU = "mean IoU"

_MEAN_F = "mean F of contours"


@dataclass(frozen=True, kw_only=True)
class Metric(Part):
    """A protocol: what it counts of an image, how that is summed, its figure and its words.

    run: its sums, `run(per_image, part)` of `ImageScore`s returns `Terms`; needs: what an image
    must bring, a "guess" (named pixels) or "segments" (no names at all); part: which of
    `fslab.score.image.PARTS` it reads; count: in its place a function of one's own, which counts
    what is not counted yet, see `Count`, and then part is the metric's name; figure: what the
    number is, "mean IoU", or another; note: the protocol in words; background: the rule for it;
    family: whose classes it is meant for, None where any will do.
    """

    needs: Literal["guess", "segments"]
    note: str
    background: str
    part: str = ""
    count: Callable[..., Any] | None = None
    figure: str = "mean IoU"
    family: Literal["voc", "coco"] | None = None

    def __post_init__(self) -> None:
        if self.needs not in ("guess", "segments"):
            raise FslabError(
                f"metric {self.name!r} needs {self.needs!r}; it must be 'guess' or 'segments'"
            )
        if self.count is None:
            if self.part not in PARTS:
                raise FslabError(
                    f"metric {self.name!r} reads the part {self.part!r}; it must be one of "
                    f"{', '.join(PARTS)}, or count= a function of its own"
                )
            return
        if self.part not in ("", self.name) or self.name in PARTS:
            raise FslabError(
                f"metric {self.name!r} counts by itself, by its own name; leave part= out"
                + (", and give it another name" if self.name in PARTS else "")
            )
        object.__setattr__(self, "part", self.name)

    @property
    def is_iou(self) -> bool:
        """Whether it is a mean of IoUs by class; contours have none."""
        return self.figure == MEAN_IOU

    @property
    def counts(self) -> tuple[Count, ...]:
        """What it counts by itself."""
        return () if self.count is None else (Count(self.name, self.needs, self.count),)


def find_metric(name: str, names: Sequence[str] | None = None) -> Metric:
    """Return a metric by name.

    names: the vocabulary's, background first, where it is known: then "coco-object" is refused
    for what is not COCO's. Raises FslabError with the metrics there are.
    """
    metric = METRICS.find(name)
    if names is not None and metric.family == "coco" and not _are_coco_s(names):
        raise FslabError(
            f"metric {name!r} counts COCO's {len(COCO_THINGS)} classes and the background; this "
            f"vocabulary has {len(names) - 1} classes{_others(names)}, so take voc21"
        )
    return metric


def applicable(per_image: Sequence[ImageScore]) -> tuple[str, ...]:
    """Return the metrics that can be made of these scores, in the table's order.

    Every image must have the part that a metric reads. Over COCO's 80 classes the mean IoU is
    called coco-object, over any others voc21 and voc20.
    """
    names = {
        part.names
        for image in per_image
        for part in image.parts.values()
        if isinstance(part, Tally)
    }
    if len(names) != 1:
        return ()
    other = "voc" if _are_coco_s(names.pop()) else "coco"
    return tuple(
        name
        for name, metric in METRICS.items()
        if metric.family != other and not lacking(metric, per_image)
    )


def _are_coco_s(names: Sequence[str]) -> bool:
    """Tell COCO's things under a background, in any order, from any other 80 classes."""
    return len(names) == len(COCO_THINGS) + 1 and {*names[1:]} == {*COCO_THINGS}


def _others(names: Sequence[str]) -> str:
    """Name a class that is not COCO's, where their number is that of COCO's."""
    beyond = [name for name in names[1:] if name not in COCO_THINGS]
    return f", such as {beyond[0]!r}" if beyond and len(names) == len(COCO_THINGS) + 1 else ""


def usual_metric(names: Sequence[str]) -> str:
    """Return the metric that a vocabulary's figures are known by: of COCO's things coco-object."""
    return "coco-object" if _are_coco_s(names) else "voc21"


def lacking(metric: Metric, per_image: Sequence[ImageScore]) -> int:
    """Count the images without the part that a metric reads."""
    return sum(metric.part not in image.parts for image in per_image)


_CONTOURS = (
    "contour pixels, where labels change, found within {reach}: F of precision and recall per "
    "image, mean over images; void pixels take the nearest label of those that count"
)
_NEAR = _CONTOURS.format(reach="2 px")
_RELATIVE = _CONTOURS.format(reach="0.75 % of the image's diagonal")
_ANY_LABEL = "a label like any other"

METRICS: Registry[Metric] = Registry("metric", Metric, "fslab.metrics")
"""Every metric by the name that the command line has for it."""

metric = METRICS
"""The same, as the decorator that adds one: `@metric("accuracy", needs="guess", ...)` stands
before a function of its sums."""

METRICS.add(
    "voc21", over_all_pixels, version=1, needs="guess", part="named",
    family="voc",
    note="IoU over the whole data set, mean over all classes that occur; the background is a "
    "class; void pixels left out",
    background="a class",
)  # fmt: skip
METRICS.add(
    "voc20", over_object_pixels, version=1, needs="guess", part="named",
    family="voc",
    note="IoU over the whole data set, mean over the object classes that occur; the truth's "
    "background is void; background guessed on an object is a miss",
    background="void in the truth, a miss where it is guessed on an object",
)  # fmt: skip
METRICS.add(
    "coco-object", over_all_pixels, version=1, needs="guess", part="named",
    family="coco",
    note="IoU over the whole data set, mean over COCO's 80 things and the background as far as "
    "they occur; void pixels, crowds among them, left out",
    background="a class",
)  # fmt: skip
METRICS.add(
    "per-image", by_image, version=1, needs="guess", part="named",
    note="mean over images of the mean IoU over the classes in that image's truth, background "
    "included (no VOC figure); void pixels left out",
    background="a class, in images whose truth has it",
)  # fmt: skip
METRICS.add(
    "per-image-released", by_image, version=1, needs="guess", part="named_with_void",
    family="voc",
    note="mean over images of the mean IoU over the classes in that image's truth, background "
    "included, void pixels counted as background (as FreeSeg-Diff's released code has it on"
    " VOC; no VOC figure)",
    background="a class, and void pixels of the truth are background",
)  # fmt: skip
METRICS.add(
    "boundary-named", by_contour, version=1, needs="guess", part="named_boundary",
    figure=_MEAN_F,
    note=f"named pixels: {_NEAR}",
    background=_ANY_LABEL,
)  # fmt: skip
METRICS.add(
    "boundary-named-relative", by_contour_relative, version=1, needs="guess", part="named_boundary",
    figure=_MEAN_F,
    note=f"named pixels: {_RELATIVE}",
    background=_ANY_LABEL,
)  # fmt: skip
METRICS.add(
    "hungarian", over_all_pixels, version=1, needs="segments", part="hungarian",
    note="class-agnostic: per image, segments matched one to one to the truth's classes by "
    "pixels in common, others background; then IoU over the whole data set, background a "
    "class; void pixels left out",
    background="a class, and what is left over",
)  # fmt: skip
METRICS.add(
    "oracle", over_all_pixels, version=1, needs="segments", part="oracle",
    note="class-agnostic: each segment takes its majority class of the truth, which maximises the "
    "pixels that agree, not a mean of IoUs; then IoU over the whole data set, background a class; "
    "void pixels left out",
    background="a class",
)  # fmt: skip
METRICS.add(
    "mbo", by_region, version=1, needs="segments", part="oracle",
    note="class-agnostic mean best overlap: per class region of the truth, the best single "
    "segment's IoU; mean over all regions; background no region; void pixels left out",
    background="no region",
)  # fmt: skip
METRICS.add(
    "boundary", by_contour, version=1, needs="segments", part="boundary",
    figure=_MEAN_F,
    note=f"class-agnostic: {_NEAR}",
    background=_ANY_LABEL,
)  # fmt: skip
METRICS.add(
    "boundary-relative", by_contour_relative, version=1, needs="segments", part="boundary",
    figure=_MEAN_F,
    note=f"class-agnostic: {_RELATIVE}",
    background=_ANY_LABEL,
)  # fmt: skip
