"""Segments that vote on names: over several segmentations, with the diffusion model's evidence."""

from __future__ import annotations

import numpy as np
import pytest

import fslab
from fslab.cluster import cluster
from fslab.lab import METHODS, Lab
from fslab.lab.words import _prompts, sentence_of
from fslab.match import Match, load_matcher, match, vote
from fslab.records import (
    Clustering,
    Features,
    FslabError,
    LabelMap,
    Matching,
    Picture,
    Recipe,
    Refinement,
    Segments,
    Vocabulary,
)
from fslab.refine import refine

ANIMALS = Vocabulary(("background", "cat", "dog"), synonyms={"cat": ("kitten",)})


def halves(columns, size=(4, 8)):
    labels = np.zeros(size, np.int32)
    labels[:, columns:] = 1
    return Segments(labels)


def scored(rows, texts=("cat", "dog", "grass", "sky"), classes=2):
    rows = np.array(rows, np.float32)
    return Match(rows, texts, np.zeros(len(rows), np.int64), classes)


def test_one_segmentation_votes_as_argmax():
    found = vote(
        [halves(4)], [scored([[0.7, 0.1, 0.1, 0.1], [0.1, 0.2, 0.3, 0.4]])], ANIMALS, ["cat", "dog"]
    )
    assert (found.labels[:, :4] == 1).all()
    assert (found.labels[:, 4:] == 0).all()
    # the background is its best word, and all sums to one: 0.7 of 0.7 + 0.1 + 0.1
    assert found.scores == {"cat": pytest.approx(7 / 9)}
    assert sum(found.beliefs.values()) == pytest.approx(np.ones((4, 8)))


def test_only_candidates_and_the_background_share():
    found = vote(
        [halves(4)], [scored([[0.1, 0.8, 0.1, 0.0], [0.0, 0.9, 0.0, 0.1]])], ANIMALS, ["cat"]
    )
    assert set(found.beliefs) == {0, 1}
    assert found.beliefs[1][0, 0] == pytest.approx(0.5)
    assert found.beliefs[1][0, 7] == pytest.approx(0.0)


def test_segmentations_are_averaged_pixel_by_pixel():
    sure = scored([[0.9, 0.0, 0.1, 0.0], [0.1, 0.0, 0.9, 0.0]])
    found = vote([halves(2), halves(6)], [sure, sure], ANIMALS, ["cat"])
    assert found.beliefs[1][0] == pytest.approx([0.9, 0.9, 0.5, 0.5, 0.5, 0.5, 0.1, 0.1])


def test_evidence_weighs_names_on_their_segments():
    even = scored([[0.4, 0.4, 0.2, 0.0], [0.4, 0.4, 0.2, 0.0]])
    left = np.zeros((1, 2), np.float32)
    left[0, 0] = 0.3  # scaled to a peak of one
    evidence = {"kitten": left, "dog": left[:, ::-1]}
    found = vote([halves(4)], [even], ANIMALS, ["kitten", "dog"], evidence, weight=1.0)
    assert (found.labels[:, :4] == 1).all()
    assert (found.labels[:, 4:] == 2).all()
    none = vote([halves(4)], [even], ANIMALS, ["kitten", "dog"], evidence, weight=0.0)
    assert none.beliefs[1] == pytest.approx(none.beliefs[2])


def test_evidence_that_looks_nowhere_in_a_segment_favours_the_background():
    even = scored([[0.5, 0.0, 0.5, 0.0], [0.5, 0.0, 0.5, 0.0]])
    look = np.zeros((4, 8), np.float32)
    look[:, :4] = 1
    found = vote([halves(4)], [even], ANIMALS, ["cat"], {"cat": look}, weight=2.0)
    assert found.beliefs[1][0, 0] > 0.99
    assert found.beliefs[0][0, 7] > 0.99


def test_segmentations_of_two_sizes_are_refused():
    one = scored([[1, 0, 0, 0]] * 2)
    with pytest.raises(FslabError, match=r"\(4, 8\), \(4, 6\)"):
        vote([halves(4), halves(3, (4, 6))], [one, one], ANIMALS, ["cat"])


