"""Segments against texts: probabilities, and the names that a rule makes of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fslab.datasets import PictureLike, read
from fslab.match.bank import Bank, region_keys
from fslab.match.matcher import Matcher
from fslab.match.patches import Patches
from fslab.match.regions import RegionVectors, read_regions
from fslab.match.views import views
from fslab.names import did_you_mean
from fslab.parts import versioned
from fslab.process import stage
from fslab.records import (
    WIDE_VOID,
    Features,
    FslabError,
    LabelMap,
    Matching,
    Picture,
    Segments,
    Vocabulary,
    check_kind,
    label_type,
    words_of,
)
from fslab.vectors import unit


@dataclass(frozen=True, eq=False)
class Match:
    """How segments met texts, for looking at: the matrix and what was made of it.

    probabilities: f32 [K, T], a softmax over the T texts for each of the K segments, or a sigmoid
    of each pair by itself, as the recipe says, before candidates are enforced. texts: class names,
    then background words. assigned: int64 [K], each segment's index in the vocabulary's names, 0
    the background; under "vote" its own choice, which others may outvote. classes: how many of the
    texts are class names.
    """

    probabilities: np.ndarray
    texts: tuple[str, ...]
    assigned: np.ndarray
    classes: int


def text_scores(
    images: np.ndarray,
    columns: Sequence[Sequence[str]],
    templates: Sequence[str],
    matcher: Matcher,
) -> np.ndarray:
    """Return f32 [K, T]: for each image vector, f32 [K, D], a softmax over T columns of texts.

    A text is the mean of its templates' unit vectors, made unit length again (Radford et al.,
    2021); a column that holds several texts, a class and its synonyms, scores as its best one.
    """
    return _softmax(_logits(images, columns, templates, matcher, matcher.scale))


def _logits(
    images: np.ndarray,
    columns: Sequence[Sequence[str]],
    templates: Sequence[str],
    matcher: Matcher,
    scale: float,
) -> np.ndarray:
    """Return what the softmax of `text_scores` is taken of, f64 [K, T]; scale: of the cosines."""
    if not columns:
        return np.empty((len(images), 0))
    texts = [text for column in columns for text in column]
    prompts = [template.replace("{}", text) for text in texts for template in templates]
    vectors = matcher.encode_texts(prompts).reshape(len(texts), len(templates), -1)
    logits = scale * images @ unit(vectors.mean(1)).T
    starts = np.cumsum([0, *map(len, columns[:-1])])
    return np.maximum.reduceat(logits, starts, axis=1).astype(np.float64)


def _softmax(logits: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return f32 [K, T] of rows that sum to 1."""
    exponents = np.exp(logits - logits.max(1, keepdims=True, initial=-np.inf))
    shares: NDArray[np.floating] = exponents / exponents.sum(1, keepdims=True)
    return shares.astype(np.float32)


def _probabilities(
    logits: NDArray[np.floating], recipe: Matching, matcher: Matcher
) -> NDArray[np.float32]:
    """Return f32 [K, T] by the function that the recipe names."""
    if recipe.probabilities == "softmax":
        return _softmax(logits)
    if matcher.bias is None:
        raise FslabError(
            f"matching.probabilities is 'sigmoid', and {matcher.family.name} was trained with a "
            "softmax and has no bias for one; set 'softmax', or take a SigLIP"
        )
    shares: NDArray[np.floating] = 1 / (1 + np.exp(-(logits + matcher.bias)))
    return shares.astype(np.float32)


