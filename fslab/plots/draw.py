"""Stages drawn on pixels: coloured masks with outlines and names, maps as colours."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from fslab.datasets import PictureLike, read
from fslab.plots.colours import class_colours, is_light, segment_colours
from fslab.plots.lettering import font_for, warn_of
from fslab.plots.places import middle, spread
from fslab.records import (
    VOID,
    WIDE_VOID,
    FslabError,
    LabelMap,
    Picture,
    Segments,
    check_numbers,
    void_of,
)
from fslab.vectors import as_colours

READABLE = 320
"""The shorter side in pixels that a drawing has at least, so that names on it can be read."""


def overlay(
    picture: PictureLike,
    labels: LabelMap | np.ndarray,
    names: Sequence[str] = (),
    colours: np.ndarray | None = None,
) -> np.ndarray:
    """Draw named masks on a picture: u8 [nH, nW, 3], n = 1 unless the picture is small.

    labels: a label map, or truth as u8 or u16 [H, W] with the names of its labels; 255, or of u16
    65535, is void.
    The background stays as it is; each class has its colour, an outline and its name once.
    Small pictures are enlarged by a whole n until their shorter side has 320 pixels, unless
    the longer side would pass 1,600.
    """
    picture = read(picture)
    labels, names = _named(labels, names)
    check_size(picture, labels.shape, "label map")
    void = void_of(labels)
    present = [int(label) for label in np.unique(labels) if label not in (0, void)]
    palette = class_colours(colours)
    strength = np.where(np.isin(labels, (0, void)), 0.0, 0.55)
    strength[labels == void] = 0.8
    drawn = _tinted(picture, labels, palette, strength)
    words = [name_of(label, names) for label in present]
    return _written(drawn, labels, present, words, palette)


def segment_picture(picture: PictureLike, segments: Segments) -> np.ndarray:
    """Draw segments with outlines and their numbers: u8 [nH, nW, 3], sized as `overlay` does."""
    picture = read(picture)
    check_size(picture, segments.size, "segments")
    palette = segment_colours(segments.count)
    drawn = _tinted(picture, segments.labels, palette, np.full(segments.size, 0.65))
    present = list(range(segments.count))
    return _written(drawn, segments.labels, present, list(map(str, present)), palette)


def label_picture(labels: LabelMap | np.ndarray, colours: np.ndarray | None = None) -> np.ndarray:
    """Return labels as flat colours, u8 [H, W, 3]: VOC's palette, or `colours` in its place."""
    drawn: np.ndarray = class_colours(colours)[_named(labels, ())[0]]
    return drawn


def pca_colours(value: np.ndarray) -> np.ndarray:
    """Show a feature map, f32 [C, h, w], as colours u8 [h, w, 3].

    The first three principal components over the map's own cells become red, green and blue,
    each stretched from its 1st to its 99th percentile; a component's largest loading is
    positive, so that the same map has the same colours everywhere.
    """
    return colours_and_share(value)[0]


def colours_and_share(value: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the colours of `pca_colours`, and the share of the variance, 0..1, they carry."""
    check_numbers(value, "the feature map")
    if value.ndim != 3:
        raise FslabError(
            f"a feature map is {value.dtype} {list(value.shape)}; it must be f32 [C, h, w]"
        )
    channels, h, w = value.shape
    scores, strengths = components(value.reshape(channels, -1).T)
    total = float((strengths**2).sum())
    share = float((strengths[:3] ** 2).sum()) / total if total > 0 else 1.0
    return as_colours(scores).reshape(h, w, 3), share


def components(cells: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return f64 [N, 3], cells along their first three principal components, and all strengths.

    A component's largest loading is positive; components that there are not are zero.
    """
    cells = cells.astype(np.float64)
    cells = cells - cells.mean(0)
    left, strengths, loadings = np.linalg.svd(cells, full_matrices=False)
    count = min(3, len(strengths))
    largest = np.abs(loadings[:count]).argmax(1)
    signs = np.where(loadings[np.arange(count), largest] < 0, -1.0, 1.0)
    scores = np.zeros((len(cells), 3))
    scores[:, :count] = left[:, :count] * strengths[:count] * signs
    return scores, strengths


def name_of(label: int, names: Sequence[str]) -> str:
    """Name a label; one beyond the names is called by its number."""
    if label < len(names):
        return names[label]
    return "void" if label in (VOID, WIDE_VOID) else f"class {label}"


def check_size(picture: Picture, size: tuple[int, ...], kind: str) -> None:
    """Refuse a stage whose height and width are not the picture's."""
    if tuple(size) != picture.size:
        raise FslabError(
            f"{picture.name} is {picture.size[0]} x {picture.size[1]} pixels (height x width), "
            f"its {kind} {' x '.join(map(str, size))}; both belong to one picture"
        )


def data_uri(pixels: np.ndarray, kind: str = "PNG") -> str:
    """Encode u8 [H, W, 3] or [H, W, 4] as a data: address; "JPEG" where pixels are a photo's."""
    encoded = BytesIO()
    options = {"quality": 88, "subsampling": 0} if kind == "JPEG" else {"optimize": True}
    Image.fromarray(pixels).save(encoded, kind, **options)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(encoded.getvalue()).decode()}"


