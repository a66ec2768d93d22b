"""Several pictures in one pass: how many, under which keys, and what if memory runs out."""

from __future__ import annotations

import numbers
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from fslab.errors import FslabWarning
from fslab.keys import batched
from fslab.process import memory_refused
from fslab.records import FslabError, OutOfMemory
from fslab.store import Store

Item = TypeVar("Item")
Made = TypeVar("Made")
Entry = Mapping[str, np.ndarray]


def check_batch(batch: Any) -> int:
    """Return how many pictures pass at once; FslabError unless it is a whole number from 1 up."""
    if not isinstance(batch, numbers.Integral) or isinstance(batch, bool) or batch < 1:
        raise FslabError(f"batch is {batch!r}; it must be a whole number of pictures, from 1 up")
    return int(batch)


_ON_A_GPU = 8
"""Pictures at once on a GPU where nobody says: enough to keep it busy, few enough to fit."""


def chosen_batch(batch: Any, device: str) -> int:
    """Return how many pictures pass at once; None is one on a CPU and eight elsewhere."""
    if batch is None:
        return 1 if device.partition(":")[0] == "cpu" else _ON_A_GPU
    return check_batch(batch)


class Batch:
    """How many pictures pass through a network at once; fewer once memory has run out."""

    def __init__(self, size: int) -> None:
        self.size = check_batch(size)

    def passes(
        self,
        items: Sequence[Item],
        work: Callable[[Sequence[Item]], Sequence[Made]],
        name: Callable[[Item], str],
    ) -> list[Made | FslabError]:
        """Return what `work` makes of each item, given `size` of them at a time.

        name: of an item's picture, for messages.

        Where several are refused, each is tried alone, and what fails alone is returned as its
        FslabError. Where memory ran out, half as many pass from then on, which a FslabWarning
        says.
        """
        found: list[Made | FslabError] = []
        while len(found) < len(items):
            found += self._pass(items[len(found) : len(found) + self.size], work, name)
        return found

    def _pass(
        self,
        items: Sequence[Item],
        work: Callable[[Sequence[Item]], Sequence[Made]],
        name: Callable[[Item], str],
    ) -> list[Made | FslabError]:
        try:
            with memory_refused(name(items[0])):
                return list(work(items))
        except FslabError as error:
            refusal = error
        refusal.__traceback__ = refusal.__cause__ = refusal.__context__ = None  # they hold tensors
        if len(items) == 1:
            return [refusal]
        if isinstance(refusal, OutOfMemory):
            self.size = max(1, len(items) // 2)
            warnings.warn(
                f"memory ran out in a pass of {len(items)} pictures, which are passed one by one; "
                f"from now on {self.size} at once", FslabWarning, stacklevel=4,
            )  # fmt: skip
        return [one for item in items for one in self._pass([item], work, name)]


def look_up(store: Store, key: str) -> Entry | None:
    """Return an entry that may be of a pass of several, one of a pass of its own before others."""
    entry = store.get(key)
    return store.get(batched(key)) if entry is None else entry


def found_or_made(
    store: Store,
    keys: Sequence[Sequence[str]],
    make: Callable[[Sequence[int]], Sequence[Sequence[Entry]]],
    batch: Batch,
    names: Sequence[str],
) -> list[list[Entry] | FslabError]:
    """Return the entries of each picture's keys; what the store lacks is made, several in one go.

    make: given the places of pictures, returns the entries of each one's keys. They are filed under
    keys of several where more than one picture was given. names: of the pictures. What fails is
    returned as its FslabError.
    """
    found: list[Any] = [[look_up(store, key) for key in each] for each in keys]
    missing = [place for place, entries in enumerate(found) if any(e is None for e in entries)]

    def filed(places: Sequence[int]) -> list[list[Entry]]:
        made = [list(entries) for entries in make(places)]
        for place, entries in zip(places, made, strict=True):
            for key, entry in zip(keys[place], entries, strict=True):
                for array in entry.values():
                    array.setflags(write=False)  # as the store gives them
                store.put(batched(key) if len(places) > 1 else key, entry)
        return made

    made = batch.passes(missing, filed, names.__getitem__)
    for place, entries in zip(missing, made, strict=True):
        found[place] = entries
    return found
