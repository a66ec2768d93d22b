"""What all records share: the refusal, the void label, VOC's colours, digests."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np

VOID = 255
"""The label of pixels that no score counts: VOC's boundaries, COCO's crowds."""


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


class FslabError(ValueError):
    """A refusal: the message says what was given, what was expected and what to do."""


class OutOfMemory(FslabError):
    """One picture for which memory ran out."""


def _plain(value: Any) -> Any:
    """Return what JSON knows for what it does not: numpy numbers and other sequences."""
    return value.item() if isinstance(value, np.generic) else list(value)


def digest_of(value: Any) -> str:
    """Return 32 hexadecimal digits that name a JSON-able value, whatever its key order."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=_plain)
    return hashlib.sha256(text.encode()).hexdigest()[:32]
