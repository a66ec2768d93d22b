"""Masks as people's tools write them: read for sure, or refused with the file and the reason."""

from __future__ import annotations

import contextlib
import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image
from raw_pictures import GREY, SIGNATURE, chunk

from fslab.datasets import Sample, read, read_mask, voc_palette, write_mask
from fslab.records import VOID, FslabError

PALETTE = voc_palette()
LABELS = np.zeros((40, 48), np.uint8)
LABELS[5:20, 5:20] = 15
LABELS[22:35, 22:35] = 7
LABELS[34:36, 22:35] = VOID


def coloured(labels=LABELS):
    return Image.fromarray(PALETTE[labels])


def indexed(numbers, colours):
    """A palette image of numbers, u8 [H, W], and colours [N, 3]."""
    image = Image.frombytes("P", numbers.shape[::-1], np.ascontiguousarray(numbers).tobytes())
    image.putpalette(np.asarray(colours, np.uint8).tobytes())
    return image


def by_order(order, spare=0):
    """LABELS under numbers of their place in `order`, whose colours are the palette."""
    numbers = np.searchsorted(np.sort(order), LABELS)
    numbers = np.argsort(order).astype(np.uint8)[numbers]
    colours = np.concatenate([PALETTE[list(order)], np.zeros((spare, 3), np.uint8)])
    return indexed(numbers, colours)


REORDERED = {
    "quantize": lambda: coloured().quantize(256),
    "median cut": lambda: coloured().quantize(16, Image.Quantize.MEDIANCUT),
    "adaptive": lambda: coloured().convert("P", palette=Image.Palette.ADAPTIVE, colors=8),
    "by frequency": lambda: by_order([0, 15, 7, VOID]),
    "backwards": lambda: by_order([VOID, 15, 7, 0]),
    "by luminance, padded with black": lambda: by_order([15, 7, VOID, 0], spare=12),
    "all classes, one changed place": lambda: by_order([1, 0, *range(2, 21), VOID]),
}


@pytest.mark.parametrize("how", REORDERED)
def test_voc_s_colours_in_another_order_are_read_by_their_colours(tmp_path, how):
    image = REORDERED[how]()
    image.save(tmp_path / "m.png")
    with Image.open(tmp_path / "m.png") as saved:  # the colours alone say the labels, and all do
        assert (np.array(saved.convert("RGB")) == PALETTE[LABELS]).all()
        assert (np.array(saved) != LABELS).any()
    assert (read_mask(tmp_path / "m.png") == LABELS).all()


AS_NUMBERED = {
    "VOC's palette": lambda: indexed(LABELS, PALETTE),
    "VOC's colours of 21 classes, void white": lambda: indexed(
        LABELS, np.concatenate([PALETTE[:21], np.full((235, 3), 255)])
    ),
    "VOC's palette cut after the classes": lambda: indexed(LABELS, PALETTE[:21]),
    "grey ramp": lambda: Image.fromarray(LABELS).convert("P"),
    "8-bit grey": lambda: Image.fromarray(LABELS),
}


@pytest.mark.parametrize("how", AS_NUMBERED)
def test_numbers_that_the_palette_confirms_are_the_labels(tmp_path, how):
    AS_NUMBERED[how]().save(tmp_path / "m.png")
    assert (read_mask(tmp_path / "m.png") == LABELS).all()


def test_a_transparent_background_does_not_change_numbers_that_are_confirmed(tmp_path):
    indexed(LABELS, PALETTE).save(tmp_path / "m.png", transparency=0)
    assert (read_mask(tmp_path / "m.png") == LABELS).all()


