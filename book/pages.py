"""Write the sources of the book's pages, in Markdown, from what is in the repository.

Documents are taken from where they lie, their links pointed at the book's pages; notebooks become
chapters with the outputs that they were committed with; every room of the package becomes a page of
the reference, which mkdocstrings fills from docstrings. Nothing is executed, and fslab is not
imported. `make book` runs this before MkDocs.
"""

from __future__ import annotations

import base64
import json
import posixpath
import re
import shutil
from collections.abc import Iterator
from html import escape, unescape
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from formulas import with_formulas
from names import all_rooms, homes, public_names, said

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
TARGET = ROOT / "out" / "book-source"
NOTEBOOKS = sorted((ROOT / "notebooks").glob("**/[0-9]*_*.ipynb"))
"""The notebooks, and the solutions of their exercises in a folder of theirs."""

ELSEWHERE = {
    "data/README.md": "data.md",
    "fslab/mini/README.md": "models.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
}
"""Documents that lie outside docs/, and their pages."""

GUIDES = {
    "The method": ("lab", "extract", "captions", "cluster", "match", "refine", "correspond"),
    "Records and data": ("records", "datasets", "store"),
    "Figures": ("evaluate", "score", "tune"),
    "Looking": ("plots", "widgets"),
    "Models": ("backbones", "weights", "tap"),
}
"""The rooms of the package that have a page each, as the reference lists them."""

OTHERS = "others"
"""The page of all other rooms."""

FIGURE = "application/vnd.plotly.v1+json"
DRAWING = "image/svg+xml"
WIDGET = "application/vnd.jupyter.widget-view+json"
_LINK = re.compile(r"(?<=\]\()([^)\s#]+)(?=[)#])")
_PLACE = re.compile(r"(?<=\]\()([^)\s#:]*)#([^)\s]+)(?=\))")


def main() -> None:
    """Write the sources of all pages and their assets, in the place of what was there."""
    shutil.rmtree(TARGET, ignore_errors=True)
    for uri, content in [*_documents(), *_chapters(), *_reference(), *_assets()]:
        path = TARGET / uri
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())


def relinked(markdown: str, source: str, page: str) -> str:
    """Return a text of the file `source` with links as they are to be on the page `page`."""

    def link(match: re.Match[str]) -> str:
        if ":" in match[1]:
            return match[1]
        target = posixpath.normpath(posixpath.join(posixpath.dirname(source), match[1]))
        return posixpath.relpath(page_of(target), posixpath.dirname(page) or ".")

    return _LINK.sub(link, markdown)


def page_of(source: str) -> str:
    """Return the place in the book of a file of the repository."""
    if source.startswith("notebooks/") and source.endswith(".ipynb"):
        return source.removesuffix(".ipynb") + ".md"
    code = re.fullmatch(r"fslab/(\w+)(?:/.+)?\.py", source)
    if code:  # the reference, in the place of the code
        return f"api/{reference_pages().get(code[1], 'index')}.md"
    return ELSEWHERE.get(source, source.removeprefix("docs/"))


def _documents() -> Iterator[tuple[str, str | bytes]]:
    own = [path for kind in ("*.md", "*.png") for path in (ROOT / "docs").rglob(kind)]
    card = (ROOT / "fslab/mini/card").glob("*.png")
    for path in [*own, *card, *(ROOT / source for source in ELSEWHERE)]:
        source = path.relative_to(ROOT).as_posix()
        uri = page_of(source)
        if path.suffix == ".png":
            yield uri, path.read_bytes()
        else:
            yield uri, relinked(path.read_text(encoding="utf-8"), source, uri)


def _assets() -> Iterator[tuple[str, bytes]]:
    plotly = files("plotly") / "package_data" / "plotly.min.js"
    for path in (HERE / "book.css", HERE / "figures.js", plotly):
        yield f"assets/{path.name}", path.read_bytes()


def _chapters() -> Iterator[tuple[str, str | bytes]]:
    for path in NOTEBOOKS:
        pictures: dict[str, bytes] = {}
        source = path.relative_to(ROOT).as_posix()
        yield page_of(source), relinked(chapter(path, pictures), source, page_of(source))
        for name, content in pictures.items():
            yield f"{posixpath.dirname(page_of(source))}/{name}", content


def prose(text: str) -> str:
    """Return a cell of text as the book has it: formulas drawn, links to headings as its own are.

    Jupyter keeps a heading's capitals and signs in its place's name; the book has neither.
    """

    def place(match: re.Match[str]) -> str:
        words = re.sub(r"[^\w\s-]", "", unquote(match[2])).strip().lower()
        return match[1] + "#" + re.sub(r"[-\s]+", "-", words)

    return with_formulas(_PLACE.sub(place, text))


