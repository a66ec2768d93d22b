"""`freeseg-diff` and an explorer with SD 1.4, BLIP base and CLIP ViT-B/32 in their true sizes.

Weights are random, so labels mean nothing; time does not depend on them but in k-means, which meets
what random networks make of a photograph.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from itertools import count, cycle
from pathlib import Path

import numpy as np
import torch
from contest import Contest, Setting
from diffusers import AutoencoderTiny
from standins import PAPER, Models, photographs, stand_ins, true_models, watched
from timers import TrueLab, TrueScript

from fslab.records import Extraction, Picture
from fslab.tap import tap
from fslab.widgets import explore_features

ROUNDS = 3
"""The first pays for first uses, so three."""
LAYER = PAPER[-1]


def benches(setting: Setting) -> Iterator[Contest]:
    """The script's seconds are measured once and stand beside those of the VAE and the tiny one."""
    pictures = photographs(1, (80, 60)) if setting.smoke else photographs(ROUNDS)
    models = stand_ins(16) if setting.smoke else true_models()
    networks = watched(models)
    script = Round(TrueScript(models).segment, pictures)
    for name, said, target in (
        ("whole", "", 1.38),
        ("tiny", ", a tiny autoencoder in the VAE's place", 3.0),
    ):
        ours = TrueLab(setting.folder / name, models, tiny(setting, name))
        mine = Round(lambda picture, ours=ours: ours.segment_all([picture])[0], pictures)
        networks.clear()
        yield Contest(
            f"sized-{name}",
            f"freeseg-diff at SD 1.4's size on this CPU, fp32, a new 500 x 375 photograph{said}",
            "a script in the authors' structure",
            mine,
            script if name == "whole" else Again(script.seconds),
            target,
            rounds=ROUNDS,
            ready=ours.refresh,
            seconds_of=lambda call: call(),
            warm=False,
            notes=lambda mine=mine, whole=name == "whole": {
                "pixels with another label": apart(mine.found, script.found)
                if whole
                else "all may",
                "seconds in both sides' networks": dict(networks.seconds),
            },
        )
    yield explorer(setting, models, pictures[0])


def tiny(setting: Setting, name: str) -> Path | None:
    """Write a tiny autoencoder with random weights as the released ones are made, for "tiny"."""
    if name != "tiny":
        return None
    widths = {"encoder_block_out_channels": (8,) * 4, "decoder_block_out_channels": (8,) * 4}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = AutoencoderTiny(**(widths if setting.smoke else {}))
    net.save_pretrained(setting.folder / "taesd")
    return setting.folder / "taesd"


class Round:
    """One picture after the other through a method; keeps labels and seconds."""

    def __init__(
        self, method: Callable[[Picture], np.ndarray], pictures: Sequence[Picture]
    ) -> None:
        self.method, self.pictures = method, cycle(pictures)
        self.found: list[np.ndarray] = []
        self.seconds: list[float] = []

    def __call__(self) -> float:
        """Return the seconds of the next picture."""
        picture, start = next(self.pictures), time.perf_counter()
        self.found.append(self.method(picture))
        self.seconds.append(time.perf_counter() - start)
        return self.seconds[-1]


class Again:
    """Gives seconds that were measured before, in their order."""

    def __init__(self, seconds: list[float]) -> None:
        self._seconds = cycle(seconds)

    def __call__(self) -> float:
        """Return the next one."""
        return next(self._seconds)


def apart(first: list[np.ndarray], second: list[np.ndarray]) -> float:
    """Return the share of pixels with another label, over the pictures that both have seen."""
    return float(np.mean([(a != b).mean() for a, b in zip(first, second, strict=False)]))


def explorer(setting: Setting, models: Models, picture: Picture) -> Contest:
    """A new timestep of a picture that is on screen, figure drawn, against one pass of the UNet."""
    lab = TrueLab(setting.folder / "explored", models).lab
    opened = explore_features(lab, [picture], layer=LAYER, timestep=1)
    opened.wait()
    steps = count(100, 50)
    size = lab.backbone.input_size(picture, Extraction())  # of a picture whose aspect is kept
    latent = torch.randn(1, 4, *(side // 8 for side in size), generator=torch.Generator())
    given = latent, torch.tensor([0]), lab.backbone.text_states("")

    def move() -> None:
        opened.change(timestep=next(steps)).wait()
        assert not opened.message, opened.message

    @torch.no_grad()
    def one_pass() -> None:
        with tap(models.unet, LAYER, stop=True):
            models.unet(*given)

    return Contest(
        "sized-explorer",
        "explore_features at SD 1.x's size on this CPU, fp32: a new timestep of a known picture",
        "one early-stopped call of the UNet",
        move, one_pass, 1.1, "of its time", rounds=3,
    )  # fmt: skip
