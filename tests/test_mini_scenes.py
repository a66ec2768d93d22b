"""The drawn world: the same scenes for the same seed, and mini-VOC as committed."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fslab.datasets import VOC_CLASSES, voc_palette
from fslab.mini.captions import OBJECT_WORDS
from fslab.mini.grounds import GROUND_NAMES
from fslab.mini.minivoc import SPLITS
from fslab.mini.scenes import ground_only, scene, scenes, single, write
from fslab.mini.sprites import load_sprites, sprites_of

MINIVOC = Path(__file__).parent.parent / "data" / "minivoc"


def test_a_scene_does_not_depend_on_how_many_are_drawn():
    third = scene(5, 2)
    again = list(scenes(3, 5))[2]
    assert np.array_equal(third.pixels, again.pixels)
    assert np.array_equal(third.mask, again.mask)
    assert third.caption == again.caption


def test_scenes_have_the_promised_shapes_and_labels():
    shapes = set()
    for one in scenes(40, seed=3):
        shapes.add(one.pixels.shape[:2])
        assert one.pixels.dtype == one.mask.dtype == np.uint8
        assert one.pixels.shape == (*one.mask.shape, 3)
        seen = set(np.unique(one.mask)) - {0, 255}
        assert seen <= set(one.objects)
        assert 1 <= len(one.objects) <= 3
        assert set(one.grounds) <= set(GROUND_NAMES)
        words = OBJECT_WORDS[VOC_CLASSES[one.objects[0]]]
        assert any(word in one.caption for word in words)
    assert shapes == {(96, 96), (96, 128), (128, 96)}


def test_the_rim_parts_every_object_from_its_surroundings():
    mask = scene(1, 1).mask.astype(int)
    for first, second in ((mask[:, 1:], mask[:, :-1]), (mask[1:], mask[:-1])):
        touching = (first != second) & (first != 255) & (second != 255)
        assert not touching.any()


@pytest.mark.parametrize("voc_class", range(1, 21))
def test_every_class_has_four_designs_and_one_held_out(voc_class):
    shown, held_out = sprites_of(voc_class, False), sprites_of(voc_class, True)
    assert len({(sprite.design, sprite.glyph) for sprite in shown}) >= 4
    assert held_out
    assert not {sprite.design for sprite in shown} & {sprite.design for sprite in held_out}


def test_sprites_are_cut_out():
    for sprite in load_sprites():
        alpha = np.asarray(sprite.picture.getchannel("A"))
        assert max(sprite.picture.size) == 80
        assert (alpha > 127).mean() > 0.02
        assert (alpha < 128).any(), sprite.glyph


def test_training_pictures_of_one_object_or_none():
    pixels = single(np.random.default_rng(1), voc_class=12)
    assert pixels.shape == (64, 64, 4)
    assert set(np.unique(pixels[..., 3])) == {0, 255}
    assert ground_only(np.random.default_rng(1), "grass").shape == (64, 64, 3)


def test_written_sets_have_voc_layout(tmp_path):
    names = write(tmp_path, count=3, seed=9, hard=True)
    assert (tmp_path / "ImageSets/Segmentation/val.txt").read_text().split() == names
    mask = Image.open(tmp_path / "SegmentationClass" / f"{names[0]}.png")
    assert mask.mode == "P"
    assert np.array_equal(np.array(mask.getpalette()).reshape(256, 3), voc_palette())
    assert np.array_equal(np.asarray(mask), scene(9, 0, hard=True).mask)
    assert len((tmp_path / "captions.tsv").read_text().splitlines()) == 3


def test_minivoc_is_what_its_checksums_say():
    lines = (MINIVOC / "CHECKSUMS.sha256").read_text().splitlines()
    assert len(lines) == 2 * 500 + 4
    for line in lines:
        digest, name = line.split("  ")
        assert hashlib.sha256((MINIVOC / name).read_bytes()).hexdigest() == digest, name


@pytest.mark.parametrize("split", SPLITS)
def test_the_generator_still_makes_minivoc(split):
    count, seed, hard = SPLITS[split]
    names = (MINIVOC / "ImageSets/Segmentation" / f"{split}.txt").read_text().split()
    assert len(names) == count
    captions = dict(
        line.split("\t") for line in (MINIVOC / "captions.tsv").read_text().splitlines()
    )
    for index, one in enumerate(scenes(count, seed, hard)):
        picture = np.asarray(Image.open(MINIVOC / "JPEGImages" / f"{names[index]}.png"))
        mask = np.asarray(Image.open(MINIVOC / "SegmentationClass" / f"{names[index]}.png"))
        assert np.array_equal(picture, one.pixels), names[index]
        assert np.array_equal(mask, one.mask), names[index]
        assert captions[names[index]] == one.caption
