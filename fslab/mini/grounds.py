"""The grounds that objects stand on: ten textures of several colours each.

A texture is value noise looked up in a table of colours, so that every ground holds many colours
and no single one can tell it from an object.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Ground:
    """A texture: its colours in the order in which noise walks them, and the noise's grain.

    `cell` is the (width, height) of one grain in pixels; `pattern` lays lines or bricks over it.
    """

    colours: tuple[Colour, ...]
    cell: tuple[float, float]
    pattern: str = ""


GROUNDS: dict[str, Ground] = {
    "sky": Ground(
        ((84, 130, 214), (128, 184, 240), (236, 240, 246), (250, 214, 190), (150, 160, 205)),
        (30, 14),
    ),
    "grass": Ground(
        ((44, 96, 36), (92, 150, 52), (160, 190, 80), (206, 196, 110), (74, 122, 60)), (3, 11)
    ),
    "sea": Ground(
        ((20, 74, 128), (40, 128, 168), (110, 190, 196), (214, 234, 232), (36, 96, 120)), (22, 5)
    ),
    "road": Ground(
        ((70, 72, 78), (112, 112, 116), (150, 146, 138), (92, 86, 92), (196, 190, 160)),
        (5, 5),
        "dashes",
    ),
    "sand": Ground(
        ((196, 158, 104), (226, 196, 142), (242, 222, 176), (170, 124, 84), (214, 170, 130)),
        (16, 6),
    ),
    "snow": Ground(
        ((236, 240, 248), (206, 220, 240), (178, 192, 222), (250, 244, 236), (190, 186, 200)),
        (14, 10),
    ),
    "wall": Ground(
        ((172, 92, 70), (198, 124, 92), (222, 178, 144), (140, 84, 84), (176, 150, 140)),
        (9, 7),
        "bricks",
    ),
    "wood": Ground(
        ((112, 68, 36), (156, 102, 58), (196, 144, 92), (134, 84, 60), (216, 176, 130)),
        (34, 3),
        "planks",
    ),
    "carpet": Ground(
        ((150, 44, 62), (52, 72, 140), (222, 178, 84), (232, 222, 206), (60, 120, 110)),
        (12, 12),
        "checks",
    ),
    "forest": Ground(
        ((26, 52, 34), (54, 92, 44), (112, 132, 60), (98, 70, 44), (168, 120, 60)), (9, 12)
    ),
}
"""The ten grounds by name; names are nouns that captions use."""

GROUND_NAMES = tuple(GROUNDS)


def noise(rng: np.random.Generator, size: tuple[int, int], cell: tuple[float, float]) -> np.ndarray:
    """Return smooth random values, u8 [H, W]; `size` is (H, W), `cell` (width, height)."""
    height, width = size
    rows, columns = max(2, round(height / cell[1]) + 1), max(2, round(width / cell[0]) + 1)
    grid = rng.integers(0, 256, (rows, columns), dtype=np.uint8)
    return np.asarray(Image.fromarray(grid).resize((width, height), Image.Resampling.BICUBIC))


def paint(rng: np.random.Generator, name: str, size: tuple[int, int]) -> np.ndarray:
    """Paint one ground, f32 [H, W, 3] in 0..255; `size` is (H, W) in pixels."""
    ground = GROUNDS[name]
    grow = 0.7 + 0.9 * rng.random()
    fine = noise(rng, size, (ground.cell[0] * grow, ground.cell[1] * grow)).astype(np.int32)
    coarse = noise(rng, size, (38, 30)).astype(np.int32)
    value = (fine * 2 + coarse + 64 + _pattern(rng, ground.pattern, size)) // 4
    painted: NDArray[np.float32] = _table(rng, ground.colours)[np.clip(value, 0, 255)]
    return painted


def _table(rng: np.random.Generator, colours: tuple[Colour, ...]) -> np.ndarray:
    """Return 256 colours that run through the jittered `colours`, f32 [256, 3]."""
    anchors = np.array(colours, dtype=np.float32)[:: 1 if rng.random() < 0.5 else -1]
    anchors = anchors + rng.integers(-16, 17, anchors.shape) + rng.integers(-16, 17, 3)
    # Bicubic noise crowds around 128: the walk starts late and ends early to show all colours.
    places = np.linspace(50, 205, len(anchors))
    channels = [np.interp(np.arange(256), places, anchors[:, channel]) for channel in range(3)]
    return np.stack(channels, axis=1).astype(np.float32)


def _pattern(rng: np.random.Generator, name: str, size: tuple[int, int]) -> np.ndarray:
    """Return what a ground's lines add to its noise, i32 [H, W] (four times their strength)."""
    height, width = size
    rows, columns = np.arange(height)[:, None], np.arange(width)[None, :]
    unit = int(rng.integers(8, 16))
    if name == "bricks":
        layer = rows // unit
        joint = (rows % unit == 0) | ((columns + layer % 2 * unit) % (2 * unit) == 0)
        shade = rng.integers(-120, 121, (height // unit + 1, width // unit + 3))
        return np.where(joint, 300, shade[layer, (columns + layer % 2 * unit) // (2 * unit)])
    if name == "planks":
        shade = rng.integers(-140, 141, height // unit + 1)
        return np.where(rows % unit == 0, -320, shade[rows // unit]) + 0 * columns
    if name == "checks":
        shade = rng.integers(-160, 161, (height // unit + 1, width // unit + 1))
        return shade[rows // unit, columns // unit]
    if name == "dashes":
        line = (rows % (3 * unit) < 3) & (columns % (2 * unit) < unit)
        return np.where(line, 360, 0)
    return np.zeros(size, dtype=np.int32)
