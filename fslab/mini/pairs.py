"""Pairs of scenes that show the same object, and where each part of it is in both.

The generator places a sprite in either scene by a scale, a mirroring and a turn of its own, on
another ground, under another light and partly repainted; so which pixel of one scene shows what a
pixel of the other shows is known without annotation. `pair` number i of a seed is the same however
many are drawn; no picture is in two pairs, and none is of mini-VOC or of training.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from fslab.datasets import VOC_CLASSES
from fslab.mini.scenes import Drawn, draw
from fslab.mini.sprites import Sprite, sprites_of
from fslab.records import KeypointPair, Picture

STEP = 6
"""Every so many pixels of the first scene, down and across, is a point."""
LEAST = 8
"""A pair has at least so many points; scenes that show less of the object are drawn again."""
_STREAM = 24
"""Tells a seed's pairs from its scenes."""


def pair(seed: int, index: int, hard: bool = False) -> KeypointPair:
    """Draw pair `index` of a seed; `hard` shows only designs that no training picture holds.

    Classes are drawn evenly, then a design, then one of its glyphs. Points are pixels of the first
    scene, on a grid of 6, that show the object and whose part the second scene shows too.
    """
    rng = np.random.default_rng([seed, index, _STREAM])
    sprite = _sprite(rng, hard)
    found = None
    while found is None:
        found = _seen_in_both(sprite, draw(rng, hard, first=sprite), draw(rng, hard, first=sprite))
    name = f"pair {index}, {VOC_CLASSES[sprite.voc_class]}"
    first, second = (Picture(each.pixels, name) for each in (found.first, found.second))
    return replace(found, first=first, second=second)


def pairs(count: int, seed: int, hard: bool = False) -> Iterator[KeypointPair]:
    """Draw `count` pairs of a seed, one after the other."""
    for index in range(count):
        yield pair(seed, index, hard)


def _sprite(rng: np.random.Generator, hard: bool) -> Sprite:
    known = sprites_of(int(rng.integers(1, 21)), hard)
    designs = sorted({sprite.design for sprite in known})
    design = designs[int(rng.integers(len(designs)))]
    glyphs = [sprite for sprite in known if sprite.design == design]
    return glyphs[int(rng.integers(len(glyphs)))]


def _seen_in_both(sprite: Sprite, first: Drawn, second: Drawn) -> KeypointPair | None:
    """Return a pair's points and their truth; None where too few are seen in both scenes."""
    one = sprite.voc_class
    rows, columns = (np.arange(STEP // 2, side, STEP) for side in first.labels.shape)
    grid = np.stack(np.meshgrid(rows, columns, indexing="ij"), -1).reshape(-1, 2)
    points = grid[first.labels[tuple(grid.T)] == one]
    truth = second.frames[one].to_scene(first.frames[one].to_sprite(points))
    inside = ((truth > -0.5) & (truth < np.array(second.labels.shape) - 0.5)).all(1)
    points, truth = points[inside], truth[inside]
    seen = second.labels[tuple(np.rint(truth).astype(int).T)] == one
    if seen.sum() < LEAST:
        return None
    box = np.ptp(np.nonzero(second.labels == one), axis=1) + 1
    mirrored = first.frames[one].flip != second.frames[one].flip
    pictures = Picture(first.scene.pixels), Picture(second.scene.pixels)
    return KeypointPair(*pictures, points[seen], truth[seen], (int(box[0]), int(box[1])), mirrored)
