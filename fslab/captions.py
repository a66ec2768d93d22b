"""From a picture to candidate classes: a BLIP caption, its nouns, and what the nouns name."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image

from fslab.backbones.weights import load_parts
from fslab.records import Caption, Captioning, FslabError, Vocabulary

if TYPE_CHECKING:
    from transformers import BertTokenizer, BlipForConditionalGeneration, BlipImageProcessorPil

Embed = Callable[[Sequence[str]], np.ndarray]
"""Texts -> f32 [N, D], each row the mean of a text's token embeddings."""

STOP_NOUNS = frozenset(
    (
        *("amount", "back", "bottom", "call", "front", "move", "name", "part", "show", "side"),
        *("top", "whole", "anyone", "anything", "everyone", "everything", "nobody", "none"),
        *("nothing", "one", "other", "someone", "something"),
    )
)
"""The words of spaCy's English stop list that a tagger may call nouns.

The authors' released code takes *non-stop* nouns, which drops "front" and "side". It has no
list of its own: "photo" and "group" stay, and the distance rule of `closest_classes` drops them.
"""

_SINGULARS = {"clothes": "clothes", "lens": "lens", "shelves": "shelf", "ties": "tie"}
"""Words that TextBlob's rules turn into no word."""


class Captioner:
    """BLIP with its tokenizer and PIL image processor; holds no state besides them."""

    def __init__(
        self,
        model: BlipForConditionalGeneration,
        tokenizer: BertTokenizer,
        image_processor: BlipImageProcessorPil,
    ) -> None:
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.image_processor = image_processor

    @torch.inference_mode()
    def caption(self, pixels: np.ndarray, max_new_tokens: int = 20, beams: int = 1) -> str:
        """Describe pixels, u8 [H, W, 3], in one sentence; the same pixels give the same words."""
        given = self.image_processor(images=[Image.fromarray(pixels)], return_tensors="pt")
        tokens = self.model.generate(
            given["pixel_values"].to(self.model.device, self.model.dtype),
            max_new_tokens=max_new_tokens,
            num_beams=beams,
            do_sample=False,
        )
        # The first token is the prompt's own start, which not every tokenizer knows as special.
        return self.tokenizer.decode(tokens[0, 1:], skip_special_tokens=True).strip()


def load_captioner(
    folder: str | Path, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32
) -> Captioner:
    """Load BLIP from a local folder in transformers' format: safetensors, no code, no network.

    Raises FslabError where the folder, its weights, tokenizer or processor are not there.
    """
    from transformers import BertTokenizer, BlipForConditionalGeneration, BlipImageProcessorPil

    kinds = BlipForConditionalGeneration, BertTokenizer, BlipImageProcessorPil
    return Captioner(*load_parts(kinds, folder, device, dtype))


def nouns(text: str, tagger: str = "textblob") -> tuple[str, ...]:
    """Return a caption's nouns: lower case, singular, in order, each once.

    Single words, as in the authors' released code: "dining table" gives "dining" and "table".
    (`named_classes` reads compounds from the caption itself.) Its rule that turns adjectives
    into nouns is left out: it makes words such as "white brown". `tagger` is "textblob", which
    needs no corpus, or "spacy", the authors' own, where its English model is installed.
    """
    return tuple(dict.fromkeys(_nouns_by_word(text, tagger).values()))


def _nouns_by_word(text: str, tagger: str) -> dict[str, str]:
    """Map each word that is a noun, as it is written in lower case, to its singular."""
    if tagger not in ("textblob", "spacy"):
        raise FslabError(f"tagger is {tagger!r}; it is one of 'textblob', 'spacy'")
    found = _textblob_nouns(text.lower()) if tagger == "textblob" else _spacy_nouns(text.lower())
    return {word: noun for word, noun in found if word not in STOP_NOUNS and noun[:1].isalnum()}


def _textblob_nouns(text: str) -> list[tuple[str, str]]:
    from textblob.en import tag

    found, last = [], ""
    for word, kind in tag(text):
        # After a singular noun a verb would be "stands", so the "monitor" of "a tv monitor",
        # which the tagger calls a bare verb, is a noun too.
        kind = "NN" if kind == "VB" and last == "NN" else kind
        if kind.startswith("NN"):
            found.append((word, _singular(word) if kind == "NNS" else word))
        last = kind
    return found


def _spacy_nouns(text: str) -> list[tuple[str, str]]:
    return [
        (token.text, token.lemma_)
        for token in _spacy_model()(text)
        if token.pos_ == "NOUN" and not token.is_stop
    ]


@cache
def _spacy_model() -> Any:
    try:
        import spacy

        return spacy.load("en_core_web_sm")
    except (ImportError, OSError) as error:
        raise FslabError(
            "tagger 'spacy' needs spaCy and its English model: `pip install spacy`, then "
            "`python -m spacy download en_core_web_sm`; tagger 'textblob' needs nothing"
        ) from error


