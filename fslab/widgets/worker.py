"""Work beside the notebook's own thread: the newest move counts, what it overtakes is dropped."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor

Newest = Callable[[], bool]
"""Tells a job whether it is still the newest of its worker."""

_ONE_AT_A_TIME = threading.Lock()
"""Explorers share a lab's models and the machine's cores, so they compute in turn."""


class Worker:
    """One thread that runs the newest job it was given.

    A job that waits is replaced by a newer one and never runs; one that runs already cannot be
    stopped, but it can ask whether it was overtaken, and shall show nothing then.
    """

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="fslab-widget")
        self._lock = threading.Lock()
        self._newest = 0
        self._future: Future[None] | None = None

    def submit(self, job: Callable[[Newest], None]) -> None:
        """Run a job as soon as the running one has ended, unless a newer one comes first."""
        with self._lock:
            self._newest += 1
            if self._future is not None:
                self._future.cancel()
            self._future = self._pool.submit(self._run, self._newest, job)

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

    def _run(self, number: int, job: Callable[[Newest], None]) -> None:
        def newest() -> bool:
            return number == self._newest

        with _ONE_AT_A_TIME:
            if newest():
                job(newest)
