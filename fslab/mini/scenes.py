"""The drawn world: scenes of one to three objects whose colours the ground shares.

`Scene` number i of a seed is the same however many are made. Colour must not tell objects from
grounds here: objects are partly repainted in the ground's colours, grounds carry blots of the
objects' colours, and light falls unevenly over both.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from fslab.datasets import VOC_CLASSES, voc_palette
from fslab.mini.captions import caption
from fslab.mini.grounds import GROUND_NAMES, noise, paint
from fslab.mini.sprites import Sprite, premultiplied, sprites_of
from fslab.records import VOID

SIDE = 96
"""Shorter side of every scene, pixels."""
SHAPES = ((SIDE, SIDE), (SIDE, 128), (128, SIDE))
"""Sizes (H, W) of scenes; seven of ten are square."""
TWO_GROUNDS = 0.3
"""Share of scenes with a horizon between two grounds."""
CAMOUFLAGE = (0.0, 0.4)
"""How far an object's colours go towards the ground's, drawn evenly from this range."""
BLOTS = 0.25
"""Share of objects whose colours also lie as blots on the ground."""
OVERLAP = (0.02, 0.2)
"""Which share of an object the other one of its class hides at most, drawn evenly from this."""
INSIDE = 0.85
"""At least this share of each of two objects of one class lies in the picture."""
TWIN_SCALE = (0.4, 0.62)
"""Longer side of each of two objects of one class, as a share of the picture's shorter side."""
OTHER_SCALE = (0.3, 0.45)
"""The same of an object of another class beside them."""


@dataclass(frozen=True, eq=False)
class Scene:
    """One drawn scene.

    pixels: u8 [H, W, 3]; mask: u8 [H, W], VOC ids with 255 on the rim of objects; objects: VOC ids
    from the largest visible area down; sides: "left", "right" or "" for each; grounds: their names.
    """

    pixels: np.ndarray
    mask: np.ndarray
    caption: str
    objects: tuple[int, ...]
    sides: tuple[str, ...]
    grounds: tuple[str, ...]


@dataclass(frozen=True)
class Frame:
    """How a sprite lies in a scene: it is scaled, mirrored, turned, and put somewhere.

    fitted: its width and height before it is turned; turned: height and width of the cut-out
    after; corner: where the cut-out begins, (row, column), which may be outside the scene.
    """

    fitted: tuple[int, int]
    flip: bool
    degrees: float
    turned: tuple[int, int]
    corner: tuple[int, int]

    def to_scene(self, shares: np.ndarray) -> np.ndarray:
        """Return where places of the sprite are in the scene, f64 [N, 2] (row, column) in pixels.

        shares: f64 [N, 2], (row, column) as shares of the sprite's height and width.
        """
        down, across = ((shares - 0.5) * self.fitted[::-1]).T
        across = -across if self.flip else across
        sine, cosine = np.sin(np.radians(self.degrees)), np.cos(np.radians(self.degrees))
        turned = np.stack([down * cosine - across * sine, down * sine + across * cosine], 1)
        middle: np.ndarray = turned + np.array(self.turned) / 2 + self.corner - 0.5
        return middle

    def to_sprite(self, pixels: np.ndarray) -> np.ndarray:
        """Return which places of the sprite pixels (row, column) show: `to_scene`'s inverse."""
        down, across = (pixels + 0.5 - self.corner - np.array(self.turned) / 2).T
        sine, cosine = np.sin(np.radians(self.degrees)), np.cos(np.radians(self.degrees))
        down, across = down * cosine + across * sine, across * cosine - down * sine
        across = -across if self.flip else across
        shares: np.ndarray = np.stack([down, across], 1) / self.fitted[::-1] + 0.5
        return shares


@dataclass(frozen=True, eq=False)
class _Placed:
    """A cut-out at its place: f32 [h, w, 4] premultiplied, 0..255."""

    voc_class: int
    cutout: np.ndarray
    frame: Frame

    def window(self, size: tuple[int, int]) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
        """Return the slices of the canvas and of the cut-out where both overlap."""
        canvas, own = [], []
        for start, length, limit in zip(
            self.frame.corner, self.cutout.shape[:2], size, strict=True
        ):
            low, high = max(0, start), min(limit, start + length)
            canvas.append(slice(low, high))
            own.append(slice(low - start, high - start))
        return (canvas[0], canvas[1]), (own[0], own[1])

    def cover(self, size: tuple[int, int]) -> np.ndarray:
        """Return where the cut-out covers the canvas, bool [H, W]."""
        found = np.zeros(size, dtype=bool)
        canvas, own = self.window(size)
        found[canvas] = self.cutout[own][..., 3] > 127
        return found


