"""The one memory beside the store: what was used lately, up to so many bytes."""

from __future__ import annotations

import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import fields, is_dataclass
from functools import cached_property, wraps
from typing import Any, TypeVar

T = TypeVar("T")

LIMIT = 512 * 2**20
"""Bytes that are held: a picture's features at the size of Stable Diffusion, and some more."""


def once(function: Callable[[Any], T]) -> cached_property[T]:
    """Make a property that is computed once, by one thread: others wait for it and share it."""
    computing = threading.RLock()

    @wraps(function)
    def shared(instance: Any) -> T:
        with computing:
            known = vars(instance)
            if function.__name__ not in known:
                known[function.__name__] = function(instance)
            found: T = known[function.__name__]
            return found

    return cached_property(shared)


class Recent:
    """Values by key; beyond `limit` bytes those go first that were not used for longest.

    The newest value stays whatever its size. Threads may share one.
    """

    def __init__(self, limit: int = LIMIT) -> None:
        self.limit = limit
        self._held: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        return Recent, (self.limit,)  # what is held stays where it is

    def __len__(self) -> int:
        return len(self._held)

    def find(self, key: Hashable) -> Any:
        """Return the value of a key, or None where it is not held."""
        with self._lock:
            if key not in self._held:
                return None
            self._held.move_to_end(key)
            return self._held[key][0]

    def keep(self, key: Hashable, value: Any) -> None:
        """Hold a value, and let go of what is too much."""
        size = size_of(value)
        with self._lock:
            self._bytes += size - self._held.pop(key, (None, 0))[1]
            self._held[key] = value, size
            while self._bytes > self.limit and len(self._held) > 1:
                _, (_, freed) = self._held.popitem(last=False)
                self._bytes -= freed

    def get(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """Return the value of a key, made where it is not held."""
        value = self.find(key)
        if value is None:
            value = make()
            self.keep(key, value)
        return value

    def forget(self) -> None:
        """Let go of all."""
        with self._lock:
            self._held.clear()
            self._bytes = 0


def size_of(value: Any) -> int:
    """Return about how many bytes a value takes: arrays and tensors, and records of them."""
    if hasattr(value, "nbytes"):
        return int(value.nbytes)
    own = sys.getsizeof(value)
    if is_dataclass(value):
        return own + sum(size_of(getattr(value, entry.name)) for entry in fields(value))
    if isinstance(value, Mapping):
        return own + sum(size_of(each) for pair in value.items() for each in pair)
    if isinstance(value, Iterable) and not isinstance(value, (str, bytes)):
        return own + sum(map(size_of, value))
    return own
