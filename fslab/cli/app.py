"""The explorers as a page in a browser."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from fslab.records import FslabError


def serve_page(
    results: Path | None,
    dataset: str | None,
    *,
    split: str,
    format: str,
    preset: str,
    ip: str,
    port: int,
    visitors: int,
    browser: bool,
) -> None:
    """Serve the page until Ctrl-C; FslabError where Voila or what is to be shown is missing."""
    if find_spec("voila") is None:
        raise FslabError("fslab app needs Voila, which is not installed: pip install 'fslab[app]'")
    from fslab.app.server import serve
    from fslab.app.shown import Shown

    found, pictures = (None if each is None else _absolute(each) for each in (results, dataset))
    shown = Shown(_absolute(preset), found, pictures, split, format)
    serve(shown, ip, port, visitors, browser)


def _absolute(place: str | Path) -> str:
    """Return a path of this machine from its root on, since the page's process is elsewhere."""
    return str(Path(place).resolve() if Path(place).exists() else place)
