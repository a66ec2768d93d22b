"""Diagrams of boxes and arrows: a network by its blocks, a method by its stages; as SVG."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise

from fslab.plots.layers import LayerLike, block_of
from fslab.plots.panels import WIDTH
from fslab.records import FslabError, Recipe, check_kind

_LINE, _PAD, _GAP, _SIDE = 16, 8, 22, 8
_LETTERS = 6.2
"""The width in pixels that a letter of 12 px is given; wider ones and narrow ones even out."""

_ACROSS = 3
"""Blocks in a row, where a network's grid stays as it is."""

_DOWN, _BOTTOM, _UP, _PLAIN = "#dcecf8", "#f6ead0", "#d9f0e4", "#eeeef2"


@dataclass(frozen=True)
class Diagram:
    """A drawing that a notebook shows: `svg` is its whole text, `words` say what is on it."""

    svg: str
    words: str

    def _repr_svg_(self) -> str:
        return self.svg

    def __repr__(self) -> str:
        return f"<Diagram: {self.words}>"


@dataclass(frozen=True)
class _Box:
    """Lines of text, the first of them bold; `marked` ones stand out. Places are in pixels."""

    left: float
    top: float
    width: float
    lines: tuple[str, ...]
    colour: str = _PLAIN
    marked: tuple[str, ...] = ()

    @property
    def height(self) -> float:
        return _LINE * (len(self.lines) + len(self.marked)) + 2 * _PAD

    @property
    def middle(self) -> float:
        return self.left + self.width / 2

    @property
    def bottom(self) -> float:
        return self.top + self.height


def network_diagram(
    layers: Sequence[LayerLike], marked: Sequence[str] = (), title: str = ""
) -> Diagram:
    """Draw a network's blocks in the order in which they run, with their layers' names.

    layers: in firing order, as `Lab.layers` has them. marked: paths to name inside their block. A
    network whose grid shrinks and grows again is drawn as a U, skip connections dashed between
    blocks that begin at one stride; any other in rows. A box has the channels and the stride, in
    picture pixels, of what its block gives, and its parts, as `resnets.0-1` for two of one kind.
    Raises FslabError without layers, or for a marked path that is not among them.
    """
    unknown = set(marked) - {layer.path for layer in layers}
    if unknown or not layers:
        raise FslabError(
            f"marked names {min(unknown)!r}, which is none of the {len(layers)} layers; "
            "`Lab.layers` lists them"
            if unknown
            else "there is nothing to draw: give a network's layers, as `Lab.layers` lists them"
        )
    blocks: dict[str, list[LayerLike]] = {}
    for layer in layers:
        blocks.setdefault(block_of(layer.path), []).append(layer)
    strides = [members[0].stride for members in blocks.values()]
    is_u = len(strides) > 2 and strides[0] < max(strides) > strides[-1]
    title = title or f"{len(blocks)} blocks in the order in which they run"
    text = {name: _lines(name, members) for name, members in blocks.items()}
    inside = {
        name: tuple(path.removeprefix(f"{name}.") for path in marked if block_of(path) == name)
        for name in blocks
    }
    boxes, shapes = _as_u(text, inside, strides) if is_u else _in_rows(text, inside)
    words = "; ".join(", ".join(lines[:2]) for lines in text.values())
    return _drawn(boxes, shapes, title, f"{title}: {words}")


