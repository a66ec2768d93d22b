"""Fit, and measure, how a picture of mini's drawn world is told from any other.

    python tests/drawn_world.py PHOTOGRAPHS --held HELD_PHOTOGRAPHS [--write]

PHOTOGRAPHS: a folder to choose by, searched with its subfolders; HELD_PHOTOGRAPHS: another one, to
measure on. Scenes to choose by are drawn anew; those to measure on are mini-VOC's three splits.
`--write` puts the coefficients and the figures into fslab/mini/drawn_world.json.
"""

import argparse
import io
import json
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.linear_model import LogisticRegression

import fslab
from fslab.lab.drawn import statistics
from fslab.mini.scenes import scene

ROOT = Path(__file__).parents[1]
TARGET = ROOT / "fslab" / "mini" / "drawn_world.json"
SPLITS = ("val", "val-hard", "search")
SEEDS = {"scenes": 4242, "hard scenes": 4243}


def read_all(folder):
    paths = [path for path in sorted(Path(folder).rglob("*")) if path.suffix in (".jpg", ".jpeg")]
    return [fslab.read(path).pixels for path in paths]


def jpeg(pixels, quality):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file).convert("RGB"))


def scaled(pixels, factor):
    image = Image.fromarray(pixels)
    size = round(image.width * factor), round(image.height * factor)
    return np.asarray(image.resize(size, Image.Resampling.BICUBIC))


def grey(pixels):
    return np.repeat(pixels.mean(2, keepdims=True).astype(np.uint8), 3, axis=2)


def crop(pixels, rng, least):
    height, width = pixels.shape[:2]
    side = int(min(height, width) * rng.uniform(least, 0.9))
    top, left = rng.integers(0, height - side + 1), rng.integers(0, width - side + 1)
    return pixels[top : top + side, left : left + side]


def scenes_to_choose_by(rng):
    drawn = [scene(SEEDS["scenes"], number).pixels for number in range(1200)]
    drawn += [scene(SEEDS["hard scenes"], number, hard=True).pixels for number in range(300)]
    changes = (
        lambda one: one,
        lambda one: jpeg(one, 70),
        lambda one: scaled(one, 3),
        lambda one: jpeg(scaled(one, 2), 80),
    )
    return drawn + [changes[rng.integers(len(changes))](one) for one in drawn[:600]]


def photographs_to_choose_by(folder, rng):
    for one in read_all(folder):
        yield from (one, one[:, ::-1], grey(one), jpeg(scaled(one, 0.4), 50))
        yield from (crop(one, rng, 0.4) for _ in range(8))


def fit(photographs):
    rng = np.random.default_rng(0)
    drawn = np.array([statistics(one) for one in scenes_to_choose_by(rng)])
    others = np.array([statistics(one) for one in photographs_to_choose_by(photographs, rng)])
    mean, deviation = drawn.mean(0), drawn.std(0)
    inputs = (np.concatenate([drawn, others]) - mean) / deviation
    truth = np.r_[np.zeros(len(drawn)), np.ones(len(others))]
    model = LogisticRegression(C=1, class_weight="balanced", max_iter=5000)
    model.fit(np.c_[inputs, inputs**2], truth)
    return {
        "mean": mean.tolist(),
        "deviation": deviation.tolist(),
        "weights": model.coef_[0].tolist(),
        "bias": float(model.intercept_[0]),
    }


def called_drawn(coefficients, pictures):
    rows = np.array([statistics(one) for one in pictures])
    rows = (rows - coefficients["mean"]) / coefficients["deviation"]
    return np.c_[rows, rows**2] @ coefficients["weights"] + coefficients["bias"] <= 0


def measure(coefficients, held):
    """Return the share of errors, and of how many pictures, on data that nothing was chosen by."""
    rng = np.random.default_rng(1)
    minivoc = ROOT / "data" / "minivoc"
    splits = {}
    for split in SPLITS:
        names = (minivoc / "ImageSets" / "Segmentation" / f"{split}.txt").read_text().split()
        splits[split] = [fslab.read(minivoc / "JPEGImages" / f"{n}.png").pixels for n in names]
    val = splits["val"]
    drawn = {
        **splits,
        "val, JPEG 60": [jpeg(one, 60) for one in val],
        "val, 4 times as large": [scaled(one, 4) for one in val],
        "val, 0.7 times as large": [scaled(one, 0.7) for one in val],
    }
    photographs = read_all(held)
    small = [scaled(one, 96 / min(one.shape[:2])) for one in photographs]
    others = {
        "photographs": photographs,
        "photographs in grey": [grey(one) for one in photographs],
        "crops of photographs": [crop(one, rng, 0.3) for one in photographs for _ in range(4)],
        "thumbnails of 96 px": small,
        "photographs, much blurred": [scaled(scaled(one, 0.1), 10) for one in photographs],
    }
    figures = {}
    for name, pictures in drawn.items():
        figures[name] = {"wrong": round(float(1 - called_drawn(coefficients, pictures).mean()), 4)}
        figures[name]["pictures"] = len(pictures)
    for name, pictures in others.items():
        figures[name] = {"wrong": round(float(called_drawn(coefficients, pictures).mean()), 4)}
        figures[name]["pictures"] = len(pictures)
    return figures


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("photographs")
    parser.add_argument("--held", required=True)
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    coefficients = fit(given.photographs)
    figures = measure(coefficients, given.held)
    for name, row in figures.items():
        print(
            f"{name:<26} {row['pictures']:4d} pictures, {100 * row['wrong']:5.1f} % called wrongly"
        )
    if given.write:
        text = json.dumps({"errors": figures, "coefficients": coefficients}, indent=1)
        TARGET.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
