"""Beliefs spread over a picture: by where its cells look, a Markov chain, and by its colours.

Own code. The chain is from the description of DSLO (CVPR 2026); what that leaves open is said
where it is settled here.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import adaptive_avg_pool2d

from fslab.cluster import aggregate, resize
from fslab.datasets import PictureLike, read
from fslab.parts import versioned
from fslab.records import Features, LabelMap, Matching
from fslab.refine import walk

NORMALISATIONS = 15
"""Times that rows, then columns, are brought to sum 1, as DSLO does."""

_LEAST = 1e-12
"""What a sum is at least before anything is divided by it."""


@versioned(1)
def spread_beliefs(labels: LabelMap, looks: Features, settings: Matching) -> LabelMap:
    """Return a label map whose beliefs are spread by self-attention; labels are the strongest.

    looks: self-attention's probabilities, layers that end in ".probs", as `aggregate` takes them.
    Beliefs are averaged on the cells of the finest layer. settings: `spread_confident`,
    `spread_steps`, `spread_change`, `spread_soonest` and `spread_share` of them. A map of one
    label, and one without beliefs, stays as it is. Raises FslabError for a layer that is not
    self-attention.
    """
    if len(labels.beliefs) < 2:
        return labels
    attention = aggregate(looks.maps)
    grid = attention.shape[0], attention.shape[1]
    before = np.stack(list(labels.beliefs.values()))
    cells = adaptive_avg_pool2d(torch.from_numpy(before)[None], grid)[0].numpy()
    transitions = doubly_normalised(attention.reshape(grid[0] * grid[1], -1))
    spread = markov_chain(
        confident(cells.reshape(len(cells), -1), settings.spread_confident),
        transitions,
        steps=settings.spread_steps,
        change=settings.spread_change,
        soonest=settings.spread_soonest,
    )
    spread = spread / np.maximum(spread.sum(0), _LEAST)
    share = np.float32(settings.spread_share)
    mixed = before * (1 - share) + share * resize(spread.reshape(-1, *grid), labels.size)
    return _believing(labels, mixed)


@versioned(1)
def walk_beliefs(picture: PictureLike, labels: LabelMap, settings: Matching) -> LabelMap:
    """Return a label map whose beliefs walk over the picture's colours; labels are the strongest.

    settings: `spread_trust` of them, see `fslab.refine.walk`. A map of one label, and one without
    beliefs, stays as it is.
    """
    if len(labels.beliefs) < 2:
        return labels
    before = np.stack(list(labels.beliefs.values()))
    return _believing(labels, walk(read(picture).pixels, before, trust=settings.spread_trust))


def _believing(labels: LabelMap, beliefs: np.ndarray) -> LabelMap:
    """Return a label map with other beliefs in its labels, and scores of those that are left."""
    kinds = list(labels.beliefs)
    chosen = np.array(kinds, labels.labels.dtype)[beliefs.argmax(0)]
    scores = {
        name: score
        for name, score in labels.scores.items()
        if (chosen == labels.names.index(name)).any()
    }
    return LabelMap(chosen, labels.names, scores, dict(zip(kinds, beliefs, strict=True)))


def doubly_normalised(attention: np.ndarray, times: int = NORMALISATIONS) -> np.ndarray:
    """Return where cells look, f32 [cells, cells], with rows and columns of sum 1, or nearly.

    Rows and columns are divided by their sums in turn (Sinkhorn and Knopp 1967), columns last.
    """
    found = np.array(attention, np.float32)
    for _ in range(times):
        found /= np.maximum(found.sum(1, keepdims=True), _LEAST)
        found /= np.maximum(found.sum(0, keepdims=True), _LEAST)
    return found


def confident(beliefs: np.ndarray, kept: str) -> NDArray[np.float32]:
    """Return states to start from, f32 [labels, cells], each label's strongest of 1.

    kept: "strongest", each cell says its strongest label alone, or "all".
    """
    states = np.array(beliefs, np.float32)
    if kept == "strongest":
        states = np.where(states >= states.max(0), states, np.float32(0))
    peaks: NDArray[np.float32] = states / np.maximum(states.max(1, keepdims=True), _LEAST)
    return peaks


def markov_chain(
    states: np.ndarray,
    transitions: np.ndarray,
    *,
    steps: int = 50,
    change: float = 0.3,
    soonest: bool = True,
) -> NDArray[np.float32]:
    """Return states f32 [labels, cells] as the chain leaves them.

    A state is multiplied by the transitions until a step changes it by less than `change`, as a
    share of its length, or `steps` are done. soonest: one that settles sooner counts for more, as
    it is divided by its number of steps.
    """
    spread = np.zeros(states.shape, np.float32)
    for place, state in enumerate(states):
        for step in range(1, steps + 1):
            before, state = state, state @ transitions
            spread[place] = state / step if soonest else state
            if np.linalg.norm(state - before) < change * np.linalg.norm(before):
                break
    return spread
