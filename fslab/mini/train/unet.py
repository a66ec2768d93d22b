"""The diffusion network and its text encoder, trained together on latents and captions.

As in latent diffusion (Rombach et al., CVPR 2022) the text encoder learns with the network.
The learning rate stays constant, so that training can always go on; `cool_down` branches off a
copy whose rate falls to zero: the weights to ship.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import DDPMScheduler, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from fslab.datasets import VOC_CLASSES
from fslab.mini.captions import caption
from fslab.mini.grounds import GROUND_NAMES
from fslab.mini.train.loop import Training
from fslab.mini.train.optim import follow, make_optimizers, set_rate
from fslab.mini.train.pools import SEED, SIDES, Pool
from fslab.mini.train.tokens import LENGTH, make_clip_tokenizer

BATCH = 24
WIDTH = 128
"""Width of the text features that cross-attention reads."""
EMPTY_SHARE = 0.15
"""Share of training pictures whose caption is left empty: features are read without a caption."""
WARM_UP = 100
AVERAGE = 0.999


def make_scheduler() -> DDPMScheduler:
    """Return Stable Diffusion's noise schedule."""
    return DDPMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False
    )


def make_unet() -> UNet2DConditionModel:
    """Return the untrained network: 24 x 24, 12 x 12 and 6 x 6, attention in the last two."""
    return UNet2DConditionModel(
        sample_size=24,
        block_out_channels=(48, 96, 128),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        transformer_layers_per_block=(1, 2, 1),
        attention_head_dim=(1, 3, 4),  # diffusers takes this as the number of heads
        norm_num_groups=16,
        cross_attention_dim=WIDTH,
    )


def make_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """Return the untrained text encoder."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=WIDTH,
            intermediate_size=4 * WIDTH,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=LENGTH,
            hidden_act="gelu",
            projection_dim=WIDTH,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


class Diffusion(nn.Module):
    """The two networks that learn to remove noise."""

    def __init__(self) -> None:
        super().__init__()
        self.tokenizer = make_clip_tokenizer()
        self.unet = make_unet()
        self.text = make_text_encoder(self.tokenizer)

    def forward(self, noisy: Tensor, timesteps: Tensor, captions: list[str]) -> Tensor:
        """Return the predicted noise, f32 [B, 4, h, w]."""
        tokens = self.tokenizer(
            captions, padding="max_length", max_length=LENGTH, truncation=True, return_tensors="pt"
        )
        features = self.text(tokens.input_ids).last_hidden_state
        with torch.autocast("cpu", torch.bfloat16):
            return self.unet(noisy, timesteps, features).sample.float()


@dataclass(frozen=True, eq=False)
class LatentSet:
    """Latents of the scenes as drawn and mirrored, f16 [N, 4, h, w] each, and the scenes' pool."""

    plain: np.ndarray
    mirrored: np.ndarray
    pool: Pool

    def batch(self, rng: np.random.Generator) -> tuple[Tensor, list[str]]:
        """Draw a batch: latents f32 [B, 4, h, w] and captions, some empty."""
        chosen = np.sort(rng.integers(0, len(self.plain), BATCH))
        mirror = rng.random() < 0.5
        latents = (self.mirrored if mirror else self.plain)[chosen].astype(np.float32)
        captions = [self.caption(rng, int(index), mirror) for index in chosen]
        return torch.from_numpy(latents), captions

    def caption(self, rng: np.random.Generator, index: int, mirror: bool) -> str:
        """Write a fresh caption for a scene, or an empty one."""
        if rng.random() < EMPTY_SHARE:
            return ""
        shown = self.pool["objects"][index]
        names = [VOC_CLASSES[one] for one in shown if one]
        sides = [SIDES[one] for one in self.pool["sides"][index][: len(names)]]
        if mirror:
            sides = [{"left": "right", "right": "left"}.get(side, side) for side in sides]
        grounds = [GROUND_NAMES[one - 1] for one in self.pool["grounds"][index] if one]
        return caption(rng, names, grounds, sides, ground_share=0.5)


def train_unet(out: Path, latents: LatentSet, seconds: float) -> None:
    """Train at a constant rate until so many seconds have been spent in all; resumes from `out`."""
    _run(out, out, latents, seconds, lambda step, share: min(1.0, (step + 1) / WARM_UP))


def cool_down(out: Path, branch: Path, latents: LatentSet, seconds: float) -> Diffusion:
    """Branch off the checkpoint in `out`, let the rate fall to zero and return the averaged net.

    `out` is not touched, so training can go on from it.
    """
    return _run(out, branch, latents, seconds, lambda step, share: max(0.0, 1 - share))


def _run(
    source: Path,
    target: Path,
    latents: LatentSet,
    seconds: float,
    rate: Callable[[int, float], float],
) -> Diffusion:
    """Train from the checkpoint in `target`, or else in `source`; return the averaged net."""
    torch.manual_seed(SEED)
    net = Diffusion()
    net.unet.set_attn_processor(AttnProcessor())  # the fused attention's backward is slow on CPUs
    average = copy.deepcopy(net).requires_grad_(False)
    optimizers = make_optimizers(net, 3e-3, 1e-3, 0.01)
    run = Training(target, {"net": net, "average": average}, optimizers, seconds, source)
    alphas = make_scheduler().alphas_cumprod
    for step, share in run.steps():
        set_rate(optimizers, rate(step, share))
        loss, losses = _loss(net, latents, alphas, np.random.default_rng([SEED, 4, step]))
        _step(loss, net, optimizers)
        follow(average, net, min(AVERAGE, (step + 1) / (step + 11)))
        run.count(BATCH, **losses)
    run.finish()
    return average.eval()


def _loss(
    net: Diffusion, latents: LatentSet, alphas: Tensor, rng: np.random.Generator
) -> tuple[Tensor, dict[str, float]]:
    """Return the weighted error of the noise; for the log, the plain one by third of timesteps."""
    clean, captions = latents.batch(rng)
    noise = torch.from_numpy(rng.standard_normal(clean.shape, dtype=np.float32))
    timesteps = _timesteps(rng, len(alphas))
    share = alphas[timesteps].view(-1, 1, 1, 1)
    noisy = share.sqrt() * clean + (1 - share).sqrt() * noise
    errors = F.mse_loss(net(noisy, timesteps, captions), noise, reduction="none").mean((1, 2, 3))
    thirds = {
        f"loss_{third}": errors[timesteps * 3 // len(alphas) == third].mean().item()
        for third in range(3)
    }
    weights = (1 - alphas[timesteps]).sqrt()  # P2's with k = 1, gamma = 0.5 (Choi et al., 2022)
    return (errors * weights).mean(), {"loss": errors.mean().item(), **thirds}


def _timesteps(rng: np.random.Generator, count: int) -> Tensor:
    """Draw a batch of timesteps, i64 [B], evenly stratified; half from the middle two fifths.

    There, what a picture shows is settled and its caption matters most.
    """
    places = (rng.permutation(BATCH) + rng.random(BATCH)) / BATCH
    shares = np.interp(places, (0, 0.38, 0.88, 1), (0, 0.3, 0.7, 1))
    return torch.from_numpy((shares * count).astype(np.int64))


def _step(loss: Tensor, net: nn.Module, optimizers: list[torch.optim.Optimizer]) -> None:
    for optimizer in optimizers:
        optimizer.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(net.parameters(), 1.0)
    for optimizer in optimizers:
        optimizer.step()
