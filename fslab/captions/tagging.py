"""A caption's nouns, and the singulars of words."""

from __future__ import annotations

from functools import cache
from typing import Any

from fslab.records import FslabError

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


def nouns(text: str, tagger: str = "textblob") -> tuple[str, ...]:
    """Return a caption's nouns: lower case, singular, in order, each once.

    Single words, as in the authors' released code: "dining table" gives "dining" and "table".
    (`named_classes` reads compounds from the caption itself.) Its rule that turns adjectives
    into nouns is left out: it makes words such as "white brown". `tagger` is "textblob", which
    needs no corpus, or "spacy", the authors' own, where its English model is installed.
    """
    return tuple(dict.fromkeys(nouns_by_word(text, tagger).values()))


def nouns_by_word(text: str, tagger: str) -> dict[str, str]:
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
            found.append((word, singular(word) if kind == "NNS" else word))
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
def singular(word: str) -> str:
    """Return a lower-case word's singular, the word itself where it is none."""
    from textblob.en.inflect import singularize

    if word.endswith(("ss", "us", "is")):  # glass, bus, tennis
        return word
    return _SINGULARS.get(word) or singularize(word)
