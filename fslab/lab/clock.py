"""How long each stage takes, and which versions had a hand in it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from fslab.versions import Noted, noting


class Clock:
    """Seconds by stage, and the versions at work in it; tells a listener as each begins."""

    def __init__(self, listener: Callable[[str], None] | None = None) -> None:
        self.seconds: dict[str, float] = {}
        self.noted = Noted()
        self._listener = listener

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time what the `with` block does, under a name."""
        if self._listener:
            self._listener(name)
        start = time.perf_counter()
        with noting() as noted:
            yield
        self.noted.add(noted.versions)
        self.seconds[name] = time.perf_counter() - start
