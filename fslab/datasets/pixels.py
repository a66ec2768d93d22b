"""Arrays and lists of numbers as the pixels of a picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fslab.records import FslabError
from fslab.records.base import described, is_array

_TAKEN = "uint8, uint16, floats of 0 to 1 or truth values"


def of_array(given: np.ndarray) -> NDArray[np.uint8]:
    """Return an array as pixels u8 [H, W, 3], as `fslab.read` has the same numbers in a file.

    What is u8 [H, W, 3] is returned as it is. Raises FslabError for another shape, type or range.
    """
    if not is_array(given):
        raise FslabError(f"pixels are {described(given)}; give a numpy array uint8 [H, W, 3]")
    _check_shape(given)
    pixels = _eight_bit(given)
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    if pixels.shape[2] == 1:
        return np.repeat(pixels, 3, axis=2)
    if pixels.shape[2] == 3:
        return pixels
    return np.array(over_white(Image.fromarray(np.ascontiguousarray(pixels))))


def of_lists(given: Sequence[Any]) -> NDArray[np.uint8]:
    """Return lists of whole numbers, nested H x W x 3, as pixels; FslabError for what is none."""
    expected = "give lists [H][W][3] of whole numbers from 0 to 255, or an array uint8 [H, W, 3]"
    try:
        numbers = np.asarray(given)
    except (ValueError, TypeError) as error:
        raise FslabError(f"pixels are lists of different lengths; {expected}") from error
    if numbers.ndim != 3 or numbers.shape[2] != 3 or not numbers.size:
        raise FslabError(f"pixels are lists of shape {list(numbers.shape)}; {expected}")
    if numbers.dtype.kind not in "iu" or numbers.min() < 0 or numbers.max() > 255:
        raise FslabError(f"pixels are lists of {_ranged(numbers)}; {expected}")
    return numbers.astype(np.uint8)


def over_white(image: Image.Image) -> Image.Image:
    """Return a picture with its transparency laid over white, in mode RGB."""
    over = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", over.size, "white"), over).convert("RGB")


def _check_shape(given: np.ndarray) -> None:
    shape = given.shape
    if len(shape) in (2, 3) and 0 not in shape and (len(shape) == 2 or shape[2] in (1, 2, 3, 4)):
        return
    hint = ""
    if len(shape) == 4:
        hint = "; several pictures go to lab.segment_many or lab.extract_many"
    elif len(shape) == 3 and shape[0] in (1, 3, 4):
        hint = "; channels come last: np.moveaxis(pixels, 0, -1)"
    raise FslabError(
        f"pixels are {described(given)}; they must be [H, W, 3], or [H, W] of grey, with one "
        f"pixel at least, and may have alpha as the last channel{hint}"
    )


def _eight_bit(given: np.ndarray) -> NDArray[np.uint8]:
    """Return numbers of any depth as u8."""
    if given.dtype == np.uint8:
        return given
    if given.dtype == np.bool_:
        return given.astype(np.uint8) * np.uint8(255)
    if given.dtype.kind == "u" and given.dtype.itemsize == 2:
        if given.ndim == 2 or given.shape[2] == 1:
            return np.rint(given / 257).astype(np.uint8)
        return (given >> 8).astype(np.uint8)
    if given.dtype.kind != "f":
        raise FslabError(
            f"pixels are {_ranged(given)}, of which it is not known what is white; give {_TAKEN}"
        )
    if not np.isfinite(given).all():
        raise FslabError("pixels hold NaN or infinity; replace them by numbers of 0 to 1")
    if given.min() < 0 or given.max() > 1:
        raise FslabError(
            f"pixels are {_ranged(given)}; floats must be 0 to 1: divide by the value of white, or "
            "give uint8 of 0 to 255"
        )
    return np.rint(given.astype(np.float64) * 255).astype(np.uint8)


def _ranged(given: np.ndarray) -> str:
    """Say an array's type, shape and range."""
    if given.dtype.kind not in "iuf" or not given.size:
        return described(given)
    return f"{described(given)} from {given.min():g} to {given.max():g}"
