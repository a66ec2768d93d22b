"""Train the bundled models from nothing: `python -m fslab.mini.train --out out/mini`.

Pools, autoencoder, CLIP, BLIP, diffusion, in this order on one core: about twelve hours with the
default times. Every stage checkpoints every few minutes and goes on where it stopped when the same
command is given again; a finished stage is not repeated.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from fslab.mini.train.blip import train_blip
from fslab.mini.train.clip import ClipPools, train_clip
from fslab.mini.train.export import export_blip, export_clip, export_diffusion
from fslab.mini.train.pools import (
    GROUNDS,
    SCENES,
    SINGLES,
    ground_pool,
    scene_pool,
    single_pool,
)
from fslab.mini.train.unet import LatentSet, cool_down, train_unet
from fslab.mini.train.vae import latent_pool, train_vae

MINUTES = {"vae": 5, "clip": 131, "blip": 335, "unet": 278, "cool": 24}
"""How long each stage trains, minutes of one core; `unet` at a constant rate, then `cool`."""


def main() -> None:
    """Command line: where to write, how many threads, and a factor on all times."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("out/mini"))
    parser.add_argument("--threads", type=int, default=1, help="two only on an idle machine")
    parser.add_argument("--time", type=float, default=1.0, help="factor on every stage's time")
    parser.add_argument("--pool", type=float, default=1.0, help="factor on the pools' sizes")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    seconds = {name: 60 * minutes * arguments.time for name, minutes in MINUTES.items()}
    train_all(arguments.out, seconds, arguments.pool)


def train_all(out: Path, seconds: dict[str, float], share: float = 1.0) -> None:
    """Run every stage and write `out`/weights; `share` scales the pools' sizes, for trials."""
    pools, weights = out / "pools", out / "weights"
    scenes = scene_pool(pools / "scenes", round(SCENES * share))
    singles = single_pool(pools / "singles", round(SINGLES * share))
    grounds = ground_pool(pools / "grounds", round(GROUNDS * share))

    vae = train_vae(out / "vae", scenes, seconds["vae"])
    clip, tokenizer = train_clip(out / "clip", ClipPools(singles, grounds, scenes), seconds["clip"])
    captioner = train_blip(out / "blip", scenes, singles, clip, seconds["blip"])
    export_clip(weights / "clip", clip, tokenizer)
    export_blip(weights / "blip", captioner.blip, captioner.tokenizer)

    plain, mirrored = (latent_pool(pools / "latents", vae, scenes, flip) for flip in (False, True))
    latents = LatentSet(plain, mirrored, scenes)
    train_unet(out / "unet", latents, seconds["unet"])
    diffusion = cool_down(out / "unet", out / "unet-cool", latents, seconds["cool"])
    export_diffusion(weights / "stable-diffusion", diffusion, vae)


if __name__ == "__main__":
    main()
