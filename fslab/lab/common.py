"""What a lab does with many pictures at once that are to be seen alike: one set of components."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from fslab.datasets import Dataset, PictureLike, read
from fslab.datasets.places import Url
from fslab.lab.settings import extraction
from fslab.lab.stream import Source, opened, sources_of
from fslab.lab.tuned import Tuned
from fslab.records import (
    Components,
    Decomposition,
    Extraction,
    Features,
    FslabError,
    LabelMap,
    Picture,
)

if TYPE_CHECKING:
    from fslab.lab.lab import Lab

Pictures = Dataset | str | os.PathLike[str] | Url | Iterable[Source]
"""A data set, a folder of pictures, or pictures and samples."""

MOST_CELLS = 2**14
"""Cells that components are fitted to where nothing else is asked for."""


def listed(pictures: Pictures) -> list[Source]:
    """Return what can be read of pictures, none of it read yet, as `fslab.lab.stream` takes them.

    Raises FslabError for none at all too.
    """
    found = list(sources_of(pictures))
    if not found:
        raise FslabError("there are no pictures; give a folder or a list of pictures")
    return found


class Common(Tuned):
    """Pictures seen alike: fitted to all, shown on each. Features come from the store."""

    def components(
        self,
        pictures: Pictures,
        how: Decomposition = "pca",
        count: int = 3,
        layers: Sequence[str] | str = (),
        timesteps: int | Sequence[int] | None = None,
        *,
        normalise: Literal["none", "l2"] = "none",
        most_cells: int = MOST_CELLS,
        seed: int = 0,
        **settings: Any,
    ) -> Components:
        """Return what the features of pictures have in common, so that a part looks alike in each.

        pictures: a data set, a folder, or a list of pictures and samples, of any sizes; they are
        read one by one. how: "pca", "nmf" or "kmeans" (`fslab.cluster.fit_components`). layers,
        timesteps, settings (draws, resolution, prompt, ...): as in `extract`; several are put side
        by side on the finest grid. normalise: "l2" for cells of unit length in each layer.
        most_cells: how many are held and fitted to, spread evenly over the pictures and drawn from
        each by its content and the seed, one at least; so memory does not grow with their number.
        Raises FslabError as `extract` does, naming the picture, and for layers whose channels are
        not the same in all pictures.
        """
        from fslab.cluster.common import check_channels, fit_components, joined_cells, some_cells

        check_most_cells(most_cells)
        part = extraction(layers, timesteps, **settings)
        sources = listed(pictures)
        each = max(most_cells // len(sources), 1)
        chosen: list[np.ndarray] = []
        for source in sources:
            picture = opened(source)
            joined = joined_cells(self._features_as(picture, part), normalise)
            check_channels(picture.name, joined, chosen[0].shape[1] if chosen else len(joined))
            chosen.append(some_cells(joined, each, seed, picture.digest))
        cells = np.concatenate(chosen)
        return fit_components(cells, how, count, seed, part, normalise, len(chosen))

    def in_components(self, picture: PictureLike, components: Components) -> NDArray[np.float32]:
        """Return what a picture's cells are in components: f32 [N, h, w].

        The picture need not be one of those they were fitted to; its features are taken as theirs
        were. See `fslab.cluster.in_components`, and `fslab.plots.component_colours` to look at it.
        """
        from fslab.cluster.common import in_components

        return in_components(self._features_as(read(picture), components.extract), components)

    def common_labels(self, picture: PictureLike, components: Components) -> LabelMap:
        """Return which part or cluster each pixel of a picture is: labels 1 to N.

        components: of "kmeans" or "nmf"; label n is the same one in every picture. See
        `fslab.cluster.common_labels`.
        """
        from fslab.cluster.common import common_labels

        return common_labels(self._features_as(read(picture), components.extract), components)

    def cosegment(
        self,
        pictures: Pictures,
        k: int = 8,
        how: Literal["kmeans", "nmf"] = "kmeans",
        layers: Sequence[str] | str = (),
        timesteps: int | Sequence[int] | None = None,
        **settings: Any,
    ) -> Iterator[LabelMap]:
        """Yield a label map of each picture, in their order; a label is the same part in all.

        All pictures' cells are clustered together, before the first map is returned. k: how many
        clusters, whose labels are 1 to k, those of most cells first; a picture need not have all of
        them. The rest as in `components`, which raises what this does.
        """
        from fslab.lab.editing import as_begun

        sources = listed(pictures)
        if how not in ("kmeans", "nmf"):
            raise FslabError(f"how is {how!r}; pictures are cosegmented by 'kmeans' or 'nmf'")
        fitted = self.components(sources, how, k, layers, timesteps, **settings)
        found = (self.common_labels(opened(source), fitted) for source in sources)
        return as_begun(self, found)

    def _features_as(self, picture: Picture, part: Extraction) -> Features:
        how = asdict(part)
        layers, steps = how.pop("layers"), how.pop("timesteps") or None
        return cast("Lab", self).extract(picture, layers, steps, **how)


def check_most_cells(most: int) -> None:
    """Refuse a number of cells that no components can be fitted to."""
    if isinstance(most, bool) or not isinstance(most, (int, np.integer)) or most < 2:
        raise FslabError(f"most_cells is {most!r}; it must be a whole number from 2 up")
