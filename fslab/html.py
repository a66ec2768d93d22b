"""Records as a notebook shows them at a cell's end."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

_LONGEST = 480
"""Pixels that a record's drawing has at most on its longer side."""

_TABLE = (
    "font-size:13px; line-height:1.4; overflow-wrap:anywhere; border-collapse:collapse; "
    "color:var(--jp-ui-font-color1, inherit)"
)
_CELL = "padding:2px 12px 2px 0; text-align:left"


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows under their headings, which are the keys of the first; nothing for no rows."""
    if not rows:
        return ""
    head = "".join(f'<th scope="col" style="{_CELL}">{escape(str(key))}</th>' for key in rows[0])
    body = "".join(
        "<tr>"
        + "".join(f'<td style="{_CELL}">{escape(str(x))}</td>' for x in line.values())
        + "</tr>"
        for line in rows
    )
    return f'<table style="{_TABLE}"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'


def side_by_side(drawings: Mapping[str, str]) -> str:
    """Return drawings, by what stands below them, as data: addresses in a row."""
    figures = "".join(
        f'<figure style="margin:0"><img alt="{escape(words)}" src="{source}" '
        'style="max-height:260px; max-width:100%">'
        f"<figcaption>{escape(words)}</figcaption></figure>"
        for words, source in drawings.items()
    )
    return f'<div style="display:flex; flex-wrap:wrap; gap:8px">{figures}</div>'


def small_drawings(drawings: Mapping[str, np.ndarray]) -> str:
    """Return small pictures, u8 [h, w, 3], in a row, each over its words; nothing for none."""
    figures = "".join(
        f'<figure style="margin:0; width:160px; overflow-wrap:anywhere">{drawing(pixels, words)}'
        f"<figcaption>{escape(words)}</figcaption></figure>"
        for words, pixels in drawings.items()
    )
    if not figures:
        return ""
    return f'<div style="display:flex; flex-wrap:wrap; gap:8px; font-size:12px">{figures}</div>'


def line(words: str) -> str:
    """Return a sentence as a line."""
    return f"<div>{escape(words)}</div>"


def drawing(pixels: np.ndarray, words: str) -> str:
    """Return pixels, u8 [H, W, 3], as a picture in a page; of larger ones every n-th pixel."""
    from PIL import Image

    step = -(-max(pixels.shape) // _LONGEST)
    encoded = io.BytesIO()
    Image.fromarray(pixels[::step, ::step].copy()).save(encoded, "PNG")
    source = f"data:image/png;base64,{base64.b64encode(encoded.getvalue()).decode()}"
    return (
        f'<img alt="{escape(words)}" src="{source}" '
        'style="max-width:100%; min-width:160px; image-rendering:pixelated">'
    )
