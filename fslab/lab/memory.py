"""What each stage made before: records in and out of the store, named by their inputs."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import xxhash

from fslab.records import Features, LabelMap, Segments, digest_of
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
        return _text(self.array(inputs, lambda: _bytes(compute())))

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
        from fslab.match import Match

        def arrays() -> dict[str, np.ndarray]:
            found = compute()
            return {
                "probabilities": found.probabilities,
                "assigned": found.assigned,
                "texts": _bytes(json.dumps(found.texts)),
                "classes": np.array(found.classes),
            }

        entry = self._kept(["match-2", content({"labels": segments.labels}), *inputs], arrays)
        texts = tuple(json.loads(_text(entry["texts"])))
        return Match(entry["probabilities"], texts, entry["assigned"], int(entry["classes"]))

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
        key = digest_of([self._device, *inputs])
        entry = self._store.get(key)
        if entry is None:
            entry = {name: _read_only(array) for name, array in compute().items()}
            self._store.put(key, entry)
        return entry


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
