"""How well points of one picture are found in another, where the truth is known."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from fslab.backbones import pick_layers
from fslab.correspond import correspond
from fslab.lab import Lab
from fslab.records import Features, KeypointPair
from fslab.score import KeypointScore, keypoint_errors


def score_keypoints(
    lab: Lab,
    pairs: Iterable[KeypointPair],
    layers: Sequence[str] | str = (),
    timesteps: int | Sequence[int] | None = None,
    temperature: float = 0.0,
    **settings: Any,
) -> KeypointScore:
    """Find each pair's points as `Lab.correspond` does, and score them.

    All layers and timesteps count in one likeness; for each by itself, take `score_each_layer`.
    """
    errors = []
    for pair in pairs:
        found = lab.correspond(
            pair.first, pair.points, pair.second, layers, timesteps, temperature, **settings
        )
        errors.append(keypoint_errors(found.matches, pair))
    return KeypointScore(tuple(errors))


def score_each_layer(
    lab: Lab,
    pairs: Iterable[KeypointPair],
    layers: Sequence[str] | str = (),
    timesteps: Sequence[int] = (),
    temperature: float = 0.0,
    **settings: Any,
) -> dict[tuple[str, int], KeypointScore]:
    """Return the score of each layer at each timestep by itself, by (path, timestep).

    layers: paths or patterns, the backbone's own if empty; timesteps: its own if empty, and 0 where
    it has none. A picture passes once for all layers of a timestep. settings: as in `extract`.
    """
    patterns = (layers,) if isinstance(layers, str) else tuple(layers)
    chosen = pick_layers(patterns or lab.backbone.default_layers, lab.layers())
    paths = [layer.path for layer in chosen]
    steps = tuple(timesteps) or (lab.backbone.timestep or 0,)
    errors: dict[tuple[str, int], list[Any]] = {(path, t): [] for path in paths for t in steps}
    for pair in pairs:
        for step in steps:
            both = [lab.extract(x, paths, step, **settings) for x in (pair.first, pair.second)]
            for path in paths:
                a, b = (Features({path: each[path]}, each.size, each.name) for each in both)
                found = correspond(a, pair.points, b, temperature)
                errors[path, step].append(keypoint_errors(found.matches, pair))
    return {key: KeypointScore(tuple(each)) for key, each in errors.items()}
