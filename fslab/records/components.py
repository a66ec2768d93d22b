"""What the features of many pictures have in common."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from fslab.errors import FslabError
from fslab.records.base import check_numbers, described
from fslab.records.recipe import Extraction

Decomposition = Literal["pca", "nmf", "kmeans"]
"""How cells of many pictures are put in a few numbers each."""


@dataclass(frozen=True, eq=False)
class Components:
    """A few directions, parts or centres that were fitted to the cells of many pictures.

    how: "pca", principal components; "nmf", parts that add up; "kmeans", centres of clusters.
    vectors: f32 [N, C], of "nmf" f32 [N, 2C] of 0 or more, which say how channels are above 0 and
    then how they are below. mean: f32 [C], taken off first, 0 but for "pca". low, high: f32 [N],
    between which a component's values lie for all but a hundredth of the cells at either end.
    share: how much of the cells' variance about their mean the components explain, 1 at most.
    extract, normalise: how features were taken, and whether each layer's cells have unit length.
    pictures, cells: how many were looked at.
    """

    how: Decomposition
    vectors: NDArray[np.float32]
    mean: NDArray[np.float32]
    low: NDArray[np.float32]
    high: NDArray[np.float32]
    share: float
    extract: Extraction = field(default_factory=Extraction)
    normalise: Literal["none", "l2"] = "none"
    pictures: int = 1
    cells: int = 0

    def __post_init__(self) -> None:
        if self.how not in get_args(Decomposition):
            raise FslabError(
                f"components are by {self.how!r}; they must be by one of "
                f"{', '.join(get_args(Decomposition))}"
            )
        check_numbers(self.vectors, "a component's vectors")
        sides = 2 if self.how == "nmf" else 1
        if self.vectors.ndim != 2 or self.vectors.shape[1] != sides * self.channels:
            raise FslabError(
                f"vectors are {described(self.vectors)} with a mean of {self.channels} channels; "
                f"they must be f32 [N, {sides * self.channels}]"
            )
        if not self.low.shape == self.high.shape == (len(self),):
            raise FslabError(
                f"low is {described(self.low)} and high {described(self.high)}; both must be "
                f"f32 [{len(self)}]"
            )

    def __len__(self) -> int:
        return len(self.vectors)

    @property
    def channels(self) -> int:
        """How many channels the layers have together."""
        return len(self.mean)

    def __repr__(self) -> str:
        return (
            f"Components({self.how}, {len(self)} of {self.channels} channels, {self.share:.0%} of "
            f"the variance of {self.cells} cells of {self.pictures} picture"
            f"{'s' * (self.pictures != 1)})"
        )
