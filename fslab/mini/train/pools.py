"""Pools: training pictures drawn once into files that every training process maps.

A pool is a folder with one .npy a field; `done.json` is written last and says that it is whole.
No mask is stored. Single objects keep their cut-out's alpha, for the views that show them alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.lib.format import open_memmap
from tqdm.auto import tqdm

from fslab.mini.grounds import GROUND_NAMES
from fslab.mini.scenes import SIDE, ground_only, scene, single

SEED = 2026
"""The one seed of all training; everything else is derived from it."""
SCENES, SINGLES, GROUNDS = 48_000, 40_000, 6_000
"""How many training pictures of each kind are drawn."""
SINGLE_SIDE = 64
SIDES = ("", "left", "right")

Pool = dict[str, np.ndarray]


def scene_pool(folder: Path, count: int) -> Pool:
    """Square training scenes: pixels u8 [N, 96, 96, 3], objects u8 [N, 3] (0 where fewer),
    sides u8 [N, 3] (index into `SIDES`), grounds u8 [N, 2] (index + 1, 0 where one)."""
    fields = {
        "pixels": ((SIDE, SIDE, 3), np.uint8),
        "objects": ((3,), np.uint8),
        "sides": ((3,), np.uint8),
        "grounds": ((2,), np.uint8),
    }

    def draw(index: int) -> dict[str, np.ndarray]:
        one = scene(SEED, index, square=True)
        return {
            "pixels": one.pixels,
            "objects": _padded(one.objects, 3),
            "sides": _padded([SIDES.index(side) for side in one.sides], 3),
            "grounds": _padded([GROUND_NAMES.index(name) + 1 for name in one.grounds], 2),
        }

    return _pool(folder, count, fields, draw)


def single_pool(folder: Path, count: int) -> Pool:
    """Single objects: pixels u8 [N, 64, 64, 4] (RGB and the cut-out's alpha), classes u8 [N]."""
    fields = {"pixels": ((SINGLE_SIDE, SINGLE_SIDE, 4), np.uint8), "classes": ((), np.uint8)}

    def draw(index: int) -> dict[str, np.ndarray]:
        rng = np.random.default_rng([SEED, 1, index])
        voc_class = index % 20 + 1
        return {"pixels": single(rng, voc_class, SINGLE_SIDE), "classes": voc_class}

    return _pool(folder, count, fields, draw)


def ground_pool(folder: Path, count: int) -> Pool:
    """Grounds without objects: pixels u8 [N, 64, 64, 3], grounds u8 [N] (index)."""
    fields = {"pixels": ((SINGLE_SIDE, SINGLE_SIDE, 3), np.uint8), "grounds": ((), np.uint8)}

    def draw(index: int) -> dict[str, np.ndarray]:
        rng = np.random.default_rng([SEED, 2, index])
        ground = index % len(GROUND_NAMES)
        pixels = ground_only(rng, GROUND_NAMES[ground], SINGLE_SIDE)
        return {"pixels": pixels, "grounds": ground}

    return _pool(folder, count, fields, draw)


def _padded(values: list[int] | tuple[int, ...], length: int) -> np.ndarray:
    return np.array([*values, *[0] * (length - len(values))], dtype=np.uint8)


def _pool(
    folder: Path,
    count: int,
    fields: dict[str, tuple[tuple[int, ...], type]],
    draw: Callable[[int], dict[str, np.ndarray]],
) -> Pool:
    """Open a pool, drawing it first unless it is there whole."""
    done = folder / "done.json"
    if not done.is_file() or json.loads(done.read_text()) != {"count": count}:
        folder.mkdir(parents=True, exist_ok=True)
        done.unlink(missing_ok=True)
        arrays = {
            name: open_memmap(folder / f"{name}.npy", mode="w+", dtype=dtype, shape=(count, *shape))
            for name, (shape, dtype) in fields.items()
        }
        for index in tqdm(range(count), desc=folder.name, mininterval=2):
            for name, value in draw(index).items():
                arrays[name][index] = value
        for array in arrays.values():
            array.flush()
        done.write_text(json.dumps({"count": count}))
    return {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in fields}