def chapter(path: Path, pictures: dict[str, bytes]) -> str:
    """Return a notebook as Markdown, and put its static pictures into `pictures` by their name."""
    parts = []
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        text = "".join(cell["source"])
        parts.append(prose(text) if cell["cell_type"] == "markdown" else _fenced(text, "python"))
        for output in cell.get("outputs", ()):
            name = f"{path.stem}-{len(pictures) + 1}"
            parts.append(_output(output, name, pictures))
    return "\n\n".join(parts) + "\n"


def _output(output: dict[str, Any], name: str, pictures: dict[str, bytes]) -> str:
    if output["output_type"] == "stream":
        return _fenced("".join(output["text"]), "{ .text .output }")
    data = output["data"]
    if FIGURE in data:
        pictures[f"{name}.png"] = base64.b64decode("".join(data["image/png"]))
        words = output["metadata"].get("image/png", {}).get("alt", "")
        return live_figure(data[FIGURE], f"{name}.png", words)
    if DRAWING in data:
        drawing = "".join(data[DRAWING])
        pictures[f"{name}.svg"] = drawing.encode()
        words = unescape(re.search("<title>(.*?)</title>", drawing, re.DOTALL)[1])
        return f'<img src="{name}.svg" loading="lazy" alt="{escape(words)}">'
    if WIDGET in data:
        return EXPLORER.format("".join(data["text/plain"]).strip("<>"))
    if "text/markdown" in data:
        return "".join(data["text/markdown"]).rstrip()
    return _fenced("".join(data["text/plain"]), "{ .text .output }")


EXPLORER = """!!! example "An explorer opens here"
    `{}`

    It needs a running notebook: `make lab`. [What the explorers do](../docs/explorers.md)."""


def live_figure(figure: dict[str, Any], name: str, words: str = "") -> str:
    """Return a figure as its picture, with what figures.js makes it live by.

    words: what is on it, for those who cannot see it; its title where there are none.
    """
    shown = {key: figure[key] for key in ("data", "layout")}
    layout = shown["layout"]
    size = f'width="{layout.get("width", 700)}" height="{layout.get("height", 450)}"'
    data = json.dumps(shown, separators=(",", ":")).replace("</", "<\\/")
    picture = f'<img src="{name}" {size} loading="lazy" alt="{escape(words) or _words_of(layout)}">'
    return f'<div class="figure">{picture}<script type="application/json">{data}</script></div>'


def _words_of(layout: dict[str, Any]) -> str:
    """Return a figure's title for those who cannot see it."""
    title = layout.get("title", {})
    text = title.get("text", "") if isinstance(title, dict) else title
    return re.sub(r"<[^>]*>", " ", text).replace('"', "&quot;").strip() or "figure"


def _fenced(text: str, kind: str) -> str:
    fence = "`" * max(3, *(len(run) + 1 for run in re.findall("`+", text) or [""]))
    return f"{fence}{kind}\n{text.rstrip()}\n{fence}"


def _reference() -> Iterator[tuple[str, str]]:
    yield "api/index.md", _contents()
    others = "# The other rooms\n\nOf interest to whoever changes fslab itself.\n"
    for room, page in reference_pages().items():
        entries = "\n\n".join(f"::: fslab.{room}.{name}" for name in public_names(room))
        if page != OTHERS:
            yield f"api/{page}.md", f"# fslab.{room}\n\n{said(room)}\n\n{entries}\n"
        elif entries:
            others += f"\n## fslab.{room}\n\n{said(room)}\n\n{entries}\n"
    yield f"api/{OTHERS}.md", others


def reference_pages() -> dict[str, str]:
    """Return the page of the reference that each room of the package is on."""
    own = [room for rooms in GUIDES.values() for room in rooms]
    return {room: room for room in own} | {room: OTHERS for room in all_rooms() if room not in own}


def _contents() -> str:
    lines = ["# Reference", "", "Every public name, from its docstring. " + AXES, ""]
    lines += ["## `import fslab`", "", "Imported at their first use:", ""]
    pages = reference_pages()
    links: dict[str, list[str]] = {}
    for name, path in sorted(homes().items()):
        room = path.split(".")[1]
        links.setdefault(room, []).append(f"[`{name}`]({pages[room]}.md#{path})")
    lines += [f"- from `fslab.{room}`: {', '.join(of)}" for room, of in sorted(links.items())]
    for title, rooms in GUIDES.items():
        lines += ["", f"## {title}", ""]
        lines += [f"- [`fslab.{room}`]({room}.md): {said(room)}" for room in rooms]
    return "\n".join([*lines, "", f"- [the other rooms]({OTHERS}.md)"]) + "\n"


AXES = (
    "Axes are written [C, h, w]: H, W are rows and columns of a picture, h, w of a feature map; C "
    "channels; K clusters, classes or segments."
)


if __name__ == "__main__":
    main()
