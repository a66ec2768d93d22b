"""How names are helped by regions of other pictures, which a bank holds."""

from __future__ import annotations

from dataclasses import dataclass

from fslab.errors import FslabError
from fslab.records.regions import Regions

_NEAREST = 10_000
"""The most regions of a bank that are averaged."""


@dataclass(frozen=True, kw_only=True)
class FromBank(Regions):
    """Regions of unlabelled pictures that are like a segment, and what CLIP makes of them.

    bank: a file that `Lab.bank` wrote; none where it is empty. A segment's mean features are
    compared with those of the bank's regions, and CLIP's vectors of the most like are averaged
    (CorrCLIPv2, 2026). bank_nearest: of how many. bank_weight: of their logits, the rest is of the
    segment's own. bank_digest: of what the file holds, which a lab fills in; where it is given
    the file must hold it.
    """

    bank: str = ""
    bank_digest: str = ""
    bank_nearest: int = 20
    bank_weight: float = 0.5

    @property
    def reads_features(self) -> bool:
        """Whether names are given with the help of the features that were clustered."""
        return super().reads_features or bool(self.bank)

    def check_bank(self) -> None:
        """Refuse settings of a bank that are out of bounds, or without one."""
        if not 1 <= self.bank_nearest <= _NEAREST:
            raise FslabError(
                f"matching.bank_nearest is {self.bank_nearest}; it must be a whole number from 1 "
                f"to {_NEAREST}"
            )
        if not 0 < self.bank_weight <= 1:
            raise FslabError(
                f"matching.bank_weight is {self.bank_weight!r}; it must be above 0 and at most 1"
            )
        if self.bank_digest and not self.bank:
            raise FslabError(
                f"matching.bank_digest is {self.bank_digest!r} and there is no bank; give its file "
                "as matching.bank"
            )
