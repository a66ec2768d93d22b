"""A PNG's pixel data as its chunks hold them, checked where Pillow does not."""

from __future__ import annotations

import zlib

from PIL import Image

from fslab.datasets.places import Place
from fslab.records import FslabError

_PASSES = (
    *((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4)),
    *((1, 0, 2, 2), (0, 1, 1, 2)),
)
"""Adam7: each pass with its first column and row and its steps (PNG, section 8.2)."""

_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""Numbers a pixel by colour type: grey, RGB, palette, grey and alpha, RGB and alpha."""

_AT_ONCE = 1 << 20


def check_rows(image: Image.Image, data: bytes, path: Place) -> None:
    """Refuse a PNG whose pixel data end before the last row: Pillow leaves the rest at 0.

    Raises FslabError also where a chunk's checksum is not its content's: Pillow asks for those of
    other chunks only, and a changed bit would be another label.
    """
    depth, passes = data[24] * _CHANNELS[data[25]], _PASSES if data[28] else ((0, 0, 1, 1),)
    sides = [
        (len(range(top, image.height, down)), len(range(left, image.width, across)))
        for left, top, across, down in passes
    ]
    wanted = sum(high * (1 + (wide * depth + 7) // 8) for high, wide in sides if wide)
    try:
        found = _length(_pixel_data(data, path), wanted)
    except zlib.error as error:
        raise FslabError(f"{str(path)!r} is damaged ({error}); get the file again") from error
    if found < wanted:
        raise FslabError(
            f"{str(path)!r} is damaged or cut short (its pixel data end after {found} of "
            f"{wanted} bytes); get the file again"
        )


def _length(packed: bytes, wanted: int) -> int:
    """Return how many bytes a stream holds, up to those that are wanted; none of them is kept."""
    stream, found = zlib.decompressobj(), 0
    while found < wanted and (part := stream.decompress(packed, _AT_ONCE)):
        found, packed = found + len(part), stream.unconsumed_tail
    return found


def _pixel_data(data: bytes, path: Place) -> bytes:
    """Return what the IDAT chunks hold (PNG, section 5.3)."""
    found, start, name = [], 8, b""
    while name != b"IEND" and start + 8 <= len(data):
        end = start + 8 + int.from_bytes(data[start : start + 4])
        name = data[start + 4 : start + 8]
        if name == b"IDAT":
            if zlib.crc32(data[start + 4 : end]) != int.from_bytes(data[end : end + 4]):
                raise FslabError(
                    f"{str(path)!r} is damaged or cut short (its pixel data have another "
                    "checksum); get the file again"
                )
            found.append(data[start + 8 : end])
        start = end + 4
    return b"".join(found)
