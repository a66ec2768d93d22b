"""What a page shows, as the command line says it and as the page's own process reads it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from fslab import datasets
from fslab.datasets import Dataset
from fslab.lab import Lab
from fslab.records import FslabError, Picture
from fslab.widgets.results import rows_of

_VARIABLE = "FSLAB_APP"
_SCENES, _SEED = 8, 14
"""Scenes that are drawn where there is no data set, and their seed, which no split has."""


@dataclass(frozen=True)
class Shown:
    """What to show; folders are absolute paths or urls.

    results: what `fslab evaluate --out` wrote, or None; dataset, split and format: the pictures
    to choose from, and those of the results; None draws scenes of mini's world.
    """

    preset: str = "mini"
    results: str | None = None
    dataset: str | None = None
    split: str = "val"
    format: str = "voc"

    def lab(self) -> Lab:
        """Open the lab; raises FslabError where weights are missing."""
        return Lab(self.preset)

    def data(self) -> Dataset | None:
        """Open the data set, if one is named; raises FslabError as `fslab.datasets.load` does."""
        if self.dataset is None:
            return None
        return datasets.load(self.dataset, self.split, self.format)

    def pictures(self) -> Dataset | list[Picture]:
        """Return what there is to choose from: the data set's pictures, or drawn scenes."""
        from fslab.mini.scenes import scenes

        data = self.data()
        if data is not None:
            return data
        drawn = enumerate(scenes(_SCENES, _SEED), 1)
        return [Picture(scene.pixels, f"scene {number}") for number, scene in drawn]

    def check(self) -> None:
        """Raise FslabError now for what the page could not show later."""
        self.lab()
        data = self.data()
        if data is not None and not data.samples:
            raise FslabError(f"{self.dataset!r} has no pictures in split {self.split!r}")
        if self.results is not None:
            try:
                rows_of(self.results)
            except FslabError as error:
                raise FslabError(f"{error}; pictures are given by --dataset") from error

    def environment(self) -> dict[str, str]:
        """Return the variable that tells a process of it."""
        return {_VARIABLE: json.dumps(asdict(self))}

    @classmethod
    def of_process(cls, environment: Mapping[str, str] = os.environ) -> Shown:
        """Return what this process was told; the defaults where it was told nothing."""
        return cls(**json.loads(environment.get(_VARIABLE, "{}")))
