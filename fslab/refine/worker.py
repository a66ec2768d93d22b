"""The dense CRF itself, here or in a process of its own: `python worker.py` does one and ends.

pydensecrf's C++ aborts the process that it runs in where memory runs out. So this file imports
nothing of fslab, and what it is given and gives goes through its two pipes: a line of JSON, then
bytes.
"""

from __future__ import annotations

import contextlib
import json
import sys
from typing import Any

import numpy as np

NO_ROOM = 75
"""The exit code where Python itself was refused memory."""


def infer(
    pixels: np.ndarray,
    unary: np.ndarray,
    iterations: int,
    gaussian: dict[str, Any],
    bilateral: dict[str, Any],
) -> np.ndarray:
    """Return f32 [L, H, W], the probabilities of L labels after mean-field inference.

    pixels: u8 [H, W, 3]; unary: f32 [L, H x W]. gaussian, bilateral: pydensecrf's own settings.
    Source: Kraehenbuehl and Koltun, NIPS 2011, through pydensecrf.
    """
    from pydensecrf.densecrf import DenseCRF2D

    height, width = pixels.shape[:2]
    count = len(unary)
    field = DenseCRF2D(width, height, count)
    field.setUnaryEnergy(np.array(unary, np.float32, order="C"))
    field.addPairwiseGaussian(**gaussian)
    field.addPairwiseBilateral(rgbim=np.array(pixels, order="C"), **bilateral)
    return np.array(field.inference(iterations), np.float32).reshape(count, height, width)


def work() -> None:
    """Read one CRF from stdin and write its probabilities to stdout."""
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")  # where the system must end a process, this one can be spared best
    read = sys.stdin.buffer
    asked = json.loads(read.readline())
    height, width, labels = asked["size"]
    pixels = np.frombuffer(read.read(height * width * 3), np.uint8).reshape(height, width, 3)
    unary = np.frombuffer(read.read(), np.float32).reshape(labels, height * width)
    found = infer(pixels, unary, **asked["settings"])
    sys.stdout.buffer.write(np.ascontiguousarray(found).data)
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    try:
        work()
    except MemoryError:
        sys.exit(NO_ROOM)