VGA = [
    *([0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0], [0, 0, 128], [128, 0, 128]),
    *([0, 128, 128], [192, 192, 192], [128, 128, 128], [255, 0, 0], [0, 255, 0], [255, 255, 0]),
    *([0, 0, 255], [255, 0, 255], [0, 255, 255], [255, 255, 255]),
]
SMALL = np.array([[0, 0], [8, 1]], np.uint8)
UNKNOWN = {
    "the sixteen colours of Windows, some of them VOC's": lambda: indexed(SMALL, VGA),
    "VOC's palette as BGR": lambda: indexed(LABELS, PALETTE[:, ::-1]),
    "random": lambda: indexed(LABELS, np.random.default_rng(0).integers(0, 256, (256, 3))),
    "greys in another order": lambda: Image.fromarray(LABELS).quantize(8),
    "greys spread for the eye": lambda: indexed(SMALL, [[25 * n] * 3 for n in range(10)]),
    "colours of the web": lambda: coloured().convert("P"),
    "all black": lambda: indexed(SMALL, np.zeros((256, 3))),
    "void in the colour of a class": lambda: indexed(
        np.where(LABELS == 15, VOID, 0).astype(np.uint8),
        np.concatenate([PALETTE[:255], PALETTE[15:16]]),
    ),
}


@pytest.mark.parametrize("how", UNKNOWN)
def test_a_palette_of_unknown_meaning_is_refused(tmp_path, how):
    UNKNOWN[how]().save(tmp_path / "m.png")
    with pytest.raises(FslabError, match=r"m\.png' has a palette that is neither VOC's"):
        read_mask(tmp_path / "m.png")


def test_colours_under_transparency_say_nothing(tmp_path):
    by_order([15, 0, 7, VOID]).save(tmp_path / "m.png", transparency=0)
    with pytest.raises(FslabError, match="palette"):
        read_mask(tmp_path / "m.png")


