"""How attention to words is read."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Any, ClassVar, Literal

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
    finest layers. Blurred first, scaled next, spread last. Source of these: GoCA (CVPR 2026), by
    its description.
    said: a prompt of its own that the words are in, whose keys the cells' queries meet, where the
    pass is conditioned on another. grids: what the layers of each grid weigh together, the coarsest
    first, in the place of `layers`; spread_grids: the same for self-attention, which then spreads
    on all grids. A network with fewer grids has the first weights. Source: FA-Seg (2026).
    """

    stage: ClassVar[str] = "reading"

    beside: tuple[str, ...] = ()
    over: Literal["text", "words"] = "text"
    heads: Literal["mean", "agreement"] = "mean"
    layers: Literal["mean", "likeness"] = "mean"
    blur: float = 0.0
    scaled: bool = False
    spread: int = 0
    said: str = ""
    grids: tuple[float, ...] = ()
    spread_grids: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "beside", words_of(self.beside, "words beside"))
        check_types(self)
        if not all(map(str.strip, self.beside)):
            raise FslabError(f"reading.beside is {self.beside!r}; a blank word says nothing")
        check_range(self, 0, "blur", "spread")
        check_weights(self, "grids", "spread_grids")
        if self.grids and self.layers != "mean":
            raise FslabError(
                f"reading.layers is {self.layers!r} and grids {list(self.grids)}; both say what "
                "layers weigh, leave out one of them"
            )
        if self.spread_grids and not self.spread:
            raise FslabError(
                f"reading.spread_grids is {list(self.spread_grids)} and spread 0, which spreads "
                "nothing; set spread too"
            )


def check_weights(part: Any, *names: str) -> None:
    """Refuse weights below 0, infinite ones, and those that are all 0."""
    for name in names:
        given = getattr(part, name)
        if given and not (min(given) >= 0 < max(given) < inf):
            raise FslabError(
                f"{part.stage}.{name} is {list(given)}; weights are 0 or more, one of them above 0"
            )
