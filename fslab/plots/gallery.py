"""A page that shows a whole run: one HTML file that loads nothing from anywhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from types import MappingProxyType

import numpy as np

from fslab.plots.draw import data_uri, overlay, segment_picture
from fslab.records import LabelMap, Picture, Segments

_STYLE = """
:root { color-scheme: light dark; --ink: #1b1b1b; --paper: #fff; --soft: #667; --line: #d5d5dd;
  --card: #f6f6f9; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8e8ee; --paper: #15161a; --soft: #a5a7b4; --line: #3a3c46; --card: #1e2026; } }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  max-width: 75rem; margin: 0 auto; padding: 1.5rem; }
h1 { font-size: 1.6rem; line-height: 1.25; }
h2 { font-size: 1.1rem; margin: 0 0 .25rem; }
p { margin: .25rem 0; overflow-wrap: anywhere; }
table { border-collapse: collapse; margin: 1rem 0 2rem; display: block; overflow-x: auto; }
th, td { text-align: left; padding: .35rem .9rem .35rem 0; border-bottom: 1px solid var(--line); }
td.number { text-align: right; font-variant-numeric: tabular-nums; }
article { background: var(--card); border: 1px solid var(--line); border-radius: .5rem;
  padding: 1rem; margin: 1rem 0; }
.stages { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(12rem, 100%), 1fr));
  gap: .75rem; margin: .75rem 0; }
figure { margin: 0; }
figure img { width: 100%; max-height: 26rem; object-fit: contain; object-position: left top;
  display: block; }
figcaption, dt { color: var(--soft); font-size: .9rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1rem; margin: 0; }
dd { margin: 0; overflow-wrap: anywhere; }
"""

_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


@dataclass(frozen=True, eq=False)
class GalleryRow:
    """One picture of the page: its stages, and facts in words (what -> how it is said).

    truth: u8 [H, W] with 255 for void, None where there is none.
    """

    picture: Picture
    segments: Segments
    labels: LabelMap
    truth: np.ndarray | None = None
    caption: str = ""
    facts: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))


def gallery(
    rows: Sequence[GalleryRow],
    title: str,
    note: str,
    methods: Sequence[Mapping[str, object]] = (),
    colours: np.ndarray | None = None,
) -> str:
    """Return a whole HTML page: a table of methods, then each picture with all its stages.

    note: what the figures mean and how they were made. methods: one table row each, columns by
    the keys of the first. Every text is escaped, every picture is inside the page, and the
    page's own policy forbids loading anything.
    """
    parts = [f"<h1>{escape(title)}</h1>", f"<p>{escape(note)}</p>", _table(methods)]
    parts += [_article(row, colours) for row in rows]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(part for part in parts if part)
        + "\n</main>\n</body>\n</html>\n"
    )


def _table(methods: Sequence[Mapping[str, object]]) -> str:
    if not methods:
        return ""
    keys = list(methods[0])
    head = "".join(f'<th scope="col">{escape(key)}</th>' for key in keys)
    body = "\n".join(
        "<tr>" + "".join(_cell(method.get(key, "")) for key in keys) + "</tr>" for method in methods
    )
    return f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>"


def _cell(value: object) -> str:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        places = 3 if abs(value) < 10 else 1
        words = f"{value:.{places}f}" if isinstance(value, float) else str(value)
        return f'<td class="number">{words}</td>'
    return f"<td>{escape(str(value))}</td>"


def _article(row: GalleryRow, colours: np.ndarray | None) -> str:
    names = row.labels.names
    stages = [
        ("picture", row.picture.pixels),
        (f"{row.segments.count} clusters", segment_picture(row.picture, row.segments)),
        ("named masks", overlay(row.picture, row.labels, colours=colours)),
    ]
    if row.truth is not None:
        stages.append(("truth", overlay(row.picture, row.truth, names, colours)))
    name = escape(row.picture.name)
    figures = "\n".join(_figure(name, words, pixels) for words, pixels in stages)
    caption = f"<p>“{escape(row.caption)}”</p>\n" if row.caption else ""
    facts = {"found": _found(row.labels), **row.facts}
    listed = "\n".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in facts.items())
    return (
        f'<article>\n<h2>{name}</h2>\n{caption}<div class="stages">\n{figures}\n</div>\n'
        f"<dl>\n{listed}\n</dl>\n</article>"
    )


def _figure(name: str, words: str, pixels: np.ndarray) -> str:
    source = data_uri(pixels, "JPEG")
    return (
        f'<figure><img alt="{name}: {words}" src="{source}" loading="lazy">'
        f"<figcaption>{words}</figcaption></figure>"
    )


def _found(labels: LabelMap) -> str:
    """Say which classes were found, with their probability and their share of the pixels."""
    shares = labels.shares()
    found = [name for name in shares if name != labels.names[0]]
    return (
        ", ".join(_said(name, labels.scores.get(name), shares[name]) for name in found) or "nothing"
    )


def _said(name: str, score: float | None, share: float) -> str:
    probability = f"{score:.2f}, " if score is not None else ""
    return f"{name} ({probability}{share:.0%} of the pixels)"
