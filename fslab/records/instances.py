"""Things of one class told apart."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fslab.errors import FslabError
from fslab.html import drawing, line, table
from fslab.records.base import WIDE_VOID, described, is_array, typed_labels, voc_palette, words_of
from fslab.records.stages import LabelMap

_ROWS = 20
"""Things that a table shows at most."""


@dataclass(frozen=True, eq=False)
class Instances:
    """Things told apart: `things` is u16 [H, W], n for pixels of the n-th thing, 0 for none.

    65535 is void, which no score counts. classes: the label of each thing, an index into `names`,
    whose first is the background; scores: a probability of each thing, or none at all.
    """

    things: NDArray[np.uint16]
    classes: tuple[int, ...]
    names: tuple[str, ...]
    scores: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        things, count = self.things, len(self.classes)
        if not is_array(things) or things.dtype.kind not in "iu" or things.ndim != 2:
            raise FslabError(f"things are {described(things)}; give whole numbers [H, W]")
        if not things.size or count >= WIDE_VOID:
            raise FslabError(
                f"{count} things in {things.shape}; there are pixels, and at most 65534"
            )
        present = np.unique(things)
        wanted = np.arange(1, count + 1)
        if not np.array_equal(present[(present != 0) & (present != WIDE_VOID)], wanted):
            raise FslabError(
                f"things hold {described(things)} with {len(present)} numbers for {count} classes; "
                f"they are numbered 1 to {count}, each with pixels, beside 0 and {WIDE_VOID} (void)"
            )
        object.__setattr__(self, "things", things.astype(np.uint16, copy=False))
        object.__setattr__(self, "names", words_of(self.names, "names of things"))
        classes = tuple(int(label) for label in self.classes)
        if any(not 0 < label < len(self.names) for label in classes):
            raise FslabError(
                f"things are of the classes {classes}; each is 1 to {len(self.names) - 1}"
            )
        object.__setattr__(self, "classes", classes)
        if len(self.scores) not in (0, count):
            raise FslabError(f"{len(self.scores)} scores of {count} things; each has one, or none")

    @property
    def count(self) -> int:
        """Number of things, N."""
        return len(self.classes)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.things.shape[0], self.things.shape[1]

    @property
    def labels(self) -> LabelMap:
        """The classes alone, as a label map."""
        by_thing = np.zeros(WIDE_VOID + 1, np.uint16)
        by_thing[1 : self.count + 1] = self.classes
        by_thing[WIDE_VOID] = WIDE_VOID
        return LabelMap(typed_labels(by_thing[self.things], len(self.names)), self.names)

    def masks(self) -> NDArray[np.bool_]:
        """Return one mask a thing: bool [N, H, W]."""
        found: NDArray[np.bool_] = self.things[None] == np.arange(1, self.count + 1)[:, None, None]
        return found

    def __repr__(self) -> str:
        height, width = self.size
        said = [
            f"{self.classes.count(label)} {self.names[label]}"
            for label in dict.fromkeys(self.classes)
        ]
        return f"Instances({height} x {width}: {', '.join(said) or 'none'})"

    def _repr_html_(self) -> str:
        shown = np.where(self.things == WIDE_VOID, 255, (self.things.astype(int) - 1) % 254 + 1)
        coloured = voc_palette()[np.where(self.things == 0, 0, shown)]
        pixels = np.bincount(self.things.ravel(), minlength=self.count + 1)
        return line(repr(self)) + drawing(coloured, repr(self)) + table(
            [
                {
                    "thing": number,
                    "class": self.names[label],
                    "share of the pixels": f"{pixels[number] / self.things.size:.1%}",
                    "score": f"{self.scores[number - 1]:.2f}" if self.scores else "",
                }
                for number, label in list(enumerate(self.classes, 1))[:_ROWS]
            ]
        )  # fmt: skip
