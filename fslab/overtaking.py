"""Passes that end within one block of their network once nobody wants what they compute."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

Wanted = Callable[[str], bool]
"""Tells whether what a pass computes is still wanted: a picture's "latent" or some "layers"."""

_wanted: ContextVar[Wanted | None] = ContextVar("wanted", default=None)


class Overtaken(Exception):
    """Raised inside a pass that is wanted no more, and caught by `while_wanted` alone."""


class Waiting:
    """Counts the work that somebody waits for, in all threads: what is done ahead gives way to it.

    Work under `while_wanted` counts by whoever started it, if it is waited for.
    """

    def __init__(self) -> None:
        self._count, self._lock = 0, threading.Lock()

    def __bool__(self) -> bool:
        return self._count > 0

    def begin(self) -> None:
        """Count one more."""
        with self._lock:
            self._count += 1

    def end(self) -> None:
        """Count one less."""
        with self._lock:
            self._count -= 1

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Count what happens inside, unless it runs under `while_wanted`."""
        if _wanted.get() is not None:
            yield
            return
        self.begin()
        try:
            yield
        finally:
            self.end()


waiting = Waiting()


@contextmanager
def while_wanted(wanted: Wanted) -> Iterator[None]:
    """Have the passes inside ask `wanted` before each block; once it says no, the inside ends.

    What comes after the interrupted pass never runs, and nothing of it is kept.
    """
    token = _wanted.set(wanted)
    try:
        yield
    except Overtaken:
        pass
    finally:
        _wanted.reset(token)


@contextmanager
def giving_way(net: nn.Module, what: str = "layers") -> Iterator[None]:
    """Let the passes of a network inside end between two blocks; see `while_wanted`.

    what: they compute. A block is an entry of a list or a sequence of modules, at any depth: a
    stage of a UNet, a residual or a transformer block of it. Costs nothing where no one may
    overtake.
    """
    wanted = _wanted.get()
    if wanted is None:
        yield
        return

    def look(*_: object) -> None:
        if not wanted(what):
            raise Overtaken

    look()
    with ExitStack() as hooks:
        for block in _blocks(net):
            hooks.callback(block.register_forward_pre_hook(look).remove)
        yield


def _blocks(net: nn.Module) -> set[nn.Module]:
    from torch import nn

    several = (each for each in net.modules() if isinstance(each, (nn.ModuleList, nn.Sequential)))
    return {block for each in several for block in each if block is not None}
