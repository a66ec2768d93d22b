"""What a lab does with two pictures: where a point of one is in the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, cast

from fslab.datasets import PictureLike
from fslab.lab.many import Many
from fslab.lab.settings import extraction
from fslab.records import Correspondence, Extraction, Features, Neighbours, Points

if TYPE_CHECKING:
    from fslab.lab.lab import Lab


class Two(Many):
    """Pictures compared by their features, which come from the store where they are."""

    def correspond(
        self,
        a: PictureLike,
        points: Points,
        b: PictureLike,
        layers: Sequence[str] | str = (),
        timesteps: int | Sequence[int] | None = None,
        temperature: float = 0.0,
        published: str = "",
        **settings: Any,
    ) -> Correspondence:
        """Return how like each pixel of b is to points of a, and the best match of each.

        points: one pixel (row, column) of a, or several. layers, timesteps, settings (draws,
        resolution, prompt, ...): as in `extract`; several layers or timesteps count alike.
        temperature: 0 for the most like pixel, else of the soft-argmax (`Correspondence.matches`).
        published: settings by name in the place of the preset's own, "dift" for DIFT's (Tang et
        al. 2023), of which those that are given besides replace some. Raises FslabError for points
        outside, and where published settings are for another network.
        """
        from fslab.correspond import correspond

        features = self._of_both(a, b, layers, timesteps, published, settings)
        return correspond(features[0], points, features[1], temperature)

    def mutual_neighbours(
        self,
        a: PictureLike,
        b: PictureLike,
        layers: Sequence[str] | str = (),
        timesteps: int | Sequence[int] | None = None,
        most: int | None = None,
        published: str = "",
        **settings: Any,
    ) -> Neighbours:
        """Return the cells of two pictures that are each other's most like, the most like first.

        most: only so many. The others as in `correspond`.
        """
        from fslab.correspond import mutual_neighbours

        return mutual_neighbours(
            *self._of_both(a, b, layers, timesteps, published, settings), most=most
        )

    def _of_both(
        self,
        a: PictureLike,
        b: PictureLike,
        layers: Sequence[str] | str,
        timesteps: int | Sequence[int] | None,
        name: str,
        settings: dict[str, Any],
    ) -> tuple[Features, Features]:
        lab = cast("Lab", self)
        part = extraction(layers, timesteps, **settings)
        if name:
            from fslab.lab.published import published

            known = asdict(published(name, lab.backbone, lab.layers()))
            given = {"layers": part.layers, "timesteps": part.timesteps}
            chosen = {key: value for key, value in given.items() if value}
            part = Extraction(**{**known, **chosen, **settings})
        how = asdict(part)
        layers, steps = how.pop("layers"), how.pop("timesteps") or None
        first, second = (lab.extract(each, layers, steps, **how) for each in (a, b))
        return first, second