def _named(labels: LabelMap | np.ndarray, names: Sequence[str]) -> tuple[np.ndarray, Sequence[str]]:
    """Return labels u8 or u16 [H, W] and their names; FslabError for what holds none."""
    if isinstance(labels, LabelMap):
        return labels.labels, labels.names
    types = (np.uint8, np.uint16)
    if not isinstance(labels, np.ndarray) or labels.dtype not in types or labels.ndim != 2:
        kind = getattr(labels, "dtype", type(labels).__name__)
        raise FslabError(
            f"labels are {kind} {list(np.shape(labels))}; they must be uint8 or uint16 [H, W]"
        )
    return labels, names


def _enlargement(size: tuple[int, int]) -> int:
    return max(1, min(-(-READABLE // min(size)), 5 * READABLE // max(size)))


def _tinted(
    picture: Picture, labels: np.ndarray, palette: np.ndarray, strength: np.ndarray
) -> np.ndarray:
    """Lay each label's colour over the enlarged picture, f64 [H, W] strong, and outline masks."""
    times = _enlargement(picture.size)
    height, width = picture.size
    image = Image.fromarray(picture.pixels).resize(
        (width * times, height * times), Image.Resampling.BICUBIC
    )
    labels = _repeated(labels, times)
    strong = _repeated(strength, times)[..., None]
    mixed: NDArray[np.float64] = np.asarray(image) * (1 - strong) + palette[labels] * strong
    rim = _edges(labels, max(2, min(labels.shape) // 160))
    mixed[rim] = 0.15 * mixed[rim] + 0.85 * 255
    return np.rint(mixed).astype(np.uint8)


def _repeated(values: np.ndarray, times: int) -> np.ndarray:
    return values.repeat(times, 0).repeat(times, 1)


def _edges(labels: np.ndarray, thickness: int) -> np.ndarray:
    """Return bool [H, W]: pixels within `thickness` of another label above or to the left."""
    found = np.zeros(labels.shape, bool)
    for step in range(1, thickness + 1):
        found[step:] |= labels[step:] != labels[:-step]
        found[:, step:] |= labels[:, step:] != labels[:, :-step]
    return found


def _written(
    drawn: np.ndarray,
    labels: np.ndarray,
    present: Sequence[int],
    words: Sequence[str],
    palette: np.ndarray,
) -> np.ndarray:
    """Write one word a label in a box of the label's colour, deep inside its mask."""
    image = Image.fromarray(drawn)
    draw = ImageDraw.Draw(image)
    times = drawn.shape[0] // labels.shape[0]
    letters = max(24, min(drawn.shape[:2]) // 16)
    found = [font_for(word, letters) for word in words]
    fonts = [font for font, _ in found]
    words = [
        str(label) if lacking else word
        for label, word, (_, lacking) in zip(present, words, found, strict=True)
    ]
    warn_of([lacking for _, lacking in found])
    widths = [draw.textlength(word, font=font) for word, font in zip(words, fonts, strict=True)]
    centres = [tuple(times * (at + 0.5) for at in middle(labels == label)) for label in present]
    sizes = [(letters * 1.3, width + letters * 0.6) for width in widths]
    boxes = spread(centres, sizes, drawn.shape[:2])
    placed = zip(present, words, fonts, boxes, strict=True)
    for label, word, font, (top, left, bottom, right) in placed:
        draw.rounded_rectangle(
            (left, top, right, bottom), letters // 4, tuple(map(int, palette[label])), "white"
        )
        ink = "black" if is_light(palette[label]) else "white"
        draw.text(((left + right) / 2, (top + bottom) / 2), word, ink, font, anchor="mm")
    return np.asarray(image)
