"""Labels that mean the same in every picture, matched to the classes once for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from fslab.records import FslabError, LabelMap, Segments, check_kind
from fslab.records.base import described, is_array
from fslab.score.count import matched_classes, overlaps_of, regrouped
from fslab.score.image import ImageScore, Tally

NOTE = (
    "class-agnostic: labels matched one to one to the classes of the truth, once for all pictures "
    "together, by pixels in common, others background; then IoU over the whole data set, mean over "
    "the classes that occur; background a class; void pixels left out"
)
"""The protocol in words."""


def common_overlaps(
    labels: LabelMap, truth: np.ndarray, names: Sequence[str], count: int
) -> NDArray[np.int64]:
    """Count the pixels that each of the labels 1 to `count` shares with each class.

    labels: as `fslab.cluster.common_labels` gives them; truth: u8 or u16 [H, W]. Returns int64
    [count, classes], void left out. Raises FslabError for a label beyond, and as `confusion` does.
    """
    check_kind(labels, LabelMap, "labels")
    least, most = int(labels.labels.min()), int(labels.labels.max())
    if least < 1 or most > count:
        raise FslabError(
            f"labels are {least} to {most}; those of {count} common clusters are 1 to {count}"
        )
    table = np.zeros((count, len(names)), np.int64)
    used, places = np.unique(labels.labels, return_inverse=True)
    segments = Segments(places.reshape(labels.size).astype(np.int32))
    table[used.astype(np.intp) - 1] = overlaps_of(segments, truth, names)
    return table


@dataclass(frozen=True, eq=False)
class CommonOverlaps:
    """What common labels and classes share in each of several pictures.

    tables: int64 [pictures, labels, classes]; names: of the classes, the background first.
    """

    tables: NDArray[np.int64]
    names: tuple[str, ...]

    def __post_init__(self) -> None:
        tables = self.tables
        if not is_array(tables) or tables.ndim != 3 or 0 in tables.shape:
            raise FslabError(
                f"tables are {described(tables)}; they must be int64 [pictures, labels, classes]"
            )
        if tables.shape[2] != len(self.names):
            raise FslabError(f"{len(self.names)} names for tables of {tables.shape[2]} classes")

    @cached_property
    def classes(self) -> np.ndarray:
        """The class of each label, u8 or u16 [labels], by one Hungarian assignment over all.

        It maximises the pixels that agree. Labels that are left over, and those matched to a class
        that they never touch, are background.
        """
        return matched_classes(self.tables.sum(0))

    def matched_once(self) -> list[ImageScore]:
        """Return each picture's part of the figure, which `summarise("hungarian", ...)` makes.

        `paired_bootstrap("hungarian", ...)` compares them with those of segments that were matched
        in each picture by itself. Intervals keep the assignment; it is not made anew in a draw.
        """
        return [
            ImageScore({"hungarian": Tally.of(regrouped(table, self.classes, self.names))})
            for table in self.tables
        ]
