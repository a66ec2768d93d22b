"""Recursive normalised cuts by Lanczos iteration against dense eigenvectors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from unittest.mock import patch

import numpy as np
from contest import Contest, Setting
from scipy.linalg import eigh

from fslab.cluster import affinity, join, recursive_cut
from fslab.datasets import voc
from fslab.lab import Lab
from fslab.records import Clustering

TAU, ALPHA = 0.5, 10.0


def benches(setting: Setting) -> Iterator[Contest]:
    """Cut graphs of mini's features on 32 x 32 cells, the same partition asserted."""
    side, count = (12, 1) if setting.smoke else (32, 3)
    graphs = [affinity(cells, ALPHA) for cells in features(setting, side, count)]
    found = [recursive_cut(graph, TAU) for graph in graphs]
    ways = {
        "all": ("dense scipy.linalg.eigh, all vectors", {}, 5.0),
        "two": ("dense scipy.linalg.eigh, asked for two vectors", {"subset": True}, None),
    }
    for name, (against, how, target) in ways.items():
        dense = dense_vectors(**how)
        for graph, ours in zip(graphs, found, strict=True):
            assert same_partition(ours, cut_with(dense, graph))
        yield Contest(
            f"ncut-{name}",
            f"recursive normalised cut, {side} x {side} cells, {count} pictures, one after another",
            against,
            lambda: [recursive_cut(graph, TAU) for graph in graphs],
            lambda dense=dense: [cut_with(dense, graph) for graph in graphs],
            target,
            notes=lambda: {"parts": [len(np.unique(labels)) for labels in found]},
        )


def features(setting: Setting, side: int, count: int) -> list[np.ndarray]:
    """Return cells f32 [side x side, C] of pictures of mini-VOC, each of unit length."""
    lab = Lab("mini", store=setting.folder / "cuts")
    settings = Clustering.of("ncut", normalise="l2", grid=side)
    samples = voc("data/minivoc", "val").samples[:count]
    joined = [join(lab.extract(sample.picture(), squash=True), settings) for sample in samples]
    return [value.reshape(len(value), -1).T for value in joined]


def dense_vectors(subset: bool = False) -> Callable[[np.ndarray, int], np.ndarray]:
    """Return a stand-in for the package's own way to the leading eigenvectors."""

    def leading_vectors(graph: np.ndarray, count: int) -> np.ndarray:
        root = np.sqrt(graph.sum(1))
        last = [max(len(graph) - count, 0), len(graph) - 1] if subset else None
        vectors = eigh(graph / np.outer(root, root), subset_by_index=last)[1]
        return vectors[:, ::-1][:, :count]

    return leading_vectors


def cut_with(vectors: Callable[[np.ndarray, int], np.ndarray], graph: np.ndarray) -> np.ndarray:
    """Cut a graph with other eigenvectors and all else alike: labels int64 [N]."""
    with patch("fslab.cluster.graph.leading_vectors", vectors):
        return recursive_cut(graph, TAU)


def same_partition(first: np.ndarray, second: np.ndarray) -> bool:
    """Say whether two labellings part the cells alike, whatever the parts are called."""
    pairs = len(np.unique(np.stack([first, second]), axis=1).T)
    return pairs == len(np.unique(first)) == len(np.unique(second))
