"""Awkward pictures, made here, each with the pixels that must come out or why it is refused.

`python tests/hard_pictures.py` lays them out, reads them all and says how many were read right
and how many were refused; `--each` says it of every file.
"""

from __future__ import annotations

import argparse
import json
import os
import struct
import tempfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image
from raw_pictures import (
    GREY,
    GREY_ALPHA,
    INDICES,
    RGB,
    RGBA,
    SIGNATURE,
    bmp,
    bmp_rows,
    chunk,
    exif,
    gif,
    gif_frame,
    png,
    png_header,
    png_of,
    tiff,
)  # fmt: skip

from fslab.datasets import read
from fslab.records import FslabError

ODD_NAMES = (
    'it\'s a "quoted" one.png',
    "two\nlines.png",
    "<img src=x onerror=alert(1)>.png",
    "-rf.png",
    "spaces  and\ttabs .png",
    "ÄÖ 図 🐕.png",
    "%s%n{0}.png",
    "n" * 251 + ".png",
    os.fsdecode(b"latin-\xe9\xff.png"),
)


@dataclass(frozen=True)
class Hard:
    """One file. wanted: u8 [H, W, 3], None where it is refused for a reason with `words` in it.

    off: how far a value may lie from the wanted one, where the format loses something.
    """

    name: str
    data: bytes = b""
    wanted: np.ndarray | None = None
    words: str = ""
    off: int = 0
    kind: Literal["file", "folder", "link", "pipe"] = "file"


def corpus() -> list[Hard]:
    """Return every file of the corpus, each under a name of its own."""
    makers = (
        _png, _png_broken, _jpeg, _jpeg_broken, _gif, _webp, _tiff, _tiff_broken, _bmp, _ppm,
        _no_pictures, _names,
    )  # fmt: skip
    found = [hard for maker in makers for hard in maker()]
    assert len({hard.name for hard in found}) == len(found)
    return found


def lay_out(folder: Path, files: list[Hard]) -> list[Path]:
    """Write the files into a folder and return their paths, in order."""
    paths = []
    for hard in files:
        path = folder / hard.name
        if hard.kind == "folder":
            path.mkdir()
        elif hard.kind == "link":
            path.symlink_to(hard.data.decode())
        elif hard.kind == "pipe":
            os.mkfifo(path)
        else:
            path.write_bytes(hard.data)
        paths.append(path)
    return paths


def outcome(hard: Hard, path: Path) -> Literal["read", "refused"]:
    """Read a file; AssertionError where the pixels or the refusal are not what they must be."""
    try:
        pixels = read(path).pixels
    except FslabError as error:
        message = str(error)
        assert hard.wanted is None, f"{hard.name!r} was refused: {message}"
        assert repr(str(path)) in message, message
        assert hard.words in message, message
        assert "\n" not in message, message
        return "refused"
    assert hard.wanted is not None, f"{hard.name!r} was read as {pixels.shape}"
    assert pixels.dtype == np.uint8, hard.name
    assert pixels.shape == hard.wanted.shape, (hard.name, pixels.shape, hard.wanted.shape)
    off = np.abs(pixels.astype(int) - hard.wanted).max()
    assert off <= hard.off, f"{hard.name!r} is off by {off}"
    return "read"


def _colours(height: int = 24, width: int = 40) -> np.ndarray:
    """Return smooth colours that differ in every direction: u8 [H, W, 3]."""
    rows, columns = np.mgrid[:height, :width]
    channels = (
        rows * 255 // max(height - 1, 1),
        columns * 255 // max(width - 1, 1),
        60 + rows + columns,
    )
    return np.stack(channels, axis=-1).clip(0, 255).astype(np.uint8)


def _grey_rgb(grey: np.ndarray) -> np.ndarray:
    return np.repeat(np.rint(grey).astype(np.uint8)[..., None], 3, axis=2)


