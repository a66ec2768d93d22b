"""How CLIP reads the regions of a picture in one pass over it, beside views and mask tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fslab.errors import FslabError
from fslab.records.checks import check_range
from fslab.records.stage import Stage

_LARGEST = 4.0
"""The most times CLIP's own input that a picture's shorter side is read at."""


@dataclass(frozen=True, kw_only=True)
class Regions(Stage):
    """How segments are read from the values of the last block of CLIP's vision tower.

    regions: "none"; "scoped": each cell is the mean of its own segment's values, weighed by how
    like the cell they are in other features, through the output's projection, without the residual
    and the MLP (CorrCLIP, Zhang et al., ICCV 2025); "tokens": the class token, given the mean of a
    segment's values in the last block, with residual and MLP (TextRegion, Xiao et al., 2025).
    regions_weight: of this reading's logits beside the view's and the mask token's, 1 each.
    regions_sharpness: a weight is exp(sharpness x cosine of the features that were clustered);
    0 weighs all alike, and needs no features.
    regions_earlier: with "scoped", the weight of the same mean of earlier blocks' values; of twelve
    blocks the fifth to the ninth count, and in proportion of others.
    regions_token: with "scoped", the weight of the segment's mask token.
    regions_merge: segments whose mean features are nearer than this, in cosine distance and from
    one to the next, see each other's values (DBSCAN, Ester et al. 1996); 0 joins none.
    regions_apart: with "tokens", cells are left out that are like the segment by less than this
    more than like the rest, in mean cosine; 0 leaves none out.
    regions_scale: the picture's shorter side, in sides of CLIP's own input.
    regions_window: the side of the windows that are read one by one, in the same, each a third of
    itself beyond the one before; 0 reads the whole picture at once.
    """

    regions: Literal["none", "scoped", "tokens"] = "none"
    regions_weight: float = 1.0
    regions_sharpness: float = 4.0
    regions_earlier: float = 0.0
    regions_token: float = 0.0
    regions_merge: float = 0.0
    regions_apart: float = 0.0
    regions_scale: float = 1.0
    regions_window: float = 0.0

    @property
    def reads_features(self) -> bool:
        """Whether regions are read with the help of the features that were clustered."""
        weighed = self.regions == "scoped" and self.regions_sharpness > 0
        apart = self.regions == "tokens" and self.regions_apart > 0
        return self.regions != "none" and (weighed or apart or self.regions_merge > 0)

    def check_regions(self) -> None:
        """Refuse settings of regions that are out of bounds, or of a reading that has none such."""
        check_range(self, 0, "regions_weight", "regions_scale", above=True)
        check_range(
            self, 0, "regions_sharpness", "regions_earlier", "regions_token", "regions_merge",
            "regions_apart", "regions_window",
        )  # fmt: skip
        for name in ("regions_scale", "regions_window"):
            if getattr(self, name) > _LARGEST:
                raise FslabError(
                    f"matching.{name} is {getattr(self, name)!r}; it must be at most {_LARGEST:g}"
                )
        for name, reading in _OF.items():
            if getattr(self, name) and self.regions != reading:
                raise FslabError(
                    f"matching.{name} is {getattr(self, name)!r}; it goes with regions="
                    f"{reading!r}, and regions is {self.regions!r}"
                )


_OF = {"regions_earlier": "scoped", "regions_token": "scoped", "regions_apart": "tokens"}
"""Settings that one way of reading has, and another does not."""
