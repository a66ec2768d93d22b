"""What CLIP is shown of a segment."""

from __future__ import annotations

import numpy as np

from fslab.datasets import PictureLike, read
from fslab.records import FslabError, Matching, Picture, Segments


def views(picture: PictureLike, segments: Segments, recipe: Matching) -> list[np.ndarray]:
    """Return what CLIP shall see of each segment: one u8 [h, w, 3] a segment, in their order.

    "masked" and "mean" show the whole frame with black or the picture's mean colour around
    the segment; as in the authors' released code CLIP's centre crop then cuts segments that
    lie off the middle of a picture that is not square. The "box" views avoid that: a box is
    grown to a square about its middle, moved inside the picture, and is not square only where
    the picture itself is too narrow. Raises FslabError if the sizes differ.
    """
    picture = read(picture)
    check_size(picture, segments)
    pixels, view = picture.pixels, recipe.view
    mean = np.round(pixels.mean((0, 1))).astype(np.uint8)
    fill = mean if view.startswith("mean") else np.zeros(3, np.uint8)
    found = []
    for mask in segments.masks():
        shown = pixels if view == "box" else np.where(mask[..., None], pixels, fill)
        if view.endswith("box"):
            rows, columns = _box(mask, recipe.margin)
            shown = shown[rows, columns]
        found.append(np.ascontiguousarray(shown))
    return found


def _box(mask: np.ndarray, margin: float) -> tuple[slice, slice]:
    """Return the rows and columns of the square around a mask, margin on each of its sides."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    side = max(rows[-1] - rows[0], columns[-1] - columns[0]) + 1
    side += 2 * round(margin * side)
    return _span(rows, side, mask.shape[0]), _span(columns, side, mask.shape[1])


def _span(used: np.ndarray, side: int, limit: int) -> slice:
    """Return `side` places about the middle of those used, moved to lie within the limit."""
    side = min(side, limit)
    start = (used[0] + used[-1] + 1 - side) // 2
    start = int(np.clip(start, 0, limit - side))
    return slice(start, start + side)


def check_size(picture: Picture, segments: Segments) -> None:
    """Refuse segments of another picture."""
    if picture.size != segments.size:
        raise FslabError(
            f"{picture.name} is {picture.size} and its segments are {segments.size}; "
            "both have the height and width of one picture"
        )
