"""A run's pictures over the workers of a Dask cluster (Rocklin, SciPy 2015).

What the workers must see as this process does: the pictures and the weights under the same
paths, and the same versions of the packages. The store may be a folder that all share, a url
(s3://...), or a folder that each machine has for itself. Only this process writes results.
"""

from __future__ import annotations

import os
import statistics
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from queue import Empty, SimpleQueue
from threading import Lock
from typing import TYPE_CHECKING

from fslab.datasets import Sample
from fslab.evaluate.job import ImageResult, Job, base_of, read_sample, score_samples
from fslab.lab import Lab
from fslab.lab.processes import lab_here
from fslab.records import FslabError

if TYPE_CHECKING:
    from distributed import Client, Future

Specification = tuple[str | None, ...]

LARGEST_BATCH = 16
"""Pictures in a task at most: few enough that a lost worker costs little, see docs/scaling.md."""

BATCHES_A_WORKER = 4
"""Batches that each worker gets in a small run, so that none waits long for the slowest."""

CONNECT_SECONDS = 5.0
WORKERS_SECONDS = 120.0
"""How long a run waits for the first worker, and without any worker, before it gives up."""

LOOK_SECONDS = 2.0
"""How often a run in which nothing finishes looks for stragglers and lost workers."""

STRAGGLER = 4.0
"""A batch that takes so many times the median of the others is given to a second worker too."""

_one_at_a_time = Lock()
"""Layers are read by hooks on shared models, so a process has one task at a time."""


@dataclass(frozen=True)
class Batch:
    """What one task gave, and which worker did it."""

    worker: str
    results: tuple[ImageResult, ...]


def score_batch(specification: Specification, job: Job, samples: Sequence[Sample]) -> Batch:
    """Score pictures on a worker, with the lab that this process opened for the first of them.

    Raises FslabError where the worker's weights, device or result format are not those that the
    run was planned with: its results would not be the serial run's.
    """
    from distributed import get_worker

    address = get_worker().address
    with _one_at_a_time:
        lab = lab_here(specification)
        if base_of(lab, replace(job, recipe=lab.recipe(job.recipe))) != job.base:
            raise FslabError(
                f"worker {address} has other weights or another version of fslab than this "
                "process; give all workers the same"
            )
        return Batch(address, tuple(score_samples(lab, job, samples)))


