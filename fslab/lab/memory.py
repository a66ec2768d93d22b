"""What each stage made before: records in and out of the store, named by their inputs."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import xxhash

from fslab.batches import Batch, Entry, found_or_made
from fslab.records import Features, FslabError, LabelMap, Segments, digest_of
from fslab.store import Store

if TYPE_CHECKING:
    from fslab.match import Match


class Memory:
    """Asks the store for a stage's result, and files what had to be computed."""

    def __init__(self, store: Store, device: str) -> None:
        self._store, self._device = store, device
        self._lasting: dict[str, np.ndarray] = {}

    def array(self, inputs: list[Any], compute: Callable[[], np.ndarray]) -> np.ndarray:
        """Return an array by the digest of its inputs."""
        return self._kept(inputs, lambda: {"array": compute()})["array"]

    def lasting(self, inputs: list[Any], compute: Callable[[], np.ndarray]) -> np.ndarray:
        """Return what `array` does, asked of the store once: for what pictures share."""
        key = digest_of(inputs)
        if key not in self._lasting:
            self._lasting[key] = self.array(inputs, compute)
        return self._lasting[key]

    def text(self, inputs: list[Any], compute: Callable[[], str]) -> str:
        """Return a text by the digest of its inputs."""
        return text_of(self._kept(inputs, lambda: text_entry(compute())))

    def together(
        self,
        inputs: Sequence[Sequence[list[Any]]],
        make: Callable[[Sequence[int]], Sequence[Sequence[Entry]]],
        batch: Batch,
        names: Sequence[str],
    ) -> list[list[Entry] | FslabError]:
        """Return the entries of each picture's inputs, by `fslab.batches.found_or_made`."""
        keys = [[self._key(one) for one in each] for each in inputs]
        return found_or_made(self._store, keys, make, batch, names)

    def segments(
        self, features: Features, inputs: list[Any], compute: Callable[[], Segments]
    ) -> Segments:
        """Return segments by what features hold, whoever made them."""
        named = [
            "segments-3",
            features.size,
            content({k: np.asarray(v) for k, v in features.items()}),
        ]

        def arrays() -> dict[str, np.ndarray]:
            found = compute()
            return {f"{n}": one.labels for n, one in enumerate((found, *found.others))}

        kept = self._kept([*named, *inputs], arrays)
        first, *others = (kept[f"{n}"] for n in range(len(kept)))
        return Segments(first, tuple(map(Segments, others)))

    def match(self, segments: Segments, inputs: list[Any], compute: Callable[[], Match]) -> Match:
        """Return a matrix of segments against texts, with its assignment."""
        return match_of(self._kept(on_segments(segments, inputs), lambda: match_entry(compute())))

    def labels(
        self, labels: LabelMap, inputs: list[Any], compute: Callable[[], LabelMap]
    ) -> LabelMap:
        """Return a refined label map; names and scores are those of the map that it came from."""
        given = {"labels": labels.labels, **{f"{k}": v for k, v in labels.beliefs.items()}}
        named = ["refined-1", content(given), *inputs]
        return LabelMap(self.array(named, lambda: compute().labels), labels.names, labels.scores)

    def _kept(
        self, inputs: list[Any], compute: Callable[[], dict[str, np.ndarray]]
    ) -> dict[str, np.ndarray]:
        key = self._key(inputs)
        entry = self._store.get(key)
        if entry is None:
            entry = {name: _read_only(array) for name, array in compute().items()}
            self._store.put(key, entry)
        return entry

    def _key(self, inputs: list[Any]) -> str:
        return digest_of([self._device, *inputs])


def on_segments(segments: Segments, inputs: list[Any]) -> list[Any]:
    """Return the inputs of a match together with its segments."""
    return ["match-2", content({"labels": segments.labels}), *inputs]


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


def content(arrays: dict[str, np.ndarray]) -> str:
    """Return a digest of named arrays: names in order, types, shapes and bytes."""
    state = xxhash.xxh3_128()
    for name, array in arrays.items():
        state.update(f"{name}|{array.dtype.str}|{array.shape}|".encode())
        state.update(np.ascontiguousarray(array).tobytes())
    return state.hexdigest()


def _read_only(array: np.ndarray) -> np.ndarray:
    """Return an array that nobody changes for the next who asks, as the store gives them."""
    array.setflags(write=False)
    return array


def _bytes(text: str) -> np.ndarray:
    return np.frombuffer(text.encode(), np.uint8)


def _text(array: np.ndarray) -> str:
    return array.tobytes().decode()
