"""Cross-attention to words: as features, the paper's last stage, and as evidence for names."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np

from fslab.datasets import COCO_OBJECT, VOC
from fslab.heads import head_of, whole_of
from fslab.keys import word_keys_key
from fslab.lab.memory import Memory
from fslab.parts import versioned
from fslab.records import (
    Caption,
    Captioning,
    Extraction,
    Features,
    FslabError,
    Matching,
    Parting,
    Picture,
    Reading,
    Recipe,
    Vocabulary,
    words_of,
)
from fslab.tap import PROBABILITIES

if TYPE_CHECKING:
    from fslab.backbones import Backbone, TextBackbone


AS_USUAL = Extraction()

_PARTS = 3
"""So many words a compound has at most: "person in dress" is the longest."""


def looked_for(
    settings: Extraction, vocabulary: Vocabulary, candidates: Sequence[str]
) -> tuple[str, ...]:
    """Return the words, as they are said, whose attention maps a recipe asks for."""
    asked = {"none": (), "candidates": candidates, "vocabulary": vocabulary.classes}
    return tuple(vocabulary.texts(name)[0] for name in asked[settings.attention])


def asked_for(words: Sequence[str]) -> tuple[str, ...]:
    """Return words, each once; FslabError for a blank one and for anything but text."""
    found = words_of(words, "words")
    for word in found:
        if not word.strip():
            raise FslabError(f"words hold {word!r}; a blank has no place in a prompt")
    return tuple(dict.fromkeys(found))


def beside_layers(settings: Extraction, words: Sequence[str]) -> tuple[str, ...]:
    """Return the words whose maps join the layers; FslabError where attention asks for some."""
    if isinstance(words, str) or (settings.attention != "none" and not words):
        raise FslabError(f"words are {words!r}; attention to words needs a list of them")
    return asked_for(words)


def conditioned(
    settings: Extraction, caption: Caption, vocabulary: Vocabulary, backbone: Backbone
) -> Extraction:
    """Return how features are taken with the prompt that a picture's caption makes.

    settings: whose `prompted` says which. Raises FslabError for a backbone that reads no text.
    """
    if settings.prompted == "given":
        return settings
    reader = check_conditioned(settings, backbone)
    words = tuple(dict.fromkeys(spoken(caption.candidates, vocabulary).values()))
    text = _read_of(caption.text, reader) if settings.prompted == "caption" else ""
    if text:
        lacking = [word for word in words if not said_in(word, text)]
        behind = (f"{text}, {sentence_of(lacking[:count])}" for count in range(len(lacking), 0, -1))
        prompt = next((each for each in behind if _is_read(each, reader)), text)
    else:
        fitting = fitting_beside((), words, reader)
        prompt = sentence_of(fitting) if fitting else ""
    return replace(settings, prompt=prompt, prompted="given")


def check_conditioned(settings: Extraction, backbone: Backbone) -> TextBackbone:
    """Return a backbone whose pass a caption can condition; FslabError for one without text."""
    so = f"no caption can condition its pass; leave out extract.prompted = {settings.prompted!r}"
    return check_reads_text(backbone, so)


def said_in(word: str, text: str) -> bool:
    """Tell whether a text holds a word, or several, as such."""
    return bool(re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text, re.IGNORECASE))


def check_agnostic(recipe: Recipe) -> None:
    """Refuse a recipe whose features or K depend on words that only a caption gives."""
    k_is = getattr(recipe.cluster, "k_is", "fixed")
    for what, setting in (("K", k_is), ("attention", recipe.extract.attention)):
        if setting == "candidates":
            raise FslabError(
                f"{what} of {recipe.name} depends on the caption; run the whole method"
            )
    if recipe.extract.prompted != "given":
        raise FslabError(
            f"the prompt of {recipe.name} depends on the caption; run the whole method"
        )


def check_reads_text(backbone: Backbone, so: str = "it has no attention to words") -> TextBackbone:
    """Return a backbone that has a text encoder; FslabError, with what follows, for one without."""
    if not backbone.reads_text:
        raise FslabError(f"{backbone.name} reads no text, so {so}")
    return cast("TextBackbone", backbone)


def word_layers(layers: Sequence[str], backbone: Backbone) -> Sequence[str]:
    """Return where a backbone shows what a word attends to; a UNet's layers mean all elsewhere."""
    from fslab.backbones import written_for_unet

    elsewhere = backbone.reads_text and not backbone.has_unet and written_for_unet(layers)
    return ("*.to_text",) if elsewhere else layers


