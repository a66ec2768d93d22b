"""No clustering and no projection ends the process: bounds known before, refusals in a sentence."""

import sys
import tracemalloc

import numpy as np
import pytest
from conftest import CELL_METHODS, clustering_by, write_dataset

from fslab import datasets, room
from fslab.cluster import cluster, project
from fslab.cluster.bounds import bytes_of
from fslab.evaluate import ablate
from fslab.records import Clustering, Features, FslabError, OutOfMemory


def waves(side, channels=6):
    """Return features f32 [C, side, side], each cell near its neighbours."""
    steps = np.random.default_rng(side).standard_normal((channels, side, side))
    value = steps.cumsum(1).cumsum(2).astype(np.float32)
    return Features({"x": value}, (30, 30), "waves")


def looks(side):
    """Return self-attention maps f32 [side * side, side, side]."""
    value = np.random.default_rng(side).random((side * side, side, side), np.float32) ** 4
    return Features({"attn1.probs": value / value.sum(0)}, (30, 30), "looks")


def given_to(method, side):
    return looks(side) if method == "merge" else waves(side)


@pytest.mark.parametrize("method", [*CELL_METHODS, "merge"])
def test_what_takes_more_than_is_free_is_refused_before(monkeypatch, method):
    features, settings = given_to(method, 20), clustering_by(method, k=3, restarts=1)
    monkeypatch.setattr(room, "available", lambda: bytes_of(features, settings) - 1)
    said = (
        rf"{features.name}: clustering by '{method}' of 20 x 20 = 400 cells takes up to \d+\.\d MB"
    )
    with pytest.raises(
        OutOfMemory, match=rf"{said} of memory, and .* MB are free; set clustering.grid to"
    ):
        cluster(features, settings)
    monkeypatch.setattr(room, "available", lambda: bytes_of(features, settings))
    assert cluster(features, settings).count
    monkeypatch.setattr(room, "available", lambda: None)
    assert cluster(features, settings).count


MOST = [
    ("kmeans", {}, 20), ("kmeans", {"k_is": "silhouette"}, 20), ("agglomerative", {}, 20),
    ("spectral", {}, 20), ("spectral", {"k": 40}, 11), ("spectral", {"k": 121}, 11),
    ("spectral", {"also": (90,)}, 11), ("ncut", {}, 20), ("merge", {}, 20),
    ("merge", {"anchors": 20}, 20), ("merge", {"grid": 10}, 20),
    ("kmeans", {"grid": 60, "position": 1.0}, 20),
]  # fmt: skip


@pytest.mark.parametrize(("method", "more", "side"), MOST, ids=str)
def test_no_clustering_takes_more_than_was_said(method, more, side):
    features, settings = given_to(method, side), clustering_by(method, restarts=1, **more)
    cluster(given_to(method, 8), clustering_by(method, k=4))  # what is imported then is not counted
    tracemalloc.start()
    cluster(features, settings)
    taken = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert taken <= bytes_of(features, settings)


@pytest.mark.parametrize("grid", [10**5, 10**9, 2**62])
@pytest.mark.parametrize("method", ["kmeans", "ncut", "merge"])
def test_an_absurd_grid_is_refused(grid, method):
    with pytest.raises(OutOfMemory, match=f"= {grid * grid} cells takes up to .*; set"):
        cluster(given_to(method, 4), clustering_by(method, grid=grid))


@pytest.mark.parametrize("method", ["kmeans", "agglomerative", "spectral"])
@pytest.mark.parametrize(
    ("k", "more"),
    [(17, {}), (10**9, {}), (10**30, {}), (2, {"also": (3, 10**9)}), (16, {"k_is": "silhouette"}),
     (10**9, {"k_is": "candidates"}), (-9, {"k_is": "candidates"})],
)  # fmt: skip
def test_k_that_the_cells_do_not_have_is_refused(method, k, more):
    with pytest.raises(FslabError, match=r"waves: K is -?\d+; these features have 16 cells"):
        cluster(waves(4), clustering_by(method, k=k, restarts=1, **more), candidates=2)


@pytest.mark.parametrize("k", [True, np.True_, 2.5, float("nan"), float("inf"), "3", None, (3,)])
def test_k_that_is_no_whole_number_is_refused(k):
    with pytest.raises(FslabError, match=r"clustering\.k is .*; it must be a whole number"):
        Clustering.of(k=k)
    with pytest.raises(FslabError, match=r"clustering\.also is .*"):
        Clustering.of(also=(k,))


@pytest.mark.parametrize("k", [np.int8(3), np.uint64(3), 3.0, np.float32(3)])
def test_k_of_any_kind_of_number_is_that_number(k):
    given = Clustering.of(k=k, also=(k,))
    assert (given.k, given.also, type(given.k)) == (3, (3,), int)
    assert (cluster(waves(4), given).labels == cluster(waves(4), Clustering.of(k=3)).labels).all()


