"""How fast counting is, as ratios within one run: `pytest -m slow -s tests/test_score_speed.py`."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torchmetrics.classification import MulticlassConfusionMatrix

from fslab import score
from fslab.datasets import VOC, read_mask

MASKS = Path(__file__).resolve().parents[2] / "shared" / "voc2012_val_masks"
VOID = 255

pytestmark = pytest.mark.slow


def scene() -> tuple[np.ndarray, np.ndarray]:
    """Return blobs of a few classes with a rim of void, 375 x 500, and a moved copy."""
    rng = np.random.default_rng(0)
    down, right = np.mgrid[:375, :500]
    truth = np.zeros((375, 500), np.uint8)
    for label in rng.integers(1, 21, 4):
        away = np.hypot(down - rng.integers(60, 300), right - rng.integers(60, 440))
        size = rng.integers(40, 90)
        truth[away < size + 5] = VOID
        truth[away < size] = label
    guess = np.roll(np.where(truth == VOID, 0, truth), (4, 9), (0, 1))
    return truth, guess.astype(np.uint8)


def noise() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    return tuple(rng.integers(0, 21, (2, 375, 500), dtype=np.uint8))


def ratios(calls: dict, rounds: int = 25, each: int = 5) -> dict[str, list[float]]:
    """Time calls in turn, and return each one's time over the first one's, round by round.

    A round takes the shortest of a few times: what else runs on the machine only adds to it.
    """
    times = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            best = float("inf")
            for _ in range(each):
                start = time.perf_counter()
                call()
                best = min(best, time.perf_counter() - start)
            times[name].append(best)
    first = next(iter(times))
    return {
        name: [one / base for one, base in zip(values, times[first], strict=True)]
        for name, values in times.items()
    }


@pytest.mark.parametrize("make", [scene, noise])
def test_confusion_against_torchmetrics_and_one_bincount(make, capsys):
    truth, guess = make()
    codes = (truth.astype(np.int64) * 21 + guess).ravel()
    matrix = MulticlassConfusionMatrix(21, ignore_index=VOID)
    tensors = torch.from_numpy(guess), torch.from_numpy(truth)
    found = ratios({
        "confusion": lambda: score.confusion(truth, guess, VOC.names),
        "numpy.bincount": lambda: np.bincount(guess.ravel()),
        "numpy.bincount of codes made before": lambda: np.bincount(codes),
        "torchmetrics": lambda: matrix.update(*tensors),
    })  # fmt: skip
    with capsys.disabled():
        for name, values in found.items():
            print(
                f"\n{make.__name__}: {name} takes {np.median(values):.2f} x the time of confusion "
                f"(median of {len(values)}, {min(values):.2f} to {max(values):.2f})",
                end="",
            )
    assert np.median(found["torchmetrics"]) >= 3
    assert 1 / np.median(found["numpy.bincount"]) <= 1.5


@pytest.mark.skipif(not MASKS.is_dir(), reason="VOC's masks are not here")
def test_all_masks_of_voc_val(capsys):
    """Where the time of 1,449 masks goes; the guess is each truth, moved."""
    clock = time.process_time
    spent = dict.fromkeys(("decoding", "counting", "contours", "torchmetrics"), 0.0)
    matrix = MulticlassConfusionMatrix(21, ignore_index=VOID)
    images, mious = [], []
    for path in sorted(MASKS.glob("*.png")):
        start = clock()
        truth = read_mask(path)
        spent["decoding"] += clock() - start
        guess = np.roll(np.where(truth == VOID, 0, truth), 7, 1).astype(np.uint8)
        start = clock()
        (image,) = score.count_pairs([(path.stem, truth, guess)], VOC.names, "voc21")
        spent["counting"] += clock() - start
        start = clock()
        (image,) = score.count_pairs([(path.stem, truth, guess)], VOC.names)
        spent["contours"] += clock() - start
        start = clock()
        matrix.update(torch.from_numpy(guess), torch.from_numpy(truth))
        spent["torchmetrics"] += clock() - start
        images.append(image)
    start = clock()
    found = score.summarise_all(images)
    spent["figures"] = clock() - start
    counts = matrix.compute().numpy().astype(np.float64)
    union = counts.sum(0) + counts.sum(1) - np.diag(counts)
    mious = np.diag(counts) / union
    assert found["voc21"].miou == pytest.approx(mious.mean(), abs=1e-12)
    assert len(images) == 1449
    with capsys.disabled():
        print(f"\n{len(images)} masks, CPU time over that of decoding them once")
        for name, seconds in spent.items():
            print(f"  {name:<13} {seconds / spent['decoding']:.2f} ({seconds:.2f} s)")
