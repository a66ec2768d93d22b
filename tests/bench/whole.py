"""The whole method against a script in the authors' structure."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from authors import Script
from contest import Contest, Setting

import fslab
from fslab.backbones import pick_layers
from fslab.datasets import VOC, voc
from fslab.lab import Lab
from fslab.match import Matcher

STEPS = ("features", "cluster", "silhouette", "caption", "candidates", "name", "sharpen")


def benches(setting: Setting) -> Iterator[Contest]:
    """Pictures of mini-VOC, all models loaded before, an empty store at each round."""
    count_of = 2 if setting.smoke else 32
    pictures = [sample.picture() for sample in voc("data/minivoc", "val").samples[:count_of]]
    ours = Ours(setting.folder)
    backbone = ours.loaded.backbone
    paths = [layer.path for layer in pick_layers(backbone.default_layers, backbone.layers())]
    weights = Path(fslab.__file__).parent / "mini" / "weights"
    script = Script(weights, tuple(paths), VOC)
    ours.refresh()
    check_labels(ours.segment_all(pictures), [script.segment(one) for one in pictures])
    state = f"{len(pictures)} pictures, store empty, models loaded before"
    yield Contest(
        "whole",
        f"freeseg-diff on mini, {state}, same labels",
        "a script in the authors' structure",
        lambda: ours.segment_all(pictures),
        lambda: [script.segment(one) for one in pictures],
        target=4.0,
        ready=ours.refresh,
        notes=lambda: profile(ours, script, pictures),
    )
    base = Ours(setting.folder / "base")
    for method, target in (("fslab", 1.5), ("dslo", None), ("goca", None)):
        yield Contest(
            f"whole-{method}",
            f"recipe {method} on mini, {state}",
            "recipe freeseg-diff",
            partial(ours.segment_all, pictures, method),
            lambda: base.refresh() or base.segment_all(pictures),
            target=target,
            figure="of its time",
            ready=ours.refresh,
            notes=partial(noted, ours, pictures, method),
        )


def check_labels(first: list[np.ndarray], second: list[np.ndarray]) -> None:
    """Fail where a pixel of any picture is labelled otherwise, and where nothing was found."""
    apart = [n for n, (a, b) in enumerate(zip(first, second, strict=True)) if (a != b).any()]
    assert not apart, f"labels of pictures {apart} differ"
    assert any(labels.any() for labels in first)


class Ours:
    """A lab whose models stay and whose results do not: they are handed on to fresh labs."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.numbers = folder, count()
        self.loaded = Lab("mini", store=folder / "loaded")

    def refresh(self) -> None:
        """Open a lab with an empty store and no text encoded before."""
        lab, loaded = Lab("mini", store=self.folder / f"whole{next(self.numbers)}"), self.loaded
        lab.backbone, lab.captioner = loaded.backbone, loaded.captioner
        lab.backbone.store, lab.backbone._encoded = lab.store, None
        old = loaded.matcher
        lab.matcher = Matcher(old.model, old.tokenizer, old.image_processor)
        lab.captioner_fingerprint = loaded.captioner_fingerprint
        lab.clip_fingerprint = loaded.clip_fingerprint
        lab.backbone._states.clear()
        self.lab, self.seconds = lab, defaultdict(float)

    def segment_all(self, pictures: list[Any], method: Any = "freeseg-diff") -> list[np.ndarray]:
        """Return labels u8 [H, W] of pictures."""
        labels = []
        for picture in pictures:
            result = self.lab.segment(picture, method)
            labels.append(result.labels.labels)
            for stage, seconds in result.seconds.items():
                self.seconds[stage] += seconds
        return labels


def profile(ours: Ours, script: Script, pictures: list[Any]) -> dict[str, Any]:
    """Return the milliseconds a picture of each stage in one more run of both."""
    mine = stages(ours, pictures, "freeseg-diff")
    theirs: dict[str, float] = defaultdict(float)
    with ExitStack() as stack:
        for step in STEPS:
            call = timed(getattr(script, step), theirs, step)
            stack.enter_context(patch.object(script, step, call))
        for picture in pictures:
            script.segment(picture)
    scale = 1000 / len(pictures)
    return {
        "ours, ms a picture": mine,
        "other, ms a picture": {key: value * scale for key, value in theirs.items()},
    }


def noted(ours: Ours, pictures: list[Any], method: str) -> dict[str, Any]:
    """Return the milliseconds a picture of each stage as a note."""
    return {"ours, ms a picture": stages(ours, pictures, method)}


def stages(ours: Ours, pictures: list[Any], method: str) -> dict[str, float]:
    """Return the milliseconds a picture of each stage in one more run."""
    ours.refresh()
    ours.segment_all(pictures, method)
    return {stage: 1000 * seconds / len(pictures) for stage, seconds in ours.seconds.items()}


def timed(call: Callable[..., Any], into: dict[str, float], name: str) -> Callable[..., Any]:
    """Return a call that adds its seconds up under a name."""

    def measured(*given: Any) -> Any:
        start = time.perf_counter()
        result = call(*given)
        into[name] += time.perf_counter() - start
        return result

    return measured
