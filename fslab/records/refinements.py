"""How a label map is sharpened: the refinements by name, and a record of settings for each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, cast

from fslab.errors import FslabError
from fslab.records.checks import check_most, check_positive, check_range, check_types
from fslab.records.stage import Method, Methods, Own, Settings, Slider


@dataclass(frozen=True, kw_only=True)
class Refinement(Settings):
    """What every refinement is set by, which is nothing; each method adds its own."""

    stage: ClassVar[str] = "refinement"
    usual: ClassVar[str] = "crf"

    def __post_init__(self) -> None:
        check_types(self)

    @property
    def facts(self) -> RefinementMethod:
        """What the registry knows of the method."""
        return cast("RefinementMethod", self._part)

    @staticmethod
    def of(method: str = "crf", **settings: Any) -> Refinement:
        """Return a method's settings by its name; FslabError for what it does not have."""
        found: Refinement = refinement.settings(method, **settings)
        return found


@dataclass(frozen=True, kw_only=True)
class Unrefined(Refinement):
    """The label map as it is."""


@dataclass(frozen=True, kw_only=True)
class DenseCrf(Refinement):
    """What a dense CRF is set by (Kraehenbuehl and Koltun, NeurIPS 2011).

    The defaults are those of FreeSeg-Diff's released code. Widths are in pixels (`*_sxy`) and grey
    levels (`*_srgb`); certainty is the probability that a given label is right. engine: what runs
    the CRFs, "fslab" or, to compare with, "pydensecrf", which is an extra.
    """

    iterations: int = 10
    certainty: float = 0.9
    gaussian_sxy: float = 20.0
    gaussian_compat: float = 5.0
    bilateral_sxy: float = 20.0
    bilateral_srgb: float = 20.0
    bilateral_compat: float = 100.0
    engine: Literal["fslab", "pydensecrf"] = "fslab"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "iterations")
        check_most(self, "iterations")
        if not 0.5 < self.certainty < 1:
            raise FslabError(
                f"refinement.certainty is {self.certainty!r}; it must lie between 0.5 and 1"
            )
        check_range(self, 0, "gaussian_sxy", "bilateral_sxy", "bilateral_srgb", above=True)


@dataclass(frozen=True, kw_only=True)
class MaskCrfs(DenseCrf):
    """One dense CRF for each mask."""


@dataclass(frozen=True, kw_only=True)
class JointCrf(DenseCrf):
    """One dense CRF over all labels present, from beliefs where the map has them."""


@dataclass(frozen=True, kw_only=True)
class Pamr(Refinement):
    """Pixel-adaptive mask refinement (Araslanov and Roth, CVPR 2020), from beliefs likewise.

    dilations: how far neighbours are, in pixels.
    """

    iterations: int = 10
    dilations: tuple[int, ...] = (1, 2, 4, 8, 12, 24)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "iterations")
        check_most(self, "iterations")
        if not self.dilations or min(self.dilations) < 1:
            raise FslabError(f"refinement.dilations is {self.dilations}; all must be 1 or more")


@dataclass(frozen=True, kw_only=True)
class RandomWalk(Refinement):
    """Beliefs spread over like colours by conjugate gradients (PEARL, CVPR 2026), from beliefs
    likewise.

    grid: cells of the longer side. sharpness: how much less cells of unlike colours pull. trust:
    how much a cell's own belief counts beside its neighbours'.
    """

    grid: int = 80
    sharpness: float = 5.0
    trust: float = 1.0
    iterations: int = 25

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "grid", "iterations")
        check_most(self, "iterations")
        check_range(self, 0, "sharpness")
        check_range(self, 0, "trust", above=True)


@dataclass(frozen=True, kw_only=True)
class RefinementMethod(Method):
    """A refinement: `run(picture, labels, settings)` of a `Picture` and its `LabelMap` returns a
    `LabelMap`, or its labels [H, W]; a parameter called device is given the lab's device.

    on_gpu: it runs on the lab's device where that is a GPU.
    """

    on_gpu: bool = False

    def __post_init__(self) -> None:
        if not (isinstance(self.settings, type) and issubclass(self.settings, Refinement)):
            raise FslabError(
                f"refinement {self.name!r}: its settings are {self.settings!r}; they must be a "
                "dataclass that extends fslab.records.Refinement"
            )


refinement: Methods[RefinementMethod] = Methods("refinement", RefinementMethod, "fslab.refinements")
"""All refinements by name; `@refinement("median", settings=Median)` before a function adds one."""

_ITERATIONS = Slider("iterations", "iterations", 1, 30, 1)
_TERMS = (
    _ITERATIONS,
    Slider("certainty", "certainty", 0.51, 0.99, 0.01),
    Slider("gaussian_sxy", "near: pixels", 0.5, 60.0, 0.5),
    Slider("gaussian_compat", "near: weight", 0.0, 30.0, 0.5),
    Slider("bilateral_sxy", "alike: pixels", 1.0, 120.0, 1.0),
    Slider("bilateral_srgb", "alike: levels", 1.0, 80.0, 1.0),
    Slider("bilateral_compat", "alike: weight", 0.0, 150.0, 1.0),
)

refinement.add("none", "fslab.refine.sharpen:unrefined", version=1, settings=Unrefined)
refinement.add("crf", "fslab.refine.sharpen:by_mask", version=1, settings=MaskCrfs, knobs=_TERMS)
refinement.add(
    "crf-joint", "fslab.refine.sharpen:jointly", version=1, settings=JointCrf, knobs=_TERMS
)
refinement.add(
    "pamr", "fslab.refine.sharpen:adaptively", version=1, settings=Pamr, knobs=(_ITERATIONS,),
    on_gpu=True,
)  # fmt: skip
refinement.add(
    "walk", "fslab.refine.sharpen:by_walk", version=1, settings=RandomWalk,
    knobs=(
        Slider("grid", "cells", 10, 160, 10), Slider("sharpness", "sharpness", 0.0, 20.0, 0.5),
        Slider("trust", "trust", 0.01, 2.0, 0.01), Slider("iterations", "iterations", 1, 100, 1),
    ),
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class OwnRefinement(Own, Refinement):
    """A function of one's own from a `Picture` and its `LabelMap` to a `LabelMap`, or to labels
    [H, W]."""