@cache
def _singular(word: str) -> str:
    from textblob.en.inflect import singularize

    if word.endswith(("ss", "us", "is")):  # glass, bus, tennis
        return word
    return _SINGULARS.get(word) or singularize(word)


def closest_classes(nouns: Sequence[str], vocabulary: Vocabulary, embed: Embed) -> tuple[str, ...]:
    """Map nouns to the classes nearest in text: the authors' closed-vocabulary rule.

    A noun goes to the class at the least correlation distance (1 - Pearson's r) between mean
    text embeddings, the class said as "A photo of {class}", the noun bare. Nouns farther than
    the mean of these least distances are dropped: "photo" and "front" are far from any class.
    So a caption's only noun always stays, and of two the farther one goes.
    Classes come in the order of their nouns, each once. Classes are spoken ("tv monitor")
    where the released code gives the data set's own spelling.
    """
    if not nouns:
        return ()
    prompts = [f"A photo of {vocabulary.texts(name)[0]}" for name in vocabulary.classes]
    distances = _correlation_distances(embed(list(nouns)), embed(prompts))
    nearest, least = distances.argmin(1), distances.min(1)
    kept = least <= least.mean() + 1e-12  # equal distances are their own mean, but for rounding
    found = (vocabulary.classes[index] for index in nearest[kept])
    return tuple(dict.fromkeys(found))


def _correlation_distances(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Return 1 - Pearson's r of f32 [N, D] against [M, D]: f64 [N, M]; 1 for a flat vector."""

    def standard(given: np.ndarray) -> np.ndarray:
        centred = given.astype(np.float64) - given.mean(1, keepdims=True, dtype=np.float64)
        return centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-12)

    return 1 - standard(rows) @ standard(columns).T


def named_classes(caption: str | Sequence[str], vocabulary: Vocabulary) -> tuple[str, ...]:
    """Return the classes that a caption, or each of several nouns, names; others are dropped.

    A class is named by its name, its spoken form or a synonym; the longest run of words wins
    ("hot dog" is no dog) and plurals count. In the order of the caption, each class once.
    """
    texts = [caption] if isinstance(caption, str) else caption
    found = [name for text in texts for _, name in _read_classes(text, vocabulary) if name]
    return tuple(dict.fromkeys(found))


def _read_classes(text: str, vocabulary: Vocabulary) -> list[tuple[str, str | None]]:
    """Cut a text into (words, the class they name) and (one word, None), in order."""
    phrases = _phrases(vocabulary)
    longest = max(map(len, phrases))
    words = re.findall(r"\w+(?:-\w+)*", text.lower())
    found, start = [], 0
    while start < len(words):
        for length in range(min(longest, len(words) - start), 0, -1):
            span = words[start : start + length]
            name = phrases.get(tuple(map(_singular, span)))
            if name or length == 1:
                break
        found.append((" ".join(span), name))
        start += length
    return found


def _phrases(vocabulary: Vocabulary) -> Mapping[tuple[str, ...], str]:
    """Map words, each folded to its singular, to the class; names go before synonyms."""
    phrases: dict[tuple[str, ...], str] = {}
    for synonyms in (False, True):
        for name in vocabulary.classes:
            for text in (name, *vocabulary.texts(name, synonyms)):
                words = re.findall(r"\w+(?:-\w+)*", text.lower())
                phrases.setdefault(tuple(map(_singular, words)), name)
    return phrases


def candidates(
    text: str, vocabulary: Vocabulary, recipe: Captioning, embed: Embed | None = None
) -> tuple[Caption, Vocabulary]:
    """Find a caption's candidate classes, and the vocabulary that they belong to.

    "closed": classes of the vocabulary, by `closest_classes` or by `named_classes` as the
    recipe's mapping says. "open": what the caption names, class or not; nouns that the
    vocabulary lacks are added behind its classes. "all": every class, and the text is not read.
    Raises FslabError if the mapping needs `embed` and none is given.
    """
    if recipe.words == "all":
        return Caption("", (), vocabulary.classes), vocabulary
    by_word = _nouns_by_word(text, recipe.tagger)
    words = tuple(dict.fromkeys(by_word.values()))
    if recipe.words == "open":
        found = _open_candidates(text, by_word, vocabulary)
        return Caption(text, words, found), vocabulary.extended(found)
    if recipe.mapping == "name":
        return Caption(text, words, named_classes(text, vocabulary)), vocabulary
    if embed is None:
        raise FslabError("captioning.mapping 'embedding' compares texts: give embed, or use 'name'")
    return Caption(text, words, closest_classes(words, vocabulary, embed)), vocabulary


def _open_candidates(
    text: str, by_word: Mapping[str, str], vocabulary: Vocabulary
) -> tuple[str, ...]:
    found = []
    for words, name in _read_classes(text, vocabulary):
        noun = by_word.get(words)
        if name or noun:
            found.append(name or vocabulary.find(noun) or noun)
    return tuple(word for word in dict.fromkeys(found) if word != vocabulary.names[0])
