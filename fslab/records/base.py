"""What all records share: the void label, VOC's colours, checks, digests."""

from __future__ import annotations

import hashlib
import json
from typing import Any, TypeGuard

import numpy as np

from fslab.errors import FslabError

VOID = 255
"""The label of pixels that no score counts, in maps of u8: VOC's boundaries, COCO's crowds."""

WIDE_VOID = 65535
"""The same in maps of u16, which hold the labels of more than 255 names."""


def void_of(labels: np.ndarray) -> int:
    """Return the label of a map, u8 or u16 [H, W], that no score counts: its type's largest."""
    return VOID if labels.dtype.itemsize == 1 else WIDE_VOID


def label_type(names: int) -> type[np.uint8] | type[np.uint16]:
    """Return the type of a map with so many names, the background among them, beside void."""
    return np.uint8 if names <= VOID else np.uint16


def typed_labels(labels: np.ndarray, names: int) -> np.ndarray:
    """Return labels, u8 or u16 [H, W], in the type of so many names; void stays void."""
    wanted = label_type(names)
    if labels.dtype == wanted:
        return labels
    void = labels == void_of(labels)
    typed = labels.astype(wanted)
    typed[void] = np.iinfo(wanted).max
    return typed


_SAID = 12
"""So many labels stand in a refusal; of more, the first and the last."""


def some_labels(labels: np.ndarray) -> str:
    """Say which labels, ascending; of many, the first and the last."""
    if len(labels) <= _SAID:
        return str(labels.tolist())
    return f"{labels[0]} to {labels[-1]} ({len(labels)} of them)"


def voc_palette() -> np.ndarray:
    """Return the VOC devkit's colours as u8 [256, 3], RGB by label.

    Bit 3i + c of a label becomes bit 7 - i of channel c, as the devkit's VOClabelcolormap has it:
    so neighbouring labels get distant colours, and 255 (void) gets its cream.
    """
    labels = np.arange(256)
    colours = np.zeros((256, 3), np.uint8)
    for level in range(3):
        for channel in range(3):
            bit = (labels >> (3 * level + channel)) & 1
            colours[:, channel] |= (bit << (7 - level)).astype(np.uint8)
    return colours


LARGEST = 1e15
"""The largest size of a feature: squares of such numbers still add up in f32."""


def check_kind(value: Any, kind: type, what: str) -> None:
    """Refuse what is not the record that a stage takes."""
    if not isinstance(value, kind):
        raise FslabError(f"{what} is {described(value)}; give an fslab.{kind.__name__}")


def check_numbers(value: Any, what: str) -> None:
    """Refuse an array that holds NaN, infinity, or numbers whose squares f32 cannot add up."""
    if not is_array(value) or value.dtype.kind not in "iuf" or not value.size:
        raise FslabError(f"{what} is {described(value)}; it must be an array of numbers")
    peak = max(float(value.max()), -float(value.min()))  # which is NaN where there is any
    if not peak < float("inf"):
        raise FslabError(
            f"{what} holds NaN or infinity; a layer in half precision overflows so: take "
            "precision='fp32', or bring your own numbers into range"
        )
    if peak > LARGEST:
        raise FslabError(f"{what} holds {peak:.3g}; numbers are at most {LARGEST:.0e} in size")


def is_array(value: Any) -> TypeGuard[np.ndarray]:
    """Tell numpy arrays all of whose elements count, which those under a mask do not."""
    return isinstance(value, np.ndarray) and not isinstance(value, np.ma.MaskedArray)


def described(value: Any) -> str:
    """Say what something is: an array's type and shape, else its Python type."""
    if is_array(value):
        return f"{value.dtype} {list(value.shape)}"
    return f"{type(value).__module__.partition('.')[0]} {type(value).__name__}".removeprefix(
        "builtins "
    )


def check_unicode(text: str) -> None:
    """Refuse bytes that came as text and are none, which no text encoder takes."""
    if any("\ud800" <= sign <= "\udfff" for sign in text):
        raise FslabError(f"the text {text!r} holds bytes that are not UTF-8; write it in Unicode")


def words_of(given: Any, what: str) -> tuple[str, ...]:
    """Return words as a tuple; FslabError for one string, which is a list of letters, and for
    what is no text."""
    if isinstance(given, (str, bytes)) or not hasattr(given, "__iter__"):
        raise FslabError(f"{what} are {given!r}; give a tuple of words")
    words = tuple(given)
    for word in words:
        if not isinstance(word, str):
            raise FslabError(f"{what} hold {word!r}; each must be a text")
    return words


def _plain(value: Any) -> Any:
    """Return what JSON knows for what it does not: numpy numbers and other sequences."""
    return value.item() if isinstance(value, np.generic) else list(value)


def digest_of(value: Any) -> str:
    """Return 32 hexadecimal digits that name a JSON-able value, whatever its key order."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=_plain)
    return hashlib.sha256(text.encode()).hexdigest()[:32]