def pipeline_diagram(recipe: Recipe, title: str = "") -> Diagram:
    """Draw a method's stages: what each call is given, which settings it takes, what it makes.

    recipe: as `Lab.recipe` returns it; the diagram has its layers, timesteps, clustering, naming
    and refinement. Raises FslabError for what is no recipe.
    """
    check_kind(recipe, Recipe, "recipe")
    extract, caption = recipe.extract, recipe.caption
    cluster, match, refine = recipe.cluster, recipe.match, recipe.refine
    steps = ", ".join(str(t) for t in getattr(extract, "timesteps", ()) or ()) or "the preset's"
    found = getattr(cluster, "k", None)
    several = getattr(cluster, "also", ())
    ks = ", ".join(str(k) for k in (found, *several)) if found else "found by itself"
    upper = {
        "picture": ("picture", "rows, columns, 3:", "a file, an array,", "a PIL picture"),
        "extract": (
            "lab.extract",
            "picture \N{RIGHTWARDS ARROW}",
            "feature maps",
            "timestep " + steps,
        ),
        "cluster": (
            "lab.cluster",
            "maps \N{RIGHTWARDS ARROW}",
            "segments",
            _own(cluster),
            f"K {ks}",
        ),
        "match": (
            "lab.match",
            "segments, words \N{RIGHTWARDS ARROW}",
            "named masks",
            _own(match, "assignment"),
        ),
        "refine": ("lab.refine", "masks \N{RIGHTWARDS ARROW}", "sharp masks", _own(refine)),
    }
    widths = [max(map(len, lines)) * _LETTERS + 2 * _PAD for lines in upper.values()]
    room = (WIDTH - 2 * _SIDE - sum(widths)) / (len(widths) - 1)
    lefts = [_SIDE + sum(widths[:place]) + place * room for place in range(len(widths))]
    places = zip(lefts, widths, upper.values(), strict=True)
    boxes = [_Box(left, 40, width, lines, _DOWN) for left, width, lines in places]
    below = max(box.bottom for box in boxes) + _GAP
    words = (
        "lab.caption",
        "picture \N{RIGHTWARDS ARROW} a sentence,",
        "its nouns, candidate classes",
    )
    words += (f"words {getattr(caption, 'words', 'your own')}",)
    said = _Box(lefts[1], below, lefts[3] - lefts[1] - room, words, _UP)
    shapes = [_arrow(a.left + a.width, 64, b.left, 64) for a, b in pairwise(boxes)]
    shapes += [_bend(boxes[0].middle, boxes[0].bottom, said.left, said.top + said.height / 2)]
    end = said.left + said.width
    shapes += [_bend(boxes[3].middle, boxes[3].bottom, end, said.top + said.height / 2, back=True)]
    title = title or f"{recipe.name}: from a picture to named masks"
    calls = ", ".join(lines[0] for lines in upper.values())
    return _drawn([*boxes, said], shapes, title, f"{title}: {calls}; words from lab.caption")


def _own(stage: object, name: str = "method") -> str:
    """Say a stage's method, or that it is a function of somebody's own."""
    return str(getattr(stage, name, None) or type(stage).__name__)


def _lines(block: str, members: Sequence[LayerLike]) -> tuple[str, ...]:
    """Return what a block's box says: its name, its size, its parts, and what those hold."""
    last = members[-1]
    begins = members[0].stride
    stride = (
        f"{begins} \N{RIGHTWARDS ARROW} {last.stride}"
        if begins != last.stride
        else str(last.stride)
    )
    lines = [block, f"{last.channels} channels, {stride} px a cell"]
    inside = [layer.path.removeprefix(f"{block}.") for layer in members if layer.path != block]
    parts = _together(_heads(path, numbered=True) for path in inside)
    if parts:
        lines.append(parts)
    deeper = [path for path in inside if ".transformer_blocks." in f".{path}"]
    units = {re.split(r"transformer_blocks\.\d+\.?", path, maxsplit=1)[-1] for path in deeper}
    kinds = [unit for unit in ("attn1", "attn2", "ff") if unit in units]
    if kinds:
        lines.append(f"transformer_blocks: {', '.join(kinds)}")
    return tuple(lines)


def _heads(path: str, numbered: bool) -> str:
    """Return a path's first part, with its number: "resnets.0" of "resnets.0.conv1"."""
    first, _, rest = path.partition(".")
    number = rest.partition(".")[0]
    return f"{first}.{number}" if numbered and number.isdigit() else first