@dataclass(frozen=True, eq=False)
class Drawn:
    """A scene, and what only its maker knows.

    labels: u8 [H, W], VOC ids without the rim of void; frames: how each object's sprite lies in it,
    by VOC id, of two of one class the upper one's. things: u8 [H, W], 1 and up for the objects from
    the lowest up, 0 on the ground.
    """

    scene: Scene
    labels: np.ndarray
    frames: dict[int, Frame]
    things: np.ndarray


def scene(seed: int, index: int, hard: bool = False, square: bool = False) -> Scene:
    """Draw scene `index` of a seed; `hard` shows only held-out designs, `square` only 96 x 96."""
    return draw(np.random.default_rng([seed, index]), hard, square).scene


def draw(
    rng: np.random.Generator,
    hard: bool = False,
    square: bool = False,
    first: Sprite | None = None,
    twins: bool = False,
) -> Drawn:
    """Draw a scene; first: an object that it shall show, below all others.

    twins: the lowest object has another of its class above it, which begins to hide it; one object
    of another class stands beside them at most.
    """
    shape = SHAPES[int(rng.choice(3, p=(0.7, 0.15, 0.15)))]
    size = SHAPES[0] if square else shape
    grounds, canvas = _paint_grounds(rng, size)
    count = int(rng.choice(3, p=(0.45, 0.43, 0.12))) + 1
    classes = [int(one) for one in rng.permutation(20)[:count] + 1]
    sprites = [_choose(rng, sprites_of(one, hard)) for one in classes]
    if first is not None:
        others = [sprite for sprite in sprites[1:] if sprite.voc_class != first.voc_class]
        sprites = [first, *others]
        classes = [sprite.voc_class for sprite in sprites]
    if twins:
        classes = classes[:2]
        placed = _place_twins(rng, sprites[:2], size, hard)
    else:
        placed = _place(rng, sprites, size)
    canvas = _add_blots(rng, canvas, placed)
    placed = [_repaint(rng, one, canvas) for one in placed]
    canvas, things = _compose(rng, canvas, placed)
    labels = np.array([0, *(one.voc_class for one in placed)], np.uint8)[things]
    pixels = _light(rng, canvas)
    objects, sides = _seen(labels, classes)
    names = [VOC_CLASSES[one] for one in objects]
    text = caption(rng, names, grounds, sides)
    mask = np.where(with_rim(things) == VOID, VOID, labels).astype(np.uint8)
    shown = Scene(pixels, mask, text, objects, sides, grounds)
    return Drawn(shown, labels, {one.voc_class: one.frame for one in placed}, things)


def scenes(count: int, seed: int, hard: bool = False) -> Iterator[Scene]:
    """Draw `count` scenes of a seed, one after the other."""
    for index in range(count):
        yield scene(seed, index, hard)


def write(folder: Path, count: int, seed: int, hard: bool = False, split: str = "val") -> list[str]:
    """Write scenes as a VOC-layout data set (or add a split to one); return the scenes' names.

    JPEGImages/*.png, SegmentationClass/*.png, ImageSets/Segmentation/<split>.txt, captions.tsv.
    """
    return write_scenes(folder, scenes(count, seed, hard), split)


def write_scenes(folder: Path, drawn: Iterable[Scene], split: str) -> list[str]:
    """Write scenes that are drawn already, as `write` does; return their names."""
    pictures, masks = folder / "JPEGImages", folder / "SegmentationClass"
    lists = folder / "ImageSets" / "Segmentation"
    for part in (pictures, masks, lists):
        part.mkdir(parents=True, exist_ok=True)
    palette = voc_palette().tobytes()
    names, captions = [], []
    for index, one in enumerate(drawn):
        names.append(f"{split}_{index:04d}")
        captions.append(f"{names[-1]}\t{one.caption}\n")
        Image.fromarray(one.pixels).save(pictures / f"{names[-1]}.png", optimize=True)
        mask = Image.fromarray(one.mask).convert("P")
        mask.putpalette(palette)
        mask.save(masks / f"{names[-1]}.png", optimize=True)
    (lists / f"{split}.txt").write_text("".join(f"{name}\n" for name in names))
    _merge_captions(folder / "captions.tsv", split, captions)
    return names


