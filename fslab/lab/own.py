"""Functions of one's own in the place of a stage: how they are given, and what they must return."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from fslab.parts import call, qualified
from fslab.records import (
    STAGES,
    Caption,
    Features,
    FslabError,
    LabelMap,
    OwnCaptioning,
    OwnExtraction,
    OwnMatching,
    Picture,
    Recipe,
    Segments,
    Vocabulary,
    check_numbers,
)
from fslab.records.base import described


def with_own(recipe: Recipe, stages: dict[str, Any]) -> Recipe:
    """Return a recipe with functions of one's own, or records of settings, in stages' places."""
    if not stages:
        return recipe
    changed = recipe.change(stages)
    said = ", ".join(
        f"{stage} = {getattr(part, 'method', type(part).__name__)}"
        for stage in stages
        for part in [getattr(changed, stage)]
    )
    return replace(changed, name=f"{recipe.name}, {said}")


def check_overrides_nothing(lab: object, usual: type[Any]) -> None:
    """Refuse a lab of a class that has another stage: its results would pass for fslab's own."""
    for stage in STAGES:
        for name in (stage, f"_{stage}"):
            if getattr(type(lab), name) is not getattr(usual, name):
                raise FslabError(
                    f"{type(lab).__name__} overrides Lab.{name}, and its results would be kept as "
                    f"those of fslab's own stage; give the function instead: "
                    f"lab.segment(picture, recipe, {stage}=function)"
                )


def own_features(settings: OwnExtraction, picture: Picture, words: Sequence[str]) -> Features:
    """Return what a function makes of a picture; FslabError for anything but features of it."""
    found = call(settings.function, picture, words=words)
    by = f"{picture.name}: {settings.method}"
    if not isinstance(found, Features):
        raise FslabError(f"{by} returned {described(found)}; it must return fslab.Features")
    for layer, value in found.items():
        check_numbers(value, f"{by}: layer {layer!r}")
    if found.size != picture.size:
        raise FslabError(
            f"{by} returned features of a picture of {found.size} pixels; this one has "
            f"{picture.size}"
        )
    return found


def own_caption(
    settings: OwnCaptioning, picture: Picture, vocabulary: Vocabulary
) -> tuple[Caption, Vocabulary]:
    """Return what a function says of a picture, and the vocabulary with its candidates in it."""
    found = call(settings.function, picture, vocabulary=vocabulary)
    if not isinstance(found, Caption):
        raise FslabError(
            f"{picture.name}: {settings.method} returned {described(found)}; it must return "
            "fslab.Caption(text, nouns, candidates)"
        )
    return found, vocabulary.extended(found.candidates)


def own_labels(
    settings: OwnMatching,
    picture: Picture,
    segments: Segments,
    candidates: Sequence[str],
    vocabulary: Vocabulary,
) -> LabelMap:
    """Return the names that a function gives segments; FslabError for anything but a label map."""
    found = call(settings.function, picture, segments, candidates, vocabulary=vocabulary)
    by = f"{picture.name}: {settings.method}"
    if not isinstance(found, LabelMap):
        raise FslabError(f"{by} returned {described(found)}; it must return fslab.LabelMap")
    if found.size != picture.size:
        raise FslabError(f"{by} returned labels of {found.size}; the picture is {picture.size}")
    if found.names != vocabulary.names:
        raise FslabError(
            f"{by} returned labels with the names {found.names[:4]}...; they must be the "
            f"vocabulary's, {vocabulary.names[:4]}..., which a parameter called vocabulary is given"
        )
    return found


class OwnCaptioner:
    """A captioner that somebody made: an object with `caption(pixels)`, which returns a text.

    `caption` is given those settings that it has parameters for (`fslab.Captioning`).
    """

    def __init__(self, given: Any) -> None:
        self._given = given

    def caption(self, pixels: Any, **settings: Any) -> str:
        """Describe pixels, u8 [H, W, 3], in one sentence."""
        text = call(self._given.caption, pixels, **settings)
        if not isinstance(text, str):
            raise FslabError(
                f"{qualified(self._given.caption)} returned {described(text)}; it must return text"
            )
        return text

    def captions(self, pictures: Sequence[Any], **settings: Any) -> list[str]:
        """Describe pictures one by one."""
        return [self.caption(pixels, **settings) for pixels in pictures]


def print_of(what: str, given: Any) -> str:
    """Name a model that somebody made; FslabError for one that does not say what it is."""
    found = getattr(given, "fingerprint", None)
    if not isinstance(found, str) or not found.strip():
        raise FslabError(
            f"{what} is a {type(given).__name__} without a fingerprint, by which results are kept; "
            "give it an attribute `fingerprint`, a text that is another whenever it computes "
            "otherwise"
        )
    return f"{qualified(type(given))} {found}"