def test_clustering_also_gives_other_segmentations():
    rng = np.random.default_rng(0)
    features = Features({"layer": rng.random((3, 6, 6), dtype=np.float32)}, (24, 24))
    found = cluster(features, Clustering.of(k=3, also=(2, 5)))
    assert [one.count for one in (found, *found.others)] == [3, 2, 5]
    for one, k in zip((found, *found.others), (3, 2, 5), strict=True):
        assert np.array_equal(one.labels, cluster(features, Clustering.of(k=k)).labels)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"cluster.also": (4,), "cluster.k_is": "silhouette"}, "goes with a fixed K"),
        ({"cluster.also": (0,)}, "each K must be 1 or more"),
        ({"match.attention": 1.0}, "assignment='vote' only"),
        ({"match.assignment": "vote", "match.attention": -1.0}, "it must be 0 or more"),
        ({"match.attention_timestep": 1000}, "from 0 to 999"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings, sentence):
    with pytest.raises(FslabError, match=sentence):
        Recipe().change(settings)


@pytest.mark.parametrize("method", ["crf-joint", "pamr"])
def test_refinement_starts_from_beliefs(method):
    grey = Picture(np.full((8, 8, 3), 120, np.uint8))
    labels = np.zeros((8, 8), np.uint8)
    labels[:, 4:] = 1
    strong = np.where(labels == 1, 0.95, 0.45).astype(np.float32)
    doubtful = LabelMap(labels, ANIMALS.names, {}, {0: 1 - strong, 1: strong})
    certain = LabelMap(labels, ANIMALS.names)
    how = Refinement.of(method, iterations=3)
    assert (refine(grey, doubtful, how).labels == 1).sum() > (
        refine(grey, certain, how).labels == 1
    ).sum()


def test_by_hand_and_in_one_call_agree_with_votes(tiny, picture):
    lab, names = Lab(tiny), ["cat", "dog"]
    recipe = Recipe(
        "voting",
        cluster=Clustering.of(k=3, also=(2, 4), normalise="l2"),
        match=Matching("mean", background=("grass",), assignment="vote", attention=1.0),
        refine=Refinement.of("crf-joint"),
    )
    whole = lab.segment(picture, recipe, candidates=names)
    features = lab.extract(
        picture,
        **{k: v for k, v in vars(whole.recipe.extract).items() if k not in ("timesteps", "layers")},
    )
    segments = lab.cluster(features, method=recipe.cluster)
    named = lab.match(picture, segments, names, **vars(whole.recipe.match))
    assert np.array_equal(named.labels, whole.named.labels)
    assert all(np.array_equal(named.beliefs[k], whole.named.beliefs[k]) for k in (0, 8, 12))
    again = Lab(tiny).segment(picture, recipe, candidates=names)  # now from the store
    assert np.array_equal(again.labels.labels, whole.labels.labels)
    without = lab.segment(picture, recipe.change({"match.attention": 0.0}), candidates=names)
    assert not np.array_equal(without.named.beliefs[8], whole.named.beliefs[8])


def test_a_backbone_that_reads_no_text_gives_no_evidence():
    assert METHODS["fslab"].match.attention > 0
    assert Lab("mini", backbone="rgb").recipe("fslab").match.attention == 0
    assert Lab("mini", backbone="random").recipe("fslab").match.attention > 0


def test_words_that_one_prompt_cannot_hold_get_several():
    lab = Lab("mini")
    words = list(fslab.VOC.classes)
    prompts = _prompts([fslab.VOC.texts(name)[0] for name in words], lab.backbone)
    assert len(prompts) > 1
    for together in prompts:
        prompt = sentence_of(together)
        assert max(end for _, end in lab.backbone.token_spans(prompt)) == len(prompt)
    assert len(prompts[0]) > 2


def test_attention_without_evidence_is_refused(clip, picture):
    how = Matching("mean", assignment="vote", attention=1.0)
    with pytest.raises(FslabError, match="let a Lab match"):
        match(
            picture,
            Segments(np.zeros(picture.size, np.int32)),
            ANIMALS,
            ["cat"],
            how,
            load_matcher(clip),
        )


def test_no_refinement_keeps_beliefs(tiny, picture):
    labels = LabelMap(
        np.zeros(picture.size, np.uint8), ANIMALS.names, {}, {0: np.ones(picture.size, np.float32)}
    )
    assert Lab(tiny).refine(picture, labels, method="none").beliefs == labels.beliefs
