"""The few sprites that no emoji set has, as SVG text: tables, plain sofas, flower pots.

Emoji have no dining table, one sofa (with a lamp) a set, and few potted plants. The designs below
were drawn for this package and carry its licence. Pots are put under the sets' own plants.
"""

from __future__ import annotations

BOX = 128
"""Side of every drawn picture, in SVG units."""


def _svg(body: str) -> str:
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {BOX} {BOX}">{body}</svg>'


def _rectangle(
    x: float, y: float, width: float, height: float, fill: str, radius: float = 0
) -> str:
    return f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="{radius}" fill="{fill}"/>'


def _polygon(points: str, fill: str) -> str:
    return f'<polygon points="{points}" fill="{fill}"/>'


def _ellipse(x: float, y: float, across: float, down: float, fill: str) -> str:
    return f'<ellipse cx="{x}" cy="{y}" rx="{across}" ry="{down}" fill="{fill}"/>'


def _line(points: str, stroke: str, width: float) -> str:
    style = f'stroke="{stroke}" stroke-width="{width}" stroke-linecap="round" fill="none"'
    return f'<polyline points="{points}" {style}/>'


def _legs(places: tuple[float, ...], top: float, foot: float, width: float, fill: str) -> str:
    return "".join(_rectangle(x, top, width, foot - top, fill, 2) for x in places)


TABLES: dict[str, str] = {
    "four-legs": _svg(
        _legs((28, 92), 50, 88, 8, "#6d4326")
        + _legs((10, 110), 56, 108, 9, "#8a5a34")
        + _polygon("28,38 100,38 122,56 6,56", "#c98e55")
        + _rectangle(6, 56, 116, 8, "#a66f3f", 2)
    ),
    "round-pedestal": _svg(
        _rectangle(58, 48, 12, 50, "#7b4a2b")
        + _polygon("64,88 96,110 86,112 64,100 42,112 32,110", "#5f3820")
        + _ellipse(64, 48, 58, 18, "#8e5a35")
        + _ellipse(64, 43, 58, 18, "#d8a26a")
        + _ellipse(64, 43, 46, 13, "#e3b684")
    ),
    "cloth": _svg(
        _legs((16, 104), 70, 112, 8, "#5d4a3a")
        + _polygon("26,36 102,36 120,54 8,54", "#f4efe6")
        + _polygon("8,54 120,54 120,80 106,74 92,80 78,74 64,80 50,74 36,80 22,74 8,80", "#d6cfc2")
        + _polygon("56,36 72,36 76,54 52,54", "#c8443c")
        + _polygon("52,54 76,54 76,76 64,80 52,76", "#a5342e")
    ),
    "trestle": _svg(
        _line("30,52 14,108", "#49545e", 6)
        + _line("30,52 46,108", "#5d6a76", 6)
        + _line("98,52 82,108", "#49545e", 6)
        + _line("98,52 114,108", "#5d6a76", 6)
        + _line("22,82 38,82", "#3b444c", 4)
        + _line("90,82 106,82", "#3b444c", 4)
        + _rectangle(4, 42, 120, 11, "#e7d3b1", 3)
        + _rectangle(4, 50, 120, 4, "#b99d72", 2)
    ),
    "laid": _svg(
        _legs((16, 103), 64, 112, 9, "#77502f")
        + _polygon("26,42 102,42 122,62 6,62", "#b5763f")
        + _rectangle(6, 62, 116, 9, "#8d5829", 2)
        + _ellipse(38, 52, 15, 5, "#f5f5f0")
        + _ellipse(38, 52, 9, 3, "#d7dde2")
        + _ellipse(92, 52, 15, 5, "#f5f5f0")
        + _ellipse(92, 52, 9, 3, "#d7dde2")
        + _rectangle(60, 28, 8, 22, "#3f8a5c", 3)
        + _rectangle(62, 20, 4, 10, "#3f8a5c")
    ),
    "bench": _svg(
        _line("36,54 22,104", "#7e4d2a", 8)
        + _line("92,54 106,104", "#7e4d2a", 8)
        + _rectangle(0, 78, 128, 7, "#99622f", 2)
        + _rectangle(18, 40, 92, 7, "#d79a58", 2)
        + _rectangle(18, 48, 92, 7, "#b97c3d", 2)
    ),
    "glass": _svg(
        _line("22,56 30,108", "#8d99a5", 5)
        + _line("106,56 98,108", "#8d99a5", 5)
        + _line("44,50 46,92", "#b0bbc5", 4)
        + _line("84,50 82,92", "#b0bbc5", 4)
        + _polygon("30,38 98,38 124,58 4,58", "#a9d9e6")
        + _polygon("44,42 62,42 46,54 24,54", "#d6f0f6")
        + _rectangle(4, 58, 120, 4, "#6fa9ba", 2)
    ),
    "drawer": _svg(
        _legs((18, 102), 70, 112, 8, "#9a9389")
        + _rectangle(12, 52, 104, 22, "#d9d3c7", 3)
        + _rectangle(40, 56, 48, 14, "#efeae0", 2)
        + _ellipse(64, 63, 4, 3, "#8f7d5a")
        + _polygon("22,38 106,38 122,52 6,52", "#8a5638")
    ),
}
"""SVG text of each table by design; the first six are trained on, the rest are held out."""

