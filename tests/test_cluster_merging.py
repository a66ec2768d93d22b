"""Merging of attention maps: divergences by definition, planted segments, several resolutions."""

import numpy as np
import pytest
from scipy.special import rel_entr

import fslab
from fslab.cluster import aggregate, cluster, merge_maps
from fslab.cluster.merging import divergence
from fslab.records import Clustering, Features, FslabError


def attention_within(truth, leak=0.1):
    """Probabilities [keys, h, w] of cells that look at their own part, and a little elsewhere."""
    same = (truth.ravel()[:, None] == truth.ravel()) + leak
    return (same / same.sum(0)).reshape(truth.size, *truth.shape).astype(np.float32)


def stripes(parts, h, w):
    return np.repeat(np.arange(w)[None] * parts // w, h, 0)


def features(parts=3, grids=((8, 12),), size=(16, 24)):
    maps = {
        f"layer{n}.probs": attention_within(stripes(parts, *grid)) for n, grid in enumerate(grids)
    }
    return Features(maps, size, "looks")


def test_the_divergence_is_the_symmetric_one():
    rng = np.random.default_rng(0)
    p, q = (rng.dirichlet(np.ones(20), n) for n in (3, 5))
    for row in range(3):
        for column in range(5):
            both = rel_entr(p[row], q[column]).sum() + rel_entr(q[column], p[row]).sum()
            assert divergence(p, q)[row, column] == pytest.approx(both / 2, rel=1e-6)
    assert np.allclose(np.diag(divergence(p, p)), 0, atol=1e-12)


@pytest.mark.parametrize("parts", [1, 2, 3, 4])
@pytest.mark.parametrize("upsample", ["features", "nearest"])
def test_parts_that_look_at_themselves_are_found(parts, upsample):
    found = fslab.merge(features(parts), threshold=0.5, upsample=upsample)
    assert found.size == (16, 24)
    assert found.count == parts
    if upsample == "nearest":
        truth = stripes(parts, 16, 24)
        pairs = {*zip(found.labels.ravel().tolist(), truth.ravel().tolist(), strict=True)}
        assert len(pairs) == parts


def test_nearest_repeats_cells_and_features_follow_the_maps_between_them():
    truth = (np.add.outer(np.arange(8), np.arange(8)) > 7).astype(int)  # parted by a diagonal
    given = Features({"a.probs": attention_within(truth)}, (32, 32), "diagonal")
    for upsample, repeated in (("nearest", True), ("features", False)):
        found = fslab.merge(given, threshold=0.5, upsample=upsample)
        assert found.count == 2
        cells = found.labels.reshape(8, 4, 8, 4)
        assert (cells == cells[:, :1, :, :1]).all() == repeated


def test_a_lower_threshold_and_more_anchors_never_find_fewer():
    given = features(4)
    counts = [fslab.merge(given, threshold=t, anchors=8).count for t in (5.0, 0.5)]
    assert counts == [1, 4]
    assert fslab.merge(given, threshold=0.5, anchors=1).count == 1


def test_each_round_merges_what_became_near():
    """Maps of a chain: ends are far from each other, means of neighbours are nearer."""
    rng = np.random.default_rng(3)
    maps = rng.dirichlet(np.full(36, 2.0), 36).astype(np.float32).reshape(6, 6, 6, 6)
    counts = [len(merge_maps(maps, 6, rounds, 0.4)) for rounds in (1, 2, 3)]
    assert counts[0] == 36
    assert counts[0] > counts[1] >= counts[2]


def test_one_layer_aggregates_to_itself():
    value = features().maps["layer0.probs"]
    total = aggregate({"a": value})
    assert total.shape == (8, 12, 8, 12)
    assert np.allclose(total.reshape(96, 96), value.reshape(96, 96).T, atol=1e-6)


def test_coarse_layers_weigh_by_their_side():
    fine, coarse = (attention_within(stripes(2, *grid)) for grid in ((8, 8), (4, 4)))
    both, alone = aggregate({"f": fine, "c": coarse}), aggregate({"f": fine})
    resized = aggregate({"c": coarse}, longer=8)
    assert np.allclose(both, (2 * alone + resized) / 3, atol=1e-6)
    assert np.allclose(both.sum(axis=(2, 3)), 1, atol=1e-5)


def test_layers_of_several_resolutions_give_one_segmentation():
    found = fslab.merge(features(2, ((8, 12), (4, 6), (2, 3))), threshold=0.5)
    assert found.count == 2
    assert len(np.unique(found.labels[:, :10])) == 1


def test_the_same_maps_give_the_same_bits():
    given = features(3, ((8, 12), (4, 6)))
    one, two = (cluster(given, Clustering.of("merge", threshold=0.7)) for _ in range(2))
    assert np.array_equal(one.labels, two.labels)


def test_features_that_are_no_attention_are_refused():
    plain = Features({"layer": np.ones((5, 4, 4), np.float32)}, (8, 8), "plain")
    with pytest.raises(FslabError, match=r"layer has 5 channels on 4 x 4 cells"):
        fslab.merge(plain)
    signed = Features({"layer": -np.ones((16, 4, 4), np.float32)}, (8, 8), "signed")
    with pytest.raises(FslabError, match=r"layers that end in \.probs"):
        fslab.merge(signed)
