"""Picture files written byte by byte, after the formats' own specifications.

What Pillow reads is compared with what was put in here, so nothing of Pillow is used.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence

import numpy as np

SIGNATURE = b"\x89PNG\r\n\x1a\n"
GREY, RGB, INDICES, GREY_ALPHA, RGBA = 0, 2, 3, 4, 6
"""PNG's colour types (PNG, section 11.2.1)."""

_ADAM7 = (
    (0, 0, 8, 8),
    (0, 4, 8, 8),
    (4, 0, 8, 4),
    (0, 2, 4, 4),
    (2, 0, 4, 2),
    (0, 1, 2, 2),
    (1, 0, 2, 1),
)
"""First row, first column, row step and column step of each pass (PNG, section 8.2)."""


def chunk(name: bytes, data: bytes = b"") -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png_header(height: int, width: int, depth: int, kind: int, interlaced: bool = False) -> bytes:
    return chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, interlaced))


def png_of(*chunks: bytes) -> bytes:
    return SIGNATURE + b"".join(chunks) + chunk(b"IEND")


def png(
    samples: np.ndarray,
    depth: int = 8,
    kind: int = RGB,
    before: Sequence[bytes] = (),
    after: Sequence[bytes] = (),
    interlaced: bool = False,
    parts: int = 1,
) -> bytes:
    """Return a PNG of samples [H, W] or [H, W, C]; before and after: chunks around its data."""
    if interlaced:
        passes = [samples[top::rows, left::columns] for top, left, rows, columns in _ADAM7]
        lines = b"".join(_lines(one, depth) for one in passes if one.size)
    else:
        lines = _lines(samples, depth)
    packed = zlib.compress(lines)
    step = -(-len(packed) // parts)
    data = [chunk(b"IDAT", packed[start : start + step]) for start in range(0, len(packed), step)]
    return png_of(png_header(*samples.shape[:2], depth, kind, interlaced), *before, *data, *after)


def _lines(samples: np.ndarray, depth: int) -> bytes:
    flat = samples.reshape(len(samples), -1)
    if depth == 16:
        return b"".join(b"\0" + row.astype(">u2").tobytes() for row in flat)
    bits = (flat[..., None] >> np.arange(depth - 1, -1, -1)) & 1
    packed = np.packbits(bits.reshape(len(flat), -1).astype(np.uint8), axis=1)
    return b"".join(b"\0" + row.tobytes() for row in packed)


def exif(orientation: int) -> bytes:
    """Return a TIFF block that holds one entry, the orientation, as EXIF carries it."""
    return b"II*\0" + struct.pack("<IHHHIHHI", 8, 1, 0x0112, 3, 1, orientation, 0, 0)


def tiff(
    data: bytes,
    height: int,
    width: int,
    bits: Sequence[int] = (8,),
    photometric: int = 1,
    order: str = "<",
    following: int = 0,
    **others: int | Sequence[int],
) -> bytes:
    """Return a TIFF of one strip; others: entries by name, over those that are made here.

    following: where the next directory is said to lie.
    """
    entries = {
        256: width, 257: height, 258: tuple(bits), 259: 1, 262: photometric, 273: 8,
        277: len(bits), 278: height, 279: len(data),
    } | {_ENTRIES[name]: value for name, value in others.items()}  # fmt: skip
    start = 8 + len(data) + len(data) % 2
    place, beyond, listed = start + 2 + 12 * len(entries) + 4, b"", b""
    for tag, value in sorted(entries.items()):
        values = (value,) if isinstance(value, int) else tuple(value)
        kind, code = ("I", 4) if max(values) > 65535 or tag in (273, 279, 324, 325) else ("H", 3)
        packed = struct.pack(f"{order}{len(values)}{kind}", *values)
        if len(packed) > 4:
            beyond, packed = beyond + packed, struct.pack(f"{order}I", place + len(beyond))
        listed += struct.pack(f"{order}HHI", tag, code, len(values)) + packed.ljust(4, b"\0")
    magic = b"II" if order == "<" else b"MM"
    head = magic + struct.pack(f"{order}HI", 42, start) + data + b"\0" * (len(data) % 2)
    directory = struct.pack(f"{order}H", len(entries)) + listed
    return head + directory + struct.pack(f"{order}I", following) + beyond


_ENTRIES = {
    "compression": 259, "offset": 273, "orientation": 274, "planar": 284, "palette": 320,
    "tile_width": 322, "tile_height": 323, "tile_offset": 324, "tile_bytes": 325, "extra": 338,
    "sample_format": 339, "strip_bytes": 279, "predictor": 317, "width": 256,
}  # fmt: skip


def bmp(
    data: bytes,
    height: int,
    width: int,
    bits: int = 24,
    palette: bytes = b"",
    compression: int = 0,
) -> bytes:
    """Return a BMP with a header of 40 bytes; a negative height says that rows run downwards."""
    start = 54 + len(palette)
    colours = len(palette) // 4 if bits <= 8 else 0
    head = struct.pack("<2sIHHI", b"BM", start + len(data), 0, 0, start)
    size = (40, width, height, 1, bits, compression, len(data), 2835, 2835, colours, 0)
    return head + struct.pack("<IiiHHIIiiII", *size) + palette + data


def bmp_rows(pixels: np.ndarray) -> bytes:
    """Return u8 [H, W, C] as rows from the bottom, blue first, each filled up to four bytes."""
    rows = [row[:, [2, 1, 0, 3][: row.shape[1]]].tobytes() for row in pixels[::-1]]
    return b"".join(row + b"\0" * (-len(row) % 4) for row in rows)


def gif(frames: Sequence[bytes], height: int, width: int, palette: bytes) -> bytes:
    """Return a GIF89a of frames that `gif_frame` made; the palette holds 2, 4, 8... colours."""
    depth = (len(palette) // 3).bit_length() - 2
    head = b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80 | depth, 0, 0)
    return head + palette + b"".join(frames) + b";"


def gif_frame(
    indices: np.ndarray,
    left: int = 0,
    top: int = 0,
    clear: int | None = None,
    interlaced: bool = False,
) -> bytes:
    """Return one frame of indices below 128, its codes never packed: a reset before each run."""
    height, width = indices.shape
    if interlaced:
        order = [
            *range(0, height, 8),
            *range(4, height, 8),
            *range(2, height, 4),
            *range(1, height, 2),
        ]
        indices = indices[order]
    control = b"" if clear is None else b"!\xf9\x04" + struct.pack("<BHBB", 1, 0, clear, 0)
    codes = bytearray()
    for number, value in enumerate(indices.ravel().tolist()):
        if number % 100 == 0:
            codes.append(128)  # start anew, before codes would need nine bits
        codes.append(value)
    codes.append(129)
    blocks = [bytes(codes[start : start + 255]) for start in range(0, len(codes), 255)]
    data = b"".join(bytes([len(block)]) + block for block in blocks) + b"\0"
    head = b"," + struct.pack("<HHHHB", left, top, width, height, 0x40 * interlaced)
    return control + head + b"\x07" + data
