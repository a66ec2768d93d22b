"""What a whole method leaves behind for one picture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from fslab.html import line, side_by_side
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

    def __repr__(self) -> str:
        return f"Result({self.picture.name!r} by {self.recipe.name}: {self.labels!r})"

    def _repr_html_(self) -> str:
        from fslab.plots.draw import data_uri, overlay, segment_picture

        drawings = {
            "picture": self.picture.pixels,
            f"{self.segments.count} segments": segment_picture(self.picture, self.segments),
            "names": overlay(self.picture, self.labels),
        }
        sources = {words: data_uri(drawn, "JPEG") for words, drawn in drawings.items()}
        words = f"{self.picture.name} by {self.recipe.name}: {self.caption.text}".rstrip(": ")
        return line(words) + side_by_side(sources) + self.labels.table()