def map_samples(
    client: Client, lab: Lab, job: Job, samples: Iterable[Sample]
) -> Generator[ImageResult]:
    """Yield what `score_samples` gives for each sample, in the order in which workers finish.

    A batch whose worker is lost is done again elsewhere, and one that takes far longer than the
    others is given to a second worker too; the result is the same whoever is first. A picture
    that ends every worker it meets is returned as refused.
    Raises FslabError where there is no worker, the scheduler is lost, or a worker sees other
    files than this process.
    """
    samples = [_anywhere(sample) for sample in samples]
    if not samples:
        return
    workers = _count_workers(client)
    size = -(-len(samples) // (BATCHES_A_WORKER * workers))
    size = min(LARGEST_BATCH, size)
    size = max(size, min(job.batch, -(-len(samples) // workers)))  # else none passes so many
    batches = [samples[start : start + size] for start in range(0, len(samples), size)]
    by_name = {sample.name: sample for sample in samples}
    for batch in _Spread(client, partial(score_batch, lab.specification, job), batches, workers):
        for result in batch.results:
            if result.refused_by == "reading":
                _check_seen(by_name[result.name], batch.worker)
            yield result


def _anywhere(sample: Sample) -> Sample:
    """Return a sample whose paths hold in any working folder."""
    truth = sample.truth_path
    return replace(
        sample, path=sample.path.absolute(), truth_path=truth.absolute() if truth else None
    )


def _check_seen(sample: Sample, worker: str) -> None:
    """Raise FslabError where a worker could not read what can be read here."""
    try:
        read_sample(sample)
    except (FslabError, MemoryError):
        return
    raise FslabError(
        f"worker {worker} cannot read {str(sample.path)!r} or its truth, and this process can; "
        "put the data set where all workers see it under the same path"
    )


def _count_workers(client: Client) -> int:
    from distributed import TimeoutError as TooLate

    try:
        client.wait_for_workers(1, timeout=WORKERS_SECONDS)
    except TooLate as error:
        raise FslabError(
            f"the scheduler {_address_of(client)} has no worker after {WORKERS_SECONDS:.0f} "
            "seconds; start some: dask worker ADDRESS --nthreads 1"
        ) from error
    return len(client.nthreads())


def _address_of(client: Client) -> str:
    return str(client.scheduler.address) if client.scheduler is not None else ""


@dataclass(eq=False)
class _Pending:
    """A batch on its way: since when, by how many tasks, and whether it is done."""

    samples: Sequence[Sample]
    sent: float = 0.0
    futures: list[Future[Batch]] = field(default_factory=list)
    done: bool = False


class _Spread:
    """Batches over the workers, a few on their way at a time; yields a `Batch` as each is done."""

    def __init__(
        self,
        client: Client,
        work: Callable[[Sequence[Sample]], Batch],
        batches: Iterable[Sequence[Sample]],
        workers: int,
    ) -> None:
        self._client, self._work, self._workers = client, work, workers
        self._waiting = deque(map(_Pending, batches))
        self._suspects: deque[_Pending] = deque()
        self._out: set[_Pending] = set()
        self._finished: SimpleQueue[tuple[_Pending, Future[Batch]]] = SimpleQueue()
        self._took: list[float] = []
        self._alone_since: float | None = None

    def __iter__(self) -> Iterator[Batch]:
        try:
            while self._waiting or self._out or self._suspects:
                self._send_more()
                ready = self._ready()
                if ready:
                    self._alone_since = None
                    yield from self._received(ready)
                else:
                    self._look()
        finally:
            for pending in self._out:
                self._forget(pending)

    def _send_more(self) -> None:
        """Keep two batches a worker on their way; suspects go last, and alone."""
        while self._waiting and len(self._out) < 2 * self._workers:
            self._send(self._waiting.popleft())
        if self._suspects and not self._out:
            self._send(self._suspects.popleft())

    def _send(self, pending: _Pending) -> None:
        future = self._client.submit(self._work, pending.samples, pure=False)
        pending.sent = time.monotonic()
        pending.futures.append(future)
        self._out.add(pending)
        future.add_done_callback(lambda done: self._finished.put((pending, done)))

    def _forget(self, pending: _Pending) -> None:
        for future in pending.futures:
            future.cancel()

    def _ready(self) -> list[tuple[_Pending, Future[Batch]]]:
        """Return the tasks that ended, after a while none; a batch that two tasks did only once."""
        found: dict[_Pending, Future[Batch]] = {}
        with suppress(Empty):
            pending, future = self._finished.get(timeout=LOOK_SECONDS)
            while True:
                if not pending.done:
                    found.setdefault(pending, future)
                pending, future = self._finished.get_nowait()
        return list(found.items())

    def _received(self, ready: list[tuple[_Pending, Future[Batch]]]) -> Iterator[Batch]:
        """Fetch what is ready in one go: one by one, the way there and back would be the limit."""
        from distributed import CancelledError, KilledWorker
        from distributed.comm import CommClosedError

        killed = [pair for pair in ready if isinstance(_error_of(pair[1]), KilledWorker)]
        whole = [pair for pair in ready if pair not in killed]
        try:
            batches = self._client.gather([future for _, future in whole])
        except (CancelledError, CommClosedError, OSError) as error:
            raise self._lost() from error
        for pending, _ in whole:
            self._took.append(time.monotonic() - pending.sent)
            self._close(pending)
        yield from batches
        for pending, _ in killed:
            yield from self._killed(pending)

    def _close(self, pending: _Pending) -> None:
        pending.done = True
        self._out.discard(pending)
        self._forget(pending)

    def _killed(self, pending: _Pending) -> Iterator[Batch]:
        """Find which picture it is that ends workers: each of the batch is tried alone."""
        alone = len(pending.samples) == 1 and len(self._out) == 1 and not self._waiting
        self._close(pending)
        if not alone:
            self._suspects.extend(_Pending([sample]) for sample in pending.samples)
            return
        name = pending.samples[0].name
        sentence = (
            f"{name}: every worker that tried it was lost, most likely for want of memory; "
            "make the picture smaller, or give workers more"
        )
        yield Batch("", (ImageResult(name, refused=sentence, refused_by="memory"),))

    def _look(self) -> None:
        """Nothing finished for a while: is there still a cluster, and is a batch stuck?"""
        if self._client.status != "running":
            raise self._lost()
        try:
            self._workers = len(self._client.nthreads())
        except OSError as error:
            raise self._lost() from error
        now = time.monotonic()
        if self._workers:
            self._alone_since = None
        elif self._alone_since is None:
            self._alone_since = now
        elif now - self._alone_since > WORKERS_SECONDS:
            raise FslabError(
                "all workers of the cluster are lost; what was finished is kept: start workers "
                "and run it again"
            )
        if self._took and not self._waiting and self._workers:
            late = max(STRAGGLER * statistics.median(self._took), LOOK_SECONDS)
            for pending in [each for each in self._out if now - each.sent > late]:
                self._send(pending)

    def _lost(self) -> FslabError:
        return FslabError(
            "the Dask scheduler is lost; what was finished is kept: start it and run it again"
        )


def _error_of(future: Future[Batch]) -> BaseException | None:
    return future.exception() if future.status == "error" else None


@contextmanager
def connected(address: str | None = None, workers: int | None = None) -> Iterator[Client | None]:
    """Connect to a scheduler, or start workers on this machine; None where neither is asked for.

    address: such as tcp://10.0.0.1:8786. workers: processes here, which share the processors
    evenly, listen on 127.0.0.1 only and have no dashboard.
    Raises FslabError where Dask is not installed, both are given, and where nothing answers.
    """
    if address is None and workers is None:
        yield None
        return
    if address is not None and workers is not None:
        raise FslabError("--dask and --workers exclude each other: a cluster, or processes here")
    if workers is not None and workers < 1:
        raise FslabError(f"--workers is {workers}; it must be a whole number from 1 up")
    try:
        import distributed  # noqa: F401
    except ImportError as error:
        raise FslabError("Dask is not installed; pip install 'fslab[cluster]' brings it") from error
    with _scheduler(address) if address is not None else _processes(workers or 1) as client:
        yield client


@contextmanager
def _scheduler(address: str) -> Iterator[Client]:
    from distributed import Client

    try:
        client = Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
    except (OSError, ValueError) as error:
        raise FslabError(
            f"no Dask scheduler answers at {address!r} within {CONNECT_SECONDS:.0f} seconds "
            f"({' '.join(str(error).split()) or type(error).__name__}); is it running, and "
            "reachable from here?"
        ) from error
    with client:
        yield client


@contextmanager
def _processes(workers: int) -> Iterator[Client]:
    import dask
    from distributed import Client, LocalCluster

    threads = str(max(1, (os.cpu_count() or 1) // workers))
    limits = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), threads)
    with (
        # a process that died is started again; a busy machine may need long for that
        dask.config.set({"distributed.deploy.lost-worker-timeout": f"{WORKERS_SECONDS} s"}),
        LocalCluster(
            n_workers=workers, threads_per_worker=1, processes=True, host="127.0.0.1",
            dashboard_address="127.0.0.1:0", scheduler_kwargs={"dashboard": False},
            silence_logs="ERROR", env=limits,
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):  # fmt: skip
        yield client
