"""Beliefs spread by self-attention as a Markov chain, and over like colours by one system."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import noise_picture

import fslab
from fslab.lab import METHODS, Lab
from fslab.lab.words import looks_asked
from fslab.match import doubly_normalised, markov_chain, match, spread_beliefs, walk_beliefs
from fslab.match.spreading import confident
from fslab.records import (
    Features,
    FslabError,
    LabelMap,
    Matching,
    Picture,
    RandomWalk,
    Refinement,
    Segments,
    Vocabulary,
)
from fslab.refine import refine
from fslab.refine.walking import walk

NAMES = ("background", "cat", "dog")
SPREAD = Matching(assignment="vote", spread_layers=("x.probs",))


def blocks(kinds, apart=1e-3):
    """Return self-attention [N, h, w] of cells that look at those of their own kind alone."""
    flat = np.asarray(kinds).ravel()
    looks = (flat[:, None] == flat[None]) + apart
    looks = looks / looks.sum(1, keepdims=True)
    return Features({"x.probs": looks.T.reshape(-1, *np.shape(kinds)).astype(np.float32)}, (8, 8))


def beliefs(*maps):
    found = np.stack([np.kron(each, np.ones((2, 2))) for each in maps]).astype(np.float32)
    kinds = np.arange(len(maps), dtype=np.uint8)
    return LabelMap(kinds[found.argmax(0)], NAMES, {}, dict(enumerate(found)))


HALVES = np.repeat([[0, 0, 1, 1]], 4, 0)


@pytest.mark.parametrize("size", [1, 2, 17])
def test_rows_and_columns_have_one_sum(size):
    found = doubly_normalised(np.random.default_rng(0).random((size, size)) + 0.01)
    np.testing.assert_allclose(found.sum(0), 1, rtol=1e-4)
    np.testing.assert_allclose(found.sum(1), 1, rtol=5e-3)


def test_a_chain_ends_where_it_settles_and_counts_less_the_longer_it_took():
    settled = np.full((1, 4), 0.25, np.float32)
    mixing = np.full((4, 4), 0.25, np.float32)
    np.testing.assert_allclose(markov_chain(settled, mixing), settled)  # one step
    start = np.array([[1, 0, 0, 0]], np.float32)
    np.testing.assert_allclose(markov_chain(start, mixing), settled / 2)
    np.testing.assert_allclose(markov_chain(start, mixing, steps=1), settled)
    np.testing.assert_allclose(markov_chain(start, mixing, steps=9, change=0.0), settled / 9)
    np.testing.assert_allclose(markov_chain(start, mixing, soonest=False), settled)


def test_states_are_the_strongest_labels_and_reach_1():
    given = np.array([[0.6, 0.1, 0.2], [0.4, 0.9, 0.2]], np.float32)
    np.testing.assert_allclose(confident(given, "strongest"), [[1, 0, 1 / 3], [0, 1, 2 / 9]])
    np.testing.assert_allclose(confident(given, "all"), [[1, 1 / 6, 1 / 3], [4 / 9, 1, 2 / 9]])


def test_a_belief_reaches_all_that_its_cells_look_at():
    """Most cells of the right half say dog, and the others of it are in doubt."""
    dog = np.full((4, 4), 0.1)
    dog[:, 2:], dog[0, 2:] = 0.7, 0.4
    before = beliefs(1 - dog, np.zeros((4, 4)), dog)
    assert (before.labels[:2, 4:] == 0).all()
    after = spread_beliefs(before, blocks(HALVES), SPREAD)
    assert (after.labels[:, 5:] == 2).all()
    assert (after.labels[:, :3] == 0).all()
    assert sum(after.beliefs.values()) == pytest.approx(np.ones((8, 8)), abs=1e-5)
    kept = spread_beliefs(before, blocks(HALVES), Matching(spread_share=0.0))
    assert (kept.labels == before.labels).all()
    alone = LabelMap(np.zeros((8, 8), np.uint8), NAMES)
    assert spread_beliefs(alone, blocks(HALVES), SPREAD) is alone


def test_scores_of_what_is_spread_over_are_gone():
    dog = np.zeros((4, 4))
    dog[0, 0] = 0.51
    before = beliefs(1 - dog, np.zeros((4, 4)), dog)
    before = LabelMap(before.labels, NAMES, {"dog": 0.51}, before.beliefs)
    after = spread_beliefs(before, blocks(np.zeros((4, 4))), SPREAD)
    assert ((after.labels == 2).any(), "dog" in after.scores) in ((True, True), (False, False))


def test_other_layers_than_self_attention_are_refused():
    odd = Features({"x": np.ones((3, 4, 4), np.float32)}, (8, 8))
    with pytest.raises(FslabError, match="self-attention maps"):
        spread_beliefs(beliefs(np.ones((4, 4)), np.zeros((4, 4))), odd, SPREAD)


def test_settings_of_the_spread_are_checked():
    for said, wrong in {
        "spread_share": {"spread_share": 1.5}, "spread_steps": {"spread_steps": 0},
        "spread_change": {"spread_change": -1}, "timestep": {"spread_timestep": 1000},
    }.items():  # fmt: skip
        with pytest.raises(FslabError, match=said):
            Matching(**wrong)
    with pytest.raises(FslabError, match=r"spread_layers.*assignment='vote' or 'evidence'"):
        Matching(spread_layers=("*attn1.probs",))
    with pytest.raises(FslabError, match=r"spread_trust is 0.1.*assignment='vote' or 'evidence'"):
        Matching(spread_trust=0.1)
    given = Picture(np.zeros((8, 8, 3), np.uint8)), Segments(np.zeros((8, 8), int))
    rule = Matching(assignment="evidence", spread_layers=("*probs",))
    asked = (*given, Vocabulary(NAMES), ["cat"], rule, None, {"cat": np.ones((2, 2), np.float32)})
    with pytest.raises(FslabError, match="there is no self-attention; give looks"):
        match(*asked)


def test_a_method_spreads_alone_and_in_batches(tiny):
    lab, words = Lab(tiny), ("dog", "cat")
    how = {"match.spread_layers": ("*attn1.probs",), "match.attention": 0.0}
    recipe = METHODS["fslab"].change({**how, "cluster.also": (), "refine.method": "none"})
    pictures = [noise_picture(64, 64, seed=seed) for seed in range(3)]
    alone = [lab.segment(each, recipe, candidates=words) for each in pictures]
    plain = recipe.change({"match.spread_layers": ()})
    before = lab.segment(pictures[0], plain, candidates=words).named.beliefs
    assert any(np.abs(before[kind] - alone[0].named.beliefs[kind]).max() > 1e-3 for kind in before)
    together = Lab(tiny).segment_many(pictures, recipe, candidates=words, batch=3)
    for one, other in zip(alone, together, strict=True):
        for kind, belief in one.named.beliefs.items():
            np.testing.assert_allclose(belief, other.named.beliefs[kind], atol=1e-4)


def test_a_backbone_without_self_attention_refuses_and_another_takes_its_own(picture):
    lab = fslab.Lab("mini", "rgb")
    recipe = lab.recipe("fslab").change({"match.spread_layers": ("up_blocks.1.*.attn1.probs",)})
    with pytest.raises(FslabError, match=r"shows no self-attention.*leave that out"):
        lab.segment(picture, recipe, candidates=["dog"])


def test_a_vision_transformer_spreads_by_its_own_attention(vision_folders, picture):
    from fslab.backbones import open_backbone

    network = open_backbone(vision_folders["dinov2"])
    settings = Matching(assignment="vote", spread_layers=("up_blocks.1.*.attn1.probs",))
    asked = looks_asked(settings, network)
    assert (asked.layers, asked.timesteps, asked.noise) == (("last:*.probs",), (), "added")


def two_colours():
    pixels = np.full((20, 30, 3), 40, np.uint8)
    pixels[:, 15:] = 200
    return pixels


def test_a_walk_stops_at_an_edge_of_colour():
    """The prior's border is two pixels beside the picture's."""
    dog = np.full((20, 30), 0.4, np.float32)
    dog[:, 18:] = 0.9
    found = walk(two_colours(), np.stack([1 - dog, dog]), trust=0.05, iterations=200)
    assert found.shape == (2, 20, 30)
    np.testing.assert_allclose(found.sum(0), 1, atol=1e-5)
    assert (found[1, :, 15:] > 0.5).all()
    assert (found[1, :, :15] < 0.5).all()


def test_a_walk_solves_its_system():
    """Two pixels of one colour and beliefs 0.9 and 0.2, by hand."""
    pixels = np.zeros((1, 2, 3), np.uint8)
    own = np.array([[[0.9, 0.2]], [[0.1, 0.8]]], np.float32)
    weights = own.max(0).ravel() ** 2
    system = np.array([[1 + weights[0], -1], [-1, 1 + weights[1]]])
    expected = np.linalg.solve(system, weights * own[0].ravel())
    np.testing.assert_allclose(walk(pixels, own)[0].ravel(), expected, rtol=1e-4)


def test_beliefs_walk_before_they_are_sharpened():
    dog = np.full((20, 30), 0.4, np.float32)
    dog[:, 18:] = 0.9
    kinds = np.where(dog > 0.5, 2, 0).astype(np.uint8)
    before = LabelMap(kinds, NAMES, {"dog": 0.9}, {0: 1 - dog, 2: dog})
    settings = Matching(assignment="vote", spread_trust=0.02)
    after = walk_beliefs(Picture(two_colours()), before, settings)
    assert (after.labels[:, 15:] == 2).all()
    assert (after.scores, list(after.beliefs)) == ({"dog": 0.9}, [0, 2])
    given = Picture(two_colours()), Segments((dog > 0.5).astype(int)), Vocabulary(NAMES), ["dog"]
    rule = Matching(assignment="evidence", spread_trust=0.02)
    named = match(*given, rule, None, {"dog": dog})
    plain = match(*given, Matching(assignment="evidence"), None, {"dog": dog})
    assert (named.labels[:, 15:18] != plain.labels[:, 15:18]).any()


def test_a_coarse_grid_goes_back_to_pixels_and_labels_are_sharpened():
    picture, labels = Picture(two_colours()), np.zeros((20, 30), np.uint8)
    labels[:, 17:] = 2
    given = LabelMap(labels, NAMES, {"dog": 0.7})
    found = refine(picture, given, Refinement.of("walk", trust=0.01))
    assert (found.labels[:, 15:] == 2).all()
    assert (found.labels[:, :15] == 0).all()
    assert found.scores == given.scores
    coarse = refine(picture, given, RandomWalk(grid=10))
    assert coarse.size == given.size
    for wrong in ({"grid": 0}, {"trust": 0.0}, {"sharpness": -1.0}, {"iterations": 0}):
        with pytest.raises(FslabError, match=next(iter(wrong))):
            RandomWalk(**wrong)
