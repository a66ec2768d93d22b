"""The words and sentences of the drawn world: what captions call its objects and grounds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

OBJECT_WORDS: dict[str, tuple[str, ...]] = {
    "aeroplane": ("airplane", "plane", "aeroplane"),
    "bicycle": ("bicycle", "bike"),
    "bird": ("bird",),
    "boat": ("boat", "ship"),
    "bottle": ("bottle",),
    "bus": ("bus",),
    "car": ("car", "automobile"),
    "cat": ("cat", "kitten"),
    "chair": ("chair",),
    "cow": ("cow",),
    "diningtable": ("table", "dining table"),
    "dog": ("dog", "puppy"),
    "horse": ("horse", "pony"),
    "motorbike": ("motorcycle", "motorbike", "scooter"),
    "person": ("person",),
    "pottedplant": ("plant", "potted plant"),
    "sheep": ("sheep", "lamb"),
    "sofa": ("couch", "sofa"),
    "train": ("train",),
    "tvmonitor": ("tv", "monitor", "screen", "television"),
}
"""VOC class -> its words in captions, the usual one first."""

GROUND_WORDS: dict[str, tuple[str, ...]] = {
    "sky": ("sky",),
    "grass": ("grass",),
    "sea": ("sea", "water"),
    "road": ("road", "street"),
    "sand": ("sand", "beach"),
    "snow": ("snow",),
    "wall": ("wall",),
    "wood": ("wood", "wooden floor"),
    "carpet": ("carpet", "rug"),
    "forest": ("forest", "trees"),
}
"""Ground -> its words in captions, the usual one first."""

PROMPTS = (
    "a photo of a {}.",
    "a photo of the {}.",
    "a picture of a {}.",
    "a drawing of a {}.",
    "an image of a {}",
    "a {}",
    "{}",
    "itap of a {}.",
    "a bad photo of the {}.",
    "a origami {}.",
    "a photo of the large {}.",
    "a {} in a video game.",
    "art of the {}.",
    "a photo of the small {}.",
)
"""Sentences that CLIP learns to name things in: plain ones and those usual since its paper."""

USUAL = 0.7
"""Share of captions that take a thing's usual word; the others take any of its words."""

_BESIDE = {
    "sky": "in the",
    "sea": "on the",
    "road": "on a",
    "wall": "in front of a",
    "carpet": "on a",
}
_BESIDE |= {"forest": "in the"}
_STARTS = ("a photo of", "a picture of", "a drawing of", "an image of", "there is", "this is", "")
_BETWEEN = (" and ", " next to ", " beside ", " with ", " near ")


def article(noun: str) -> str:
    """Put "a" or "an" before a noun."""
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"


def word_for(rng: np.random.Generator, words: Sequence[str]) -> str:
    """Choose a word: the first with probability `USUAL`, else any of them."""
    return words[0] if rng.random() < USUAL else words[int(rng.integers(len(words)))]


def on_ground(rng: np.random.Generator, ground: str) -> str:
    """Say where things are: "on grass", "in front of a wall"."""
    return f"{_BESIDE.get(ground, 'on')} {word_for(rng, GROUND_WORDS[ground])}"


def caption(
    rng: np.random.Generator,
    classes: Sequence[str],
    grounds: Sequence[str],
    sides: Sequence[str] = (),
    ground_share: float = 0.25,
) -> str:
    """Write one caption: the classes in their order, and in some captions the ground.

    `sides` holds "", "left" or "right" for each class and is told in a fifth of the captions.
    """
    nouns = [article(word_for(rng, OBJECT_WORDS[name])) for name in classes]
    if any(sides) and rng.random() < 0.2:
        places = [f" on the {side}" if side else "" for side in sides]
        nouns = [noun + place for noun, place in zip(nouns, places, strict=True)]
    if len(nouns) > 2:
        text = f"{', '.join(nouns[:-1])} and {nouns[-1]}"
    else:
        text = _BETWEEN[int(rng.integers(len(_BETWEEN)))].join(nouns)
    text = f"{_STARTS[int(rng.integers(len(_STARTS)))]} {text}".strip()
    if rng.random() < ground_share:
        text += " " + on_ground(rng, grounds[int(rng.integers(len(grounds)))])
    return text


def plain_caption(classes: Sequence[str], ground: str = "") -> str:
    """Write the captioner's sentence: "a photo of a dog and a car on grass", usual words only."""
    nouns = [article(OBJECT_WORDS[name][0]) for name in classes]
    text = "a photo of " + " and ".join(nouns)
    return f"{text} {_BESIDE.get(ground, 'on')} {GROUND_WORDS[ground][0]}" if ground else text


def captions_words() -> list[str]:
    """List every word a caption can hold, sorted, for building tokenizers."""
    sources = [*_STARTS, *_BETWEEN, *_BESIDE.values(), "on the left right a an and , ."]
    sources += [word for words in (OBJECT_WORDS | GROUND_WORDS).values() for word in words]
    return sorted({word for source in sources for word in source.split()})


def prompt_words() -> list[str]:
    """List every word of `PROMPTS` without its full stop, sorted."""
    return sorted({word for prompt in PROMPTS for word in prompt.replace(".", "").split()} - {"{}"})
