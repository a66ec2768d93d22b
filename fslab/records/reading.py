"""How attention to words is read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from fslab.errors import FslabError
from fslab.records.base import words_of
from fslab.records.checks import check_range, check_types
from fslab.records.stage import Stage


@dataclass(frozen=True)
class Reading(Stage):
    """How a word's map is made of cross-attention; the defaults are DAAM's (Tang et al. 2023).

    beside: words that the prompt names too, behind those that are asked for and as many as it
    has room for; over="words" has them compete. over: a cell's attention is a share of all of the
    "text", or of its "words" alone, those beside included: what goes to the start token, to
    padding and to the words between is left out of the sum.
    heads: "mean", or "agreement": at each cell a head weighs by the inner product of what it
    outputs with what all heads output together. layers: "mean", or "likeness": a layer weighs by
    the likeness (cosine) of its self-attention to the mean of all layers'.
    blur: the deviation of a Gaussian, in cells of the finest layer. scaled: each word's map goes
    from 0 to 1. spread: so many times the map is multiplied by the mean self-attention of the
    finest layers. Blurred first, scaled next, spread last. Source of all but the defaults: GoCA
    (CVPR 2026), by its description.
    """

    stage: ClassVar[str] = "reading"

    beside: tuple[str, ...] = ()
    over: Literal["text", "words"] = "text"
    heads: Literal["mean", "agreement"] = "mean"
    layers: Literal["mean", "likeness"] = "mean"
    blur: float = 0.0
    scaled: bool = False
    spread: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "beside", words_of(self.beside, "words beside"))
        check_types(self)
        if not all(map(str.strip, self.beside)):
            raise FslabError(f"reading.beside is {self.beside!r}; a blank word says nothing")
        check_range(self, 0, "blur", "spread")