def turned(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


@pytest.mark.parametrize("orientation", [2, 3, 6, 8])
def test_a_mask_that_says_it_is_turned_is_refused(tmp_path, orientation):
    indexed(LABELS, PALETTE).save(tmp_path / "m.png", exif=turned(orientation))
    with pytest.raises(FslabError, match=rf"m\.png' carries an EXIF turn .*{orientation}"):
        read_mask(tmp_path / "m.png")
    indexed(LABELS, PALETTE).save(tmp_path / "m.png", exif=turned(1))
    assert (read_mask(tmp_path / "m.png") == LABELS).all()


def test_an_animated_mask_is_refused(tmp_path):
    frames = [Image.fromarray(LABELS), Image.fromarray(LABELS[::-1])]
    frames[0].save(tmp_path / "m.png", save_all=True, append_images=frames[1:])
    with pytest.raises(FslabError, match=r"m\.png' is an animation of 2 frames"):
        read_mask(tmp_path / "m.png")


def turned_sample(folder, ending, orientation, size):
    path = folder / f"p.{ending}"
    Image.new("RGB", size, "red").save(path, exif=turned(orientation))
    write_mask(np.zeros(size[::-1], np.uint8), folder / "m.png")
    return Sample("p", path, folder / "m.png", 21)


@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_a_truth_of_the_unturned_picture_is_refused_by_the_name_of_exif(
    tmp_path, ending, orientation
):
    sample = turned_sample(tmp_path, ending, orientation, (48, 32))
    words = rf"m\.png' is 32 x 48 .*'p\.{ending}' is 48 x 32, because .*EXIF.*{orientation}"
    with pytest.raises(FslabError, match=words):
        sample.truth()


@pytest.mark.parametrize("ending", ["jpg", "png", "tif"])
@pytest.mark.parametrize(
    ("orientation", "size"), [(2, (48, 32)), (3, (48, 32)), (4, (32, 48)), (6, (32, 32))]
)
def test_a_turn_that_the_size_does_not_tell_is_warned_of(tmp_path, ending, orientation, size):
    sample = turned_sample(tmp_path, ending, orientation, size)
    with pytest.warns(RuntimeWarning, match=rf"p\.{ending}' carries an EXIF turn .*{orientation}"):
        sample.truth()


def test_another_size_without_a_turn_says_nothing_of_exif(tmp_path):
    sample = turned_sample(tmp_path, "jpg", 1, (48, 32))
    write_mask(np.zeros((48, 32), np.uint8), tmp_path / "m.png")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(FslabError, match=r"48 x 32.*32 x 48$"):
            sample.truth()


@pytest.mark.parametrize("rows", [0, 20, 39, 40, 80])
def test_pixel_data_that_end_early_are_refused_and_not_background(tmp_path, rows):
    """Pillow takes a stream that is whole and too short, and leaves the rest at 0."""
    lines = [b"\0" + row.tobytes() for row in (*LABELS, *LABELS)]
    header = struct.pack(">IIBBBBB", 48, 40, 8, GREY, 0, 0, 0)
    path = tmp_path / "m.png"
    data = chunk(b"IDAT", zlib.compress(b"".join(lines[:rows])))
    path.write_bytes(SIGNATURE + chunk(b"IHDR", header) + data + chunk(b"IEND"))
    if rows >= 40:
        assert (read_mask(path) == LABELS).all()
        return
    with pytest.raises(
        FslabError, match=f"damaged or cut short .*after {rows * 49} of 1960|cut short"
    ):
        read_mask(path)


@pytest.mark.parametrize("lost", [0, 1, 500, 1500])
def test_interlaced_pixel_data_that_end_early_are_refused_too(tmp_path, lost):
    starts = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2))
    passes = [LABELS[top::down, left::across] for left, top, across, down in starts]
    rows = [b"\0" + row.tobytes() for one in (*passes, LABELS[1::2]) for row in one]
    data = b"".join(rows)
    header = struct.pack(">IIBBBBB", 48, 40, 8, GREY, 0, 0, 1)
    pixels = chunk(b"IDAT", zlib.compress(data[: len(data) - lost]))
    path = tmp_path / "m.png"
    path.write_bytes(SIGNATURE + chunk(b"IHDR", header) + pixels + chunk(b"IEND"))
    if not lost:
        assert (read_mask(path) == LABELS).all()
        return
    with pytest.raises(FslabError, match=f"after {len(data) - lost} of|cut short"):
        read_mask(path)


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_a_picture_whose_pixel_data_end_early_is_refused(tmp_path, mode, interlaced):
    """Pillow takes a stream that ends in peace, and leaves the rest black."""
    channels = len(mode)
    starts = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2))
    grey = np.random.default_rng(0).integers(9, 250, (40, 48), np.uint8)
    pixels = np.stack([grey] * channels, -1)
    passes = [pixels[top::down, left::across] for left, top, across, down in starts]
    passes = [*passes, pixels[1::2]] if interlaced else [pixels]
    data = b"".join(b"\0" + row.tobytes() for one in passes for row in one)
    kind = {"L": GREY, "RGB": 2, "RGBA": 6}[mode]
    header = struct.pack(">IIBBBBB", 48, 40, 8, kind, 0, 0, interlaced)
    for kept in (len(data), len(data) - 1, len(data) // 2):
        path = tmp_path / f"{kept}.png"
        stream = chunk(b"IDAT", zlib.compress(data[:kept]))
        path.write_bytes(SIGNATURE + chunk(b"IHDR", header) + stream + chunk(b"IEND"))
        if kept == len(data):
            assert read(path).size == (40, 48)
        else:
            with pytest.raises(FslabError, match=r"end after \d+ of|cut short"):
                read(path)


@pytest.mark.parametrize("reader", [read_mask, read])
def test_a_changed_bit_in_the_pixel_data_is_refused(tmp_path, reader):
    """Each is under a checksum that Pillow does not ask for: some such masks have other labels."""
    path = tmp_path / "m.png"
    labels = np.random.default_rng(0).integers(0, 21, (60, 70)).astype(np.uint8)
    write_mask(labels, path)
    whole = path.read_bytes()
    first, others = whole.index(b"IDAT") + 4, 0
    for place in range(first, len(whole) - 20, 7):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        with contextlib.suppress(OSError, SyntaxError), Image.open(path) as image:
            others += bool((np.array(image) != labels).any())
        with pytest.raises(FslabError, match="damaged or cut short"):
            reader(path)
    assert others
