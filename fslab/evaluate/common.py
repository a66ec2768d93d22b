"""Many pictures clustered together, scored beside each of them clustered by itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fslab.cluster.pixels import without_gaps
from fslab.datasets import Dataset
from fslab.html import line, table
from fslab.lab import Lab
from fslab.records import FslabError, LabelMap, Segments
from fslab.score import Difference, ImageScore, Score, paired_bootstrap, score_image, summarise
from fslab.score.common import NOTE, CommonOverlaps, common_overlaps

DRAWS = 1000
"""How often pictures are drawn again for an interval."""

TOGETHER, BY_NUMBER = "together, matched once", "alone, matched once"
EACH, ALONE = "together, matched in each", "alone, matched in each"
"""Clusters of all pictures or of each, whose labels are matched to classes once or in each."""

_ALONE = {TOGETHER: BY_NUMBER, EACH: ALONE}
"""What clusters of all pictures are compared with: the same question, asked of each by itself."""


@dataclass(frozen=True)
class CosegmentScore:
    """What clusters of all pictures give, and those of each picture by itself, of the same K.

    counted: the pictures' parts by how they were clustered and matched: TOGETHER, labels of all
    pictures matched to classes once; EACH, the same matched in each picture by itself; ALONE,
    clusters of each picture matched in it, the usual Hungarian; BY_NUMBER, these by their numbers,
    those of most pixels first, matched once: what labels without a common meaning get.
    named: the class that each common label was matched to, background for those left over.
    """

    k: int
    counted: Mapping[str, Sequence[ImageScore]]
    named: tuple[str, ...]
    subject: str

    def score(self, which: str = TOGETHER) -> Score:
        """Return one of the figures with its 95 % interval over pictures."""
        return summarise("hungarian", self.counted[self._known(which)], draws=DRAWS)

    def above(self, first: str = BY_NUMBER, second: str = TOGETHER) -> Difference:
        """Return how much the second is above the first, over the same pictures."""
        before, after = (self.counted[self._known(each)] for each in (first, second))
        return paired_bootstrap("hungarian", before, after, draws=DRAWS)

    def _known(self, which: str) -> str:
        if which not in self.counted:
            raise FslabError(f"there is no {which!r}; there are {', '.join(self.counted)}")
        return which

    def table(self) -> list[dict[str, Any]]:
        """Return a row for each way: its figure with its interval, and of clusters of all pictures
        how much it is above those of each picture alone whose labels are matched likewise."""
        rows = []
        for which in self.counted:
            score, row = self.score(which), {"name": which, "k": self.k}
            interval = score.interval
            row |= {"images": score.images, "hungarian": score.figure}
            row["hungarian_low"] = interval.low if interval else None
            row["hungarian_high"] = interval.high if interval else None
            gain = self.above(_ALONE[which], which) if which in _ALONE and interval else None
            row["above_alone"] = gain.value if gain else None
            row["above_alone_low"] = gain.low if gain else None
            row["above_alone_high"] = gain.high if gain else None
            rows.append(row)
        return rows

    def _repr_html_(self) -> str:
        return line(f"{self.subject}; {NOTE}") + table(said_rows(self.table()))


def said_rows(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Return a score's rows in words, figures in per cent with their intervals."""
    return [
        {
            "clusters": row["name"],
            "mIoU, %": _said(row, "hungarian", ".1f"),
            "above those alone": _said(row, "above_alone", "+.1f"),
        }
        for row in rows
    ]


def _said(row: Mapping[str, Any], column: str, how: str) -> str:
    if row[column] is None:
        return ""
    value, *ends = (row[f"{column}{end}"] for end in ("", "_low", "_high"))
    if None in ends:
        return f"{100 * value:{how}}"
    low, high = (f"{100 * end:{how}}" for end in ends)
    return f"{100 * value:{how}} ({low} to {high})"


def score_cosegments(
    lab: Lab,
    dataset: Dataset,
    k: int = 8,
    layers: Sequence[str] | str = (),
    timesteps: int | Sequence[int] | None = None,
    limit: int | None = None,
    **settings: Any,
) -> CosegmentScore:
    """Cosegment a dataset by k-means, and score it beside clusters of each picture by itself.

    Clusters are fitted to the pictures that are scored, and never see their truth. The others have
    the same features and as many clusters, as far as a picture has cells. settings: as in
    `Lab.cosegment`. limit: the first pictures only.
    Raises FslabError where a picture has no truth, and as `Lab.cosegment` does.
    """
    chosen = dataset.limit(limit)
    without = [sample.name for sample in chosen if not sample.has_truth]
    if without or not len(chosen):
        raise FslabError(f"{len(without)} of {len(chosen)} pictures have no truth to score by")
    names = dataset.vocabulary.names
    fitted = lab.components(chosen, "kmeans", k, layers, timesteps, **settings)
    tables: dict[str, list[np.ndarray]] = {TOGETHER: [], BY_NUMBER: []}
    each: dict[str, list[ImageScore]] = {EACH: [], ALONE: []}
    for sample in chosen:
        picture, truth = sample.picture(), sample.truth()
        if truth is None:
            raise FslabError(f"{sample.name} has no truth to score by")
        features = lab._features_as(picture, fitted.extract)
        alone = lab.cluster(features, k=k, normalise=fitted.normalise)
        common = lab.common_labels(picture, fitted)
        for where, labels in ((TOGETHER, common), (BY_NUMBER, _by_size(alone))):
            tables[where].append(common_overlaps(labels, truth, names, k))
        for where, segments in ((EACH, Segments(without_gaps(common.labels))), (ALONE, alone)):
            each[where].append(score_image(truth, names, segments=segments, contours=False))
    overlaps = {where: CommonOverlaps(np.stack(found), names) for where, found in tables.items()}
    counted = {where: one.matched_once() for where, one in overlaps.items()} | each
    named = tuple(names[label] for label in overlaps[TOGETHER].classes)
    ways = (TOGETHER, BY_NUMBER, EACH, ALONE)
    subject = (
        f"{dataset.name} {dataset.split}, {len(chosen)} pictures, {lab.backbone.name}, K = {k}"
    )
    return CosegmentScore(k, {way: counted[way] for way in ways}, named, subject)


def _by_size(segments: Segments) -> LabelMap:
    """Return segments as labels from 1, the largest first."""
    order = np.argsort(-np.bincount(segments.labels.ravel()), kind="stable")
    number = np.empty(len(order), np.int64)
    number[order] = np.arange(1, len(order) + 1)
    return LabelMap(number[segments.labels], ("none", *map(str, range(1, len(order) + 1))))
