"""Train a tiny autoencoder's encoder on mini's latents, to see what one in the VAE's place costs.

    python tests/bench/tiny.py out/tiny --minutes 10
    fslab evaluate data/minivoc --method fslab --encoder out/tiny

It learns the latents of mini's own VAE from pictures of drawn scenes of a seed that no data set
has; masks are not read. Its decoder stays as it was drawn: nothing reads it.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import torch
from diffusers import AutoencoderKL, AutoencoderTiny
from torch import Tensor
from torch.nn.functional import mse_loss

from fslab.mini.scenes import scene

VAE = Path(__file__).parents[2] / "fslab/mini/weights/stable-diffusion/vae"
SEED, BATCH = 4242, 16


def pictures() -> Iterator[Tensor]:
    """Yield batches f32 [16, 3, 96, 96] in [-1, 1] of new scenes, every other mirrored."""
    for first in count(step=BATCH // 2):
        drawn = [scene(SEED, first + number, square=True).pixels for number in range(BATCH // 2)]
        half = torch.stack([torch.from_numpy(each.copy()) for each in drawn])
        half = half.permute(0, 3, 1, 2).float() / 127.5 - 1
        yield torch.cat([half, half.flip(-1)])


def train(folder: Path, minutes: float) -> float:
    """Save a tiny autoencoder; return the last batches' squared error over the latents' variance."""
    torch.manual_seed(SEED)
    vae = AutoencoderKL.from_pretrained(VAE).eval()
    width = {"encoder_block_out_channels": (24, 24, 24), "num_encoder_blocks": (1, 2, 2)}
    rest = {"decoder_block_out_channels": (8, 8, 8), "num_decoder_blocks": (1, 1, 1)}
    tiny = AutoencoderTiny(**width, **rest, scaling_factor=1.0)
    optimiser = torch.optim.AdamW(tiny.encoder.parameters(), lr=2e-3)
    begun, spent, errors = time.monotonic(), 0.0, []
    for batch in pictures():
        for group in optimiser.param_groups:
            group["lr"] = 2e-3 * max(1 - spent, 0)
        with torch.no_grad():
            wanted = vae.encode(batch).latent_dist.mean * vae.config.scaling_factor
        loss = mse_loss(tiny.encoder(batch), wanted)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        errors.append(loss.item() / wanted.var().item())
        spent = (time.monotonic() - begun) / (60 * minutes)
        if spent >= 1:
            break
    tiny.save_pretrained(folder)
    print(f"{len(errors)} batches; parameters {sum(p.numel() for p in tiny.encoder.parameters())}")
    return sum(errors[-50:]) / len(errors[-50:])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--minutes", type=float, default=10)
    options = parser.parse_args()
    print(
        f"error, as a share of the latents' variance: {train(options.folder, options.minutes):.4f}"
    )
