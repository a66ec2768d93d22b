"""Clustering: joins, K, pixels that follow interpolated features, seeds."""

import numpy as np
import pytest
import torch
from conftest import CELL_METHODS, clustering_by
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import KMeans
from torch.nn.functional import interpolate

import fslab
from fslab.cluster import assign_pixels, cluster, join, resize, unit_length
from fslab.records import Clustering, Features, FslabError, clustering


def features(size=(40, 60), shapes=((8, 4, 6), (3, 8, 12)), seed=0):
    rng = np.random.default_rng(seed)
    maps = {
        f"layer{i}": rng.standard_normal(shape).astype(np.float32) for i, shape in enumerate(shapes)
    }
    return Features(maps, size, "noise")


def halves():
    """Left and right halves of a picture, told apart by two channels."""
    value = np.zeros((2, 6, 10), np.float32)
    value[0, :, :5], value[1, :, 5:] = 1, 1
    return Features({"layer": value}, (60, 100), "halves")


@pytest.mark.parametrize("make", [fslab.kmeans, fslab.agglomerative])
@pytest.mark.parametrize("upsample", ["features", "nearest"])
def test_two_halves_are_two_segments(make, upsample):
    found = make(halves(), k=2, upsample=upsample)
    assert found.labels.shape == (60, 100)
    assert found.labels.dtype == np.int32
    left, right = found.labels[:, :50], found.labels[:, 50:]
    assert len(np.unique(left)) == len(np.unique(right)) == 1
    assert left[0, 0] != right[0, 0]


def test_layers_are_joined_on_the_finest_grid():
    joined = join(features(), Clustering.of())
    assert joined.shape == (11, 8, 12)
    fine = features()["layer1"]
    assert np.array_equal(joined[8:], fine)
    coarse = torch.from_numpy(features()["layer0"])[None]
    plain = interpolate(coarse, (8, 12), mode="bilinear", align_corners=False)[0].numpy()
    assert np.array_equal(joined[:8], plain)
    assert join(features(), Clustering.of(grid=24)).shape == (11, 16, 24)


def test_l2_gives_every_cell_of_every_layer_unit_length():
    single = Features({"layer0": features()["layer0"]}, (40, 60), "one")
    joined = join(single, Clustering.of(normalise="l2"))
    assert np.allclose(np.linalg.norm(joined, axis=0), 1, atol=1e-6)


def test_position_adds_rows_and_columns_in_the_features_own_scale():
    plain = join(features(), Clustering.of())
    joined = join(features(), Clustering.of(position=0.5))
    assert joined.shape[0] == plain.shape[0] + 2
    spread = np.sqrt(plain.var(axis=(1, 2)).sum())
    assert np.sqrt(joined[-2:].var(axis=(1, 2)).sum()) == pytest.approx(0.5 * spread, rel=1e-4)


def test_kmeans_is_scikit_learns_own():
    given = features(shapes=((8, 4, 6),))
    cells = given["layer0"].reshape(8, -1).T
    plain = KMeans(3, n_init=10, random_state=5).fit_predict(cells)
    found = fslab.kmeans(Features(given.maps, (4, 6), "cells"), k=3, seed=5, upsample="nearest")
    assert len({*zip(plain, found.labels.ravel(), strict=True)}) == 3


def test_interpolated_distances_equal_interpolated_features():
    rng = np.random.default_rng(1)
    joined = rng.standard_normal((16, 5, 7)).astype(np.float32)
    means = rng.standard_normal((4, 16)).astype(np.float32)
    pixels = resize(joined, (35, 49)).reshape(16, -1).T
    plain = ((pixels[:, None] - means[None]) ** 2).sum(-1).argmin(1).reshape(35, 49)
    assert (assign_pixels(joined, means, (35, 49)) != plain).mean() < 1e-3  # rounding at ties


def test_the_same_seed_gives_the_same_segments():
    one, two = (fslab.kmeans(features(), k=5, seed=3) for _ in range(2))
    assert np.array_equal(one.labels, two.labels)


def test_k_can_follow_the_candidates():
    found = cluster(
        features(), Clustering.of(k=2, k_is="candidates", upsample="nearest"), candidates=3
    )
    assert found.count == 5


def test_k_beyond_the_cells_is_refused():
    with pytest.raises(FslabError, match="noise: K is 200; these features have 96 cells"):
        fslab.kmeans(features(), k=200)
    with pytest.raises(FslabError, match=r"clustering\.k is 0"):
        fslab.kmeans(features(), k=0)


@settings(max_examples=25, deadline=None)
@given(
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    grid=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    k=st.integers(1, 6),
    upsample=st.sampled_from(["features", "nearest"]),
    method=st.sampled_from(CELL_METHODS),
)
def test_any_size_gives_ids_without_gaps_at_the_pictures_size(size, grid, k, upsample, method):
    k = min(k, grid[0] * grid[1])
    given = features(size, ((3, *grid),))
    found = cluster(given, clustering_by(method, k=k, upsample=upsample, restarts=1))
    assert found.size == size
    assert np.array_equal(np.unique(found.labels), np.arange(found.count))
    if not clustering.find(method).finds_k:
        assert found.count <= k


def test_a_flat_map_has_unit_length_without_nan():
    assert np.isfinite(unit_length(np.zeros((3, 2, 2), np.float32))).all()
