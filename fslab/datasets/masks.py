"""Index masks as labels, and labels back to PNG."""

from __future__ import annotations

import os
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fslab.datasets.chunks import check_rows
from fslab.datasets.places import Place, Url, place
from fslab.datasets.read import bytes_of, orientation, png, refusing
from fslab.datasets.vocabularies import VOC_CLASSES
from fslab.files import write_or_refuse
from fslab.records import VOID, FslabError, voc_palette

_GREY, _COLOURS, _INDICES = 0, 2, 3
"""PNG's colour types: byte 25 of the file; the depth in bits is byte 24 (PNG, section 11.2.1)."""

_WANTED = "a mask is a PNG of label numbers, as fslab.datasets.write_mask saves it"


def read_mask(path: str | os.PathLike[str] | Url) -> np.ndarray:
    """Read an index mask, u8 [H, W], from a PNG of 8-bit grey or with a palette.

    Of 16-bit grey, which holds the labels of more classes, it is u16. Grey values are the labels. A
    palette's numbers are the labels where it shows them as VOC's palette does, or as greys of the
    same value; void (255) may have any colour. A palette that holds VOC's colours and no others, in
    another order, as `quantize`, pngquant and GIMP write it, is read by its colours. Any other
    palette is refused: whether its numbers or its colours are the labels cannot be known. So is
    grey of 1, 2 or 4 bits, which decoders stretch.

    Raises FslabError, naming the file: missing, no PNG, damaged, animated, with an EXIF turn,
    colours instead of labels, or a palette of unknown meaning.
    """
    path = place(path)
    data = bytes_of(path)
    with refusing(path, _WANTED):
        image = Image.open(BytesIO(data), formats=("PNG",))
        image.load()
    depth, kind = data[24], data[25]
    _check_plain(image, path)
    check_rows(image, data, path)
    if kind == _INDICES:
        return _by_palette(image, path)
    if kind == _GREY and depth == 8:
        return np.array(image)
    if kind == _GREY and depth == 16:
        return np.array(image).astype(np.uint16)
    raise FslabError(f"{str(path)!r} is not an index mask: {_what_instead(image, depth, kind)}")


def write_mask(labels: np.ndarray, path: str | os.PathLike[str]) -> None:
    """Write labels as a PNG: u8 [H, W] with VOC's palette, u16 as 16-bit grey.

    It is written aside first, so never half of it.
    """
    path = Path(path)
    types = (np.uint8, np.uint16, np.dtype(">u2"))
    if not isinstance(labels, np.ndarray) or labels.dtype not in types or labels.ndim != 2:
        kind = getattr(labels, "dtype", type(labels).__name__)
        shape = list(getattr(labels, "shape", ()))
        raise FslabError(
            f"{str(path)!r}: labels are {kind} {shape}; a mask holds uint8 or uint16 [H, W]"
        )
    if not labels.size:
        raise FslabError(f"{str(path)!r}: labels are {list(labels.shape)}; a mask holds pixels")
    if labels.dtype != np.uint8:
        write_or_refuse(path, png(Image.fromarray(np.ascontiguousarray(labels, "<u2"))))
        return
    image = Image.frombytes("P", labels.shape[::-1], np.ascontiguousarray(labels).tobytes())
    image.putpalette(voc_palette().tobytes())
    write_or_refuse(path, png(image))


def _check_plain(image: Image.Image, path: Place) -> None:
    """Refuse a mask of several frames, and one that says it is to be shown turned."""
    if (frames := getattr(image, "n_frames", 1)) > 1:
        raise FslabError(
            f"{str(path)!r} is an animation of {frames} frames; save the one that holds "
            "the labels as a plain PNG"
        )
    if (turn := orientation(image)) != 1:
        raise FslabError(
            f"{str(path)!r} carries an EXIF turn (orientation {turn}), and whether its labels were "
            "drawn before or after the turn is not said; save it without the EXIF entry, upright "
            "like its picture"
        )


def _by_palette(image: Image.Image, path: Place) -> np.ndarray:
    """Return the labels of a palette mask, u8 [H, W], where numbers or colours tell them surely."""
    numbers: NDArray[np.uint8] = np.array(image)
    present = np.flatnonzero(np.bincount(numbers.ravel(), minlength=VOID + 1)).tolist()
    colours = [tuple(each) for each in np.reshape(image.getpalette("RGB") or [], (-1, 3)).tolist()]
    if _numbers_are_shown(present, colours):
        return numbers
    labels = _labels_of(colours)
    shown = {colours[number] for number in present if number < len(colours)}
    if labels is None or len(shown) < len(present) or _clear(image, present):
        raise FslabError(
            f"{str(path)!r} has a palette that is neither VOC's, nor VOC's colours in another "
            "order, nor greys of the labels' numbers, so which of its numbers and colours are "
            "the labels cannot be known; save the labels as 8-bit grey, or with "
            "fslab.datasets.write_mask"
        )
    return labels[numbers]


def _numbers_are_shown(present: list[int], colours: list[tuple[int, ...]]) -> bool:
    """Tell whether every number in use has VOC's colour for it, or the grey of its value.

    Void may be shown in any colour but that of a class, or have none, where there is another
    number to judge by.
    """
    known = voc_palette().tolist()
    shown = {number: colours[number] for number in present if number < len(colours)}
    others = [number for number in present if number != VOID]
    classes = {tuple(known[label]) for label in range(1, len(VOC_CLASSES))}
    if VOID in present and (not others or shown.get(VOID) in classes):
        others = present
    return any(
        all(shown.get(number) == tuple(table[number]) for number in others)
        for table in (known, [[value] * 3 for value in range(VOID + 1)])
    )


def _labels_of(colours: list[tuple[int, ...]]) -> np.ndarray | None:
    """Return each palette entry's label, u8 [256]; None where a colour is not one of VOC's.

    Entries out of use count too: a palette that was made of a VOC mask has no other colours,
    and one that has was made for something else. That each number in use has a colour of its own
    is for the caller to see to.
    """
    palette = voc_palette().tolist()
    known = {tuple(palette[label]): label for label in (*range(len(VOC_CLASSES)), VOID)}
    if not known.keys() >= set(colours):
        return None
    labels = np.zeros(VOID + 1, np.uint8)
    labels[: len(colours)] = [known[colour] for colour in colours]
    return labels


def _clear(image: Image.Image, present: list[int]) -> bool:
    """Tell whether a palette's number in use is transparent, so that its colour says nothing."""
    given = image.info.get("transparency", b"")
    if isinstance(given, int):
        return given in present
    return any(number < len(given) and given[number] < VOID for number in present)


def _what_instead(image: Image.Image, depth: int, kind: int) -> str:
    """Say what a PNG holds where an index mask is wanted, and how to make one of it."""
    if kind == _GREY:
        return f"it is {depth}-bit grey; save its labels as 8-bit or 16-bit grey or with a palette"
    if kind == _COLOURS:
        palette = voc_palette()
        known = {tuple(palette[label].tolist()) for label in (*range(len(VOC_CLASSES)), VOID)}
        used = image.convert("RGB").getcolors(len(known))  # None for more, without counting on
        if used is not None and known.issuperset(colour for _, colour in used):
            return (
                "it holds VOC's colours as RGB; replace each colour by its row in "
                "fslab.datasets.voc_palette() and save that with fslab.datasets.write_mask"
            )
    return (
        f"it holds colours (mode {image.mode}); save label numbers with a palette or as 8-bit grey"
    )
