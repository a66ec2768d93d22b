"""A caption's nouns, by a tagger."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, Literal

from fslab.names import is_noun, singular
from fslab.records import Captioning, FslabError

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

_ANY = frozenset(("a", "an", "another"))
_ONE = _ANY | {"the", "this", "each", "his", "her", "its", "their", "my", "our", "your"}
_PARTICLES = frozenset(("up", "out", "off", "down", "over"))  # "a close up"
_AFTER_A_PHRASE = frozenset(("is", "are", "was", "were", "has", "have", "had", "next"))


def nouns(text: str, tagger: Literal["textblob", "spacy"] = "textblob") -> tuple[str, ...]:
    """Return a caption's nouns: lower case, singular, in order, each once.

    Single words, as in the authors' released code: "dining table" gives "dining" and "table".
    (`named_classes` reads compounds from the caption itself.) `tagger` is "textblob", which
    needs no corpus, or "spacy", the authors' own, where its English model is installed.
    """
    found = nouns_of(text, Captioning(tagger=tagger))
    return tuple(dict.fromkeys(noun for _, noun in found))


def noun_runs(text: str) -> tuple[str, ...]:
    """Return the nouns that follow each other in a text, in lower case: "dog house"."""
    runs: list[list[str]] = []
    last = None
    for place, word, _ in _textblob_nouns(text.lower()):
        if place - 1 == last:
            runs[-1].append(word)
        else:
            runs.append([word])
        last = place
    return tuple(" ".join(run) for run in runs if len(run) > 1)


def nouns_of(text: str, recipe: Captioning) -> list[tuple[str, str]]:
    """Return (a word that counts as a noun, the noun that it counts as), in lower case, in order.

    A noun counts as its singular, or as it is written; an adjective, where the recipe takes them,
    as the word that it belongs to: "white" of "a white dog" as "dog", and where the vocabulary
    is open as "white dog". That word need be no noun: "the train is blue" gives "is".
    """
    text = text.lower()
    nouns = _textblob_nouns(text) if recipe.tagger == "textblob" else _spacy_nouns(text)
    written = recipe.nouns == "written"
    found = {
        place: (word, word if written else noun)
        for place, word, noun in nouns
        if word not in STOP_NOUNS and noun[:1].isalnum()
    }
    for place, word, head in _spacy_adjectives(text) if recipe.adjectives else ():
        found[place] = (word, f"{word} {head}" if recipe.words == "open" else head)
    return [found[place] for place in sorted(found)]


def _textblob_nouns(text: str) -> list[tuple[int, str, str]]:
    """Return place, word and singular of each noun."""
    from textblob.en import tag

    return [
        (place, word, singular(word) if kind == "NNS" else word)
        for place, (word, kind) in enumerate(_mended(tag(text)))
        if kind.startswith("NN")
    ]


def _mended(tagged: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Give the tag of a noun to what stands where English has only nouns.

    TextBlob's lexicon holds one tag a word, and "bear", "sink", "remote" and "orange" are not nouns
    there. But no verb follows an article ("a bear") or a number ("two bears"), a phrase does not
    end in its adjective ("a remote on a table"), and after a noun in the singular a verb would
    be "stands", so the "monitor" of "a tv monitor" is a noun too.
    """
    mended: list[tuple[str, str]] = []
    opener, named = "start", False  # what opened the phrase, and whether it holds a noun yet
    for place, (word, kind) in enumerate(tagged):
        last, following = mended[-1][1] if mended else "", tagged[place + 1 :]
        if not kind.startswith("NN") and not (following and following[0][0] in _PARTICLES):
            kind = _noun_kind(word, kind, last, opener, named, following) or kind
        mended.append((word, kind))
        if kind.startswith("NN"):
            named = True
        elif kind != "JJ":
            opens = {"IN": "of", "TO": "to"}.get(kind, word)
            opener, named = opens if kind in ("DT", "CD", "PRP$", "IN", "TO") else "", False
    return mended


def _noun_kind(
    word: str, kind: str, last: str, opener: str, named: bool, following: Sequence[tuple[str, str]]
) -> str | None:
    """Return NN or NNS where a word that is tagged otherwise must be a noun, else None."""
    base = kind in ("VB", "VBP")
    if (last == "NN" and kind == "VB") or (base and last in ("DT", "PRP$") and opener in _ONE):
        return "NN"
    if not opener or not _ends_a_phrase(following):
        return None
    if named:  # "two teddy bears", "a photo of teddy bears"
        several = opener not in {*_ONE, "one"} and (opener != "start" or not following)
        return "NNS" if last == "NN" and kind == "VBZ" and several and is_noun(word) else None
    alone = not last and not following
    if kind in ("JJ", "FW") and (alone or opener in _ANY):
        return "NN"
    if not is_noun(word):
        return None
    if (base and opener in {*_ONE, "start", "of"}) or (kind in ("VBN", "VBD") and opener in _ANY):
        return "NN"  # "the bear", "of bear"; "a moped"
    return "NNS" if kind == "VBZ" and opener not in {*_ANY, "one"} else None


def _ends_a_phrase(following: Sequence[tuple[str, str]]) -> bool:
    """Tell whether a noun phrase may end before these words."""
    if not following or following[0][0] in _AFTER_A_PHRASE:
        return True
    kinds = [kind for _, kind in following[:2]]
    if kinds[0] == "CC":
        return kinds[1:] != ["JJ"]
    if following[0][0] == "looking":  # "an odd looking toilet"
        return False
    more = ("NN", "JJ", "VB", "CD", "RB", "DT", "POS")
    return kinds[0] in ("VBG", "VBZ", "VBP") or not kinds[0].startswith(more)


def _spacy_nouns(text: str) -> list[tuple[int, str, str]]:
    """Return place, word and singular of each noun."""
    return [
        (token.i, token.text, token.lemma_)
        for token in _spacy_model()(text)
        if token.pos_ == "NOUN" and not token.is_stop
    ]


def _spacy_adjectives(text: str) -> list[tuple[int, str, str]]:
    """Return place and word of each adjective, and the word that it belongs to."""
    return [
        (token.i, token.text, token.head.text)
        for token in _spacy_model()(text)
        if token.pos_ == "ADJ" and not token.is_stop
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
