"""The cut-out pictures that scenes are drawn from, and which of them training may show.

Sheets and `manifest.tsv` lie in `sprites/`, made by `fslab.mini.rasterise`; their licences are in
`sprites/LICENSES.md`.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

from fslab.datasets import VOC_CLASSES

SPRITES = Path(__file__).parent / "sprites"
COLUMNS = 16
"""Cells in a sheet's row."""
HELD_OUT_EMOJI, HELD_OUT_DRAWN = "emojione", "drawn-held-out"
"""Design sets that only hard scenes show: no training picture holds them."""


@dataclass(frozen=True, eq=False)
class Sprite:
    """One cut-out object. `picture` is RGBA, its longer side fills the sheet's cell."""

    voc_class: int
    design: str
    glyph: str
    picture: Image.Image

    @property
    def held_out(self) -> bool:
        """Whether training never shows it."""
        return self.design in (HELD_OUT_EMOJI, HELD_OUT_DRAWN)


@cache
def load_sprites() -> tuple[Sprite, ...]:
    """Read every sprite, in the manifest's order."""
    with (SPRITES / "manifest.tsv").open(newline="") as lines:
        rows = list(csv.DictReader(lines, delimiter="\t"))
    sheets = {name: _open(name) for name in dict.fromkeys(row["sheet"] for row in rows)}
    return tuple(
        Sprite(VOC_CLASSES.index(row["class"]), row["design"], row["glyph"], _cut(sheets, row))
        for row in rows
    )


@cache
def sprites_of(voc_class: int, held_out: bool) -> tuple[Sprite, ...]:
    """Return a class's sprites (1..20), either those for training or those held out."""
    return tuple(
        sprite
        for sprite in load_sprites()
        if sprite.voc_class == voc_class and sprite.held_out == held_out
    )


def _open(name: str) -> Image.Image:
    with Image.open(SPRITES / name) as sheet:
        return sheet.convert("RGBA")


def _cut(sheets: dict[str, Image.Image], row: dict[str, str]) -> Image.Image:
    sheet, cell = sheets[row["sheet"]], int(row["cell"])
    side = sheet.width // COLUMNS
    left, top = cell % COLUMNS * side, cell // COLUMNS * side
    return sheet.crop((left, top, left + int(row["width"]), top + int(row["height"])))


def premultiplied(sprite: Sprite, size: tuple[int, int], flip: bool, degrees: float) -> np.ndarray:
    """Scale to `size` (W, H), mirror and turn: f32 [H', W', 4] in 0..255, colours times alpha."""
    picture = sprite.picture.convert("RGBa").resize(size, Image.Resampling.BILINEAR)
    if flip:
        picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    bands = [
        band.rotate(degrees, Image.Resampling.BILINEAR, expand=True) for band in picture.split()
    ]
    return np.asarray(Image.merge("RGBA", bands), dtype=np.float32)
