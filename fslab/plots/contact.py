"""A contact sheet: many pictures small, masks over them, with the classes in words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
from PIL import Image

from fslab.plots.colours import class_colours
from fslab.plots.draw import data_uri
from fslab.plots.page import heading, page, paragraph

SIDE = 400
"""Pixels of a drawing's longer side."""

_GRID = (
    "display:grid; gap:1rem; margin:1rem 0; "
    "grid-template-columns:repeat(auto-fill, minmax(min(16rem, 100%), 1fr))"
)
_CHIP = (
    "display:inline-block; width:.8em; height:.8em; border:1px solid var(--line); margin-right:.3em"
)
_NAMED = 8
"""So many classes of a picture are named."""


@dataclass(frozen=True, eq=False)
class Card:
    """One picture of a contact sheet.

    drawn: its masks over it, u8 [H, W, 3], of any size. link: the drawing's file. classes: what
    was found, dicts with "name", "label", "share" of the pixels and "score", which may be None.
    """

    name: str
    drawn: np.ndarray
    link: str
    classes: Sequence[Mapping[str, Any]]


def contact_sheet(
    cards: Iterable[Card],
    title: str,
    note: str,
    links: Mapping[str, str],
    refused: Sequence[str] = (),
) -> str:
    """Return a whole HTML page that loads nothing.

    links: to its other pages, by their words. refused: why pictures are not on it. Every text is
    escaped.
    """
    others = " ".join(f'<a href="{escape(to)}">{escape(words)}</a>' for words, to in links.items())
    parts = [
        f"<h1>{escape(title)}</h1>",
        paragraph(note),
        f"<p>{others}</p>" if others else "",
        f'<div style="{_GRID}">',
        *map(_figure, cards),
        "</div>",
        heading("Left out") if refused else "",
        *map(paragraph, refused),
    ]
    return page(title, parts)


def _figure(card: Card) -> str:
    image = Image.fromarray(card.drawn)
    image.thumbnail((SIDE, SIDE))
    source = data_uri(np.asarray(image), "JPEG")
    name = escape(card.name)
    return (
        f'<figure><a href="{escape(card.link)}"><img alt="{name}, masks" src="{source}" '
        f'loading="lazy"></a><figcaption>{name}</figcaption>{_classes(card.classes)}</figure>'
    )


def _classes(classes: Sequence[Mapping[str, Any]]) -> str:
    if not classes:
        return "<p>nothing found</p>"
    said = [
        f"{_chip(each['label'])}{escape(each['name'])} {_figures(each)}"
        for each in classes[:_NAMED]
    ]
    more = [f"and {len(classes) - _NAMED} more"] if len(classes) > _NAMED else []
    return f"<p>{'<br>'.join([*said, *more])}</p>"


def _chip(label: int) -> str:
    colour = ", ".join(map(str, class_colours()[label]))
    return f'<span style="{_CHIP}; background:rgb({colour})"></span>'


def _figures(found: Mapping[str, Any]) -> str:
    score = "" if found["score"] is None else f", {found['score']:.2f}"
    return f"{found['share']:.0%}{score}"
