"""Work beside the notebook's own thread: the newest move counts, what it overtakes is dropped."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from types import MappingProxyType

from fslab.overtaking import waiting, while_wanted
from fslab.records import FslabError

Newest = Callable[[], bool]
"""Tells a job whether it is still the newest of its worker."""

Needs = Mapping[str, frozenset[Hashable]]
"""What the passes of a job compute: of which pictures the "latent", and which "layers"."""

NOTHING: Needs = MappingProxyType({})
_NONE: frozenset[Hashable] = frozenset()

_ONE_AT_A_TIME = threading.Lock()
"""Explorers share a lab's models and the machine's cores, so they compute in turn."""


class Worker:
    """One thread that runs the newest job it was given, then what is worth doing ahead.

    A job that waits is replaced by a newer one and never runs. One that runs ends within a block of
    a network's pass that the newer one has no need of; elsewhere it goes on, but it can ask whether
    it was overtaken, and shall show nothing then.
    """

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="fslab-widget")
        self._lock = threading.Lock()
        self._newest = 0
        self._future: Future[None] | None = None
        self._needs = NOTHING

    def submit(self, job: Callable[[Newest], None], needs: Needs = NOTHING) -> None:
        """Run a job as soon as the running one has ended, unless a newer one comes first.

        needs: what its passes compute, by which it is known whether a newer job needs them too.
        Without any, they go on to their end.
        """
        waiting.begin()  # before it runs: what another explorer does ahead stops now
        with self._lock:
            self._newest, self._needs = self._newest + 1, needs
            if self._future is not None:
                self._future.cancel()
            self._future = self._pool.submit(self._run, self._newest, job, needs)
            self._future.add_done_callback(lambda _: waiting.end())

    def ahead(self, jobs: Iterable[Callable[[], object]]) -> None:
        """Run jobs that nobody waits for, one by one, after the job that asks for it.

        They are dropped as soon as anything is waited for: a newer job of this worker, one of
        another, or a stage of any lab in this process. One that is refused is left out.
        """
        self._pool.submit(self._run_ahead, self._newest, iter(jobs))

    def drop(self) -> None:
        """Drop all jobs; one that runs ends within a block of a network's pass."""
        with self._lock:
            self._newest, self._needs = self._newest + 1, NOTHING

    def wait(self, timeout: float | None = None) -> None:
        """Return once the newest job has ended; raise what it raised.

        Raises TimeoutError after `timeout` seconds.
        """
        while (future := self._future) is not None:
            try:
                future.result(timeout)
            except CancelledError:
                continue  # a newer job took its place
            if future is self._future:
                return

    def _run(self, number: int, job: Callable[[Newest], None], needs: Needs) -> None:
        def newest() -> bool:
            return number == self._newest

        def wanted(what: str) -> bool:
            return newest() or needs.get(what, _NONE) <= self._needs.get(what, _NONE)

        with _ONE_AT_A_TIME, while_wanted(wanted):
            if newest():
                job(newest)

    def _run_ahead(self, number: int, jobs: Iterator[Callable[[], object]]) -> None:
        """Run one job and file the rest anew, so that a process that ends waits for one at most."""

        def wanted(what: str = "") -> bool:
            return number == self._newest and not waiting

        job = next(jobs, None)
        if job is None:
            return
        with _ONE_AT_A_TIME, while_wanted(wanted), contextlib.suppress(FslabError):
            if wanted():
                job()
        if wanted():
            self._pool.submit(self._run_ahead, number, jobs)
