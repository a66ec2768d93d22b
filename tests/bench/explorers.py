"""How long the explorers take from a knob's move to the new picture, on the mini preset.

`python tests/bench/explorers.py` moves each main knob 50 times through values that were never
computed (cold: a new store, the models loaded), and the same moves again (warm: everything is
in the store), and prints median and worst in seconds. The browser's own drawing is not in it.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import fslab
from fslab.datasets import voc
from fslab.widgets import (
    explore_clusters,
    explore_correspondence,
    explore_features,
    explore_matching,
    explore_refinement,
)

MOVES = 50
DATA = Path(__file__).parents[2] / "data" / "minivoc"


def timed(explorer: Any, knob: str, values: list[Any]) -> list[float]:
    """Return the seconds of each move; every move must be shown without a refusal."""
    found = []
    for value in values:
        start = time.perf_counter()
        setattr(explorer, knob, value)
        explorer.wait()
        found.append(time.perf_counter() - start)
        if explorer.message:
            raise SystemExit(f"{knob} = {value!r}: {explorer.message}")
    return found


def report(explorer: Any, knob: str, values: list[Any]) -> None:
    explorer.wait()
    for state in ("cold", "warm"):
        explorer._lab.recent.forget()  # warm means the store, not what the explorer has at hand
        seconds = timed(explorer, knob, values[:MOVES])
        name = f"{type(explorer).__name__}.{knob}"
        print(f"{name:32}{state:6}{len(seconds):4} moves  median {statistics.median(seconds):.3f} s"
              f"  worst {max(seconds):.3f} s", flush=True)  # fmt: skip


def main() -> None:
    with tempfile.TemporaryDirectory() as store:
        lab = fslab.Lab("mini", store=store)
        data = voc(DATA, "val").limit(MOVES + 1)
        lab.segment(data.samples[0].picture(), "fslab")  # the models are loaded
        layers = [layer.path for layer in lab.layers()][5::6]
        features = explore_features(lab, data, timestep=900)
        report(features, "timestep", list(range(100, 100 + MOVES)))
        report(features, "layer", layers)
        points = [((7 * n) % 96, (13 * n) % 96) for n in range(1, MOVES + 1)]
        report(features, "point", points)
        names = [sample.name for sample in data]
        report(features, "picture", names[1:])
        pair = explore_correspondence(lab, data, layer="up_blocks.1", timestep=200, lines=20)
        report(pair, "point", points)
        report(pair, "temperature", [0.01 * n for n in range(1, 1 + min(MOVES, 30))])
        report(pair, "timestep", list(range(100, 100 + MOVES)))
        clusters = explore_clusters(lab, data)
        report(clusters, "k", [2 + n % 22 for n in range(MOVES)])
        report(clusters, "position", [round(0.05 * n % 2, 2) for n in range(1, MOVES + 1)])
        report(clusters.change(method="ncut"), "tau", [0.02 * n for n in range(1, MOVES + 1)])
        matching = explore_matching(lab, data)
        words = ["zebra", "dog", "grass", "cow", "boat", "lamp"]
        report(matching, "candidates", [(w, f"{w}{n}") for n in range(9) for w in words])
        report(matching, "picture", names[1:])
        refinement = explore_refinement(lab, data)
        report(refinement, "bilateral_sxy", [float(n) for n in range(1, MOVES + 1)])


if __name__ == "__main__":
    main()
