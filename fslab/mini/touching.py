"""Scenes in which two objects of one class touch, and which pixel is of which.

Two cows side by side are one region of "cow"; here the generator knows where one ends. Scene number
i of a seed is the same however many are drawn, and none is of mini-VOC or of training.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from fslab.datasets import VOC, voc_palette
from fslab.mini.scenes import Drawn, draw, with_rim, write_scenes
from fslab.records import VOID, WIDE_VOID, Instances

LEAST = 150
"""Pixels that are seen of each object at least."""
CONTACT = 4
"""Pairs of neighbouring pixels, one of either object, that there are at least."""
_STREAM = 25
"""Tells a seed's touching scenes from its other scenes, and from its pairs."""


def touching(seed: int, index: int, hard: bool = False) -> Drawn:
    """Draw touching scene `index` of a seed; `hard` shows only designs that no training showed.

    Objects 1 and 2 of its `things` are of one class and touch; where there is a third, it is of
    another. Scenes in which too little of one is seen are drawn again.
    """
    rng = np.random.default_rng([seed, index, _STREAM])
    while True:
        found = draw(rng, hard, twins=True)
        seen = np.bincount(found.things.ravel(), minlength=3)[1:]
        if seen.min() >= LEAST and _meet(found.things):
            return found


def write_touching(
    folder: Path, count: int, seed: int, hard: bool = False, split: str = "val"
) -> list[str]:
    """Write touching scenes as a VOC-layout data set with SegmentationObject; return their names.

    In SegmentationObject/*.png a pixel has its object's number, 255 on the rim of each; the rim is
    void in SegmentationClass too. Otherwise as `fslab.mini.scenes.write`.
    """
    drawn = [touching(seed, index, hard) for index in range(count)]
    names = write_scenes(folder, (each.scene for each in drawn), split)
    objects = folder / "SegmentationObject"
    objects.mkdir(parents=True, exist_ok=True)
    for name, each in zip(names, drawn, strict=True):
        image = Image.fromarray(with_rim(each.things)).convert("P")
        image.putpalette(voc_palette().tobytes())
        image.save(objects / f"{name}.png", optimize=True)
    return names


def truth_of(drawn: Drawn) -> Instances:
    """Return which thing each pixel of a scene is of; the rims are void, and so is all of a thing
    that is nothing but rim."""
    void = drawn.scene.mask == VOID
    things = np.where(void, 0, drawn.things)
    there = np.unique(things[things > 0])
    numbers = np.searchsorted(there, things) + 1
    classes = tuple(int(drawn.labels[drawn.things == number][0]) for number in there)
    found = np.where(void, WIDE_VOID, np.where(things > 0, numbers, 0)).astype(np.uint16)
    return Instances(found, classes, VOC.names)


def _meet(things: np.ndarray) -> bool:
    """Tell whether objects 1 and 2 have enough neighbouring pixels."""
    beside = [(things[1:], things[:-1]), (things[:, 1:], things[:, :-1])]
    pairs = sum(int((one.astype(int) * other == 2).sum()) for one, other in beside)
    return pairs >= CONTACT
