"""Texts that a text encoder reads to their ends, or not at all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fslab.records import FslabError, check_unicode

_SHOWN = 60
"""So many letters of a text that is too long are shown."""


def check_length(tokenizer: Any, texts: Sequence[str], limit: int, reader: str) -> None:
    """Refuse a text of more tokens than are read, start and end counted: its end would be cut.

    Two such texts would be one, and a long template would leave nothing of any class. Bytes that
    are no text are refused too.
    """
    for text in texts:
        check_unicode(text)
    for text, ids in zip(texts, tokenizer(list(texts), verbose=False).input_ids, strict=True):
        if len(ids) > limit:
            said = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
            raise FslabError(
                f"the text {said!r} has {len(ids)} tokens, and {reader} reads {limit}; shorten it"
            )