@dataclass(frozen=True, eq=False)
class _Several:
    """Readings of segments, f64 [K, T] each, and the rule that makes one choice of them.

    allowed: which of the texts, that begin with the classes, are candidates. like: logits of
    regions of other pictures, f64 [K, T], where a bank helps.
    """

    recipe: Matching
    matcher: Matcher
    readings: Sequence[np.ndarray]
    allowed: Sequence[bool]
    like: np.ndarray | None = None

    def named(
        self, regions: RegionVectors | None, against: Callable[[np.ndarray], np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return probabilities f32 [K, T] and each segment's column, int64 [K]."""
        if regions is None:
            logits = np.mean(self.readings, 0)
        else:
            logits = self._with(np.sum(self.readings, 0), against(regions.vectors))
        logits = self._helped(logits, self.like)
        probabilities = _probabilities(logits, self.recipe, self.matcher)
        if self.recipe.assignment != "majority" or regions is None:
            rule = self.recipe.assignment, self.recipe.threshold
            return probabilities, _assign(probabilities, self.allowed, *rule)
        chosen = [
            self._majority(place, against(vectors), shares)
            for place, (vectors, shares) in enumerate(regions.cells)
        ]
        return probabilities, np.array(chosen, np.int64)

    def _helped(self, own: NDArray[np.floating], like: np.ndarray | None) -> NDArray[np.floating]:
        """Return a segment's own logits with a share of those of regions that are like it."""
        if like is None:
            return own
        share = self.recipe.bank_weight
        return (1 - share) * own + share * like

    def _with(self, others: NDArray[np.floating], logits: np.ndarray) -> NDArray[np.floating]:
        """Return the mean of regions' logits and the sum of the others'."""
        weight = self.recipe.regions_weight
        mean: NDArray[np.floating] = others + weight * logits
        return mean / (len(self.readings) + weight)

    def _majority(self, segment: int, logits: np.ndarray, shares: np.ndarray) -> int:
        """Return the column that most of a segment's cells take, -1 for none."""
        others = np.sum([each[segment] for each in self.readings], 0)
        like = None if self.like is None else self.like[segment]
        whole = self._helped(self._with(others, logits), like)
        found = _probabilities(whole, self.recipe, self.matcher)
        columns = _assign(found, self.allowed, "argmax", self.recipe.threshold)
        return int(np.bincount(columns + 1, shares).argmax()) - 1


@versioned(1)
@stage
def score_segments(
    picture: PictureLike,
    segments: Segments,
    vocabulary: Vocabulary,
    candidates: Sequence[str],
    recipe: Matching,
    matcher: Matcher,
    patches: Patches | None = None,
    seen: np.ndarray | None = None,
    features: Features | None = None,
    bank: Bank | None = None,
) -> Match:
    """Score every segment against the texts, and assign classes as the recipe says.

    patches: the picture's, where other segments of it were or will be read from them too. seen:
    CLIP's vectors of the segments' views, f32 [K, D], where they were had with other pictures'.
    features: those that were clustered, where the recipe compares cells or regions by them. bank:
    the one that the recipe names, opened.

    A background word that names a class of the vocabulary ("bed", "grass" in an open one) is
    left out: it is a class there. Raises FslabError for a candidate that the vocabulary lacks,
    for sizes that differ, for more than 65,534 classes, and for a picture that the bank was made
    of.
    """
    picture = read(picture)
    check_kind(segments, Segments, "segments")
    check_count(vocabulary)
    allowed = resolve(candidates, vocabulary)
    everything = recipe.compete == "vocabulary"
    names = [name for name in vocabulary.classes if everything or name in allowed]
    words = [word for word in dict.fromkeys(recipe.background) if vocabulary.find(word) is None]
    columns = [vocabulary.texts(name, recipe.synonyms) for name in names]
    columns += [(word,) for word in words]
    patches = patches or Patches(picture, matcher)

    def against(vectors: np.ndarray) -> np.ndarray:
        scale = recipe.temperature or matcher.scale
        return _logits(vectors, columns, recipe.templates, matcher, scale)

    whole = [against(v) for v in _vectors(picture, segments, recipe, matcher, patches, seen)]
    regions = None
    if recipe.regions != "none":
        regions = read_regions(patches, segments, recipe, features)
    like = _like_others(picture, segments, recipe, features, bank)
    found = None if like is None else against(like)
    several = _Several(recipe, matcher, whole, [name in allowed for name in names], found)
    probabilities, chosen = several.named(regions, against)
    place = {name: index for index, name in enumerate(vocabulary.names)}
    meanings = np.array([*(place[name] for name in names), *(0 for _ in words), 0], np.int64)
    return Match(probabilities, (*names, *words), meanings[chosen], len(names))


def _like_others(
    picture: Picture,
    segments: Segments,
    recipe: Matching,
    features: Features | None,
    bank: Bank | None,
) -> np.ndarray | None:
    """Return the mean vectors of other pictures' regions like each segment, f32 [K, D]."""
    if not recipe.bank:
        return None
    if bank is None or features is None:
        raise FslabError(
            f"matching.bank is {recipe.bank!r}, and the bank or the features are not there; give "
            "bank=fslab.match.read_bank(...) and features=..., or let a Lab match"
        )
    bank.check_apart(picture)
    return bank.nearest(region_keys(features, segments), recipe.bank_nearest)


def encode_views(
    asked: Sequence[tuple[Picture, Segments]], recipe: Matching, matcher: Matcher
) -> list[np.ndarray | None]:
    """Return CLIP's vectors of each one's views, f32 [K, D], of all in one batch.

    None for segments of which the recipe shows no views.
    """
    shown = [
        views(picture, segments, recipe) if recipe.shows(segments.count) else []
        for picture, segments in asked
    ]
    vectors = matcher.encode_images([image for images in shown for image in images])
    parts = np.split(vectors, np.cumsum([len(images) for images in shown[:-1]]))
    return [part if images else None for images, part in zip(shown, parts, strict=True)]


def _vectors(
    picture: Picture,
    segments: Segments,
    recipe: Matching,
    matcher: Matcher,
    patches: Patches,
    seen: np.ndarray | None,
) -> Iterator[np.ndarray]:
    """Yield CLIP's vectors of the segments, f32 [K, D]: of views, of mask tokens, or of both."""
    if recipe.shows(segments.count):
        yield matcher.encode_images(views(picture, segments, recipe)) if seen is None else seen
    if recipe.tokens:
        yield patches.encode(segments.masks())


def _assign(
    probabilities: np.ndarray, allowed: Sequence[bool], how: str, least: float = 0.0
) -> np.ndarray:
    """Return each segment's column, int64 [K]; -1 where nothing is left above 0, or from `least`.

    The columns begin with the classes, which `allowed` speaks of; background words follow and
    are always allowed, for any number of segments. Of equals the first wins.
    """
    if probabilities.shape[1] == 0:
        return np.full(len(probabilities), -1, np.int64)
    left = probabilities.copy()
    classes = len(allowed)
    left[:, :classes] *= np.asarray(allowed, dtype=left.dtype)
    if how == "one-per-class" and classes:
        best = left[:, :classes].argmax(0)
        kept = np.arange(len(left))[:, None] == best[None]
        left[:, :classes] *= kept
    best = left.max(1)
    return np.where((best > 0) & (best >= least), left.argmax(1), -1)


def resolve(candidates: Sequence[str], vocabulary: Vocabulary) -> set[str]:
    """Return the candidates' class names; each may be given as it is said or by a synonym."""
    found = set()
    for given in words_of(candidates, "candidates"):
        name = given if given in vocabulary.classes else vocabulary.find(given)
        if name is None:
            hint = did_you_mean(given, vocabulary.classes)
            raise FslabError(f"candidate {given!r} is not a class of the vocabulary{hint}")
        found.add(name)
    return found


def paint(segments: Segments, match: Match, vocabulary: Vocabulary) -> LabelMap:
    """Give every segment's pixels its class; a class scores as its best segment."""
    labels = match.assigned.astype(label_type(len(vocabulary.names)))[segments.labels]
    scores: dict[str, float] = {}
    for index in np.unique(match.assigned[match.assigned > 0]):
        name = vocabulary.names[index]
        column = match.probabilities[match.assigned == index, match.texts.index(name)]
        scores[name] = float(column.max())
    return LabelMap(labels, vocabulary.names, scores)


def check_count(vocabulary: Vocabulary) -> None:
    """Refuse a vocabulary that a label map cannot hold."""
    check_kind(vocabulary, Vocabulary, "vocabulary")
    if len(vocabulary.names) > WIDE_VOID:
        raise FslabError(
            f"the vocabulary holds {len(vocabulary.classes)} classes; a label map holds "
            f"{WIDE_VOID - 1} beside the background"
        )
