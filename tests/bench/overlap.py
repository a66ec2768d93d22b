"""Evaluation in batches with timers in the place of networks: does the slower side set the pace?"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import count
from pathlib import Path

import numpy as np
from contest import Contest, Setting, wall_seconds

from fslab.backbones import Diffusion
from fslab.captions import Captioner
from fslab.datasets import Dataset, voc
from fslab.evaluate import evaluate
from fslab.lab import Lab
from fslab.match import Matcher

METHOD = "freeseg-diff"
BATCH, PROCESSES = 8, 2
SECONDS = {"captions": 0.015, "run_many": 0.04, "encode_images": 0.00125}
"""What a large GPU takes about, of true size, for a caption, features and a view, of which 4 are."""
NETWORKS = ((Captioner, "captions"), (Diffusion, "run_many"), (Matcher, "encode_images"))
VIEWS = 4


def benches(setting: Setting) -> Iterator[Contest]:
    """Pictures are new to the store in each round; what networks give was recorded before."""
    size = 2 if setting.smoke else 40
    data = voc("data/minivoc", "val").limit(size)
    timers = Timers()
    with timers.recorded():
        recorded = evaluate(Lab("mini", store=setting.folder / "recorded"), data, METHOD,
                            progress=False, batch=BATCH, processes=0)  # fmt: skip
    networks = sum(SECONDS.values()) + (VIEWS - 1) * SECONDS["encode_images"]
    run = Run(data, setting.folder, timers, 0 if setting.smoke else PROCESSES)
    with timers.replayed(1.0):
        assert run(BATCH, run.processes).score == recorded.score

    def slower_side() -> float:
        """Return the longer of all timers, and of the other work spread over the processes."""
        with timers.replayed(0.0):
            work = wall_seconds(lambda: run(1, 0)) / PROCESSES
        notes.append({"networks": size * networks, "other work, spread": work})
        return max(notes[-1].values())

    def together() -> float:
        with timers.replayed(1.0):
            return wall_seconds(lambda: run(BATCH, run.processes))

    notes: list[dict[str, float]] = []
    yield Contest(
        "overlap",
        f"evaluation of {METHOD} on mini, networks replaced by timers of "
        f"{1000 * networks:.0f} ms, {size} pictures, {PROCESSES} processes",
        "what the slower side allows",
        together,
        slower_side,
        target=0.8,
        rounds=3,
        figure="of its throughput",
        seconds_of=lambda call: call(),
        notes=lambda: {name: float(np.median([each[name] for each in notes])) for name in notes[0]},
    )


class Run:
    """The same evaluation with a new store each time."""

    def __init__(self, data: Dataset, folder: Path, timers: Timers, processes: int) -> None:
        self.data, self.folder, self.processes = data, folder, processes
        self.lab, self.numbers = Lab("mini", store=folder / "lab"), count()

    def __call__(self, batch: int, processes: int) -> object:
        lab = Lab("mini", store=self.folder / f"{next(self.numbers)}")
        return evaluate(lab, self.data, METHOD, progress=False, batch=batch, processes=processes)


class Timers:
    """What the networks gave once, given again after the time that they would take."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, bytes], object] = {}

    @contextmanager
    def recorded(self) -> Iterator[None]:
        """Keep what each picture gives, as the networks give it."""
        with self._instead(self._record):
            yield

    @contextmanager
    def replayed(self, pace: float) -> Iterator[None]:
        """Give what was kept after `pace` times each network's seconds."""
        with self._instead(partial(self._replay, pace)):
            yield

    @contextmanager
    def _instead(self, make: Callable[[str, Callable], Callable]) -> Iterator[None]:
        with ExitStack() as back:
            for kind, name in NETWORKS:
                plain = getattr(kind, name)
                setattr(kind, name, make(name, plain))
                back.callback(setattr, kind, name, plain)
            yield

    def _record(self, name: str, plain: Callable) -> Callable:
        def call(net: object, items: Sequence, *given: object, **named: object) -> list:
            found = list(plain(net, items, *given, **named))
            self._kept.update(zip(map(partial(named_by, name), items), found, strict=True))
            return found

        return call

    def _replay(self, pace: float, name: str, plain: Callable) -> Callable:
        def call(net: object, items: Sequence, *given: object, **named: object) -> object:
            time.sleep(pace * SECONDS[name] * len(items))
            found = [self._kept[named_by(name, item)] for item in items]
            return np.stack(found) if name == "encode_images" else found

        return call


def named_by(name: str, item: object) -> tuple[str, bytes]:
    """Name what a network is given: a Picture, or pixels."""
    pixels = getattr(item, "pixels", item)
    return name, np.ascontiguousarray(pixels).tobytes()
