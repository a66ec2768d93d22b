"""Which colour stands for what; names are always written beside, since colours alone mislead."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fslab.records import VOID, WIDE_VOID, FslabError, voc_palette

SEGMENT_COLOURS = np.array(
    [
        *([230, 159, 0], [86, 180, 233], [0, 158, 115], [240, 228, 66], [0, 114, 178]),
        *([213, 94, 0], [204, 121, 167], [120, 120, 120], [136, 34, 85], [221, 204, 119]),
        *([68, 170, 153], [51, 34, 136]),
    ],
    np.uint8,
)
"""Colours of segments without a name: Okabe and Ito's, then four of Paul Tol's muted ones.

Both lists are made to be told apart by colour-blind readers.
"""


LUMA = np.array([0.299, 0.587, 0.114])
"""How much red, green and blue add to what the eye takes for light (ITU-R BT.601)."""


def segment_colours(count: int) -> np.ndarray:
    """Return one colour a segment, u8 [count, 3]; beyond the list they repeat, ever lighter."""
    rounds, places = np.divmod(np.arange(count), len(SEGMENT_COLOURS))
    light = 1 - 0.6 ** rounds[:, None]
    colours = SEGMENT_COLOURS[places]
    return np.rint(colours + light * (255.0 - colours)).astype(np.uint8)


def class_colours(colours: np.ndarray | None = None) -> np.ndarray:
    """Return a colour for each label, u8 [65536, 3]: VOC's, or those given in front.

    VOC has 256, the last of which is void's; those of its classes repeat from there on, and the
    last of all is void's again. Raises FslabError where `colours` is not u8 [K, 3] with at most
    255 rows.
    """
    voc = voc_palette()
    palette = np.concatenate([voc, voc[1 + np.arange(WIDE_VOID - VOID) % (VOID - 1)]])
    palette[WIDE_VOID] = voc[VOID]
    if colours is None:
        return palette
    given = getattr(colours, "dtype", type(colours).__name__), list(np.shape(colours))
    if given[0] != np.uint8 or len(given[1]) != 2 or given[1][1] != 3 or given[1][0] > VOID:
        raise FslabError(
            f"colours are {given[0]} {given[1]}; they must be uint8 [K, 3], K up to {VOID}"
        )
    palette[: len(colours)] = colours
    return palette


def is_light(colour: np.ndarray) -> bool:
    """Tell whether black is easier to read on a colour, u8 [3], than white."""
    return float(colour @ LUMA) > 140


def grey(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a picture without its colours, u8 [H, W, 3], so that a mask's colour is its own."""
    flat: NDArray[np.uint8] = np.rint(pixels @ LUMA).astype(np.uint8)
    return flat[..., None].repeat(3, -1)


def css(colour: np.ndarray) -> str:
    """Write a colour, u8 [3], as CSS and plotly do."""
    red, green, blue = map(int, colour)
    return f"rgb({red},{green},{blue})"