SOFAS: dict[str, str] = {
    "boxy": _svg(
        _rectangle(16, 36, 96, 40, "#4c7fb3", 8)
        + _rectangle(18, 66, 46, 22, "#6b9dce", 5)
        + _rectangle(64, 66, 46, 22, "#6b9dce", 5)
        + _rectangle(2, 54, 20, 46, "#3c699a", 7)
        + _rectangle(106, 54, 20, 46, "#3c699a", 7)
        + _rectangle(18, 86, 92, 14, "#43729f")
        + _legs((12, 108), 98, 108, 7, "#463427")
    ),
    "round": _svg(
        _ellipse(64, 58, 52, 28, "#b5503f")
        + _rectangle(10, 68, 108, 30, "#c9634f", 12)
        + _ellipse(16, 76, 15, 20, "#98402f")
        + _ellipse(112, 76, 15, 20, "#98402f")
        + _legs((24, 98), 96, 108, 6, "#533d22")
    ),
    "cushions": _svg(
        _rectangle(8, 42, 112, 50, "#8d8f6a", 10)
        + _rectangle(22, 70, 84, 18, "#a9ab82", 5)
        + _polygon("30,46 54,50 50,74 26,70", "#e0b24e")
        + _polygon("98,46 74,50 78,74 102,70", "#d7d2c4")
        + _rectangle(2, 58, 18, 40, "#777955", 8)
        + _rectangle(108, 58, 18, 40, "#777955", 8)
        + _legs((14, 108), 92, 104, 6, "#4b3a2a")
    ),
}
"""SVG text of each sofa by design: more shapes beside the one glyph of each emoji set."""

POTS: dict[str, str] = {
    "terracotta": _svg(
        _rectangle(30, 74, 68, 14, "#c9683d", 3) + _polygon("36,88 92,88 84,126 44,126", "#b25730")
    ),
    "bowl": _svg(
        '<path d="M22 80 H106 Q104 122 76 124 H52 Q24 122 22 80 Z" fill="#5b8fa8"/>'
        + _rectangle(20, 74, 88, 9, "#78adc6", 4)
    ),
    "square": _svg(
        _rectangle(34, 76, 60, 50, "#e9e4da", 3) + _rectangle(34, 76, 60, 9, "#cfc8bb", 3)
    ),
    "banded": _svg(
        _polygon("28,74 100,74 92,126 36,126", "#d1a93f")
        + _polygon("30,88 98,88 96,102 32,102", "#7f4a8c")
    ),
    "held-out": _svg(
        '<path d="M40 74 H88 Q108 100 84 126 H44 Q20 100 40 74 Z" fill="#8c6d4f"/>'
        + _rectangle(36, 72, 56, 9, "#a98763", 4)
    ),
}
"""SVG text of each pot; a plant's glyph is set into its upper rim."""
