"""Many pictures through a method, so that the networks and the processors wait for nothing.

Pictures are read by a thread, pass through the networks several at a time in this process, and are
clustered, named, sharpened and handed over by other processes meanwhile: the slower side sets the
pace.
"""

from __future__ import annotations

import concurrent.futures
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from fslab.batches import Batch
from fslab.datasets import PictureLike, read
from fslab.lab.clock import Clock
from fslab.lab.processes import Processes, Task
from fslab.lab.result import Result
from fslab.lab.together import Course, Networks, Order
from fslab.lab.words import check_agnostic
from fslab.process import memory_refused, ordinary
from fslab.records import (
    Clustering,
    Features,
    FslabError,
    Picture,
    Segments,
    Unwritable,
    Vocabulary,
)

if TYPE_CHECKING:
    from fslab.lab.lab import Lab

Source = Callable[[], tuple[Picture, Any]]
"""Reads a picture, and gives what the caller keeps beside it."""

_UNREAD = Picture(np.zeros((1, 1, 3), np.uint8), "a picture that cannot be read")

_GROUPS = 3
"""Batches on their way at most: one in the networks, one being clustered, one being finished."""

STAGES = ("caption", "extract", "cluster", "match", "refine")

Group = tuple[list[Course], list[Task | None]]


def run_many(
    lab: Lab,
    sources: Iterable[Source],
    order: Order,
    batch: int,
    processes: int,
    on_stage: Callable[[str], object] | None = None,
) -> Generator[Any]:
    """Yield what the order makes of each picture, in theirs; FslabError for one that fails.

    Raises Unwritable where there is no place for what the order writes.

    sources are called by a thread, ahead of their time. processes: how many others cluster, name
    and sharpen; with 0 this one does. on_stage: told each stage's name as it begins.
    """
    if not order.named:
        check_agnostic(order.recipe)
    networks = Networks(lab, order, Batch(batch), on_stage or _untold)
    clustering: deque[Group] = deque()
    finishing: deque[Group] = deque()
    with Processes(lab, processes) as pool, read_ahead(sources, 2 * batch) as read:
        coming = _grouped(read, order.vocabulary, batch)
        more = True
        while more or clustering or finishing:
            if clustering and _ready(clustering[0]):
                finishing.append(_match(networks, order, pool, clustering.popleft()))
            elif finishing and _ready(finishing[0]):
                yield from _finished(order, pool, finishing.popleft())
            elif more and len(clustering) + len(finishing) < _GROUPS:
                if group := next(coming, None):
                    networks.begin([course for course in group if not course.refused])
                    networks.on_stage("cluster")
                    clustering.append(_send_clustering(order, pool, group))
                else:
                    more = False
            else:
                _wait([*islice(clustering, 1), *islice(finishing, 1)])


def _send_clustering(order: Order, pool: Processes, group: list[Course]) -> Group:
    settings = order.recipe.cluster

    def send(course: Course) -> Task:
        count = len(course.caption.candidates)
        return pool.send(_cluster, course.features, settings, count, name=course.picture.name)

    return group, [None if course.refused else send(course) for course in group]


def _match(networks: Networks, order: Order, pool: Processes, sent: Group) -> Group:
    group, tasks = sent
    for course, found in _results(pool, group, tasks):
        course.segments, clock = found
        course.seconds |= clock.seconds
        course.noted.add(clock.noted.versions)
    if order.last is not None and not order.recipe.match.reads_features:
        _forget_features(group)
    networks.match([course for course in group if not course.refused])
    networks.on_stage("refine")

    def send(course: Course) -> Task:
        light = replace(course, features=None)
        return pool.send(_finish, order, light, name=course.picture.name)

    return group, [None if course.refused else send(course) for course in group]


def _finished(order: Order, pool: Processes, sent: Group) -> Iterator[Any]:
    group, tasks = sent
    made = dict(_results(pool, group, tasks))
    for course in group:
        found = course.refused or made[course]
        if isinstance(found, Result) and course.features is not None:
            found = replace(found, features=course.features)
        yield found


def _forget_features(group: Sequence[Course]) -> None:
    """Let go of the largest of what is held, which nobody asks for again."""
    for course in group:
        course.features = None


def _results(
    pool: Processes, group: Sequence[Course], tasks: Sequence[Task | None]
) -> Iterator[tuple[Course, Any]]:
    """Yield what the tasks gave; a refusal is kept in its course."""
    for course, task in zip(group, tasks, strict=True):
        if task is None:
            continue
        try:
            found = pool.result(task)
        except Unwritable:
            raise
        except FslabError as error:
            course.refused = error
        else:
            yield course, found


def _cluster(
    lab: Lab, features: Features, settings: Clustering, candidates: int
) -> tuple[Segments, Clock]:
    """Cluster one picture's features; return its segments and what it took."""
    clock = Clock()
    with memory_refused(features.name), clock.stage("cluster"):
        segments = lab._cluster(features, settings, candidates)
    return segments, clock


@ordinary()
def _finish(lab: Lab, order: Order, course: Course) -> Any:
    """Name one picture's segments and sharpen them; return what the order makes of the result."""
    picture = course.picture
    with memory_refused(picture.name):
        features = Features({}, picture.size, picture.name)
        named, labels = course.name(lab, order)
        seconds = {name: course.seconds[name] for name in STAGES if name in course.seconds}
        result = Result(
            picture, order.recipe, course.vocabulary, course.caption, features, course.clustered,
            named, labels, seconds, course.noted.versions,
        )  # fmt: skip
        return order.last(lab, result, course.beside) if order.last else result


def _untold(stage: str) -> None:
    """Tell nobody."""


def _ready(sent: Group) -> bool:
    return all(task is None or task.future.done() for task in sent[1])


def _wait(groups: Sequence[Group]) -> None:
    """Sleep until the work on one more picture is done."""
    futures = [task.future for _, tasks in groups for task in tasks if task]
    concurrent.futures.wait(
        [future for future in futures if not future.done()],
        return_when=concurrent.futures.FIRST_COMPLETED,
    )


@contextmanager
def read_ahead(sources: Iterable[Callable[[], Any]], ahead: int) -> Iterator[Iterator[Future[Any]]]:
    """Have a thread ask for sources and call them, so many before they are waited for."""
    coming = iter(sources)

    def one() -> Any:
        source = next(coming, None)
        return source() if source else None

    def futures() -> Iterator[Future[Any]]:
        pending = deque(thread.submit(one) for _ in range(ahead))
        while True:
            pending.append(thread.submit(one))
            yield pending.popleft()

    thread = ThreadPoolExecutor(1)
    try:
        yield futures()
    finally:
        thread.shutdown(cancel_futures=True)


def _grouped(
    read: Iterator[Future[Any]], vocabulary: Vocabulary, size: int
) -> Iterator[list[Course]]:
    """Yield so many pictures at a time, until a read gives nothing."""
    courses = iter(lambda: _course(next(read), vocabulary), None)
    while some := list(islice(courses, size)):
        yield some


def _course(future: Future[Any], vocabulary: Vocabulary) -> Course | None:
    try:
        with memory_refused("a picture"):
            found = future.result()
    except FslabError as error:
        return Course(_UNREAD, None, vocabulary, refused=error)
    if found is None:
        return None
    picture, beside = found
    return Course(picture, beside, vocabulary)


def each_picture(pictures: Iterable[PictureLike]) -> Iterator[Source]:
    """Yield a source for each picture, or what stands for one."""
    for picture in pictures:
        yield partial(_taken, picture)


def _taken(picture: PictureLike) -> tuple[Picture, None]:
    return read(picture), None
