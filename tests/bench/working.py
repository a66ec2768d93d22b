"""Evaluation by two worker processes against one, both with the same threads in all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import count
from pathlib import Path

from contest import Contest, Setting
from distributed import Client, LocalCluster

from fslab.datasets import Dataset, voc
from fslab.evaluate import evaluate
from fslab.evaluate.workers import connected
from fslab.lab import Lab


def benches(setting: Setting) -> Iterator[Contest]:
    """Pictures that are new to each store in each round; models are loaded before the first."""
    size = 2 if setting.smoke else 24
    data = voc("data/minivoc", "val")
    parts = [data.samples[start : start + size] for start in range(0, len(data) - size, size)]
    # A smoke run starts no process, which is most of the time of a tiny one.
    started = threads() if setting.smoke else connected(workers=2)
    with started as two, connected(workers=None if setting.smoke else 1) as one:
        ours = Run(data, parts, setting.folder / "two", two)
        other = Run(data, parts, setting.folder / "one", one)
        assert ours().score.miou == other().score.miou
        yield Contest(
            "workers-2",
            f"evaluation of freeseg-diff on mini, {size} new pictures, 2 processes",
            "1 process with the threads of both",
            ours,
            other,
            target=1.6,
            rounds=min(5, len(parts) - 2),
        )


@contextmanager
def threads() -> Iterator[Client]:
    """Give a scheduler and a worker in this process."""
    with (
        LocalCluster(
            n_workers=1, threads_per_worker=1, processes=False, dashboard_address="127.0.0.1:0",
            silence_logs="ERROR",
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):  # fmt: skip
        yield client


class Run:
    """One evaluation after the other, each of the next part of a dataset."""

    def __init__(self, data: Dataset, parts: list[tuple], folder: Path, client: object) -> None:
        self.data, self.parts, self.client = data, parts, client
        self.lab, self.numbers = Lab("mini", store=folder), count()

    def __call__(self) -> object:
        """Return the report of the next part."""
        data = replace(self.data, samples=self.parts[next(self.numbers)])
        return evaluate(self.lab, data, "freeseg-diff", progress=False, client=self.client)
