"""Fonts that have the letters of a name, in whatever script it is written."""

from __future__ import annotations

import os
import unicodedata
import warnings
from collections.abc import Sequence
from functools import cache
from typing import cast

from PIL import ImageFont

from fslab.errors import FslabWarning

FONT = "FSLAB_FONT"
"""The variable that names a font file of one's own."""

_SYSTEM = (
    "DejaVuSans.ttf", "NotoSans-Regular.ttf", "NotoSansCJK-Regular.ttc",
    "NotoSansDevanagari-Regular.ttf",
    "NotoSansArabic-Regular.ttf", "NotoSansHebrew-Regular.ttf", "NotoSansThai-Regular.ttf",
    "unifont.ttf", "wqy-zenhei.ttc", "FreeSans.ttf",
    "Arial Unicode.ttf", "PingFang.ttc", "AppleSDGothicNeo.ttc",
    "seguisym.ttf", "arial.ttf", "msyh.ttc", "YuGothM.ttc", "malgun.ttf", "Nirmala.ttc",
)  # fmt: skip
"""Fonts that systems bring, looked for by Pillow in the system's own folders."""

_NOWHERE = "\U0010fffe"
"""A code point that no font has a letter for: its picture is that of a missing one."""


def font_for(word: str, size: int) -> tuple[ImageFont.FreeTypeFont, str]:
    """Return a font of a size in pixels that has all letters of a word, and the letters that lack.

    Pillow's own comes first, then the file that FSLAB_FONT names, then the system's. Where none
    has them all the first is returned, with what is missing from it in the word's order.
    """
    for name in ("", *filter(None, [os.environ.get(FONT)]), *_SYSTEM):
        font = _font(name, size)
        if font is not None and not missing(word, font):
            return font, ""
    first = _own_font(size)
    return first, missing(word, first)


def missing(word: str, font: ImageFont.FreeTypeFont) -> str:
    """Return the letters of a word that a font has no picture of, each once."""
    nothing = _picture(_NOWHERE, font)
    seen = dict.fromkeys(letter for letter in word if unicodedata.category(letter)[0] not in "ZCM")
    return "".join(letter for letter in seen if _picture(letter, font) == nothing)


def warn_of(lacking: Sequence[str]) -> None:
    """Say once which letters could not be drawn."""
    letters = "".join(dict.fromkeys("".join(lacking)))
    if letters:
        warnings.warn(
            f"no font here has the letters {letters!r}; names with them are drawn as their "
            f"numbers: install one that has them, or name its file in {FONT}",
            FslabWarning,
            stacklevel=4,
        )


@cache
def _own_font(size: int) -> ImageFont.FreeTypeFont:
    # Given a size, it is never the bitmap font that Pillow's hint allows for.
    return cast("ImageFont.FreeTypeFont", ImageFont.load_default(size))


@cache
def _font(name: str, size: int) -> ImageFont.FreeTypeFont | None:
    if not name:
        return _own_font(size)
    try:
        return ImageFont.truetype(name, size)
    except (OSError, ValueError):
        return None


@cache
def _picture(letter: str, font: ImageFont.FreeTypeFont) -> bytes:
    mask = font.getmask(letter)
    return bytes(mask) + repr(mask.size).encode()
