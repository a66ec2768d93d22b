"""Cells in the coordinates of their span: the same distances, the same partitions, fewer numbers."""

from unittest.mock import patch

import numpy as np
import pytest
from conftest import CELL_METHODS, clustering_by
from sklearn.metrics import adjusted_rand_score

from fslab.cluster import cluster, coordinates, join
from fslab.cluster import pixels as pixels_module
from fslab.cluster.joining import resize, shape_of, spanned
from fslab.cluster.pixels import lowest
from fslab.records import Clustering, Features

SHAPES = {
    "one layer": [(90, 4, 6)],
    "layers of one grid": [(20, 4, 6), (30, 4, 6)],
    "two grids": [(90, 4, 6), (200, 8, 12), (40, 4, 6)],
    "one wide grid of two": [(90, 4, 6), (7, 8, 12)],
    "grids of one area": [(90, 4, 6), (90, 6, 4)],
    "one cell": [(30, 1, 1)],
}


def features(shapes, seed=0):
    """Return smooth maps with a little noise, of scales of their own."""
    rng = np.random.default_rng(seed)
    maps = {}
    for number, (channels, h, w) in enumerate(shapes):
        waves = resize(rng.standard_normal((5, 3, 3)).astype(np.float32), (h, w))
        mixed = np.tensordot(rng.standard_normal((channels, 5)), waves, 1)
        noise = rng.standard_normal((channels, h, w))
        maps[f"layer{number}"] = (mixed * 3**number + 0.1 * noise).astype(np.float32)
    return Features(maps, (40, 60), "waves")


def products(joined):
    cells = joined.reshape(len(joined), -1).astype(np.float64)
    return cells.T @ cells


@pytest.mark.parametrize("shapes", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize(
    "more", [{}, {"normalise": "l2"}, {"grid": 15}, {"grid": 3}, {"position": 0.5}], ids=str
)
def test_inner_products_and_so_distances_are_those_of_all_channels(shapes, more):
    given, settings = features(shapes), Clustering.of(**more)
    whole, found = join(given, settings), coordinates(given, settings)
    assert found.dtype == np.float32
    assert found.shape == shape_of(given, settings)
    assert len(found) < len(whole)
    wanted = products(whole)
    assert np.abs(products(found) - wanted).max() <= 1e-6 * wanted.max()


@pytest.mark.parametrize(
    "shapes", [[(24, 4, 6)], [(10, 4, 6), (90, 8, 12), (14, 4, 6)], [(1, 1, 1)]]
)
def test_where_channels_are_no_more_than_cells_no_bit_changes(shapes):
    given, settings = features(shapes), Clustering.of(normalise="l2", grid=9, position=0.3)
    assert shape_of(given, settings) == join(given, settings).shape
    assert (coordinates(given, settings) == join(given, settings)).all()


def test_coordinates_are_the_same_each_time_and_their_signs_are_settled():
    cells = features([(90, 4, 6)])["layer0"].reshape(90, -1)
    found = spanned(cells)
    assert (found == spanned(np.asfortranarray(cells))).all()
    assert (found.diagonal() > 0).all()
    assert (np.tril(found, -1) == 0).all()


def test_cells_that_are_equal_stay_equal_to_the_last_bit():
    cells = np.random.default_rng(0).standard_normal((900, 40)).astype(np.float32)
    cells[:, 7:30] = cells[:, :1]
    found = spanned(cells)
    assert (found[:, 7:30] == found[:, :1]).all()
    assert len(np.unique(found, axis=1).T) == 17
    same = np.repeat(cells[:, :1], 144, 1).reshape(900, 12, 12)
    assert cluster(Features({"x": same}, (30, 30)), Clustering.of(k=4)).count == 1


def test_a_graph_of_cells_that_are_not_enlarged_is_that_of_all_channels():
    given, grown = features([(60, 8, 8)]), Clustering.of("ncut", grid=9)
    with patch("fslab.cluster.clusters.coordinates", side_effect=ZeroDivisionError):
        assert cluster(given, Clustering.of("ncut", tau=0.9)).count > 1
        for settings in (Clustering.of("agglomerative"), Clustering.of("kmeans"), grown):
            with pytest.raises(ZeroDivisionError):
                cluster(given, settings)


@pytest.mark.parametrize("method", CELL_METHODS)
@pytest.mark.parametrize("more", [{"k_is": "silhouette"}, {"normalise": "l2", "grid": 16}], ids=str)
def test_every_method_parts_the_picture_as_all_channels_do(method, more):
    given = features([(60, 8, 8), (90, 8, 8)])
    settings = clustering_by(method, k=5, tau=0.9, restarts=2, **more)
    found = cluster(given, settings)
    with patch("fslab.cluster.clusters.coordinates", join):
        wanted = cluster(given, settings)
    assert found.count > 1
    assert adjusted_rand_score(found.labels.ravel(), wanted.labels.ravel()) >= 0.999


@pytest.mark.parametrize("at_once", [1, 700, 1400, 10**9])
def test_the_lowest_map_is_found_a_few_maps_at_a_time(monkeypatch, at_once):
    maps = np.random.default_rng(0).standard_normal((9, 5, 7)).astype(np.float32)
    maps[3:5] = maps[8] + 1
    wanted = resize(maps, (20, 35)).argmin(0)
    monkeypatch.setattr(pixels_module, "AT_ONCE", at_once)
    assert (lowest(maps, (20, 35)) == wanted).all()
    assert set(np.unique(wanted)) == {0, 1, 2, 5, 6, 7, 8}