def single(rng: np.random.Generator, voc_class: int, side: int = 64) -> np.ndarray:
    """Draw one object, cut out by its sprite's alpha, large on a ground or on a plain colour.

    Returns u8 [side, side, 4]: the picture and, as fourth channel, the object's alpha, so that
    training can put the same object on black, on its mean colour or with ragged borders.
    """
    size = (side, side)
    _, canvas = _paint_grounds(rng, size)
    sprite = _choose(rng, sprites_of(voc_class, False))
    placed = _placed(rng, sprite, size, (0.62, 1.05))
    placed = _repaint(rng, placed, canvas)
    canvas, things = _compose(rng, canvas, [placed])
    return np.dstack([_light(rng, canvas), np.where(things > 0, 255, 0).astype(np.uint8)])


def ground_only(rng: np.random.Generator, name: str, side: int = 64) -> np.ndarray:
    """Draw one ground, blots of some object on it but no object: u8 [side, side, 3]."""
    canvas = paint(rng, name, (side, side))
    sprite = _choose(rng, sprites_of(int(rng.integers(1, 21)), False))
    canvas = _add_blots(rng, canvas, [_placed(rng, sprite, (side, side), (0.4, 0.8))])
    return _light(rng, canvas)


def _choose(rng: np.random.Generator, sprites: tuple[Sprite, ...]) -> Sprite:
    """Choose a design set first, then one of its glyphs, so that no set outweighs another."""
    designs = sorted({sprite.design for sprite in sprites})
    design = designs[int(rng.integers(len(designs)))]
    glyphs = [sprite for sprite in sprites if sprite.design == design]
    return glyphs[int(rng.integers(len(glyphs)))]


def _paint_grounds(
    rng: np.random.Generator, size: tuple[int, int]
) -> tuple[tuple[str, ...], np.ndarray]:
    """Paint one ground, or two with an uneven horizon between: names and f32 [H, W, 3]."""
    first, second = (GROUND_NAMES[int(one)] for one in rng.permutation(len(GROUND_NAMES))[:2])
    canvas = paint(rng, first, size)
    if rng.random() >= TWO_GROUNDS:
        return (first,), canvas
    height, width = size
    wave = noise(rng, (4, width), (24, 4))[0].astype(np.float32) / 255 * height * 0.2
    below = np.arange(height)[:, None] > wave + height * (0.3 + 0.3 * rng.random())
    return (first, second), np.where(below[..., None], paint(rng, second, size), canvas)