def _over_white(colours: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Return colours u8 [H, W, 3] with alpha u8 [H, W] over white."""
    share = alpha[..., None] / 255
    return np.rint(colours * share + 255 * (1 - share)).astype(np.uint8)


def _saved(pixels: np.ndarray, kind: str, **settings: object) -> bytes:
    file = BytesIO()
    Image.fromarray(pixels).save(file, kind, **settings)
    return file.getvalue()


def _flipped(data: bytes, place: int, bits: int = 0xFF) -> bytes:
    return data[:place] + bytes([data[place] ^ bits]) + data[place + 1 :]


def _png() -> Iterator[Hard]:
    colours, ramp = _colours(), np.tile(np.arange(16, dtype=np.uint8), (5, 1))
    for depth in (1, 2, 4):
        grey = ramp % 2**depth
        wanted = _grey_rgb(grey * (255 / (2**depth - 1)))
        yield Hard(f"grey-{depth}-bit.png", png(grey, depth, GREY), wanted)
    yield Hard("grey.png", png(colours[..., 0], kind=GREY), _grey_rgb(colours[..., 0]))
    deep = np.arange(0, 65536, 97, dtype=np.uint16).reshape(26, 26)
    yield Hard("grey-16-bit.png", png(deep, 16, GREY), _grey_rgb(deep / 257))
    yield Hard("colours.png", png(colours), colours)
    deep = colours.astype(np.uint16) * 257
    yield Hard("colours-16-bit.png", png(deep, 16, RGB), colours)
    yield Hard("interlaced.png", png(colours, interlaced=True), colours)
    yield Hard("in-9-parts.png", png(colours, parts=9), colours)
    yield Hard("one-pixel.png", png(colours[:1, :1]), colours[:1, :1])
    yield Hard("1-x-5000.png", png(_colours(1, 5000)), _colours(1, 5000))
    yield Hard("5000-x-1.png", png(_colours(5000, 1)), _colours(5000, 1))
    yield from _png_see_through(colours, ramp)
    unknown = chunk(b"quIz", b"what is this")
    yield Hard("unknown-part.png", png(colours, before=[unknown]), colours)
    yield Hard("more-after-the-end.png", png(colours) + b"<html>" * 99, colours)
    yield Hard("without-end.png", png(colours)[:-12], colours)
    yield Hard("profile-is-junk.png", png(colours, before=[chunk(b"iCCP", b"x\0\0junk")]), colours)
    turned = png(np.ascontiguousarray(np.rot90(colours)), before=[chunk(b"eXIf", exif(6))])
    yield Hard("turned-6.png", turned, colours)
    turned = png(np.ascontiguousarray(np.rot90(colours)), after=[chunk(b"eXIf", exif(6))])
    yield Hard("turned-6-said-late.png", turned, colours)
    yield Hard("turned-9.png", png(colours, before=[chunk(b"eXIf", exif(9))]), colours)
    frames = [Image.fromarray(each) for each in (colours, 255 - colours)]
    file = BytesIO()
    frames[0].save(file, "PNG", save_all=True, append_images=frames[1:])
    yield Hard("moves.png", file.getvalue(), colours)
    yield Hard("named-jpeg.jpg", png(colours), colours)
    yield Hard("named-nothing", png(colours), colours)


def _png_see_through(colours: np.ndarray, ramp: np.ndarray) -> Iterator[Hard]:
    palette = np.array([(255, 0, 0), (0, 255, 0), (0, 0, 255), (9, 9, 9)], np.uint8)
    table = chunk(b"PLTE", palette.tobytes())
    for depth in (2, 4, 8):
        data = png(ramp % 4, depth, INDICES, before=[table])
        yield Hard(f"palette-{depth}-bit.png", data, palette[ramp % 4])
    alpha = np.array([0, 51, 255, 255], np.uint8)
    clear = chunk(b"tRNS", alpha[:2].tobytes())
    wanted = _over_white(palette[ramp % 4], alpha[ramp % 4])
    data = png(ramp % 4, 2, INDICES, before=[table, clear])
    yield Hard("palette-see-through.png", data, wanted)
    key = chunk(b"tRNS", struct.pack(">HHH", *colours[3, 3]))
    wanted = np.where((colours == colours[3, 3]).all(-1, keepdims=True), np.uint8(255), colours)
    yield Hard("one-colour-clear.png", png(colours, before=[key]), wanted)
    grey = colours[..., 0]
    key = chunk(b"tRNS", struct.pack(">H", grey[2, 2]))
    wanted = _grey_rgb(np.where(grey == grey[2, 2], 255, grey))
    yield Hard("one-grey-clear.png", png(grey, kind=GREY, before=[key]), wanted)
    deep = np.array([[0, 500, 65535], [257, 500, 32896]], np.uint16)
    key = chunk(b"tRNS", struct.pack(">H", 500))
    wanted = _grey_rgb(np.where(deep == 500, 255, deep / 257))
    yield Hard("one-deep-grey-clear.png", png(deep, 16, GREY, before=[key]), wanted)
    alpha = np.tile(np.linspace(0, 255, 40).astype(np.uint8), (24, 1))
    wanted = _over_white(colours, alpha)
    both = np.dstack([colours, alpha])
    yield Hard("see-through.png", png(both, kind=RGBA), wanted, off=1)
    deep = both.astype(np.uint16) * 257
    yield Hard("see-through-16-bit.png", png(deep, 16, RGBA), wanted, off=1)
    wanted = _over_white(_grey_rgb(grey), alpha)
    yield Hard(
        "grey-see-through.png", png(np.dstack([grey, alpha]), kind=GREY_ALPHA), wanted, off=1
    )


def _png_broken() -> Iterator[Hard]:
    whole = png(_colours())
    start = whole.index(b"IDAT")
    yield Hard("cut-in-half.png", whole[: len(whole) // 2], words="cut short")
    yield Hard("cut-in-the-header.png", whole[:20], words="")
    yield Hard("signature-alone.png", SIGNATURE, words="")
    yield Hard("header-flipped.png", _flipped(whole, 18), words="")
    yield Hard("data-flipped.png", _flipped(whole, start + 40), words="damaged")
    yield Hard("without-data.png", png_of(png_header(5, 5, 8, RGB)), words="damaged")
    short = chunk(b"IDAT", zlib.compress(b"\0" * 16 * 3))
    yield Hard("no-width.png", png_of(png_header(5, 0, 8, RGB), short), words="")
    yield Hard("depth-3.png", png_of(png_header(5, 5, 3, GREY), short), words="")
    bare = png(np.zeros((4, 4), np.uint8), 8, INDICES)
    yield Hard("palette-missing.png", bare, words="")
    for side in (20_000, 2**31 - 1):
        header = png_of(png_header(side, side, 8, RGB), short)
        yield Hard(f"bomb-{side}.png", header, words="million pixels")
    text = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(80_000_000)))
    yield Hard("bomb-of-text.png", png(_colours(), before=[text]), words="too large")


def _jpeg() -> Iterator[Hard]:
    colours = _colours(33, 47)
    exact = {"quality": 100, "subsampling": 0}
    yield Hard("colours.jpg", _saved(colours, "JPEG", **exact), colours, off=4)
    yield Hard("halved-chroma.jpg", _saved(colours, "JPEG", quality=95), colours, off=24)
    yield Hard(
        "progressive.jpg", _saved(colours, "JPEG", progressive=True, **exact), colours, off=4
    )
    grey = _grey_rgb(colours[..., 0])
    yield Hard("grey.jpg", _saved(colours[..., 0], "JPEG", quality=100), grey, off=2)
    inks = 255 - np.dstack([colours, np.full((33, 47), 255, np.uint8)])  # no black
    file = BytesIO()
    Image.fromarray(inks, "CMYK").save(file, "JPEG", **exact)
    yield Hard("cmyk.jpg", file.getvalue(), colours, off=6)
    for orientation in range(1, 9):
        data = _saved(
            stored_as(colours, orientation), "JPEG", exif=b"Exif\0\0" + exif(orientation), **exact
        )
        yield Hard(f"turned-{orientation}.jpg", data, colours, off=4)
    junk = _saved(colours, "JPEG", exif=b"Exif\0\0junkjunkjunk", **exact)
    yield Hard("exif-is-junk.jpg", junk, colours, off=4)
    whole = _saved(colours, "JPEG", **exact)
    yield Hard("named-png.png", whole, colours, off=4)
    yield Hard("more-after-the-end.jpg", whole + bytes(5000), colours, off=4)
    yield Hard("one-pixel.jpg", _saved(colours[:1, :1], "JPEG", **exact), colours[:1, :1], off=4)
    yield Hard("1-x-5000.jpg", _saved(_colours(1, 5000), "JPEG", **exact), _colours(1, 5000), off=4)
    frames = [Image.fromarray(each) for each in (colours, 255 - colours)]
    file = BytesIO()
    frames[0].save(file, "MPO", save_all=True, append_images=frames[1:], **exact)
    yield Hard("two-pictures.mpo", file.getvalue(), colours, off=4)


def stored_as(upright: np.ndarray, orientation: int) -> np.ndarray:
    """Return the pixels that a file of an EXIF orientation holds for what is seen upright.

    By the table of EXIF 2.3, section 4.6.4.A: where the stored 0th row and 0th column lie.
    """
    swapped = upright.swapaxes(0, 1)
    stored = {
        1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1],
        5: swapped, 6: swapped[::-1], 7: swapped[::-1, ::-1], 8: swapped[:, ::-1],
    }  # fmt: skip
    return np.ascontiguousarray(stored[orientation])


def _jpeg_broken() -> Iterator[Hard]:
    whole = _saved(_colours(64, 64), "JPEG", quality=90)
    frame = whole.index(b"\xff\xc0")
    yield Hard("cut-in-half.jpg", whole[: len(whole) // 2], words="cut short")
    yield Hard("cut-in-the-header.jpg", whole[: frame + 6], words="")
    yield Hard("start-alone.jpg", whole[:4], words="")
    yield Hard("no-tables.jpg", whole.replace(b"\xff\xdb", b"\xff\xee"), words="damaged")
    yield Hard("9-bits.jpg", _flipped(whole, frame + 4, 1), words="")
    yield Hard("no-lines.jpg", whole[: frame + 5] + b"\0\0" + whole[frame + 7 :], words="")
    for side in (20_000, 65_500):
        size = struct.pack(">HH", side, side)
        bomb = whole[: frame + 5] + size + whole[frame + 9 :]
        yield Hard(f"bomb-{side}.jpg", bomb, words="million pixels")
    size = struct.pack(">HH", 13_000, 13_000)
    yield Hard(
        "promises-13000.jpg", whole[: frame + 5] + size + whole[frame + 9 :], words="cut short"
    )


_FOUR = np.array([(255, 0, 0), (0, 255, 0), (0, 0, 255), (9, 9, 9)], np.uint8)


def _gif() -> Iterator[Hard]:
    palette, inks = _FOUR.tobytes(), np.arange(20 * 30).reshape(20, 30) // 7 % 4
    colours = _FOUR[inks]
    whole = gif([gif_frame(inks)], 20, 30, palette)
    yield Hard("plain.gif", whole, colours)
    yield Hard("interlaced.gif", gif([gif_frame(inks, interlaced=True)], 20, 30, palette), colours)
    frames = [gif_frame(inks), gif_frame(3 - inks)]
    yield Hard("moves.gif", gif(frames, 20, 30, palette), colours)
    wanted = np.where((inks == 2)[..., None], np.uint8(255), colours)
    yield Hard("see-through.gif", gif([gif_frame(inks, clear=2)], 20, 30, palette), wanted)
    part = gif([gif_frame(inks[:5, :6], left=3, top=2)], 20, 30, palette)
    wanted = np.full((20, 30, 3), _FOUR[0])
    wanted[2:7, 3:9] = colours[:5, :6]
    yield Hard("frame-in-a-corner.gif", part, wanted)
    yield Hard("cut-in-half.gif", whole[: len(whole) // 2], words="cut short")
    yield Hard("header-alone.gif", whole[:13], words="")
    yield Hard("codes-flipped.gif", whole[:40] + b"\xff" * 60 + whole[100:], words="")
    bomb = gif([gif_frame(inks)], 20_000, 20_000, palette)
    yield Hard("bomb-20000.gif", bomb, words="million pixels")
    bomb = whole.replace(
        struct.pack("<HH", 30, 20) + b"\0\x07", struct.pack("<HH", 65000, 65000) + b"\0\x07"
    )
    yield Hard("bomb-in-a-frame.gif", bomb, words="million pixels")


def _webp() -> Iterator[Hard]:
    colours = _colours(33, 47)
    whole = _saved(colours, "WEBP", lossless=True)
    yield Hard("lossless.webp", whole, colours)
    yield Hard("lossy.webp", _saved(colours, "WEBP", quality=95), colours, off=24)
    alpha = np.tile(np.linspace(0, 255, 47).astype(np.uint8), (33, 1))
    both = _saved(np.dstack([colours, alpha]), "WEBP", lossless=True, exact=True)
    yield Hard("see-through.webp", both, _over_white(colours, alpha), off=1)
    frames = [Image.fromarray(each) for each in (colours, 255 - colours)]
    file = BytesIO()
    frames[0].save(file, "WEBP", save_all=True, append_images=frames[1:], lossless=True)
    yield Hard("moves.webp", file.getvalue(), colours)
    turned = _saved(stored_as(colours, 8), "WEBP", lossless=True, exif=b"Exif\0\0" + exif(8))
    yield Hard("turned-8.webp", turned, colours)
    yield Hard("cut-in-half.webp", whole[: len(whole) // 2], words="")
    yield Hard("header-alone.webp", whole[:16], words="")
    yield Hard("data-flipped.webp", whole[:24] + b"\xff" * 60 + whole[84:], words="")
    side = struct.pack("<I", 16_382)[:3]
    body = b"VP8X" + struct.pack("<II", 10, 0) + side + side + whole[12:]
    bomb = b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body
    yield Hard("bomb-16383.webp", bomb, words="")


def _tiff() -> Iterator[Hard]:
    colours = _colours()
    size, three = colours.shape[:2], (8, 8, 8)
    data = colours.tobytes()
    grey = colours[..., 0]
    yield Hard("colours.tif", tiff(data, *size, three, 2), colours)
    yield Hard("big-endian.tif", tiff(data, *size, three, 2, ">"), colours)
    yield Hard(
        "turned-6.tif",
        tiff(stored_as(colours, 6).tobytes(), 40, 24, three, 2, orientation=6),
        colours,
    )
    yield Hard("white-is-0.tif", tiff((255 - grey).tobytes(), *size, (8,), 0), _grey_rgb(grey))
    deep = np.arange(0, 65536, 97, dtype=np.uint16).reshape(26, 26)
    for order, ending in (("<", "little"), (">", "big")):
        stored = deep.astype(f"{order}u2").tobytes()
        yield Hard(
            f"grey-16-bit-{ending}.tif",
            tiff(stored, 26, 26, (16,), order=order),
            _grey_rgb(deep / 257),
        )
    stored = (colours.astype("<u2") * 257).tobytes()
    yield Hard("colours-16-bit.tif", tiff(stored, *size, (16,) * 3, 2), colours)
    values = np.linspace(-3, 5, 24 * 40, dtype="<f4").reshape(24, 40)
    stretched = _grey_rgb((values.astype(np.float64) + 3) / 8 * 255)
    floats = tiff(values.tobytes(), *size, (32,), sample_format=3)
    yield Hard("floats.tif", floats, stretched, off=1)
    flat = tiff(np.full((2, 2), 7, "<f4").tobytes(), 2, 2, (32,), sample_format=3)
    yield Hard("floats-all-alike.tif", flat, np.zeros((2, 2, 3), np.uint8))
    huge = tiff(np.array([[-3e38, 0, 3e38]], "<f4").tobytes(), 1, 3, (32,), sample_format=3)
    yield Hard("floats-of-any-size.tif", huge, _grey_rgb(np.array([[0, 128, 255]])))
    inks = np.dstack([255 - colours, np.zeros(size, np.uint8)])
    yield Hard("cmyk.tif", tiff(inks.tobytes(), *size, (8,) * 4, 5), colours, off=1)
    planes = tiff(data, *size, three, 2, compression=8, planar=1)
    packed = zlib.compress(data)
    planes = tiff(packed, *size, three, 2, compression=8)
    yield Hard("deflated.tif", planes, colours)
    for how in ("tiff_lzw", "packbits", "tiff_adobe_deflate"):
        yield Hard(f"{how}.tif", _saved(colours, "TIFF", compression=how), colours)
    tiles = np.zeros((32, 48, 3), np.uint8)
    tiles[:24, :40] = colours
    cut = tiles.reshape(2, 16, 3, 16, 3).swapaxes(1, 2).tobytes()
    places = [8 + 768 * number for number in range(6)]
    tiled = tiff(
        cut, *size, three, 2, tile_width=16, tile_height=16, tile_offset=places, tile_bytes=[768] * 6
    )  # fmt: skip
    yield Hard("tiles.tif", _without(tiled, 273, 278, 279), colours)
    table = (_FOUR.astype(np.uint16) * 257).T
    table = np.pad(table, ((0, 0), (0, 252))).ravel().tolist()
    indices = np.arange(24 * 40).reshape(24, 40).astype(np.uint8) % 4
    yield Hard(
        "palette.tif", tiff(indices.tobytes(), *size, (8,), 3, palette=table), _FOUR[indices]
    )
    frames = [Image.fromarray(each) for each in (colours, 255 - colours)]
    file = BytesIO()
    frames[0].save(file, "TIFF", save_all=True, append_images=frames[1:])
    yield Hard("two-pages.tif", file.getvalue(), colours)
    looped = tiff(data, *size, three, 2, following=8 + len(data))
    yield Hard("next-page-is-this-one.tif", looped, colours)


def _without(data: bytes, *tags: int) -> bytes:
    """Return a TIFF whose directory gives other, unknown numbers to some entries."""
    for tag in tags:
        place = (
            data.rindex(struct.pack("<H", tag) + b"\3\0")
            if tag == 278
            else data.rindex(struct.pack("<HH", tag, 4))
        )
        data = data[:place] + struct.pack("<H", 64000 + tag) + data[place + 2 :]
    return data


def _tiff_broken() -> Iterator[Hard]:
    colours = _colours()
    size, three, data = colours.shape[:2], (8, 8, 8), colours.tobytes()
    whole = tiff(data, *size, three, 2)
    yield Hard("cut-in-half.tif", whole[: len(whole) // 2], words="")
    yield Hard("cut-in-the-directory.tif", whole[:-30], words="")
    nan = np.array([[0, np.nan, 1]], "<f4").tobytes()
    yield Hard("not-a-number.tif", tiff(nan, 1, 3, (32,), sample_format=3), words="NaN")
    deep = np.array([[70_000, -1]], "<i4").tobytes()
    yield Hard("32-bit.tif", tiff(deep, 1, 2, (32,), sample_format=2), words="16 bits")
    double = np.zeros((2, 2), "<f8").tobytes()
    yield Hard("64-bit-floats.tif", tiff(double, 2, 2, (64,), sample_format=3), words="")
    yield Hard("lab.tif", tiff(data, *size, three, 8), words="LAB")
    yield Hard("data-beyond-the-end.tif", tiff(data, *size, three, 2, offset=10**9), words="")
    yield Hard(
        "more-data-than-file.tif",
        tiff(data[:100], *size, three, 2, strip_bytes=len(data)),
        words="",
    )
    junk = tiff(b"\xff" * 500, *size, three, 2, compression=8)
    yield Hard("deflated-junk.tif", junk, words="damaged")
    yield Hard("compressed-by-7777.tif", tiff(data, *size, three, 2, compression=7777), words="")
    bomb = tiff(data, 20_000, 20_000, three, 2)
    yield Hard("bomb-20000.tif", bomb, words="million pixels")
    yield Hard(
        "bomb-of-floats.tif",
        tiff(nan, 20_000, 20_000, (32,), sample_format=3),
        words="million pixels",
    )


def _bmp() -> Iterator[Hard]:
    colours = _colours(13, 21)
    rows = bmp_rows(colours)
    whole = bmp(rows, 13, 21)
    yield Hard("colours.bmp", whole, colours)
    downwards = bmp_rows(colours[::-1])
    yield Hard("downwards.bmp", bmp(downwards, -13, 21), colours)
    four = np.dstack([colours, np.zeros((13, 21), np.uint8)])
    yield Hard("32-bit.bmp", bmp(bmp_rows(four), 13, 21, 32), colours)
    palette = b"".join(bytes([*colour[::-1], 0]) for colour in _FOUR.tolist())
    inks = (np.arange(13 * 20).reshape(13, 20) % 4).astype(np.uint8)
    yield Hard("palette.bmp", bmp(inks[::-1].tobytes(), 13, 20, 8, palette), _FOUR[inks])
    runs = b"".join(bytes([20, row % 4]) + b"\0\0" for row in range(13)) + b"\0\1"
    wanted = np.repeat(_FOUR[np.arange(13)[::-1] % 4][:, None], 20, axis=1)
    yield Hard("runs.bmp", bmp(runs, 13, 20, 8, palette, 1), wanted)
    yield Hard("cut-in-half.bmp", whole[: len(whole) // 2], words="cut short")
    yield Hard("header-alone.bmp", whole[:30], words="")
    yield Hard("17-bits.bmp", bmp(rows, 13, 21, 17), words="")
    yield Hard("no-width.bmp", bmp(rows, 13, 0), words="")
    yield Hard("bomb-20000.bmp", bmp(rows, 20_000, 20_000), words="million pixels")


def _ppm() -> Iterator[Hard]:
    colours = _colours(13, 21)
    yield Hard("colours.ppm", b"P6 21 13 255\n" + colours.tobytes(), colours)
    words = " ".join(map(str, colours.ravel())).encode()
    yield Hard("in-words.ppm", b"P3\n# said\n21 13\n255\n" + words, colours)
    deep = np.arange(0, 65536, 97, dtype=">u2").reshape(26, 26)
    yield Hard("grey-16-bit.pgm", b"P5 26 26 65535\n" + deep.tobytes(), _grey_rgb(deep / 257))
    yield Hard("cut-in-half.ppm", b"P6 21 13 255\n" + colours.tobytes()[:400], words="cut short")
    yield Hard("bomb-20000.ppm", b"P6 20000 20000 255\n", words="million pixels")
    yield Hard("largest-is-0.ppm", b"P6 21 13 0\n" + colours.tobytes(), words="")


def _no_pictures() -> Iterator[Hard]:
    yield Hard("empty.png", words="empty")
    yield Hard("text.jpg", b"Dear diary, there is no picture here.", words="not a picture")
    yield Hard("page.png", b"<!doctype html><title>404</title>Not found", words="not a picture")
    yield Hard("drawing.png", b"<svg xmlns='http://www.w3.org/2000/svg'/>", words="not a picture")
    yield Hard("zeros.bmp", bytes(1_000_000), words="not a picture")
    icon = BytesIO()
    Image.new("RGB", (16, 16)).save(icon, "ICO")
    yield Hard("icon.png", icon.getvalue(), words="not a picture")
    script = BytesIO()
    Image.new("RGB", (8, 8)).save(script, "EPS")
    yield Hard("postscript.jpg", script.getvalue(), words="not a picture")
    yield Hard("folder.png", kind="folder", words="folder")
    yield Hard("dangling.png", b"gone.png", kind="link", words="gone.png")
    yield Hard("around-and-around.png", b"around-and-around.png", kind="link", words="")
    yield Hard("endless.png", b"/dev/zero", kind="link", words="not an ordinary file")
    yield Hard("pipe.png", kind="pipe", words="not an ordinary file")
    yield Hard("by-a-link.png", b"colours.png", _colours(), kind="link")


def _names() -> Iterator[Hard]:
    colours = _colours()
    for number, name in enumerate(ODD_NAMES):
        yield Hard(name, png(colours), colours)
        if number in (0, 1, 2, len(ODD_NAMES) - 1):
            yield Hard(f"bad {name}", b"no picture", words="not a picture")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--each", action="store_true", help="say it of every file")
    asked = parser.parse_args()
    files = corpus()
    with tempfile.TemporaryDirectory() as place:
        found = [outcome(*one) for one in zip(files, lay_out(Path(place), files), strict=True)]
    if asked.each:
        for hard, how in zip(files, found, strict=True):
            print(f"{how:8} {json.dumps(hard.name)}")
    print(
        f"{len(files)} awkward files: {found.count('read')} read right, {found.count('refused')} refused"
    )


if __name__ == "__main__":
    main()
