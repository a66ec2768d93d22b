"""Lists of a split as text: any Unicode with its mark, any line ends, one entry a line."""

from __future__ import annotations

import codecs

from fslab.datasets.places import Place
from fslab.datasets.read import SUFFIXES
from fslab.records import FslabError

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
"""Byte order marks; UTF-32's first two bytes are UTF-16's, so it comes first."""


def lines_of(path: Place) -> list[tuple[int, str]]:
    """Return a list's lines that are not blank, stripped, each with its number from 1.

    Bytes that are not UTF-8 stay as they are, as names of files may. Raises FslabError for a list
    without a line, and for anything but text.
    """
    numbered = enumerate(_text(path).splitlines(), 1)
    lines = [(number, line.strip()) for number, line in numbered if line.strip()]
    if not lines:
        raise FslabError(f"{str(path)!r} lists no names")
    return lines


def odd_line(path: Place, number: int, line: str) -> None:
    """Raise FslabError for a line that stands for no file and does not look like a name."""
    columns = line.split()
    at = f"{str(path)!r} line {number} is {line!r}"
    if len(columns) == 2 and columns[1] in ("1", "0", "-1"):
        raise FslabError(
            f"{at}: a list of one class, whose second column says whether it is in the picture; "
            "give a list of names alone"
        )
    pictured = any(each.strip(",;").lower().endswith(tuple(SUFFIXES)) for each in columns)
    if pictured or len(columns) > 1 or any(mark in line for mark in ",;/\\#"):
        raise FslabError(
            f"{at}, and no such picture is there; a line is a name, a picture's file in "
            "JPEGImages, or a picture's path and its mask's below the data set, with a space "
            "between"
        )


def _text(path: Place) -> str:
    data = path.read_bytes()
    code = next((code for mark, code in _MARKS if data.startswith(mark)), None)
    try:
        if code is not None:
            return data.decode(code)
    except UnicodeDecodeError as error:
        raise FslabError(
            f"{str(path)!r} begins like {code} but is not; save it as UTF-8"
        ) from error
    if b"\0" in data:
        raise FslabError(
            f"{str(path)!r} holds zero bytes, so it is not UTF-8, most likely UTF-16 without its "
            "mark; save it as UTF-8"
        )
    return data.decode("utf-8", "surrogateescape")