def _placed(
    rng: np.random.Generator, sprite: Sprite, size: tuple[int, int], scale: tuple[float, float]
) -> _Placed:
    """Give a sprite a size (a share of the picture's shorter side), a turn and a place."""
    longer = min(size) * (scale[0] + (scale[1] - scale[0]) * rng.random())
    factor = longer / max(sprite.picture.size)
    stretch = 0.85 + 0.3 * rng.random()
    width, height = sprite.picture.size
    fitted = max(8, round(width * factor * stretch)), max(8, round(height * factor / stretch))
    degrees = float(rng.integers(-20, 21))
    flip = bool(rng.integers(2))
    cutout = premultiplied(sprite, fitted, flip, degrees)
    corner = []
    for limit, length in zip(size, cutout.shape[:2], strict=True):
        low, high = sorted((-length // 10, limit - length + length // 10))
        corner.append(int(rng.integers(low, high + 1)))
    turned = (cutout.shape[0], cutout.shape[1])
    frame = Frame(fitted, flip, degrees, turned, (corner[0], corner[1]))
    return _Placed(sprite.voc_class, cutout, frame)


def _place(rng: np.random.Generator, sprites: list[Sprite], size: tuple[int, int]) -> list[_Placed]:
    """Place sprites so that none hides more than 25 % of one that was there, if eight tries do."""
    scale = {1: (0.55, 1.0), 2: (0.45, 0.76), 3: (0.4, 0.6)}[len(sprites)]
    placed: list[_Placed] = []
    for sprite in sprites:
        for _ in range(8):
            one = _placed(rng, sprite, size, scale)
            if all(_hidden(other, one, size) < 0.25 for other in placed):
                break
        placed.append(one)
    return placed


def _place_twins(
    rng: np.random.Generator, sprites: list[Sprite], size: tuple[int, int], hard: bool
) -> list[_Placed]:
    """Place the first sprite, another of its class at it, and the second sprite beside them.

    The other comes nearer from some side until it would hide more than a share of the first that is
    drawn from `OVERLAP`. Both have `INSIDE` of their pixels in the picture; tries are repeated.
    """
    while True:
        lower = _placed(rng, sprites[0], size, TWIN_SCALE)
        upper = _placed(rng, _choose(rng, sprites_of(sprites[0].voc_class, hard)), size, TWIN_SCALE)
        upper = _brought_near(lower, upper, 2 * np.pi * rng.random(), rng.uniform(*OVERLAP))
        if all(_inside(one, size) >= INSIDE for one in (lower, upper)):
            break
    placed = [lower, upper]
    for sprite in sprites[1:]:
        for _ in range(8):
            one = _placed(rng, sprite, size, OTHER_SCALE)
            if all(_hidden(other, one, size) < 0.02 for other in placed):
                return [*placed, one]
    return placed


def _brought_near(lower: _Placed, upper: _Placed, angle: float, most: float) -> _Placed:
    """Return the upper cut-out where, moving away from the lower's middle, it first hides little.

    angle: the way it moves, in radians; most: the share of the lower one that it may hide.
    """
    middle = np.array(lower.frame.corner) + np.array(lower.frame.turned) / 2
    step = np.array([np.sin(angle), np.cos(angle)])
    room = sum(lower.frame.turned) + sum(upper.frame.turned)
    whole = (2 * room, 2 * room)
    home = replace(lower, frame=replace(lower.frame, corner=(room, room)))
    shift = np.array(lower.frame.corner) - room
    for distance in range(room):
        at = np.rint(middle + distance * step - np.array(upper.frame.turned) / 2 - shift)
        frame = replace(upper.frame, corner=(int(at[0]), int(at[1])))
        if _hidden(home, replace(upper, frame=frame), whole) <= most:
            break
    row, column = np.array(frame.corner) + shift
    return replace(upper, frame=replace(frame, corner=(int(row), int(column))))


def _inside(one: _Placed, size: tuple[int, int]) -> float:
    """Return which share of a cut-out lies in the picture."""
    return float(one.cover(size).sum() / max(1, (one.cutout[..., 3] > 127).sum()))


def _hidden(lower: _Placed, upper: _Placed, size: tuple[int, int]) -> float:
    """Return which share of the lower cut-out the upper one hides."""
    below, above = (one.cover(size) for one in (lower, upper))
    return float((below & above).sum() / max(1, below.sum()))


def _add_blots(rng: np.random.Generator, canvas: np.ndarray, placed: list[_Placed]) -> np.ndarray:
    """Lay blots in the objects' own colours over the ground, with borders as sharp as theirs."""
    size = canvas.shape[:2]
    for one in placed:
        solid = one.cutout[one.cutout[..., 3] > 200][:, :3]
        if len(solid) == 0 or rng.random() > BLOTS:
            continue
        for colour in solid[rng.integers(0, len(solid), 1 + int(rng.integers(2)))]:
            cell = (10 + 16 * rng.random(), 10 + 16 * rng.random())
            blot = noise(rng, size, cell).astype(np.float32) - (165 + 25 * rng.random())
            cover = np.clip(blot / 12, 0, 0.9)[..., None]
            shade = 0.75 + noise(rng, size, (6, 6)).astype(np.float32)[..., None] / 510
            canvas = canvas * (1 - cover) + colour * shade * cover
    return canvas


def _repaint(rng: np.random.Generator, one: _Placed, canvas: np.ndarray) -> _Placed:
    """Paint an object's light and dark parts in two of the ground's colours, to some degree."""
    alpha = one.cutout[..., 3:] / 255
    rgb = one.cutout[..., :3] / np.maximum(alpha, 1 / 255)
    rows, columns = (rng.integers(0, limit, 3) for limit in canvas.shape[:2])
    colours = canvas[rows, columns]
    grey = (rgb[..., 0] * 0.3 + rgb[..., 1] * 0.59 + rgb[..., 2] * 0.11) / 255
    part = noise(rng, grey.shape, (14, 14)) > 128
    warm = rgb[..., 0] > rgb[..., 2] + 24
    chosen = np.where(
        warm[..., None], colours[0], np.where(part[..., None], colours[1], colours[2])
    )
    target = chosen * (0.45 + 1.0 * grey[..., None])
    strength = CAMOUFLAGE[0] + (CAMOUFLAGE[1] - CAMOUFLAGE[0]) * rng.random()
    mixed = np.clip(rgb * (1 - strength) + target * strength, 0, 255)
    return _Placed(one.voc_class, np.dstack([mixed * alpha, one.cutout[..., 3]]), one.frame)


def _compose(
    rng: np.random.Generator, canvas: np.ndarray, placed: list[_Placed]
) -> tuple[np.ndarray, np.ndarray]:
    """Lay the objects over the ground: f32 [H, W, 3], and which is seen, from 1, u8 [H, W].

    Sometimes the ground comes up in front of an object's foot, as grass or snow does.
    """
    size = canvas.shape[:2]
    things = np.zeros(size, dtype=np.uint8)
    canvas = canvas.copy()
    for number, one in enumerate(placed, 1):
        window, own = one.window(size)
        piece = one.cutout[own]
        if rng.random() < 0.15:
            rise = noise(rng, piece.shape[:2], (7, 9)).astype(np.float32) / 255
            depth = np.arange(piece.shape[0])[:, None] / piece.shape[0]
            piece = piece * (depth + 0.25 * rise < 0.95)[..., None]
        alpha = piece[..., 3:] / 255
        canvas[window] = canvas[window] * (1 - alpha) + piece[..., :3]
        things[window] = np.where(piece[..., 3] > 127, number, things[window])
    return canvas, things


def _light(rng: np.random.Generator, canvas: np.ndarray) -> np.ndarray:
    """Light a scene unevenly, lay a common grain over it and round to u8 [H, W, 3]."""
    size = canvas.shape[:2]
    shade = noise(rng, size, (64, 64)).astype(np.float32) / 255
    shade = 0.62 + 0.62 * shade + 0.1 * (noise(rng, size, (4, 4)).astype(np.float32) / 255 - 0.5)
    tint = 1 + (rng.random(3, dtype=np.float32) - 0.5) * 0.16
    grain = rng.integers(-7, 8, size, dtype=np.int16)[..., None]
    return np.clip(canvas * shade[..., None] * tint + grain, 0, 255).astype(np.uint8)


def _seen(labels: np.ndarray, classes: list[int]) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Order classes by visible area, largest first, and say on which side each one lies."""
    areas = {one: int((labels == one).sum()) for one in classes}
    objects = tuple(sorted(classes, key=lambda one: -areas[one]))
    sides = []
    for one in objects:
        columns = np.nonzero(labels == one)[1]
        middle = columns.mean() / labels.shape[1] if len(columns) else 0.5
        sides.append("left" if middle < 0.36 else "right" if middle > 0.64 else "")
    return objects, tuple(sides)


def with_rim(labels: np.ndarray) -> np.ndarray:
    """Mark as 255 each pixel beside one of another id: VOC's rim, two pixels wide in all."""
    mask = labels.copy()
    for axis in (0, 1):
        low = tuple(slice(None, -1) if one == axis else slice(None) for one in (0, 1))
        high = tuple(slice(1, None) if one == axis else slice(None) for one in (0, 1))
        differs = labels[low] != labels[high]
        mask[low][differs] = VOID
        mask[high][differs] = VOID
    return mask


def _merge_captions(path: Path, split: str, lines: list[str]) -> None:
    """Put a split's captions into captions.tsv in place of those it had."""
    kept = path.read_text().splitlines(keepends=True) if path.is_file() else []
    kept = [line for line in kept if not line.startswith(f"{split}_")]
    path.write_text("".join(sorted(kept + lines)))
