"""`freeseg-diff` at true size without its networks, against a script in the authors' structure.

Photographs of 500 x 375 pixels; stand-ins take the networks' place on both sides, and their own time
is taken off.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import fields
from itertools import count
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from authors import Script
from contest import Contest, Setting
from standins import (
    PAPER,
    Models,
    Networks,
    photographs,
    stand_ins,
    watched,
    write_settings,
)
from whole import STEPS, timed

from fslab.backbones import Layer
from fslab.captions import Captioner
from fslab.datasets import VOC
from fslab.lab import Lab
from fslab.match import Matcher
from fslab.recent import Recent
from fslab.records import Picture

LISTED = tuple(Layer(path, 1280, 32) for path in PAPER)
"""The UNet's layers, those of the recipe alone: listing them all takes a pass without numbers."""

WHOLE, EARLY = 0.070, 0.060
"""Seconds a picture that a large GPU takes about for the networks: the script runs the whole UNet."""


def benches(setting: Setting) -> Iterator[Contest]:
    """Both sides pass the same pictures through the same stand-ins, and their labels agree."""
    pictures = photographs(1, (80, 60)) if setting.smoke else photographs(4)
    models = stand_ins(16) if setting.smoke else stand_ins()
    networks = watched(models)
    ours, script = TrueLab(setting.folder, models), TrueScript(models)
    check_labels(ours, script, pictures)

    def notes() -> dict[str, Any]:
        return profile(ours, script, pictures, networks)

    for name, said, seconds, target in (
        ("rest", "all but the networks", (0.0, 0.0), 8.0),
        ("gpu", "networks as timers of 60 ms and, the script's, 70 ms", (EARLY, WHOLE), 6.0),
    ):
        mine, theirs = (Run(networks, each, len(pictures)) for each in seconds)
        yield Contest(
            f"timers-{name}",
            f"freeseg-diff at SD 1.4's size, {len(pictures)} photographs of 500 x 375, {said}",
            "a script in the authors' structure",
            lambda run=mine: run(lambda: ours.segment_all(pictures)),
            lambda run=theirs: run(lambda: script.segment_all(pictures)),
            target,
            ready=ours.refresh,
            seconds_of=lambda call: call(),
            notes=notes if name == "rest" else dict,
        )


class Run:
    """Seconds of a call without its networks, and with so many a picture in their place."""

    def __init__(self, networks: Networks, seconds: float, pictures: int) -> None:
        self.networks, self.added = networks, seconds * pictures

    def __call__(self, call: Callable[[], Any]) -> float:
        """Make the call; return the seconds."""
        self.networks.clear()
        start = time.perf_counter()
        call()
        return time.perf_counter() - start - self.networks.total() + self.added


class TrueScript(Script):
    """The script with models that are given; words are compared by the diffusion model's encoder."""

    prompt = "a picture of "

    def __init__(self, models: Models) -> None:
        super().__init__(models, PAPER, VOC)

    def load(self, folder: Models) -> None:
        """Take the models as they are."""
        for field in fields(folder):
            setattr(self, field.name, getattr(folder, field.name))

    @torch.inference_mode()
    def embed(self, texts: list[str]) -> np.ndarray:
        """Return each text's mean token state, f32 [N, D]."""
        ids = self.tokens(texts, padding="max_length", return_tensors="pt").input_ids
        return self.text(ids)[0].mean(1).numpy()

    def segment_all(self, pictures: list[Picture]) -> list[np.ndarray]:
        """Return labels u8 [H, W] of pictures."""
        return [self.segment(picture) for picture in pictures]


class TrueLab:
    """Labs with an empty store each, in which the given models are loaded and classes embedded."""

    def __init__(self, folder: Path, models: Models, encoder: Path | None = None) -> None:
        self.folder, self.models, self.numbers = folder, models, count()
        self.settings = write_settings(folder / "model")
        self.backbone = Lab(self.settings, store=folder / "loaded", encoder=encoder).backbone
        self.backbone.fingerprint = self.backbone.vae_fingerprint = "of a bench"
        self.backbone.words_fingerprint = "of a bench"
        given = {"vae": models.vae, "unet": models.unet, "text_encoder": models.text}
        for name in ("unet", "text_encoder") if encoder else given:
            self.backbone.components.loaded[name, torch.float32] = given[name]
        self.backbone.layers = lambda: LISTED
        self.texts = Recent()
        self.refresh()
        said = [VOC.texts(name)[0] for name in VOC.classes]
        self.lab._embed([f"A photo of {word}" for name in said for word in name.split()], "preset")

    def refresh(self) -> None:
        """Open a lab that has seen no picture and no caption."""
        models = self.models
        self.lab = Lab(self.settings, store=self.folder / f"store{next(self.numbers)}")
        self.lab.backbone, self.backbone.store = self.backbone, self.lab.store
        self.backbone._encoded = None
        self.lab.captioner = Captioner(models.blip, models.blip_tokens, models.blip_pixels)
        self.lab.matcher = Matcher(models.clip, models.clip_tokens, models.clip_pixels)
        self.lab.prompt = self.lab.preset.prompt
        self.lab.captioner_fingerprint = self.lab.clip_fingerprint = "of a bench"
        self.lab.recent = self.texts
        self.seconds: dict[str, float] = defaultdict(float)
        self.masks = 0

    def segment_all(self, pictures: list[Picture]) -> list[np.ndarray]:
        """Return labels u8 [H, W] of pictures, by the recipe freeseg-diff."""
        found = [self.lab.segment(picture, "freeseg-diff") for picture in pictures]
        for result in found:
            self.masks += len(result.named.scores)
            for stage, seconds in result.seconds.items():
                self.seconds[stage] += seconds
        return [result.labels.labels for result in found]


def check_labels(ours: TrueLab, script: TrueScript, pictures: list[Picture]) -> None:
    """Fail where more than a thousandth of a picture's pixels is labelled otherwise."""
    for picture, mine, other in zip(
        pictures, ours.segment_all(pictures), script.segment_all(pictures), strict=True
    ):
        apart = (mine != other).mean()
        assert apart <= 1e-3, f"{picture.name}: {apart:.2%} of the labels differ"
        assert mine.any(), f"{picture.name}: nothing was found"


def profile(
    ours: TrueLab, script: TrueScript, pictures: list[Picture], networks: Networks
) -> dict[str, Any]:
    """Return the milliseconds a picture of each stage in one more run of both."""
    scale, found = 1000 / len(pictures), {}
    ours.refresh()
    networks.clear()
    ours.segment_all(pictures)
    found["ours, ms a picture"] = dict(ours.seconds), dict(networks.seconds)
    named = ours.masks / len(pictures)
    theirs: dict[str, float] = defaultdict(float)
    networks.clear()
    with ExitStack() as stack:
        for step in STEPS:
            call = timed(getattr(script, step), theirs, step)
            stack.enter_context(patch.object(script, step, call))
        script.segment_all(pictures)
    found["other, ms a picture"] = dict(theirs), dict(networks.seconds)
    return {"masks with a name, a picture": named} | {
        who: {
            **{stage: scale * seconds for stage, seconds in stages.items()},
            "of that, the networks": {name: scale * each for name, each in inside.items()},
        }
        for who, (stages, inside) in found.items()
    }