@pytest.mark.parametrize("k", [0, -1, -(10**9), np.int64(-3)])
def test_k_below_one_is_refused(k):
    with pytest.raises(
        FslabError, match=r"clustering\.k is -?\d+; it must be a whole number from 1 up"
    ):
        Clustering.of(k=k)


@pytest.mark.parametrize(("method", "name"), [("kmeans", "restarts"), ("merge", "rounds")])
def test_repetitions_without_end_are_refused(method, name):
    with pytest.raises(FslabError, match=rf"clustering\.{name} is 10+; it must be at most 10000"):
        Clustering.of(method, **{name: 10**10})


@pytest.mark.parametrize("position", [1e17, 1e30, 1e300])
@pytest.mark.parametrize("method", CELL_METHODS)
def test_a_position_beyond_the_range_of_numbers_is_refused(method, position):
    with pytest.raises(FslabError, match=r"waves: clustering\.position is 1e\+.*take a smaller"):
        cluster(waves(4), clustering_by(method, k=2, position=position))


@pytest.mark.parametrize("shape", [(1, 1, 1), (300, 1, 1), (300, 1, 3), (1, 3, 1), (300, 2, 2)])
@pytest.mark.parametrize("method", CELL_METHODS)
@pytest.mark.parametrize("value", ["constant", "zero", "noise"])
def test_tiny_grids_are_answered(method, shape, value):
    noise = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    value = {"constant": np.full_like(noise, 0.1), "zero": 0 * noise, "noise": noise}[value]
    for k in range(1, noise[0].size + 1):
        found = cluster(Features({"x": value}, (5, 7)), clustering_by(method, k=k, restarts=1))
        assert np.unique(found.labels).tolist() == list(range(found.count))


ROWS = """
title = "Graphs"
metrics = ["oracle"]
[base]
cluster = "kmeans"
backbone = "rgb"
[base.set]
"cluster.grid" = 6
"cluster.k" = 2
"cluster.restarts" = 1
[grid]
"cluster.method" = ["kmeans", "agglomerative"]
"""


def test_an_ablation_goes_on_after_a_picture_whose_graph_has_no_room(tmp_path, monkeypatch):
    (tmp_path / "rows.toml").write_text(ROWS)
    free = iter([10**9, 10**9, 10**9, 10, 10**9, 10**9])  # three pictures, two rows for each
    monkeypatch.setattr(room, "available", lambda: next(free))
    dataset = datasets.voc(write_dataset(tmp_path / "set", 3))
    found = ablate(tmp_path / "rows.toml", dataset, progress=False)
    assert [row.images for row in found.rows] == [3, 2]
    (why,) = found.rows[1].refused.values()
    assert "clustering by 'agglomerative' of" in why


@pytest.mark.parametrize("how", ["PCA", "UMAP"])
@pytest.mark.parametrize(
    ("cells", "said"),
    [(np.full((9, 3), np.nan), "NaN"), (np.full((9, 3), -np.inf), "NaN or infinity"),
     (np.full((9, 3), 1e20), "1e\\+20"), (np.zeros((0, 3)), "array of numbers"),
     (np.zeros((3, 0)), "array of numbers"), (np.zeros(9), r"\[N, C\]"), ([[1.0]], "array")],
)  # fmt: skip
def test_what_no_plane_is_made_of_is_refused(how, cells, said):
    with pytest.raises(FslabError, match=said):
        project(cells, how)


@pytest.mark.parametrize("shape", [(1, 1), (1, 900), (2, 5), (9, 1), (12, 900), (30, 4)])
@pytest.mark.parametrize("scale", [0.0, 1.0, 1e-30, 1e14])
def test_a_plane_of_few_channels_few_cells_or_one_value(shape, scale):
    cells = (scale * np.random.default_rng(0).standard_normal(shape)).astype(np.float32)
    plane = project(cells, "PCA")
    assert plane.shape == (len(cells), 2)
    spread = np.linalg.svd((cells - cells.mean(0)).astype(float), compute_uv=False)[:2]
    found = np.sqrt((plane.astype(float) ** 2).sum(0))[: len(spread)]
    np.testing.assert_allclose(found, spread, rtol=1e-4, atol=1e-5 * scale)


@pytest.mark.parametrize(
    "fault", ["import fslab_has_no_such", "raise RuntimeError('cannot cache')",
              "import numpy; numpy.no_such", "raise OSError('no file')"],
)  # fmt: skip
def test_umap_that_cannot_be_imported_is_a_sentence(tmp_path, monkeypatch, fault):
    (tmp_path / "umap.py").write_text(fault)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "umap", raising=False)
    with pytest.raises(FslabError, match=r"umap-learn, whose import failed .*take 'PCA'"):
        project(np.eye(9, dtype=np.float32), "UMAP")
