"""The confusion matrix of one image against torchmetrics and against one bincount."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from contest import Contest, Setting
from torchmetrics.classification import MulticlassConfusionMatrix

from fslab.datasets import VOC
from fslab.records import VOID
from fslab.score import confusion


def benches(setting: Setting) -> Iterator[Contest]:
    """Blobs, as label maps are, and noise, as they never are."""
    size = (60, 80) if setting.smoke else (375, 500)
    for name, (truth, guess) in {"blobs": blobs(size), "noise": noise(size)}.items():
        yield from contests(name, truth, guess)


def contests(name: str, truth: np.ndarray, guess: np.ndarray) -> Iterator[Contest]:
    """Check that all count the same, then time them."""
    matrix = MulticlassConfusionMatrix(21, ignore_index=VOID)
    tensors = torch.from_numpy(guess), torch.from_numpy(truth)
    matrix.update(*tensors)
    counts = confusion(truth, guess, VOC.names).counts
    assert (counts == matrix.compute().numpy()).all()
    assert counts.sum() == np.bincount(guess[truth != VOID]).sum()
    what = f"confusion matrix, {truth.shape[1]} x {truth.shape[0]}, 21 classes, {name}"
    others = {
        "torchmetrics": ("times faster", 3.0, lambda: matrix.update(*tensors)),
        "one numpy.bincount": ("of its time", 1.5, lambda: np.bincount(guess.ravel())),
    }
    for against, (figure, target, other) in others.items():
        yield Contest(
            f"confusion-{against.split('.')[-1]}-{name}", what, against,
            lambda: confusion(truth, guess, VOC.names), other, target, figure, rounds=25, each=5,
        )  # fmt: skip


def blobs(size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Return a truth u8 [H, W] of four discs with a rim of void, and a guess: it, moved."""
    rng = np.random.default_rng(0)
    height, width = size
    down, right = np.mgrid[:height, :width]
    truth = np.zeros(size, np.uint8)
    for label in rng.integers(1, 21, 4):
        away = np.hypot(
            down - rng.uniform(0.2, 0.8) * height, right - rng.uniform(0.2, 0.8) * width
        )
        radius = rng.uniform(0.1, 0.25) * height
        truth[away < radius + 5] = VOID
        truth[away < radius] = label
    guess = np.roll(np.where(truth == VOID, 0, truth), (4, 9), (0, 1))
    return truth, guess.astype(np.uint8)


def noise(size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Return two maps u8 [H, W] of labels by chance."""
    return tuple(np.random.default_rng(1).integers(0, 21, (2, *size), dtype=np.uint8))
