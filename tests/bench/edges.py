"""One joint dense CRF against one a mask."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from contest import Contest, Setting
from sklearn.datasets import load_sample_image

from fslab.datasets import VOC
from fslab.records import LabelMap, Picture, Refinement
from fslab.refine import refine


def benches(setting: Setting) -> Iterator[Contest]:
    """Four labels, the background one of them; and four classes on a background."""
    size = (60, 80) if setting.smoke else (375, 500)
    picture = photograph(size)
    joint, single = Refinement("crf-joint"), Refinement("crf")
    cases = {
        "4-labels": (3, "one CRF a class, which is 3"),
        "4-masks": (4, "one CRF a class, which is 4"),
    }
    for name, (classes, against) in cases.items():
        labels = discs(size, classes)
        yield Contest(
            f"crf-{name}",
            f"dense CRF, joint, {size[1]} x {size[0]}, {classes} classes and the background",
            against,
            lambda labels=labels: refine(picture, labels, joint),
            lambda labels=labels: refine(picture, labels, single),
            target=2.0,
            each=3,
        )


def photograph(size: tuple[int, int]) -> Picture:
    """Return the middle of scikit-learn's photograph of a temple: real colours."""
    pixels = load_sample_image("china.jpg")
    top, left = ((have - want) // 2 for have, want in zip(pixels.shape, size, strict=False))
    return Picture(np.ascontiguousarray(pixels[top : top + size[0], left : left + size[1]]))


def discs(size: tuple[int, int], classes: int) -> LabelMap:
    """Return discs side by side, each of another class, on a background."""
    height, width = size
    down, right = np.mgrid[:height, :width]
    labels = np.zeros(size, np.uint8)
    for number in range(classes):
        middle = (number + 0.5) * width / classes
        labels[np.hypot(down - height / 2, right - middle) < 0.4 * width / classes] = number + 1
    return LabelMap(labels, VOC.names)
