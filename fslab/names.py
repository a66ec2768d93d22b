"""Names: a noun's singular, when two written names are one, and which is near another."""

from __future__ import annotations

import gzip
import re
import unicodedata
from collections.abc import Iterable
from difflib import get_close_matches
from functools import cache, lru_cache
from importlib.metadata import distribution
from pathlib import Path

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


_IRREGULAR = ("children", "feet", "geese", "lice", "men", "mice", "people", "teeth")
"""How plurals beyond the lexicon end that do not end in -s: "snowmen"."""

_WORDS = 2**14
"""Words whose forms are remembered."""

_BETWEEN = r"[\s_/\u2010-\u2015-]+"
"""What stands between the parts of a compound, if anything does: "tv/monitor" is VOC's own."""


def spelt(name: str) -> str:
    """Return a name without what is only a way of writing: case, spaces, hyphens, underscores,
    composed letters, and signs that are not seen."""
    plain = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
    plain = "".join(each for each in plain if not _is_unseen(each))
    return re.sub(_BETWEEN, " ", plain).strip()


def _is_unseen(sign: str) -> bool:
    """Tell marks of format, such as a soft hyphen, and choices between looks of one sign."""
    return unicodedata.category(sign) == "Cf" or "\ufe00" <= sign <= "\ufe0f"


@lru_cache(_WORDS)
def written_as_one(name: str) -> frozenset[str]:
    """Return what all ways of writing a name have in common: its parts as one word, singular.

    Two names are one where they share such a form. Each part is in the singular, or the last
    alone, for that is what "sportsballs" becomes, whose first part has no plural of its own.
    """
    *first, last = spelt(name).split(" ")
    last = singular(last)
    return frozenset(("".join([*map(singular, first), last]), "".join([*first, last])))


@lru_cache(_WORDS)
def singular(word: str) -> str:
    """Return the singular of a noun in lower case; a word that is not a plural noun stays as it is.

    LemmInflect's lexicon (from NIH's SPECIALIST) knows; TextBlob's rules are for words beyond it.
    """
    return _EXCEPTIONS.get(word) or _lexicon().get(word) or _by_rule(word)


def is_noun(word: str) -> bool:
    """Return whether the lexicon knows a lower-case word as a noun, in either number."""
    return word in _lexicon()


@cache
def _lexicon() -> dict[str, str]:
    """Return the singular of each noun of LemmInflect's lexicon, by its singular and plural.

    Its files are read, and its code is not run: that would import spaCy where it is installed, and
    open a pickle for words beyond the lexicon.
    """
    files = Path(str(distribution("lemminflect").locate_file("lemminflect/resources")))
    text = gzip.decompress((files / "lemma_lu.csv.gz").read_bytes()).decode()
    text += (files / "lemma_overrides.csv").read_text(encoding="utf-8")
    nouns = re.findall(r"^([^A-Z,\n#]+),(?:noun|NOUN),([^/\n]+)", text, re.MULTILINE)
    return {plural: word.lower() for plural, word in nouns}


def _by_rule(word: str) -> str:
    if not word.endswith(("s", *_IRREGULAR)):
        return word
    from textblob.en.inflect import singularize

    if word.endswith(("ss", "us")):  # stewardess, hummus
        return word
    if word.endswith("uses") and not word.endswith("houses"):  # lotuses
        return word.removesuffix("es")
    if word.endswith(("is", "ves")) or word[:-1] in _IN_IE:  # bikinis, sleeves, hoodies
        return word.removesuffix("s")
    return str(singularize(word))


def did_you_mean(given: str, known: Iterable[str], most: int = 2) -> str:
    """Return the end of a refusal that offers the known names nearest to one that is not there.

    "; did you mean kmeans?", or "" where none is near.
    """
    near = get_close_matches(given, list(known), n=most)
    return f"; did you mean {' or '.join(near)}?" if near else ""
