"""What is not as it should be in a data set: counted and named, never dropped in silence."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Oddity:
    """One thing that is odd: its kind, the file or entry that has it, and why, in one sentence."""

    kind: str
    where: str
    why: str


REGION = "region left out"
STRAY = "annotation of no picture"
FIELDS = "fields that disagree"
ENTRY = "entry that cannot be read"
TWICE = "picture listed twice"
PICTURE = "picture refused"
MISSING = "file not there"
LEFT = "file left"
TURN = "EXIF turn"
SAME = "same pixels under two names"
SHARED = "one mask for several pictures"
CLASSES = "no class in the truth"


def by_kind(oddities: Iterable[Oddity]) -> dict[str, list[Oddity]]:
    """Group oddities by kind, in the order in which kinds first come."""
    grouped: dict[str, list[Oddity]] = {}
    for each in oddities:
        grouped.setdefault(each.kind, []).append(each)
    return grouped
