"""Whether a picture looks like the drawn world of the preset mini, which knows no other.

Seventeen statistics of a picture at the size of mini's scenes, and their squares, go into a
logistic regression whose coefficients lie in `mini/drawn_world.json`, with the figures of how it
was made and measured (`python tests/drawn_world.py PHOTOGRAPHS`). It costs a few milliseconds and
loads no model.
"""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from itertools import pairwise
from typing import Any

import numpy as np
from PIL import Image

from fslab.records import Picture

SIDE = 96
"""The shorter side of mini's scenes, in pixels, to which a picture is brought first."""
_LONGEST = 4
"""The longer side is at most so many times the shorter one; beyond, the picture is squeezed."""
DRAWN_ONLY = (
    "the preset mini knows nothing else, so the names it gives there mean nothing; "
    "`fslab fetch sd15` fetches weights that know photographs, `--preset sd15` takes them"
)
_RINGS = (0.01, 0.04, 0.08, 0.16, 0.3, 0.5)
"""Bounds of the rings of spatial frequency, in cycles a pixel, whose power is compared."""


def looks_drawn(picture: Picture) -> bool:
    """Return whether a picture looks like a scene of mini's world rather than anything else."""
    known = _coefficients()
    scaled = (statistics(picture.pixels) - known["mean"]) / known["deviation"]
    return bool(np.r_[scaled, scaled**2] @ known["weights"] + known["bias"] <= 0)


def caveat_of(beyond: int, seen: int) -> str:
    """Say of how many pictures that were seen the names mean nothing."""
    one = beyond == 1
    return (
        f"{beyond} of {seen} picture{'s' * (seen > 1)} {'does' if one else 'do'} not look like "
        f"{'a scene' if one else 'scenes'} of mini's drawn world; {DRAWN_ONLY}"
    )


@cache
def _coefficients() -> dict[str, Any]:
    """Return mean and deviation f64 [17] of the statistics, weights f64 [34] and the bias."""
    text = (files("fslab") / "mini" / "drawn_world.json").read_text(encoding="utf-8")
    return {name: np.array(value) for name, value in json.loads(text)["coefficients"].items()}


def statistics(pixels: np.ndarray) -> np.ndarray:
    """Return f64 [17] of a picture u8 [H, W, 3]: edges, texture, colour, and power by frequency.

    Each is finite for every picture, a blank one among them.
    """
    image = _at_scene_size(pixels)
    grey = image.mean(2)
    return np.array([*_edges(grey), *_colours(image, grey), *_power(grey)])


def _at_scene_size(pixels: np.ndarray) -> np.ndarray:
    """Return a picture as f64 [h, w, 3] in 0..1 with the shorter side of mini's scenes."""
    height, width = pixels.shape[:2]
    scale = SIDE / min(height, width)
    size = tuple(min(max(SIDE, round(side * scale)), _LONGEST * SIDE) for side in (width, height))
    image = Image.fromarray(np.ascontiguousarray(pixels))
    if image.size != size:
        image = image.resize(size, Image.Resampling.LANCZOS)
    return np.asarray(image, np.float64) / 255


def _edges(grey: np.ndarray) -> list[float]:
    """Return logarithms of the mean, median and 95th centile of steps between neighbours, and of
    the deviation and the kurtosis of the Laplacian."""
    steps = np.abs(np.r_[np.diff(grey, axis=1).ravel(), np.diff(grey, axis=0).ravel()])
    around = grey[1:-1, 2:] + grey[1:-1, :-2] + grey[2:, 1:-1] + grey[:-2, 1:-1]
    laplacian = around - 4 * grey[1:-1, 1:-1]
    kurtosis = (laplacian**4).mean() / (laplacian.var() ** 2 + 1e-12)
    return [
        np.log(steps.mean() + 1e-4),
        np.log(np.median(steps) + 1e-3),
        np.log(np.percentile(steps, 95) + 1e-3),
        np.log(laplacian.std() + 1e-4),
        np.log(kurtosis + 1e-3),
    ]


def _colours(image: np.ndarray, grey: np.ndarray) -> list[float]:
    """Return means and deviations of saturation and lightness, the spread of the two opponent
    colours, and how far the steps of red and of blue agree."""
    saturation = image.max(2) - image.min(2)
    red, green, blue = np.moveaxis(image, 2, 0)
    steps = np.diff(red, axis=1).ravel(), np.diff(blue, axis=1).ravel()
    spread = steps[0].std() * steps[1].std()
    agreement = ((steps[0] - steps[0].mean()) * (steps[1] - steps[1].mean())).mean()
    return [
        saturation.mean(),
        saturation.std(),
        grey.mean(),
        grey.std(),
        (red - green).std(),
        ((red + green) / 2 - blue).std(),
        agreement / spread if spread > 1e-12 else 0.0,
    ]


def _power(grey: np.ndarray) -> list[float]:
    """Return the logarithm of the mean power in each ring of spatial frequencies."""
    power = np.abs(np.fft.rfft2(grey - grey.mean())) ** 2
    rows, columns = np.fft.fftfreq(grey.shape[0])[:, None], np.fft.rfftfreq(grey.shape[1])[None]
    radius = np.hypot(rows, columns)
    rings = pairwise(_RINGS)
    return [np.log(power[(radius >= low) & (radius < high)].mean() + 1e-6) for low, high in rings]
