"""From a caption to candidate classes: what its nouns name."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from fslab.captions.tagging import nouns_of
from fslab.parts import versioned
from fslab.records import Caption, Captioning, FslabError, Vocabulary
from fslab.vectors import unit

Embed = Callable[[Sequence[str]], np.ndarray]
"""Texts -> f32 [N, D], each row the mean of a text's token embeddings."""


def closest_classes(
    nouns: Sequence[str], vocabulary: Vocabulary, embed: Embed, compounds: str = "phrase"
) -> tuple[str, ...]:
    """Map nouns to the classes nearest in text: the authors' closed-vocabulary rule.

    A noun goes to the class at the least correlation distance (1 - Pearson's r) between mean
    text embeddings, the class said as "A photo of {class}", the noun bare. Nouns farther than
    the mean of these least distances are dropped: "photo" and "front" are far from any class.
    So a caption's only noun always stays, and of two the farther one goes. A noun that is given
    twice counts twice in that mean.
    Classes come in the order of their nouns, each once. Classes are spoken ("tv monitor")
    where the released code gives the data set's own spelling. compounds: such a class is one
    "phrase", or the mean over its "words", each said by itself, as in the released code.
    """
    if not nouns:
        return ()
    said = [vocabulary.texts(name)[0] for name in vocabulary.classes]
    classes = embed_classes(said, embed, compounds)
    distances = _correlation_distances(embed(list(nouns)), classes)
    nearest, least = distances.argmin(1), distances.min(1)
    kept = least <= least.mean() + 1e-12  # equal distances are their own mean, but for rounding
    found = (vocabulary.classes[index] for index in nearest[kept])
    return tuple(dict.fromkeys(found))


def embed_classes(said: Sequence[str], embed: Embed, compounds: str) -> np.ndarray:
    """Return the embeddings f32 [N, D] of "A photo of" spoken classes; see `closest_classes`."""
    if compounds == "phrase":
        return embed([f"A photo of {name}" for name in said])
    each = [embed([f"A photo of {word}" for word in name.split()]).mean(0) for name in said]
    return np.stack(each)


def _correlation_distances(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Return 1 - Pearson's r of f32 [N, D] against [M, D]: f64 [N, M]; 1 for a flat vector."""

    def standard(given: np.ndarray) -> NDArray[np.floating]:
        centred = given.astype(np.float64) - given.mean(1, keepdims=True, dtype=np.float64)
        return unit(centred)

    distances: NDArray[np.float64] = 1 - standard(rows) @ standard(columns).T
    return distances


def named_classes(caption: str | Sequence[str], vocabulary: Vocabulary) -> tuple[str, ...]:
    """Return the classes that a caption, or each of several nouns, names; others are dropped.

    A class is named by its name, its spoken form or a synonym; the longest run of words wins
    ("hot dog" is not a dog). A name counts however it is written (`Vocabulary.find`). In the order
    of the caption, each class once.
    """
    texts = [caption] if isinstance(caption, str) else caption
    found = [name for text in texts for _, name in _read_classes(text, vocabulary) if name]
    return tuple(dict.fromkeys(found))


def _read_classes(text: str, vocabulary: Vocabulary) -> list[tuple[str, str | None]]:
    """Cut a text into (words, the class they name) and (one word, None), in order.

    A name of one word may be written as two ("motor bike"), so a name takes one more than it has.
    """
    said = (each for name in vocabulary.classes for each in (name, *vocabulary.texts(name, True)))
    longest = 1 + max(len(_words(each)) for each in said)
    words = _words(text)
    found, start = [], 0
    while start < len(words):
        for length in range(min(longest, len(words) - start), 0, -1):
            span = " ".join(words[start : start + length])
            name = vocabulary.find(span)
            if name or length == 1:
                break
        found.append((span, name))
        start += length
    return found


def _words(text: str) -> list[str]:
    """Return a text's words in lower case, with their hyphens, and each other sign by itself."""
    text = unicodedata.normalize("NFC", text.lower())
    kept = (
        each if each in "-_" or unicodedata.category(each)[0] in "LMN" else f" {each} "
        for each in text
    )
    return [word for each in "".join(kept).split() if (word := each.strip("-_"))]


@versioned(1)
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
    found = nouns_of(text, recipe)
    by_word = dict(found)
    written = recipe.nouns == "written"
    words = tuple(noun for _, noun in found) if written else tuple(dict.fromkeys(by_word.values()))
    if recipe.words == "open":
        found = _open_candidates(text, by_word, vocabulary)
        return Caption(text, words, found), vocabulary.extended(found)
    if recipe.mapping == "name":
        return Caption(text, words, named_classes(text, vocabulary)), vocabulary
    if embed is None:
        raise FslabError("captioning.mapping 'embedding' compares texts: give embed, or use 'name'")
    classes = closest_classes(words, vocabulary, embed, recipe.compounds)
    return Caption(text, words, classes), vocabulary


def _open_candidates(
    text: str, by_word: Mapping[str, str], vocabulary: Vocabulary
) -> tuple[str, ...]:
    found = []
    for words, name in _read_classes(text, vocabulary):
        if not name and (noun := by_word.get(words)):
            name = vocabulary.find(noun) or noun
        if name:
            found.append(name)
    return tuple(word for word in dict.fromkeys(found) if word != vocabulary.names[0])