def with_words(
    features: Features,
    words: Sequence[str],
    settings: Extraction,
    backbone: Backbone,
    memory: Memory,
) -> Features:
    """Return features with a layer "....attn2.words" for each cross-attention query among them.

    Keys come from the store where they are, and maps are made of them and the queries: so no
    model is loaded for words that were asked of these weights before. Without words nothing joins.
    Raises FslabError for a backbone that reads no text, and where no layer is such a query.
    """
    from fslab.backbones import word_keys, word_maps

    reader = check_reads_text(backbone)
    queries = [key for key in features if whole_of(key.partition("@")[0]).endswith("attn2.to_q")]
    if not queries:
        raise FslabError(
            f"attention to words is read at cross-attention queries (paths that end in "
            f"attn2.to_q); the layers are {', '.join(features)}"
        )
    if not words:
        return features
    maps = dict(features)
    for key in queries:
        path, at, timestep = key.partition("@")
        whole, head = whole_of(path), head_of(path)
        named = word_keys_key(word_keys, backbone, whole, words, settings.precision)
        compute = partial(_word_keys, reader, whole, words, settings)
        keys = memory.shared(named, compute)
        keys = keys if head is None else keys[[head]]
        joined = f"{whole.removesuffix('to_q')}words{path.removeprefix(whole)}{at}{timestep}"
        maps[joined] = word_maps(features[key], keys)
    return Features(maps, features.size, features.name)


def evidence_for(
    attention: Callable[..., dict[str, np.ndarray]],
    picture: Picture,
    candidates: Sequence[str],
    vocabulary: Vocabulary,
    settings: Matching,
    backbone: Backbone,
    read: Extraction = AS_USUAL,
) -> dict[str, np.ndarray]:
    """Return where the diffusion model looks for each candidate: f32 [h, w] of 0..1 by candidate.

    attention: the lab's own, asked as `evidence_asked` says. Candidates are named in one prompt, in
    more where the text encoder reads no more words; empty where the weight is 0.
    """
    words = spoken(candidates, vocabulary)
    maps: dict[str, np.ndarray] = {}
    for together, how in evidence_asked(words.values(), settings, backbone, read):
        maps = {**attention(picture, together, **how), **maps}
    return named_evidence(maps, words, settings) if maps else {}


def spoken(candidates: Sequence[str], vocabulary: Vocabulary) -> dict[str, str]:
    """Return the word that each candidate is said by."""
    return {name: vocabulary.texts(name)[0] for name in candidates}


@versioned(1)
def evidence_asked(
    words: Iterable[str], settings: Matching, backbone: Backbone, read: Extraction = AS_USUAL
) -> list[tuple[list[str], dict[str, Any]]]:
    """Return the words of each prompt and the settings of `Lab.attention`; none for weight 0.

    read: how features are taken, whose size, noise, or none, and precision the evidence has too.
    """
    asked = list(dict.fromkeys(words))
    if not reads_evidence(settings) or not asked:
        return []
    reader = check_reads_text(backbone)
    how = {
        "layers": settings.attention_layers,
        "timesteps": settings.attention_timestep,
        "draws": settings.attention_draws if read.noise == "added" else 1,
        "noise": read.noise,
        "precision": read.precision,
        "resolution": read.resolution,
        "squash": read.squash,
        **({"mirrored": True} if read.mirrored else {}),
    }
    prompts = _prompts(asked, reader)
    reading = settings.reading
    apart = settings.attention_pass == "features"
    if reading == Reading() and not apart:
        return [(together, how) for together in prompts]
    found = [_with_beside(together, reading, settings, reader, how) for together in prompts]
    return [_said_apart(*each, read.prompt) for each in found] if apart else found


def reads_evidence(settings: Matching) -> bool:
    """Tell whether names are given by the diffusion model's evidence too, or by that alone."""
    return settings.assignment == "evidence" or bool(settings.attention)


def looks_asked(settings: Matching, backbone: Backbone, read: Extraction = AS_USUAL) -> Extraction:
    """Return how the self-attention is read by which beliefs are spread: without a prompt.

    read: how features are taken, whose size and precision it has. A UNet's layers mean the last
    one's elsewhere. Raises FslabError for a backbone that shows no self-attention.
    """
    asked = settings.spread_layers, settings.spread_timestep, settings.spread_noise
    return _looks_of(backbone, *asked, read, "by which matching.spread_layers spreads beliefs")


def purifying_looks(
    settings: Captioning, backbone: Backbone, read: Extraction = AS_USUAL
) -> Extraction:
    """Return how the self-attention is read by which candidates are purified; as `looks_asked`."""
    asked = settings.purify_layers, settings.purify_timestep
    what = "by which captioning.purify judges candidates"
    return _looks_of(backbone, *asked, "none", read, what)


def parting_looks(settings: Parting, backbone: Backbone) -> Extraction:
    """Return how the self-attention is read by which regions are parted; as `looks_asked`."""
    read = replace(AS_USUAL, resolution=settings.resolution, precision=settings.precision)
    what = "by which instances.by='edges' parts regions"
    return _looks_of(backbone, settings.layers, settings.timestep, "added", read, what)


