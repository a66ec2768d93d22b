"""A page that shows a whole run: one HTML file that loads nothing from anywhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from types import MappingProxyType

import numpy as np

from fslab.datasets import read
from fslab.plots.draw import data_uri, overlay, segment_picture
from fslab.plots.page import page, paragraph, table
from fslab.records import LabelMap, Picture, Segments


@dataclass(frozen=True, eq=False)
class GalleryRow:
    """One picture of the page: its stages, and facts in words (what -> how it is said).

    picture: as `fslab.read` takes it. labels: None where segments have no names. truth: u8 [H, W]
    with 255 for void, None where there is none. named: the label map before refinement, to be shown
    too. names: of the truth's labels; those of `labels` where it is left out.
    """

    picture: Picture
    segments: Segments
    labels: LabelMap | None = None
    truth: np.ndarray | None = None
    caption: str = ""
    facts: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    named: LabelMap | None = None
    names: Sequence[str] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "picture", read(self.picture))


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
    parts = [f"<h1>{escape(title)}</h1>", paragraph(note), table(methods)]
    return page(title, [*parts, *(article(row, colours) for row in rows)])


def article(row: GalleryRow, colours: np.ndarray | None = None) -> str:
    """Return one picture with all its stages as HTML."""
    name = escape(row.picture.name)
    figures = "\n".join(_figure(name, words, pixels) for words, pixels in _stages(row, colours))
    caption = f"<p>“{escape(row.caption)}”</p>\n" if row.caption else ""
    facts = {"found": _found(row.labels), **row.facts} if row.labels else row.facts
    listed = "\n".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in facts.items())
    return (
        f'<article>\n<h2>{name}</h2>\n{caption}<div class="stages">\n{figures}\n</div>\n'
        f"<dl>\n{listed}\n</dl>\n</article>"
    )


def _stages(row: GalleryRow, colours: np.ndarray | None) -> list[tuple[str, np.ndarray]]:
    """Return what each stage is called and its drawing, u8 [H, W, 3]."""
    stages = [
        ("picture", row.picture.pixels),
        (f"{row.segments.count} clusters", segment_picture(row.picture, row.segments)),
    ]
    masks = {"named, before refinement": row.named, "named masks": row.labels}
    stages += [
        (words, overlay(row.picture, labels, colours=colours))
        for words, labels in masks.items()
        if labels is not None
    ]
    if row.truth is not None:
        stages.append(("truth", overlay(row.picture, row.truth, row.names or _names(row), colours)))
    return stages


def _names(row: GalleryRow) -> Sequence[str]:
    return row.labels.names if row.labels is not None else ()


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
