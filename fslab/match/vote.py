"""From scored segments to a label map: each segment its best name, or all of them a vote."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from fslab.datasets import PictureLike, read
from fslab.match.matcher import Matcher
from fslab.match.naming import Match, check_count, paint, resolve, score_segments
from fslab.match.patches import Patches
from fslab.match.spreading import spread_beliefs, walk_beliefs
from fslab.match.views import check_size
from fslab.parts import versioned
from fslab.process import stage
from fslab.records import (
    Features,
    FslabError,
    LabelMap,
    Matching,
    Segments,
    Vocabulary,
    check_kind,
    check_numbers,
    label_type,
    words_of,
)

_LEAST = 1e-3
"""The least probability that evidence can give: a word's map that is zero shall not forbid."""


@stage
def match(
    picture: PictureLike,
    segments: Segments,
    vocabulary: Vocabulary,
    candidates: Sequence[str],
    recipe: Matching,
    matcher: Matcher,
    evidence: Mapping[str, np.ndarray] | None = None,
    looks: Features | None = None,
    features: Features | None = None,
) -> LabelMap:
    """Name segments among the candidates; what no candidate takes is background.

    "one-per-class" is the authors' rule: the other classes' probabilities count as zero, each
    class keeps only its best segment, each segment takes the best that is left to it, and a
    segment left with nothing is background. "argmax" lets several segments share a class, and
    "majority" asks a segment's cells one by one, of which features tell how like they are.
    "vote" is `vote` over the segments and their `others`, with the evidence that it speaks of.
    "evidence" is `by_evidence`, which asks neither CLIP nor the segments.
    Background words compete in all and mean background. Without candidates all is
    background, and CLIP is not asked. looks: self-attention by which beliefs are spread, where the
    recipe names layers of it. Errors are those of `score_segments`, and FslabError for a recipe
    that needs evidence or looks where there are none.
    """
    picture = read(picture)
    patches = Patches(picture, matcher)

    def score(one: Segments) -> Match:
        asked = (picture, one, vocabulary, candidates, recipe, matcher)
        return score_segments(*asked, patches, features=features)

    def given() -> Mapping[str, np.ndarray] | None:
        if evidence is None and (recipe.attention or recipe.assignment == "evidence"):
            raise FslabError(
                f"matching.attention is {recipe.attention}, and there is no evidence; give each "
                "candidate's attention map, or let a Lab match"
                if recipe.attention
                else "matching.assignment is 'evidence', and there is none; give each candidate's "
                "attention map, or let a Lab match"
            )
        return evidence

    return name_segments(
        picture, segments, vocabulary, candidates, recipe, score, given, lambda: looks
    )


@versioned(1)
def name_segments(
    picture: PictureLike,
    segments: Segments,
    vocabulary: Vocabulary,
    candidates: Sequence[str],
    recipe: Matching,
    score: Callable[[Segments], Match],
    evidence: Callable[[], Mapping[str, np.ndarray] | None],
    looks: Callable[[], Features | None] = lambda: None,
) -> LabelMap:
    """Name segments by the recipe's rule, as `match` does.

    score: gives the matrix of one segmentation; evidence: gives the diffusion model's, and is
    asked only where segments vote, or it names pixels itself; looks: gives its self-attention, and
    is asked only where beliefs are spread. None is asked where there are no candidates.
    """
    picture = read(picture)
    check_kind(segments, Segments, "segments")
    if not words_of(candidates, "candidates"):
        check_size(picture, segments)
        check_count(vocabulary)
        return LabelMap(np.zeros(segments.size, np.uint8), vocabulary.names)
    if recipe.assignment == "evidence":
        check_size(picture, segments)
        named = by_evidence(evidence() or {}, vocabulary, candidates, segments.size)
    elif recipe.assignment == "vote":
        found, voters = evidence(), (segments, *segments.others)
        scored = [score(one) for one in voters]
        named = vote(voters, scored, vocabulary, candidates, found, recipe.attention)
    else:
        return paint(segments, score(segments), vocabulary)
    if recipe.spread_layers:
        named = spread_beliefs(named, _seen(looks(), recipe), recipe)
    return walk_beliefs(picture, named, recipe) if recipe.spread_trust else named


def _seen(looks: Features | None, recipe: Matching) -> Features:
    if looks is None:
        raise FslabError(
            f"matching.spread_layers is {list(recipe.spread_layers)}, and there is no "
            "self-attention; give looks, the features of these layers, or let a Lab match"
        )
    return looks


