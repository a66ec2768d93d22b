"""Two ways to the same result, timed in turn in one process."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from math import log
from pathlib import Path
from statistics import linear_regression, median
from typing import Any, Literal


@dataclass(frozen=True)
class Setting:
    """How a bench runs: a folder of its own for what it writes; smoke: tiny sizes, one round."""

    folder: Path
    smoke: bool = False


Figure = Literal["times faster", "of its throughput", "of its time", "of its memory", "seconds"]
FLOORS = ("times faster", "of its throughput")
"""Figures that shall be at least their target."""


@dataclass(frozen=True)
class Contest:
    """One line of the table.

    figure: "times faster" and "of its throughput" are the other's seconds over ours, at least the
    target; "of its time" and "of its memory" are ours over the other's, and "seconds" is ours, all
    at most the target. target: None where a line only informs. each: calls a round, of which the shortest counts, since what else a machine does
    only adds to it. ready: called before each call of ours, untimed. seconds_of: measures one call.
    warm: whether first calls, which pay for first uses, come before the rounds. notes: asked at the end for what explains the figure.
    """

    name: str
    what: str
    against: str
    ours: Callable[[], Any]
    other: Callable[[], Any]
    target: float | None
    figure: Figure = "times faster"
    rounds: int = 5
    each: int = 1
    ready: Callable[[], None] = lambda: None
    seconds_of: Callable[[Callable[[], Any]], float] | None = None
    warm: bool = True
    notes: Callable[[], dict[str, Any]] = dict

    def run(self, smoke: bool = False) -> dict[str, Any]:
        """Time both in turn, the first of a round last in the next; return the line's figures."""
        rounds, each = (1, 1) if smoke else (self.rounds, self.each)
        if self.warm and not smoke:
            self._time_ours(1)
            self._time(self.other, 1)
        ours, others = [], []
        for number in range(rounds):
            turns = [
                lambda: ours.append(self._time_ours(each)),
                lambda: others.append(self._time(self.other, each)),
            ]
            for turn in turns if number % 2 == 0 else turns[::-1]:
                turn()
        return self._line(ours, others)

    def _line(self, ours: list[float], others: list[float]) -> dict[str, Any]:
        values = [self._value(*pair) for pair in zip(ours, others, strict=True)]
        middle = median(values)
        target, met = self.target, None
        if target is not None:
            met = middle >= target if self.figure in FLOORS else middle <= target
        return {
            "name": self.name,
            "what": self.what,
            "against": self.against,
            "figure": self.figure,
            "median": middle,
            "minimum": min(values),
            "maximum": max(values),
            "bound": "at least" if self.figure in FLOORS else "at most",
            "target": target,
            "met": met,
            "rounds": len(values),
            "seconds": {"ours": ours, "other": others},
            "notes": self.notes(),
        }

    def _value(self, ours: float, other: float) -> float:
        if self.figure in FLOORS:
            return other / ours
        return ours if self.figure == "seconds" else ours / other

    def _time_ours(self, each: int) -> float:
        return self._time(self.ours, each, self.ready)

    def _time(
        self, call: Callable[[], Any], each: int, ready: Callable[[], None] = lambda: None
    ) -> float:
        best = float("inf")
        for _ in range(each):
            ready()
            best = min(best, (self.seconds_of or wall_seconds)(call))
        return best


@dataclass(frozen=True)
class Curve:
    """Time and memory as one thing grows, in one table.

    grows: what does; rows: asked for the points, each a mapping with the size under `grows` and
    figures beside it. fitted: whether a power of the size describes the figures.
    """

    name: str
    what: str
    grows: str
    rows: Callable[[], list[dict[str, float]]]
    fitted: bool = True

    def run(self, smoke: bool = False) -> dict[str, Any]:
        """Return the points, and each figure's slope over size, both as logarithms."""
        points = self.rows()
        names = [name for name in points[0] if name != self.grows] if self.fitted else []
        slopes = {name: slope(points, self.grows, name) for name in names}
        return {"name": self.name, "what": self.what, "grows": self.grows, "points": points,
                "slopes": slopes}  # fmt: skip


def slope(points: list[dict[str, float]], grows: str, name: str) -> float | None:
    """Return the least-squares slope of log figure over log size; None where one is not above 0."""
    pairs = [(point[grows], point[name]) for point in points]
    if len(pairs) < 2 or min(min(pair) for pair in pairs) <= 0:
        return None
    x, y = ([log(pair[place]) for pair in pairs] for place in (0, 1))
    return linear_regression(x, y).slope


def wall_seconds(call: Callable[[], Any]) -> float:
    """Return how long a call takes."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start
