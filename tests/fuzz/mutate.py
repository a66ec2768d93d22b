"""Random damage to bytes and to JSON: the same seed and number give the same input."""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Callable, Sequence
from typing import Any

from raw_pictures import SIGNATURE

_NUMBERS = (0, 1, 2, 127, 128, 255, 256, 32767, 32768, 65535, 65536, 2**31 - 1, 2**31, 2**32 - 1)
_VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 1, 2**31, 2**63, 10**40, -0.5, 1e308, float("nan"), float("inf"), "", "x",
    "\ud800", "../../etc/passwd", "a\0b", "7", [], {}, [[]], [None], [[1, 2]], {"counts": []},
    {"size": [1, 1], "counts": "x"}, {"size": [2**40, 2**40], "counts": [0]},
    {"size": [4, 4], "counts": [-1, 17]}, [[1, 2, 3, 4, 5, "6"]], [[float("nan")] * 6],
    [[1e300] * 8], [1, 2, 3, 4], "person",
)  # fmt: skip


def damaged(data: bytes, others: Sequence[bytes], chance: random.Random) -> bytes:
    """Return bytes with one to six kinds of damage; others: files to take pieces from."""
    work = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 3, 6))):
        chance.choice(_DAMAGE)(work, others, chance)
    found = bytes(work)
    return summed_again(found) if found.startswith(SIGNATURE) and chance.random() < 0.7 else found


def summed_again(data: bytes) -> bytes:
    """Return a PNG with its checksums made right, so that damage gets past them."""
    place, parts = len(SIGNATURE), [SIGNATURE]
    while place + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, place)
        body = data[place + 4 : place + 8 + length]
        if len(body) < 4 + length:
            break
        parts += [data[place : place + 4], body, struct.pack(">I", zlib.crc32(body))]
        place += 12 + length
    return b"".join(parts) + data[place:]


def damaged_json(data: Any, chance: random.Random) -> Any:
    """Return a JSON value with one to four of its parts replaced, left out or repeated."""
    for _ in range(chance.choice((1, 1, 2, 4))):
        data = _damaged_json(data, chance)
    return data


def _damaged_json(data: Any, chance: random.Random) -> Any:
    inside = (
        list(data) if isinstance(data, dict) else range(len(data)) if isinstance(data, list) else ()
    )
    if not inside or chance.random() < 0.1:
        return chance.choice(_VALUES)
    key = chance.choice(list(inside))
    copy = data.copy()
    how = chance.random()
    if how < 0.1:
        del copy[key]
    elif how < 0.15 and isinstance(copy, list):
        copy.append(copy[key])
    else:
        copy[key] = _damaged_json(copy[key], chance)
    return copy


def _place(work: bytearray, chance: random.Random, room: int = 1) -> int:
    """Return a place with some room behind it, in the first bytes as often as anywhere."""
    last = max(len(work) - room, 0)
    return chance.randint(0, min(last, 200) if chance.random() < 0.5 else last)


def _flip(work: bytearray, others: Sequence[bytes], chance: random.Random) -> None:
    if work:
        work[_place(work, chance)] ^= 1 << chance.randrange(8)


def _set(work: bytearray, others: Sequence[bytes], chance: random.Random) -> None:
    if work:
        work[_place(work, chance)] = chance.choice((0, 1, 127, 128, 255, chance.randrange(256)))


def _number(work: bytearray, others: Sequence[bytes], chance: random.Random) -> None:
    size, letter = chance.choice(((2, "H"), (4, "I")))
    if len(work) >= size:
        place = _place(work, chance, size)
        number = chance.choice(_NUMBERS) % 256**size
        work[place : place + size] = struct.pack(chance.choice("<>") + letter, number)


def _cut(work: bytearray, others: Sequence[bytes], chance: random.Random) -> None:
    del work[_place(work, chance) :]


def _leave_out(work: bytearray, others: Sequence[bytes], chance: random.Random) -> None:
    place = _place(work, chance)
    del work[place : place + chance.randint(1, 64)]


def _repeat(work: bytearray, others: Sequence[bytes], chance: random.Random) -> None:
    place = _place(work, chance)
    piece = work[place : place + chance.randint(1, 256)]
    work[place:place] = piece * chance.choice((1, 2, 20))


def _insert(work: bytearray, others: Sequence[bytes], chance: random.Random) -> None:
    work[_place(work, chance) : 0] = chance.randbytes(chance.randint(1, 32))


def _splice(work: bytearray, others: Sequence[bytes], chance: random.Random) -> None:
    other = chance.choice(others)
    if other:
        start = chance.randrange(len(other))
        place = _place(work, chance)
        piece = other[start : start + chance.choice((8, 64, 1024, len(other)))]
        work[place : place + len(piece)] = piece


_DAMAGE: tuple[Callable[[bytearray, Sequence[bytes], random.Random], None], ...] = (
    _flip, _flip, _set, _set, _number, _number, _cut, _leave_out, _repeat, _insert, _splice,
)  # fmt: skip