def vote(
    segmentations: Sequence[Segments],
    matches: Sequence[Match],
    vocabulary: Vocabulary,
    candidates: Sequence[str],
    evidence: Mapping[str, np.ndarray] | None = None,
    weight: float = 0.0,
) -> LabelMap:
    """Give each pixel the class that is most probable on the mean of all its segments.

    A segment's probabilities are CLIP's over the candidates and the background (its best word),
    made to sum to 1. Averaged over segmentations they blur where the segmentations disagree:
    cluster ensembles (Strehl and Ghosh, JMLR 2002), with names in place of cluster numbers.
    evidence: for each candidate where the diffusion model looks for it, f32 [h, w] from 0 up. A
    map is scaled to a peak of 1; its mean on a segment, to the power `weight`, multiplies the
    candidate's probability, and what the strongest candidate leaves over the background's.
    The means are the map's `beliefs`. Raises FslabError where sizes differ.
    """
    if len({one.size for one in segmentations}) != 1:
        sizes = [one.size for one in segmentations]
        raise FslabError(f"segments are {sizes}; all must have one size")
    names = sorted(resolve(candidates, vocabulary), key=vocabulary.names.index)
    prior = None
    if weight and evidence:
        by_name = {resolve([given], vocabulary).pop(): each for given, each in evidence.items()}
        prior = _prior([by_name[name] for name in names], segmentations[0].size)
    total: NDArray[np.floating] = np.zeros((), np.float32)
    best = np.zeros(len(names))
    for segments, scored in zip(segmentations, matches, strict=True):
        shares = _shares(scored, names)
        if prior is not None:
            shares = _weighed(shares, _on_segments(prior, segments) ** weight)
        best = np.maximum(best, shares[:, 1:].max(0))
        total = total + shares.astype(np.float32).T[:, segments.labels]
    beliefs = total / np.float32(len(segmentations))
    kinds = [0, *(vocabulary.names.index(name) for name in names)]
    labels = np.array(kinds, label_type(len(vocabulary.names)))[beliefs.argmax(0)]
    scores = {
        name: float(score)
        for kind, name, score in zip(kinds[1:], names, best, strict=True)
        if (labels == kind).any()
    }
    return LabelMap(labels, vocabulary.names, scores, dict(zip(kinds, beliefs, strict=True)))


def by_evidence(
    evidence: Mapping[str, np.ndarray],
    vocabulary: Vocabulary,
    candidates: Sequence[str],
    size: tuple[int, int],
) -> LabelMap:
    """Give each pixel the label that the diffusion model looks there for most.

    evidence: for each candidate where it looks for it, f32 [h, w] from 0 up, and likewise for
    words that mean background. A map is scaled to a peak of 1; the background has the strongest of
    its words, or what the strongest candidate leaves over where none is given. `beliefs` are
    shares of their sum. Raises FslabError for a candidate without evidence.
    """
    check_count(vocabulary)
    names = sorted(resolve(candidates, vocabulary), key=vocabulary.names.index)
    by_name: dict[str, np.ndarray] = {}
    grounds: list[np.ndarray] = []
    for given, each in evidence.items():
        name = given if given in vocabulary.classes else vocabulary.find(given)
        if name in names:
            by_name[name] = each
        else:
            grounds.append(each)
    if lacking := [name for name in names if name not in by_name]:
        raise FslabError(
            f"there is no evidence for the candidates {', '.join(lacking)}; give a map of each"
        )
    maps = _prior([*(by_name[name] for name in names), *grounds], size)
    things, others = maps[: len(names)], maps[len(names) :]
    ground = others.max(0) if len(others) else 1 - things.max(0)
    beliefs = np.concatenate([ground[None], things]).astype(np.float32)
    beliefs /= np.maximum(beliefs.sum(0), np.float32(1e-12))
    kinds = [0, *(vocabulary.names.index(name) for name in names)]
    labels = np.array(kinds, label_type(len(vocabulary.names)))[beliefs.argmax(0)]
    scores = {
        name: float(beliefs[place, labels == kind].mean())
        for place, (kind, name) in enumerate(zip(kinds[1:], names, strict=True), 1)
        if (labels == kind).any()
    }
    return LabelMap(labels, vocabulary.names, scores, dict(zip(kinds, beliefs, strict=True)))


def _shares(scored: Match, names: Sequence[str]) -> np.ndarray:
    """Return probabilities of the background, then of the names: f64 [K, 1 + names], sums 1."""
    meaning = _background(scored)
    background = scored.probabilities[:, meaning].max(1, initial=0.0)
    columns = [scored.texts.index(name) for name in names]
    shares = np.concatenate([background[:, None], scored.probabilities[:, columns]], 1)
    return _weighed(shares.astype(np.float64), np.ones(shares.shape[1]))


def _background(scored: Match) -> np.ndarray:
    """Return which texts are words that mean background: bool [T]."""
    return np.arange(len(scored.texts)) >= scored.classes


def _weighed(shares: NDArray[np.floating], factors: NDArray[np.floating]) -> NDArray[np.floating]:
    product = shares * factors
    weighed: NDArray[np.floating] = product / np.maximum(product.sum(1, keepdims=True), 1e-30)
    return weighed


def _prior(evidence: Sequence[np.ndarray], size: tuple[int, int]) -> np.ndarray:
    """Return each name's evidence at the picture's size with a peak of 1: f32 [names, H, W]."""
    from fslab.cluster import resize

    for each in evidence:
        check_numbers(each, "the evidence for a candidate")
        if each.ndim != 2 or each.min() < 0:
            raise FslabError(
                f"the evidence for a candidate is {each.dtype} {list(each.shape)} from "
                f"{float(each.min()):.3g}; it must be f32 [h, w] from 0 up"
            )
    maps = np.stack([each / max(float(each.max()), 1e-12) for each in evidence])
    return resize(maps, size)


def _on_segments(prior: np.ndarray, segments: Segments) -> np.ndarray:
    """Return the evidence on each segment, background first: f64 [K, 1 + names]."""
    ids = segments.labels.ravel()
    sums = np.stack([np.bincount(ids, one.ravel(), segments.count) for one in prior], 1)
    mean = sums / np.bincount(ids, minlength=segments.count)[:, None]
    rest = 1 - mean.max(1, keepdims=True)
    clipped: np.ndarray = np.clip(np.concatenate([rest, mean], 1), _LEAST, 1)
    return clipped