def _looks_of(
    backbone: Backbone,
    layers: tuple[str, ...],
    timestep: int,
    noise: Literal["added", "none"],
    read: Extraction,
    what: str,
) -> Extraction:
    """Return how self-attention is read; FslabError, with what for, where a backbone has none."""
    from fslab.backbones import written_for_unet

    if not any(layer.path.endswith(PROBABILITIES) for layer in backbone.layers()):
        raise FslabError(f"{backbone.name} shows no self-attention, {what}; leave that out")
    if not backbone.has_unet and written_for_unet(layers):
        layers = (f"last:*{PROBABILITIES}",)
    plain = replace(
        AS_USUAL,
        layers=layers,
        resolution=read.resolution,
        squash=read.squash,
        precision=read.precision,
        mirrored=read.mirrored,
    )
    if backbone.timestep is None:
        return plain
    return replace(plain, timesteps=(timestep,), noise=noise)


def named_evidence(
    maps: Mapping[str, np.ndarray], words: Mapping[str, str], settings: Matching
) -> dict[str, np.ndarray]:
    """Return each candidate's map, and each background word's where these are labels too.

    maps: by word; words: by candidate, see `spoken`.
    """
    found = {name: maps[word] for name, word in words.items()}
    if settings.assignment == "evidence":
        found |= {word: maps[word] for word in settings.background if word in maps}
    return found


def _with_beside(
    words: list[str],
    reading: Reading,
    settings: Matching,
    backbone: TextBackbone,
    how: dict[str, Any],
) -> tuple[list[str], dict[str, Any]]:
    """Return a prompt's words and how they are read, with words beside as the prompt has room.

    Where background words are labels themselves they are asked for, not only named beside.
    """
    beside = fitting_beside(words, reading.beside, backbone)
    if settings.assignment == "evidence":
        return [*words, *beside], {**how, "reading": replace(reading, beside=())}
    return words, {**how, "reading": replace(reading, beside=beside)}


def _said_apart(
    words: list[str], how: dict[str, Any], prompt: str
) -> tuple[list[str], dict[str, Any]]:
    """Return words and how they are read where the pass has another prompt than theirs."""
    reading = how["reading"]
    said = sentence_of([*words, *reading.beside])
    return words, {**how, "prompt": prompt, "reading": replace(reading, said=said)}


def fitting_beside(
    words: Sequence[str], beside: Sequence[str], backbone: TextBackbone
) -> tuple[str, ...]:
    """Return which words the prompt that lists the others has room for, the first first."""
    found: list[str] = []
    for word in beside:
        if word not in words and _is_read(sentence_of([*words, *found, word]), backbone):
            found.append(word)
    return tuple(found)


def _read_of(text: str, backbone: TextBackbone) -> str:
    """Return a text without the words at its end that the text encoder does not read."""
    words = text.split()
    while words and not _is_read(" ".join(words), backbone):
        words.pop()
    return " ".join(words)


def _is_read(prompt: str, backbone: TextBackbone) -> bool:
    """Tell whether the text encoder reads a prompt to its end."""
    return max(end for _, end in backbone.token_spans(prompt)) == len(prompt)


def compounds_by_word(prompt: str, words: Sequence[str]) -> dict[str, list[str]]:
    """Return, by word, the prompt's compounds that hold it and mean something else.

    They name a class of VOC's or COCO's that the word does not: "hot dog" for "dog", but no
    "dining table" for "table".
    """
    places = [match.span() for match in re.finditer(r"\w+", prompt)]
    spans = itertools.combinations(range(len(places)), 2)
    phrases = [prompt[places[a][0] : places[b][1]] for a, b in spans if b - a < _PARTS]
    found: dict[str, list[str]] = {word: [] for word in words}
    for phrase in phrases:
        if not re.fullmatch(r"\w+(?:[\s-]+\w+)+", phrase):
            continue
        classes = [(each, named) for each in (VOC, COCO_OBJECT) if (named := each.find(phrase))]
        for word, compounds in found.items():
            if not classes or not said_in(word, phrase):
                continue
            if all(each.find(word) != named for each, named in classes):
                compounds.append(phrase)
    return found


def sentence_of(words: Sequence[str]) -> str:
    """Say that a picture shows all words: "a photo of a dog and a car"."""
    return f"a photo of {' and '.join(f'a {word}' for word in words)}"


def _word_keys(
    backbone: TextBackbone, path: str, words: Sequence[str], settings: Extraction
) -> np.ndarray:
    from fslab.backbones import word_keys

    return np.ascontiguousarray(word_keys(backbone, path, words, settings.precision).numpy())


def _prompts(words: Sequence[str], backbone: TextBackbone) -> list[list[str]]:
    """Part words into as few sentences as the text encoder reads to their ends."""
    parts: list[list[str]] = []
    for word in words:
        longer = [*parts[-1], word] if parts else [word]
        prompt = sentence_of(longer)
        if parts and _is_read(prompt, backbone):
            parts[-1] = longer
        else:
            parts.append([word])
    return parts
