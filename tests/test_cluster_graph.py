"""Normalised cuts and spectral clustering: planted parts, the dense solution, K that is found."""

import numpy as np
import pytest
from scipy.linalg import eigh

import fslab
from fslab.cluster import affinity, cluster, normalised_cut, recursive_cut
from fslab.cluster.graph import leading_vectors
from fslab.records import Clustering, Features, FslabError


def planted(parts=4, side=24, seed=0, noise=0.3):
    """A picture of vertical stripes, each with a direction of its own, and noise."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((parts, 16))
    truth = np.repeat(np.arange(side)[None] * parts // side, side, 0)
    value = centres[truth] + noise * rng.standard_normal((side, side, 16))
    maps = {"layer": value.transpose(2, 0, 1).astype(np.float32)}
    return Features(maps, (side, side), "stripes"), truth


def cells(features):
    (value,) = features.values()
    return value.reshape(len(value), -1).T


def same_parts(one, two):
    pairs = {*zip(one.ravel().tolist(), two.ravel().tolist(), strict=True)}
    return len(pairs) == len(np.unique(one)) == len(np.unique(two))


def ncut_cost(graph, side):
    """Shi and Malik's cost, straight from its definition."""
    cut = graph[np.ix_(side, ~side)].sum()
    return cut / graph[side].sum() + cut / graph[~side].sum()


@pytest.mark.parametrize("parts", [1, 2, 3, 5])
def test_the_recursive_cut_finds_how_many_parts_there_are(parts):
    features, truth = planted(parts)
    found = fslab.ncut(features, upsample="nearest")
    assert found.count == parts
    assert same_parts(found.labels, truth)


@pytest.mark.parametrize("parts", [2, 4])
def test_spectral_clustering_finds_planted_parts(parts):
    features, truth = planted(parts)
    assert same_parts(fslab.spectral(features, k=parts, upsample="nearest").labels, truth)


def test_the_cost_is_the_definitions_and_no_place_in_the_order_is_cheaper():
    graph = affinity(cells(planted(3, side=12, noise=1.0)[0]), 4.0)
    side, cost = normalised_cut(graph)
    assert cost == pytest.approx(ncut_cost(graph, side))
    order = np.argsort(leading_vectors(graph, 2)[:, 1] / np.sqrt(graph.sum(1)))
    for place in range(1, len(order)):
        other = np.isin(np.arange(len(order)), order[:place])
        assert ncut_cost(graph, other) >= cost - 1e-12


def test_two_cells_are_cut_as_by_hand():
    side, cost = normalised_cut(np.array([[1.0, 0.5], [0.5, 1.0]]))
    assert side.sum() == 1
    assert cost == pytest.approx(2 * 0.5 / 1.5)
    assert normalised_cut(np.ones((1, 1)))[1] == np.inf


def test_few_eigenvectors_are_those_of_the_dense_solution():
    graph = affinity(cells(planted(5, noise=0.8)[0]), 10.0)
    degrees = graph.sum(1)
    laplacian = np.eye(len(graph)) - graph / np.sqrt(np.outer(degrees, degrees))
    expected = eigh(laplacian)[1][:, :4]
    found = leading_vectors(graph, 4)
    assert np.abs((expected * found).sum(0)) == pytest.approx(np.ones(4), abs=1e-6)


def dense_recursion(graph, tau):
    """The recursion with all eigenvectors of every graph at once, as in the literature."""
    labels, waiting = np.zeros(len(graph), int), [np.arange(len(graph))]
    while waiting:
        members = waiting.pop()
        part = graph[np.ix_(members, members)]
        if len(part) < 2:
            continue
        degrees = part.sum(1)
        laplacian = np.diag(degrees) - part
        vector = eigh(laplacian, np.diag(degrees))[1][:, 1]
        sides = [vector <= each for each in np.sort(vector)[:-1]]
        best = min(sides, key=lambda side: ncut_cost(part, side))
        if ncut_cost(part, best) < tau:
            labels[members[best]] = labels.max() + 1
            waiting += [members[best], members[~best]]
    return labels


