"""English words: a noun's singular, and when two written names are one name."""

from __future__ import annotations

import re
import unicodedata
from functools import cache

_EXCEPTIONS = {
    **{"leaves": "leaf", "oxen": "ox", "people": "person"},
    **{
        word: word
        for word in (
            *("bellows", "bloomers", "boxers", "briefs", "eyeglasses", "innards", "pants"),
            *("shears", "shorts", "sunglasses", "tongs", "triceratops", "undies", "waders"),
        )
    },
}
"""Where the lexicon has another word or none; source: WordNet 3.0, noun.exc and its own entries."""

_IN_IE = frozenset(
    (
        *("auntie", "baddie", "baggie", "barbie", "beanie", "biggie", "boogie", "brasserie"),
        *("calorie", "cardie", "charlie", "chippie", "cootie", "corrie", "cowrie", "crappie"),
        *("cutie", "dogie", "druggie", "faerie", "falsie", "foodie", "footsie", "gillie"),
        *("groupie", "hankie", "hoodie", "hottie", "indie", "kiddie", "laddie", "lassie"),
        *("loonie", "meanie", "munchie", "muskie", "newbie", "patisserie", "postie", "potpie"),
        *("preemie", "pressie", "prezzie", "quickie", "roadie", "sarnie", "selfie", "sharpie"),
        *("sickie", "smoothie", "stogie", "sweetie", "talkie", "tattie", "techie", "tootsie"),
        *("toughie", "townie", "veggie", "wedgie", "weenie", "weepie", "weirdie", "wellie"),
        *("wheelie", "wienie"),
    )
)
"""Nouns in -ie of SCOWL 2020.12.07 (size 60) whose plurals the lexicon lacks."""


def spelt(name: str) -> str:
    """Return a name without what is only a way of writing: case, spaces, hyphens, underscores."""
    plain = unicodedata.normalize("NFKC", name).casefold()
    return re.sub(r"[\s_-]+", " ", plain).strip()


@cache
def one_name(name: str) -> str:
    """Return what all ways of writing a name have in common: spelling aside, in the singular."""
    *first, last = spelt(name).split(" ")
    return " ".join((*first, singular(last)))


@cache
def singular(word: str) -> str:
    """Return the singular of a noun in lower case; a word that is none stays as it is.

    LemmInflect's lexicon (from NIH's SPECIALIST) knows; TextBlob's rules are for words beyond it.
    """
    if word in _EXCEPTIONS:
        return _EXCEPTIONS[word]
    known = singulars(word)
    return known[0] if known else _by_rule(word)


@cache
def singulars(word: str) -> tuple[str, ...]:
    """Return the singulars of a lower-case word as a noun; none where no noun is known for it."""
    from lemminflect import getAllLemmas

    return tuple(getAllLemmas(word, "NOUN").get("NOUN", ()))


def _by_rule(word: str) -> str:
    from textblob.en.inflect import singularize

    if word.endswith(("ss", "us")):  # stewardess, hummus
        return word
    if word.endswith("uses") and not word.endswith("houses"):  # lotuses
        return word.removesuffix("es")
    if word.endswith(("is", "ves")) or word[:-1] in _IN_IE:  # bikinis, sleeves, hoodies
        return word.removesuffix("s")
    return singularize(word)
