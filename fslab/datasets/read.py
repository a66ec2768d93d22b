"""Any picture as RGB, wherever it comes from, and back to PNG."""

from __future__ import annotations

import os
import struct
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError

from fslab.datasets.checkout import where_to_look
from fslab.datasets.chunks import check_rows
from fslab.datasets.pixels import of_array, of_lists, over_white
from fslab.datasets.places import Place, Url, place
from fslab.files import write_or_refuse
from fslab.records import FslabError, Picture
from fslab.records.base import described

PictureLike = (
    Picture | str | os.PathLike[str] | Url | Image.Image | np.ndarray | Sequence[Sequence[Any]]
)
"""What stands for a picture wherever one is taken; `read` makes a `Picture` of it."""

FORMATS = ("BMP", "DIB", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
"""What `read` opens, by content (MPO is opened as JPEG): no other decoder is ever tried."""

SUFFIXES = frozenset(
    (
        *(".apng", ".bmp", ".dib", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".mpo", ".pbm"),
        *(".pfm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp"),
    )
)
"""How the names of pictures end, in lower case, where a folder is searched for them: every ending
that Pillow knows of these formats."""

_EIGHT_BIT = frozenset(
    ("1", "L", "P", "RGB", "CMYK", "YCbCr", "HSV", "LA", "PA", "RGBA", "RGBa", "RGBX")
)
_BROKEN = (
    OSError, SyntaxError, ValueError, EOFError, LookupError, TypeError, AssertionError,
    struct.error,
)  # fmt: skip
"""What Pillow's decoders raise over bytes that are not what they expect."""

_BOMBS = (Image.DecompressionBombError, Image.DecompressionBombWarning)
_PIXELS_A_BYTE = 512
"""The most pixels that a byte of a JPEG can stand for: a block of 8 x 8 takes one code at least,
and a code one bit (ITU-T T.81, annexes F and G). A file of fewer bytes is not all there, and
libjpeg, which fills what is missing with grey, would take minutes and gigabytes to do so."""

_MOST_PIXELS = 1024**3 // 4 // 3
"""Pillow's own MAX_IMAGE_PIXELS: twice as many are refused, whatever a notebook has set."""

MAX_PIXELS = 2 * _MOST_PIXELS
"""No picture of more pixels is ever decoded."""

_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_BAND = 256
"""Rows of deep grey that are brought to 8 bits at a time."""


def read(given: PictureLike) -> Picture:
    """Return what stands for a picture as RGB, upright: u8 [H, W, 3].

    given: a path or an fsspec url, and the picture is named by the file's stem as `shown_name`; a
    PIL image, or an array [H, W], [H, W, 1], [H, W, 2], [H, W, 3] or [H, W, 4] (grey, grey and
    alpha, RGB, RGB and alpha) of u8, of u16, of floats of 0 to 1 or of truth values; or lists of
    whole numbers of 0 to 255, nested H x W x 3. A `Picture` is returned as it is. All that takes a
    picture takes these.

    EXIF orientation is applied. Transparency is laid over white, as viewers show it; 16-bit
    grey is divided by 257, so its whole range counts, and of 16-bit colours the high byte is taken;
    float grey of a file is stretched from its least to its largest value (one flat value is black);
    of an animation the first frame is taken. Colour profiles are ignored. What the file is named
    does not matter, what it holds does.

    Raises FslabError, naming the file: missing, empty, no picture, cut short, too large; and for an
    array of another shape, type or range.
    """
    if isinstance(given, Picture):
        return given
    if isinstance(given, (str, os.PathLike, Url)):
        return _read_file(place(given))
    if isinstance(given, Image.Image):
        return _read_image(given)
    if isinstance(given, np.ndarray):
        return Picture(of_array(given))
    if isinstance(given, (list, tuple)):
        if any(isinstance(each, (str, os.PathLike, Picture, Image.Image)) for each in given):
            raise FslabError(
                f"a {type(given).__name__} of {len(given)} pictures stands where one is taken; "
                "give one of them, or all to lab.segment_many or lab.extract_many"
            )
        return Picture(of_lists(given))
    raise FslabError(
        f"a picture is {described(given)}; give an fslab.Picture, a path, a PIL image or an array "
        "uint8 [H, W, 3]"
    )


def is_one(given: object) -> bool:
    """Tell what stands for one picture from a list of pictures; lists of numbers are not told."""
    if isinstance(given, np.ndarray):
        return given.ndim < 4
    return isinstance(given, (str, os.PathLike, Url, Picture, Image.Image))


def check_several(pictures: object) -> None:
    """Refuse one picture where several are taken: its letters or rows would be taken for them."""
    if is_one(pictures) or isinstance(pictures, bytes):
        raise FslabError(f"pictures are one {described(pictures)}; give a list of pictures, [it]")
    if not isinstance(pictures, Iterable):
        raise FslabError(f"pictures are {described(pictures)}; give a list of pictures or paths")


def _read_file(path: Place) -> Picture:
    data = bytes_of(path)
    with refusing(path):
        image = _opened(data, path)
        image.load()
        if image.format == "PNG":
            check_rows(image, data, path)
        return Picture(_upright(image, str(path)), shown_name(path.stem))


def _read_image(image: Image.Image) -> Picture:
    """Return an opened image, named by its file where it has one."""
    name = shown_name(Path(str(getattr(image, "filename", ""))).stem) or "picture"
    with refusing(name):
        return Picture(_upright(image, name), name)


def _upright(image: Image.Image, named: str) -> np.ndarray:
    """Return an image's pixels, u8 [H, W, 3]."""
    turn = _UPRIGHT.get(orientation(image))
    image = _rgb(image, named)
    return np.array(image.transpose(turn) if turn is not None else image)


def shown_name(name: str) -> str:
    """Return a file's name as text that can be shown and sent, bytes other than UTF-8 escaped."""
    return name.encode("utf-8", "backslashreplace").decode()


def picture_size(path: str | os.PathLike[str] | Url) -> tuple[int, int]:
    """Return the height and width that `read` would give; of a JPEG only the header is parsed."""
    return size_and_turn(path)[0]


def size_and_turn(path: str | os.PathLike[str] | Url) -> tuple[tuple[int, int], int]:
    """Return the height and width that `read` would give, and the EXIF turn (1 is upright)."""
    path = place(path)
    data = bytes_of(path)
    with refusing(path):
        image = _opened(data, path)
    turn = orientation(image)
    if image.format not in ("JPEG", "MPO"):
        return read(path).size, turn
    width, height = image.size
    return ((width, height) if turn >= 5 else (height, width)), turn


def header(path: Path) -> tuple[tuple[int, int], int]:
    """Return the height and width, upright, and the EXIF turn of a local file, by its header alone.

    A turn that a PNG says after its pixels is not seen. Raises FslabError as `read` does for
    what is not a picture.
    """
    _check_on_disk(path, repr(str(path)))
    with refusing(path), path.open("rb") as file:
        image = Image.open(file, formats=FORMATS)
        width, height = image.size
        seen = image.format != "PNG" or "exif" in image.info
        turn = orientation(image) if seen else 1
    return ((width, height) if turn >= 5 else (height, width)), turn


def write_picture(pixels: np.ndarray, path: str | os.PathLike[str]) -> None:
    """Write pixels, u8 [H, W, 3], as a PNG: aside first, so never half of it."""
    write_or_refuse(path, png(Image.fromarray(pixels)))


def png(image: Image.Image) -> bytes:
    """Return a picture as the bytes of a PNG."""
    encoded = BytesIO()
    image.save(encoded, "PNG")
    return encoded.getvalue()


def bytes_of(path: Place) -> bytes:
    """Return a file's content, or say in one sentence why there is none."""
    named = repr(str(path))
    data = path.read_bytes() if isinstance(path, Url) else _bytes_on_disk(path, named)
    if not data:
        raise FslabError(f"{named} is empty (0 bytes); get the file again")
    return data


def _bytes_on_disk(path: Path, named: str) -> bytes:
    _check_on_disk(path, named)
    try:
        return path.read_bytes()
    except OSError as error:
        raise _unreadable(named, error) from error


def _unreadable(named: str, error: OSError) -> FslabError:
    if isinstance(error, PermissionError):
        return FslabError(f"{named} may not be read: permission denied; change its mode")
    return FslabError(f"{named} cannot be read: {error.strerror or error}")


def _check_on_disk(path: Path, named: str) -> None:
    """Refuse anything but an ordinary file before it is opened: a pipe would keep us waiting."""
    try:
        if path.is_symlink() and not path.exists():
            raise FslabError(f"{named} is a link to {os.readlink(path)!r}, which does not exist")
        if not path.exists():
            raise FslabError(f"{named} does not exist; {where_to_look(path)}")
        if path.is_dir():
            raise FslabError(f"{named} is a folder; name a file in it")
        if not path.is_file():
            raise FslabError(f"{named} is not an ordinary file; name a picture file")
    except OSError as error:
        raise _unreadable(named, error) from error


def _opened(data: bytes, path: Place) -> Image.Image:
    """Parse a picture's header; refuse a JPEG that promises more pixels than its bytes can hold."""
    image = Image.open(BytesIO(data), formats=FORMATS)
    width, height = image.size
    if image.format in ("JPEG", "MPO") and width * height > _PIXELS_A_BYTE * len(data):
        raise FslabError(
            f"{str(path)!r} is cut short ({len(data)} bytes cannot hold {width} x {height} "
            "pixels); get the file again"
        )
    return image


@contextmanager
def refusing(path: Place | str, wanted: str = "convert it to PNG or JPEG") -> Iterator[None]:
    """Turn what Pillow raises into one sentence that names the file."""
    named = repr(str(path))
    try:
        with _ordinary_pillow():
            yield
    except FslabError:
        raise
    except _BOMBS as error:
        limit = 2 * min(Image.MAX_IMAGE_PIXELS or _MOST_PIXELS, _MOST_PIXELS)
        words = f"{limit // 10**6} million" if limit >= 10**6 else f"{limit:,}"
        raise FslabError(f"{named} has more than {words} pixels; make it smaller") from error
    except MemoryError as error:
        raise FslabError(f"{named} takes more memory than there is; make it smaller") from error
    except UnidentifiedImageError as error:
        raise FslabError(f"{named} is not a picture of a known kind; {wanted}") from error
    except _BROKEN as error:
        words = " ".join(str(error).split())
        raise FslabError(
            f"{named} is damaged or cut short ({words}); get the file again"
        ) from error


@contextmanager
def _ordinary_pillow() -> Iterator[None]:
    """Decode with Pillow's own settings, and put back what was set: what is cut short is refused,
    what is too large too, and a warning of its size is not an error."""
    cut, most = ImageFile.LOAD_TRUNCATED_IMAGES, Image.MAX_IMAGE_PIXELS
    with ExitStack() as back:
        if cut:
            ImageFile.LOAD_TRUNCATED_IMAGES = False
            back.callback(setattr, ImageFile, "LOAD_TRUNCATED_IMAGES", cut)
        if most is None or most > _MOST_PIXELS:
            Image.MAX_IMAGE_PIXELS = _MOST_PIXELS
            back.callback(setattr, Image, "MAX_IMAGE_PIXELS", most)
        if any(action == "error" for action, *_ in warnings.filters):
            back.enter_context(warnings.catch_warnings())
            warnings.simplefilter("default")
        yield


def orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 1..8; 1 (upright) where the EXIF block is damaged or absent."""
    try:
        given = image.getexif().get(_ORIENTATION, 1)
    except _BROKEN:
        return 1
    return given if given in _UPRIGHT else 1


def _rgb(image: Image.Image, named: str) -> Image.Image:
    """Return any decoded picture in mode RGB."""
    if image.mode == "F" or image.mode.startswith("I"):
        return Image.fromarray(_eight_bit(image, named)).convert("RGB")
    if image.mode not in _EIGHT_BIT:
        raise FslabError(f"{named!r} has colour mode {image.mode}; convert it to RGB")
    if not image.has_transparency_data:
        return image.convert("RGB")
    return over_white(image)


def _eight_bit(image: Image.Image, named: str) -> np.ndarray:
    """Return grey of 16-bit or float depth as u8 [H, W]; a value that means clear is white."""
    values = np.asarray(image)
    low, high = float(values.min()), float(values.max())
    if not np.isfinite([low, high]).all():
        raise FslabError(f"{named!r} holds NaN or infinite values; replace them by numbers")
    deep = image.mode != "F"
    if deep and (low < 0 or high > 65535):
        raise FslabError(
            f"{named!r} holds values from {low:.0f} to {high:.0f}; save it with 8 or 16 bits"
        )
    first, scale = (0, 1 / 257) if deep else (low, 255 / (high - low) if high > low else 0)
    shades = np.empty(values.shape, np.uint8)
    for top in range(0, len(values), _BAND):  # a whole picture of f64 would take eight times it
        band = slice(top, top + _BAND)
        shades[band] = np.rint((values[band].astype(np.float64) - first) * scale)
    clear = image.info.get("transparency")
    if deep and isinstance(clear, int):
        shades[values == clear] = 255
    return shades
