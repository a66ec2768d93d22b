"""Our k-means++ chooses scikit-learn's own centres, bit for bit, and draws as often."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.cluster._kmeans import _kmeans_plusplus
from sklearn.metrics import euclidean_distances
from sklearn.utils.extmath import row_norms

from fslab.cluster import labels_of
from fslab.cluster.seeding import LARGEST, Seeding, fits
from fslab.records import Clustering


def cells(count, channels):
    """Return f32 [N, C] about 0, each cell near the one before, as a picture's rows are."""
    steps = np.random.default_rng(count).standard_normal((count, channels))
    walk = steps.cumsum(0).astype(np.float32)
    return walk - walk.mean(0)


@pytest.mark.parametrize("shape", [(1024, 576), (192, 384), (40, 3), (12, 7)])
@pytest.mark.parametrize("k", [1, 2, 4, 12])
def test_centres_are_scikit_learns_to_the_last_bit(shape, k):
    # The largest shape is cut into several products of matrices, the others into one.
    given, seeding = cells(*shape), Seeding()
    ours, theirs = np.random.RandomState(3), np.random.RandomState(3)
    weights = np.ones(len(given), np.float32)
    for _ in range(3):
        norms = row_norms(given, squared=True)
        centres, _ = _kmeans_plusplus(given, k, norms, weights, theirs)
        assert (seeding(given, k, ours) == centres).all()
    assert ours.uniform() == theirs.uniform()


def test_distances_are_scikit_learns_to_the_last_bit():
    # Far from 0 the squares cancel: another cut of the product shows here.
    given, seeding, rows = cells(1024, 576) / 1000 + np.float32(4000), Seeding(), [5, 17, 900]
    seeding(given, 1, np.random.RandomState(0))
    wanted = euclidean_distances(given[rows], given, squared=True)
    assert (seeding._distances(rows) == wanted).all()


def test_cells_that_are_all_alike_are_seeded_as_scikit_learn_does():
    given = np.zeros((20, 5), np.float32)
    weights, norms = np.ones(20, np.float32), np.zeros(20, np.float32)
    centres, _ = _kmeans_plusplus(given, 3, norms, weights, np.random.RandomState(0))
    assert (Seeding()(given, 3, np.random.RandomState(0)) == centres).all()


@pytest.mark.parametrize("k", [2, 4, 8])
def test_labels_are_those_of_scikit_learn(k):
    given, settings = cells(300, 24), replace(Clustering.of(), k=k, seed=5)
    model = KMeans(k, n_init=settings.restarts, random_state=5)
    assert (labels_of(given, settings) == model.fit_predict(given)).all()


def test_doubles_and_very_many_cells_are_left_to_scikit_learn():
    assert fits(cells(20, 3))
    assert not fits(cells(20, 3).astype(np.float64))
    assert not fits(np.broadcast_to(np.float32(0), (LARGEST // 8 + 1, 1)))
