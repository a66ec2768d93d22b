"""What a whole method leaves behind for one picture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fslab.records import Caption, Features, LabelMap, Picture, Recipe, Segments, Vocabulary


@dataclass(frozen=True, eq=False)
class Result:
    """One picture's way through a method, every stage kept.

    named: the label map before refinement; seconds: by stage, a model's loading included in
    the first stage that uses it.
    """

    picture: Picture
    recipe: Recipe
    vocabulary: Vocabulary
    caption: Caption
    features: Features
    segments: Segments
    named: LabelMap
    labels: LabelMap
    seconds: Mapping[str, float]
