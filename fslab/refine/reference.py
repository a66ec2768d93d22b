"""The dense CRF of pydensecrf, to compare with: no picture can end the process in it.

Its lattice counts in 32 bits, does not check that, and aborts where memory runs out. So sizes are
checked before, and whatever may take much memory runs in a process of its own, with the same bits
as its result.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from fslab.records import DenseCrf, FslabError, OutOfMemory, Picture
from fslab.refine import worker
from fslab.room import available

HERE = 1 << 29
"""Bytes up to which a CRF runs in this process, where so much is free twice over."""

_LARGEST_COUNT = 2**31


def infer(picture: Picture, unary: np.ndarray, recipe: DenseCrf) -> np.ndarray:
    """Return f32 [L, H, W], the probabilities of labels 0..L-1 after mean-field inference.

    unary: energies f32 [L, H x W]. Raises FslabError where pydensecrf is not installed, and
    OutOfMemory, which is one, where there is not enough.
    """
    if find_spec("pydensecrf") is None:
        raise FslabError(
            "refinement.engine is 'pydensecrf', which is not installed: "
            "`pip install 'fslab[pydensecrf]'` builds it; the engine 'fslab' needs nothing"
        )
    settings = _settings(recipe)
    _check_count(picture, len(unary))
    least, most = _bytes(picture.size, len(unary))
    free = available()
    if free is not None and least > free:
        raise _out_of_memory(picture, len(unary), most, free)
    if most <= HERE and (free is None or 2 * most <= free):
        return worker.infer(picture.pixels, unary, **settings)
    return _apart(picture, unary, settings, most, free)


def _settings(recipe: DenseCrf) -> dict[str, Any]:
    return {
        "iterations": recipe.iterations,
        "gaussian": {"sxy": recipe.gaussian_sxy, "compat": recipe.gaussian_compat},
        "bilateral": {
            "sxy": recipe.bilateral_sxy,
            "srgb": recipe.bilateral_srgb,
            "compat": recipe.bilateral_compat,
        },
    }


def _check_count(picture: Picture, labels: int) -> None:
    """Refuse more pixels and labels than the lattice can count."""
    height, width = picture.size
    if 6 * height * width * max(-(-labels // 4), 2) >= _LARGEST_COUNT:
        raise FslabError(
            f"{picture.name}: {height} x {width} pixels and {labels} labels are more than "
            "pydensecrf can count; make the picture smaller, or take refinement.engine 'fslab'"
        )


def _bytes(size: tuple[int, int], labels: int) -> tuple[int, int]:
    """Return how many bytes a CRF takes at least, and at most.

    Between them lies how many points of the lattice the pixels meet: of the six corners that
    each has in five dimensions, and three in two, most are shared in a picture with even parts,
    and none in noise. A point costs its key twice, its neighbours and two values for each label.
    """
    pixels = size[0] * size[1]
    least = 130 + 30 * labels
    return pixels * least, pixels * (650 + 36 * labels + 48 * 4 * -(-labels // 4))


def _apart(
    picture: Picture, unary: np.ndarray, settings: dict[str, Any], most: int, free: int | None
) -> np.ndarray:
    """Run a CRF in a process of its own, and refuse the picture where that does not come back."""
    labels, size = len(unary), picture.size
    head = json.dumps({"size": [*size, labels], "settings": settings}).encode() + b"\n"
    given = b"".join((head, picture.pixels.tobytes(), unary.astype(np.float32).tobytes()))
    # what this process can import, that one can; its own folder (-P) is nothing to import from
    paths = os.pathsep.join(filter(None, sys.path))
    try:
        done = subprocess.run(
            [sys.executable, "-P", str(Path(worker.__file__).absolute())], input=given,
            capture_output=True, check=False, env={**os.environ, "PYTHONPATH": paths},
        )  # fmt: skip
    except OSError as error:
        raise FslabError(
            f"{picture.name}: a large CRF of pydensecrf runs in a process of its own, which could "
            f"not be begun ({error.strerror or error}); make the picture smaller, or take "
            "refinement.engine 'fslab'"
        ) from error
    if done.returncode == 1:
        reason = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise FslabError(f"{picture.name}: the process of the CRF failed: {reason}")
    if done.returncode or len(done.stdout) != labels * size[0] * size[1] * 4:
        raise _out_of_memory(picture, labels, most, free)
    return np.frombuffer(done.stdout, np.float32).reshape(labels, *size)


def _out_of_memory(picture: Picture, labels: int, most: int, free: int | None) -> OutOfMemory:
    height, width = picture.size
    there = f", and {free / 1e9:.1f} GB are free" if free is not None else ""
    return OutOfMemory(
        f"{picture.name}: memory ran out in the CRF of {height} x {width} pixels and {labels} "
        f"labels, which takes up to {most / 1e9:.1f} GB{there}; "
        "make the picture smaller, or run it where there is more"
    )