def _together(names: object) -> str:
    """Join names, those of one kind by the range of their numbers: "resnets.0-1, norm"."""
    numbers: dict[str, list[str]] = {}
    for name in dict.fromkeys(names):  # type: ignore[call-overload]
        kind, _, number = name.partition(".")
        numbers.setdefault(kind, []).extend([number] if number else [])
    return ", ".join(
        kind + (f".{found[0]}" if found else "") + (f"-{found[-1]}" if len(found) > 1 else "")
        for kind, found in numbers.items()
    )


def _as_u(
    text: Mapping[str, tuple[str, ...]],
    inside: Mapping[str, tuple[str, ...]],
    strides: Sequence[int],
) -> tuple[list[_Box], list[str]]:
    """Place blocks on the way down at the left, up at the right, and the coarsest between."""
    names = list(text)
    coarsest = [place for place, stride in enumerate(strides) if stride == max(strides)]
    half = coarsest[len(coarsest) // 2]
    between = [names[half]] if len(coarsest) % 2 else []
    down, up = names[:half], names[half + len(between) :][::-1]
    rows = max(len(down), len(up))
    width = (WIDTH - 2 * _SIDE - 2 * _GAP) / 2
    left: list[_Box] = []
    right: list[_Box] = []
    top = 40.0
    down_at, up_at = [None] * (rows - len(down)) + down, [None] * (rows - len(up)) + up
    for one, other in zip(down_at, up_at, strict=True):
        pair = [
            (side, _Box(at, top, width, text[name], colour, inside[name]))
            for side, at, name, colour in (
                (left, _SIDE, one, _DOWN),
                (right, WIDTH - _SIDE - width, other, _UP),
            )
            if name
        ]
        for side, box in pair:
            side.append(box)
        top = max(box.bottom for _, box in pair) + _GAP
    boxes = [*left]
    boxes += [
        _Box((WIDTH - width) / 2, top, width, text[name], _BOTTOM, inside[name]) for name in between
    ]
    boxes += right[::-1]
    shapes = [_step(one, other) for one, other in pairwise(boxes)]
    begun = dict(zip(names, strides, strict=True))
    shapes += [_skip(one, other) for one in left for other in right if _joined(one, other, begun)]
    return boxes, shapes


def _joined(one: _Box, other: _Box, begun: Mapping[str, int]) -> bool:
    """Tell whether a skip connection leads from a block to another, by names and strides."""
    a, b = one.lines[0], other.lines[0]
    return begun[a] == begun[b] and a.startswith("down_blocks") and b.startswith("up_blocks")


def _in_rows(
    text: Mapping[str, tuple[str, ...]], inside: Mapping[str, tuple[str, ...]]
) -> tuple[list[_Box], list[str]]:
    """Place blocks in rows from left to right; a row begins where the one above has ended."""
    width = (WIDTH - 2 * _SIDE - (_ACROSS - 1) * _GAP) / _ACROSS
    boxes: list[_Box] = []
    top, names = 40.0, list(text)
    for start in range(0, len(names), _ACROSS):
        row = [
            _Box(_SIDE + place * (width + _GAP), top, width, text[name], _PLAIN, inside[name])
            for place, name in enumerate(names[start : start + _ACROSS])
        ]
        boxes += row
        top = max(box.bottom for box in row) + _GAP
    shapes = [
        _arrow(one.left + one.width, one.top + 20, other.left, other.top + 20)
        for one, other in pairwise(boxes)
        if one.top == other.top
    ]
    return boxes, shapes


def _step(one: _Box, other: _Box) -> str:
    """Return the arrow from a block to the one that runs after it."""
    if other.top > one.top and other.left == one.left:
        return _arrow(one.middle, one.bottom, other.middle, other.top)
    if other.top < one.top and other.left == one.left:
        return _arrow(one.middle, one.top, other.middle, other.bottom)
    if other.top > one.top:
        return _arrow(one.left + one.width - 24, one.bottom, one.left + one.width - 24, other.top)
    if other.top < one.top:
        return _arrow(other.left + 24, one.top, other.left + 24, other.bottom)
    return _arrow(one.left + one.width, one.top + 20, other.left, other.top + 20)


def _skip(one: _Box, other: _Box) -> str:
    at = max(one.top, other.top) + 16
    return _arrow(one.left + one.width, at, other.left, at, "stroke-dasharray='4 3'")


def _arrow(x: float, y: float, to_x: float, to_y: float, dashes: str = "") -> str:
    return (
        f"<path d='M{x:.0f} {y:.0f}L{to_x:.0f} {to_y:.0f}' stroke='#555' {dashes} "
        "marker-end='url(#tip)'/>"
    )


def _bend(x: float, y: float, to_x: float, to_y: float, back: bool = False) -> str:
    """Return an arrow with one corner, down from (x, y) and across, or that way back."""
    corners = (to_x, to_y, x, to_y, x, y) if back else (x, y, x, to_y, to_x, to_y)
    places = "M{:.0f} {:.0f}L{:.0f} {:.0f}L{:.0f} {:.0f}".format(*corners)
    return f"<path d='{places}' fill='none' stroke='#555' marker-end='url(#tip)'/>"


def _drawn(boxes: Sequence[_Box], shapes: Sequence[str], title: str, words: str) -> Diagram:
    height = max(box.bottom for box in boxes) + _SIDE
    parts = [
        f"<svg xmlns='http://www.w3.org/2000/svg' width='{WIDTH}' height='{height:.0f}' "
        f"viewBox='0 0 {WIDTH} {height:.0f}' role='img' "
        "font-family='Arial, Helvetica, sans-serif' font-size='12'>",
        f"<title>{escape(words)}</title>",
        "<defs><marker id='tip' viewBox='0 0 8 8' refX='7' refY='4' markerWidth='7' "
        "markerHeight='7' orient='auto'><path d='M0 0L8 4L0 8z' fill='#555'/></marker></defs>",
        f"<rect width='{WIDTH}' height='{height:.0f}' fill='white'/>",
        _text(title, _SIDE, 22, "font-size='16'"),
        *shapes,
        *(line for box in boxes for line in _box(box)),
    ]
    return Diagram("\n".join([*parts, "</svg>"]) + "\n", words)


def _box(box: _Box) -> list[str]:
    """Return a box and its lines, each made narrower where it would not fit."""
    parts = [
        f"<rect x='{box.left:.0f}' y='{box.top:.0f}' width='{box.width:.0f}' "
        f"height='{box.height:.0f}' rx='4' fill='{box.colour}' stroke='#8a8a93'/>"
    ]
    kinds = ["font-weight='bold'"] + [""] * (len(box.lines) - 1)
    kinds += ["fill='#a8400a'"] * len(box.marked)
    for place, (line, kind) in enumerate(zip([*box.lines, *box.marked], kinds, strict=True)):
        is_marked = place >= len(box.lines)
        left, at = box.left + _PAD + 12 * is_marked, box.top + _PAD + 12 + _LINE * place
        if is_marked:
            parts.append(f"<path d='M{left - 12:.0f} {at - 4:.0f}l4 -4l4 4l-4 4z' fill='#a8400a'/>")
        room = box.left + box.width - _PAD - left
        fits = "" if len(line) * _LETTERS <= room + 1 else f" textLength='{room:.0f}'"
        fits += " lengthAdjust='spacingAndGlyphs'" if fits else ""
        parts.append(_text(line, left, at, kind + fits))
    return parts


def _text(words: str, x: float, y: float, kind: str = "") -> str:
    colour = "" if "fill=" in kind else "fill='#222' "
    return f"<text x='{x:.0f}' y='{y:.0f}' {colour}{kind}>{escape(words)}</text>"
