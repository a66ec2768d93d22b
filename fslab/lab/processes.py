"""Other processes for what needs no network: each has a lab of its own that loads no model."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import lru_cache
from types import TracebackType
from typing import TYPE_CHECKING, Any

from fslab.devices import on_processors
from fslab.records import FslabError, OutOfMemory

if TYPE_CHECKING:
    from joblib.externals.loky import ProcessPoolExecutor

    from fslab.lab.lab import Lab

_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")

_IDLE = 60.0
"""Seconds without work after which a process ends."""


def usual_count(device: str) -> int:
    """Return how many processes there are beside this one: a processor each.

    Where the networks run on processors too, one is left to them.
    """
    found = getattr(os, "sched_getaffinity", None)
    processors = len(found(0)) if found else os.cpu_count() or 1
    return max(1, processors - on_processors(device))


def chosen_processes(processes: Any, batch: int, device: str) -> int:
    """Return how many processes are asked for.

    None means none for one picture at a time, and the usual number for several.
    """
    if processes is None:
        return usual_count(device) if batch > 1 else 0
    if not isinstance(processes, int) or isinstance(processes, bool) or processes < 0:
        raise FslabError(
            f"processes is {processes!r}; it must be a whole number, 0 for no other process"
        )
    return processes


@dataclass
class Task:
    """Work that was sent, and a way to do it again."""

    work: Callable[..., Any]
    given: tuple[Any, ...]
    name: str
    future: Future[Any]


class Processes:
    """`count` processes of one thread each; with none, work is done here when it is sent.

    Each opens the lab for itself. They are started once, and end when a minute brings no work. On
    the way out of `with`, what was sent and not begun is called back.
    """

    def __init__(self, lab: Lab, count: int) -> None:
        self._lab, self._count = lab, count
        self._sent: list[Future[Any]] = []

    def __enter__(self) -> Processes:
        for _ in range(self._count):  # imports are done while the networks load
            self._send(_prepare, ())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for future in self._sent:
            future.cancel()

    def send(self, work: Callable[..., Any], *given: Any, name: str) -> Task:
        """Have `work(lab, *given)` done; name: of the picture it is about."""
        return Task(work, given, name, self._send(work, given))

    def result(self, task: Task) -> Any:
        """Return what a task gave, or raise its FslabError.

        A process that is lost takes all that was sent with it: each is then done again in a
        process of its own, and a task that loses that one too is refused for want of memory.
        """
        from joblib.externals.loky.process_executor import TerminatedWorkerError

        try:
            return task.future.result()
        except TerminatedWorkerError:
            pass
        alone = _started(1)
        try:
            return alone.submit(
                _work, self._lab.light_specification, task.work, task.given
            ).result()
        except TerminatedWorkerError as error:
            raise OutOfMemory(
                f"{task.name}: the process that worked on it was lost, twice, most likely for want "
                "of memory; make the picture smaller, or run it where there is more"
            ) from error
        finally:
            alone.shutdown(kill_workers=True)

    def _send(self, work: Callable[..., Any], given: tuple[Any, ...]) -> Future[Any]:
        from joblib.externals.loky.process_executor import BrokenProcessPool

        if not self._count:
            return _done_here(self._lab, work, given)
        asked = _work, self._lab.light_specification, work, given
        try:
            future: Future[Any] = _pool(self._count).submit(*asked)
        except BrokenProcessPool:
            _pool.cache_clear()
            future = _pool(self._count).submit(*asked)
        self._sent = [each for each in self._sent if not each.done()] + [future]
        return future


@lru_cache(maxsize=1)
def _pool(count: int) -> ProcessPoolExecutor:
    return _started(count)


def _started(count: int) -> ProcessPoolExecutor:
    """Return processes that start without the caller's `__main__`, so that any script may ask."""
    from joblib.externals.loky import ProcessPoolExecutor

    return ProcessPoolExecutor(count, timeout=_IDLE, env=dict.fromkeys(_THREADS, "1"))


def _done_here(lab: Lab, work: Callable[..., Any], given: tuple[Any, ...]) -> Future[Any]:
    future: Future[Any] = Future()
    try:
        future.set_result(work(lab, *given))
    except FslabError as error:
        future.set_exception(error)
    return future


def _work(specification: Any, work: Callable[..., Any], given: tuple[Any, ...]) -> Any:
    return work(lab_here(specification), *given)


def _prepare(lab: Lab) -> None:
    """Import what every picture needs."""
    import fslab.cluster
    import fslab.refine
    import fslab.score  # noqa: F401


@lru_cache(maxsize=1)
def lab_here(specification: Any) -> Lab:
    """Return the lab of a specification, which this process opens once, and holds until another."""
    from fslab.lab.lab import Lab

    return Lab(*specification)
