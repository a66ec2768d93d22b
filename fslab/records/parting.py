"""How things of one class are told apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from fslab.errors import FslabError
from fslab.records.checks import Precision, check_positive, check_timestep, check_types
from fslab.records.stage import Stage


@dataclass(frozen=True)
class Parting(Stage):
    """How the region of a class is parted into things.

    by: "edges" parts each region along the edges of self-attention; "pieces" takes its connected
    pieces for things, "classes" the whole region for one; these two ask no network.
    layers: self-attention (paths or patterns that end in probs), averaged on the finest grid; a
    UNet's layers mean the last one's of other networks. timestep: of the pass, which has no prompt.
    resolution: the shorter side in pixels, None for the model's own; precision as in `Extraction`.
    threshold: of a region the pixels are cut whose edge is stronger than that of this share of its
    pixels; 1 cuts nothing. least: a part of fewer pixels than this share of the picture is no
    thing of its own; its pixels go to the nearest.
    """

    stage: ClassVar[str] = "instances"

    by: Literal["edges", "pieces", "classes"] = "edges"
    layers: tuple[str, ...] = ("*.attn1.probs",)
    timestep: int = 0
    resolution: int | None = None
    precision: Precision | None = None
    threshold: float = 0.65
    least: float = 0.01

    def __post_init__(self) -> None:
        check_types(self)
        check_timestep(self.timestep)
        if self.resolution is not None:
            check_positive(self, "resolution")
        for name in ("threshold", "least"):
            if not 0 <= getattr(self, name) <= 1:
                raise FslabError(
                    f"instances.{name} is {getattr(self, name)!r}; it must be a share, 0 to 1"
                )
        if self.by == "edges" and not self.layers:
            raise FslabError(
                "instances.layers is empty; name self-attention, paths that end in probs"
            )
