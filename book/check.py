"""Check the built book: `python book/check.py out/book`.

Every link inside it leads to a page and to a place on it, every public name of the package has its
entry, and no page loads anything from elsewhere.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

from names import homes, public_names
from pages import reference_pages

LOADS = {"img": "src", "script": "src", "link": "href", "iframe": "src", "source": "src"}
"""What a browser fetches by itself, by element."""


@dataclass
class Seen(HTMLParser):
    """What one page holds: places that can be linked to, links, and what it loads."""

    places: set[str] = field(default_factory=set)
    links: list[str] = field(default_factory=list)
    loads: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what the element is and does."""
        has = dict(attrs)
        self.places |= {has[key] for key in ("id", "name") if has.get(key)}
        if tag == "a" and has.get("href"):
            self.links.append(has["href"])
        if tag == "link" and has.get("rel") in ("canonical", "next", "prev"):
            return
        if tag in LOADS and has.get(LOADS[tag]):
            self.loads.append(has[LOADS[tag]])


def faults(book: Path) -> Iterator[str]:
    """Yield what is wrong with a built book, a line each."""
    pages = {path: _seen(path) for path in sorted(book.rglob("*.html"))}
    if len(pages) < 40:
        yield f"{book} holds {len(pages)} pages only"
    for path, page in pages.items():
        if path.name == "404.html":  # its links begin at the server's root, wherever that is
            continue
        for link in [*page.links, *page.loads]:
            yield from _fault(link, path, pages, link in page.loads)
    for room, page in reference_pages().items():
        names = [f"fslab.{room}.{name}" for name in public_names(room)]
        names += [path for path in homes().values() if path.startswith(f"fslab.{room}.")]
        places = pages[book / "api" / f"{page}.html"].places
        yield from (
            f"api/{page}.html has no entry of {name}" for name in names if name not in places
        )


def _seen(path: Path) -> Seen:
    page = Seen()
    page.feed(path.read_text(encoding="utf-8"))
    return page


def _fault(link: str, path: Path, pages: dict[Path, Seen], loaded: bool) -> Iterator[str]:
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        if loaded and parts.scheme != "data":
            yield f"{path} loads {link}"
        return
    target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
    target = target / "index.html" if target.is_dir() else target
    if not target.is_file():
        yield f"{path}: {link} leads nowhere"
    elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].places:
        yield f"{path}: {link}: there is no such place on that page"


def main() -> int:
    """Say every fault; return how many there are, up to 1."""
    found = list(faults(Path(sys.argv[1]).resolve()))
    print(
        "\n".join(found) or "the book's links lead somewhere, and it loads nothing from elsewhere"
    )
    return min(len(found), 1)


if __name__ == "__main__":
    sys.exit(main())
