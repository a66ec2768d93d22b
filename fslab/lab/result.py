"""What a whole method leaves behind for one picture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from fslab.records import Caption, Features, LabelMap, Picture, Recipe, Segments, Vocabulary
from fslab.versions import Versions, versions


@dataclass(frozen=True, eq=False)
class Result:
    """One picture's way through a method, every stage kept.

    named: the label map before refinement; seconds: by stage, a model's loading included in
    the first stage that uses it. versions: of the libraries that made all this, what came from the
    store included; several of one package stand side by side.
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
    versions: Versions = field(default_factory=versions)