@pytest.mark.parametrize("seed", range(3))
def test_the_partition_is_that_of_the_dense_solution(seed):
    graph = affinity(cells(planted(5, side=15, seed=seed, noise=0.9)[0]), 10.0)
    assert same_parts(recursive_cut(graph, 0.6), dense_recursion(graph, 0.6))


def test_a_higher_tau_cuts_more_and_zero_cuts_nothing():
    features, _ = planted(6, noise=0.6)
    counts = [fslab.ncut(features, tau=tau).count for tau in (0.0, 0.2, 0.6, 0.95)]
    assert counts == sorted(counts)
    assert counts[0] == 1 < counts[-1]


def test_alpha_is_the_exponent_of_the_edges():
    points = cells(planted(3)[0])
    assert np.allclose(affinity(points, 6.0), affinity(points, 2.0) ** 3)
    graph = affinity(points, 1.0)
    assert (graph.min(), graph.max()) == (0, 1)
    assert np.allclose(graph, graph.T)


def test_cells_that_are_all_alike_or_empty_stay_together():
    for value in (np.ones((3, 9, 9), np.float32), np.zeros((3, 9, 9), np.float32)):
        flat = Features({"layer": value}, (18, 18), "flat")
        assert fslab.ncut(flat).count == 1
        assert fslab.spectral(flat, k=1).count == 1


def test_the_same_picture_gives_the_same_bits():
    features, _ = planted(5, noise=1.2, side=20)
    for settings in (Clustering.of("ncut", tau=0.8), Clustering.of("spectral", k=5)):
        one, two = (cluster(features, settings) for _ in range(2))
        assert np.array_equal(one.labels, two.labels)


@pytest.mark.parametrize("method", ["kmeans", "agglomerative", "spectral"])
def test_the_silhouette_finds_planted_parts(method):
    features, truth = planted(4, side=16)
    found = cluster(features, Clustering.of(method, k=7, k_is="silhouette", upsample="nearest"))
    assert same_parts(found.labels, truth)


def test_the_silhouette_is_the_best_of_those_tried():
    from sklearn.metrics import silhouette_score

    features, _ = planted(5, side=12, noise=1.5)
    found = cluster(features, Clustering.of(k=6, k_is="silhouette", upsample="nearest"))
    values = {
        k: silhouette_score(
            cells(features), fslab.kmeans(features, k=k, upsample="nearest").labels.ravel()
        )
        for k in range(2, 7)
    }
    assert found.count == max(values, key=values.get)


def test_a_flat_picture_has_no_silhouette_and_is_one_segment():
    flat = Features({"layer": np.ones((2, 4, 4), np.float32)}, (8, 8), "flat")
    assert cluster(flat, Clustering.of(k=4, k_is="silhouette")).count == 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"k_is": "silhouette", "k": 1}, r"clustering\.k is 1; a silhouette compares 2"),
        ({"method": "ncut", "tau": -0.1}, r"clustering\.tau is -0\.1; it must be 0 or more"),
        ({"method": "ncut", "alpha": 0.0}, r"clustering\.alpha is 0\.0; it must be above 0"),
        ({"method": "merge", "threshold": float("nan")}, r"clustering\.threshold"),
        ({"method": "merge", "anchors": 0}, r"clustering\.anchors is 0"),
        ({"method": "merge", "rounds": 0}, r"clustering\.rounds is 0"),
        ({"method": "ncuts"}, "no clustering 'ncuts'.*did you mean ncut"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings, message):
    with pytest.raises(FslabError, match=message):
        Clustering.of(**settings)


def test_a_silhouette_beyond_the_cells_is_refused():
    features, _ = planted(2, side=3)
    with pytest.raises(FslabError, match="K is 9; these features have 9 cells, so K is 1 to 8"):
        cluster(features, Clustering.of(k=9, k_is="silhouette"))
