"""What each stage made before: records in and out of the store, by their keys."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from fslab.batches import Batch, Entry, found_or_made
from fslab.recent import Recent
from fslab.records import FslabError, LabelMap, Segments
from fslab.store import Store, Stored, read_only
from fslab.versions import note, versions_here

if TYPE_CHECKING:
    from fslab.match import Match


class Memory:
    """Asks the store for a stage's result by its key, and files what had to be computed."""

    def __init__(self, store: Store, recent: Recent) -> None:
        self._store, self._recent = store, recent

    def array(self, key: str, compute: Callable[[], np.ndarray]) -> np.ndarray:
        """Return an array."""
        return self._kept(key, lambda: {"array": compute()})["array"]

    def shared(self, key: str, compute: Callable[[], np.ndarray]) -> np.ndarray:
        """Return what `array` does, at hand while it is used often: for what pictures share."""
        stored: Stored = self._recent.get(key, lambda: self._stored(key, lambda: {"": compute()}))
        note(stored.versions)
        return stored.arrays[""]

    def text(self, key: str, compute: Callable[[], str]) -> str:
        """Return a text."""
        return text_of(self._kept(key, lambda: text_entry(compute())))

    def together(
        self,
        keys: Sequence[Sequence[str]],
        make: Callable[[Sequence[int]], Sequence[Sequence[Entry]]],
        batch: Batch,
        names: Sequence[str],
    ) -> list[list[Entry] | FslabError]:
        """Return the entries of each picture's keys, by `fslab.batches.found_or_made`."""
        return found_or_made(self._store, keys, make, batch, names)

    def segments(self, key: str, compute: Callable[[], Segments]) -> Segments:
        """Return segments."""

        def arrays() -> dict[str, np.ndarray]:
            found = compute()
            return {f"{n}": one.labels for n, one in enumerate((found, *found.others))}

        kept = self._kept(key, arrays)
        first, *others = (kept[f"{n}"] for n in range(len(kept)))
        return Segments(first, tuple(map(Segments, others)))

    def match(self, key: str, compute: Callable[[], Match]) -> Match:
        """Return a matrix of segments against texts, with its assignment."""
        return match_of(self._kept(key, lambda: match_entry(compute())))

    def labels(self, key: str, labels: LabelMap, compute: Callable[[], LabelMap]) -> LabelMap:
        """Return a refined label map; names and scores are those of the map that it came from."""
        return LabelMap(self.array(key, lambda: compute().labels), labels.names, labels.scores)

    def _kept(self, key: str, compute: Callable[[], dict[str, np.ndarray]]) -> Entry:
        stored = self._stored(key, compute)
        note(stored.versions)
        return stored.arrays

    def _stored(self, key: str, compute: Callable[[], dict[str, np.ndarray]]) -> Stored:
        stored = self._store.entry(key)
        if stored is None:
            entry = {name: read_only(array) for name, array in compute().items()}
            stored = Stored(entry, versions_here())
            self._store.put(key, entry)
        return stored


def match_entry(match: Match) -> dict[str, np.ndarray]:
    """Return a match as arrays."""
    return {
        "probabilities": match.probabilities,
        "assigned": match.assigned,
        "texts": _bytes(json.dumps(match.texts)),
        "classes": np.array(match.classes),
    }


def match_of(entry: Entry) -> Match:
    """Return the match that `match_entry` made arrays of."""
    from fslab.match import Match

    texts = tuple(json.loads(_text(entry["texts"])))
    return Match(entry["probabilities"], texts, entry["assigned"], int(entry["classes"]))


def text_entry(text: str) -> dict[str, np.ndarray]:
    """Return a text as arrays."""
    return {"array": _bytes(text)}


def text_of(entry: Entry) -> str:
    """Return the text that `text_entry` made arrays of."""
    return _text(entry["array"])


def _bytes(text: str) -> np.ndarray:
    return np.frombuffer(text.encode(), np.uint8)


def _text(array: np.ndarray) -> str:
    return array.tobytes().decode()
