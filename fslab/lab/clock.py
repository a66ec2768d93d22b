"""How long each stage takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Clock:
    """Seconds by stage; tells a listener as each begins."""

    def __init__(self, listener: Callable[[str], None] | None = None) -> None:
        self.seconds: dict[str, float] = {}
        self._listener = listener

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time what the `with` block does, under a name."""
        if self._listener:
            self._listener(name)
        start = time.perf_counter()
        yield
        self.seconds[name] = time.perf_counter() - start
