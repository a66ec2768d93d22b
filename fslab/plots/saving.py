"""A figure as a file of a paper's width: vectors where plotly has them, or pixels."""

from __future__ import annotations

import os
import re
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
from PIL import Image

from fslab.files import write_or_refuse
from fslab.records import FslabError
from fslab.records.base import described

KINDS = (".svg", ".pdf", ".png")

WIDTHS = {"column": 82.55, "page": 174.6}
"""Of a page in two columns, in mm: 3.25 and 6.875 inches, as CVPR's style has them."""

_INCH, _DOT = 25.4, 25.4 / 96
"""Millimetres of an inch, and of a browser's pixel."""

_UNITS = {"mm": 1.0, "cm": 10.0, "in": _INCH}


def save(
    figure: go.Figure,
    path: str | os.PathLike[str],
    *,
    width: float | str | None = None,
    dpi: int = 300,
) -> None:
    """Write a figure as .svg, .pdf or .png, drawn as it is on the screen and brought to a width.

    figure: of `fslab.show`, of `fslab.plots`, or any plotly figure. width: in millimetres, or
    "3.5in", "8.5cm", or "column" and "page" of a page in two columns (82.55 and 174.6 mm); as on
    the screen, 96 pixels an inch, if left out. The height follows, and letters shrink with the
    rest: a figure of 700 pixels in a column has letters of about 4 points. dpi: of a .png, which
    says it.

    SVG and PDF hold lines and letters as vectors; pictures within are pixels, as they are stored.
    Nothing is loaded from a network. It needs `pip install "fslab[figures]"` (kaleido) and a Chrome
    or Chromium on the path. Raises FslabError where one of them is not there, for another ending,
    and for a width that is none.
    """
    path = Path(path)
    kind = path.suffix.lower()
    if not isinstance(figure, go.Figure) and not hasattr(figure, "to_plotly_json"):
        raise FslabError(
            f"figure is {described(figure)}; give a plotly figure, as fslab.show gives"
        )
    if kind not in KINDS:
        raise FslabError(f"{str(path)!r} does not end in one of {', '.join(KINDS)}")
    if not isinstance(dpi, int) or isinstance(dpi, bool) or not 1 <= dpi <= 2400:
        raise FslabError(f"dpi is {dpi!r}; it must be a whole number of 1 to 2400")
    across, down = figure.layout.width or 700, figure.layout.height or 450
    wanted = across * _DOT if width is None else _millimetres(width)
    if kind == ".png":
        scale = wanted / _INCH * dpi / across
        data = _with_dpi(_drawn(figure, "png", across, down, scale), dpi)
    elif kind == ".pdf":
        data = _drawn(figure, "pdf", across, down, wanted / _DOT / across)
    else:
        data = _sized(_drawn(figure, "svg", across, down, 1), wanted, wanted * down / across)
    write_or_refuse(path, data)


def _millimetres(width: Any) -> float:
    """Return a width in millimetres."""
    found: float | None = None
    if isinstance(width, str):
        parts = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(mm|cm|in)\s*", width)
        found = float(parts[1]) * _UNITS[parts[2]] if parts else WIDTHS.get(width)
    elif isinstance(width, (int, float)) and not isinstance(width, bool):
        found = float(width)
    if found is None or not 5 <= found <= 2000:
        raise FslabError(
            f"width is {width!r}; give millimetres of 5 to 2000, or '3.5in', or "
            f"{' or '.join(map(repr, WIDTHS))}"
        )
    return found


def _drawn(figure: go.Figure, kind: str, width: float, height: float, scale: float) -> bytes:
    if find_spec("kaleido") is None:
        raise FslabError(
            "figures become files by kaleido, which is not installed: "
            "pip install 'fslab[figures]'; figure.write_html(path) needs nothing"
        )
    import kaleido
    from choreographer.browsers.chromium import ChromeNotFoundError

    size = {"format": kind, "width": width, "height": height, "scale": scale}
    try:
        drawn: bytes = kaleido.calc_fig_sync(figure, opts=size, kopts={"mathjax": False})
    except ChromeNotFoundError as error:
        raise FslabError(
            "figures become files in a Chrome or Chromium, and none is on the path: install one "
            "(apt-get install chromium), or say where it is by BROWSER_PATH"
        ) from error
    return drawn


def _sized(svg: bytes, width: float, height: float) -> bytes:
    """Say a drawing's size in millimetres; its viewBox stays."""
    size = f'\\1width="{width:.3f}mm" height="{height:.3f}mm"'.encode()
    found, count = re.subn(rb'(<svg\b[^>]*?)width="[^"]*" height="[^"]*"', size, svg, count=1)
    if not count:
        raise FslabError("plotly drew an SVG without a size; save it as .pdf")
    return found


def _with_dpi(png: bytes, dpi: int) -> bytes:
    written = BytesIO()
    Image.open(BytesIO(png)).save(written, "PNG", dpi=(dpi, dpi))
    return written.getvalue()
