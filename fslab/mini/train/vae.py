"""The autoencoder: 96 px pictures <-> 24 x 24 latents of four channels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from numpy.lib.format import open_memmap
from torch.nn import functional as F
from tqdm.auto import tqdm

from fslab.mini.train.loop import Training
from fslab.mini.train.optim import make_optimizers, set_rate
from fslab.mini.train.pools import SEED, Pool

CROP = 64
BATCH = 16


def make_vae() -> AutoencoderKL:
    """Return the untrained autoencoder; each latent pixel stands for 4 x 4 picture pixels."""
    return AutoencoderKL(
        block_out_channels=(16, 32, 64),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=8,
        sample_size=96,
        mid_block_add_attention=False,
    )


def to_tensor(pixels: np.ndarray) -> torch.Tensor:
    """Turn u8 [B, H, W, 3] into f32 [B, 3, H, W] in -1..1."""
    return torch.from_numpy(np.array(pixels)).permute(0, 3, 1, 2).float() / 127.5 - 1


def train_vae(out: Path, pool: Pool, seconds: float) -> AutoencoderKL:
    """Train for so many seconds (resuming from `out`) and set the latents' scale."""
    torch.manual_seed(SEED)
    vae = make_vae()
    optimizers = make_optimizers(vae, 4e-3, 2e-3, 0.0)
    run = Training(out, {"vae": vae}, optimizers, seconds)
    for step, share in run.steps():
        set_rate(optimizers, min(1, (step + 1) / 50) * min(1, 2 * (1 - share) + 0.02))
        loss, error = _loss(vae, _crops(np.random.default_rng([SEED, 3, step]), pool["pixels"]))
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
        run.count(BATCH, loss=loss.item(), psnr=-10 * torch.log10(error / 4).item())
    _set_scale(vae, pool)
    run.finish()
    return vae.eval()


def _crops(rng: np.random.Generator, pixels: np.ndarray) -> torch.Tensor:
    chosen = np.sort(rng.integers(0, len(pixels), BATCH))
    top, left = rng.integers(0, pixels.shape[1] - CROP + 1, 2)
    batch = to_tensor(pixels[chosen, top : top + CROP, left : left + CROP])
    return batch.flip(-1) if rng.random() < 0.5 else batch


def _loss(vae: AutoencoderKL, batch: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the loss and the mean squared error: errors, errors of edges, and a weak KL term."""
    with torch.autocast("cpu", torch.bfloat16):
        posterior = vae.encode(batch).latent_dist
        made = vae.decode(posterior.sample()).sample.float()
    difference = made - batch
    edges = sum(difference.diff(dim=axis).abs().mean() for axis in (2, 3))
    error = F.mse_loss(made, batch)
    kl = posterior.kl().mean() / posterior.mean[0].numel()
    return error + 0.3 * difference.abs().mean() + 0.3 * edges + 1e-4 * kl, error.detach()


@torch.no_grad()
def _set_scale(vae: AutoencoderKL, pool: Pool) -> None:
    """Write into the configuration the factor that gives latents a standard deviation of one."""
    latents = vae.encode(to_tensor(pool["pixels"][:256])).latent_dist.mean
    vae.register_to_config(scaling_factor=round(1 / latents.std().item(), 5))


@torch.no_grad()
def latent_pool(folder: Path, vae: AutoencoderKL, pool: Pool, flip: bool) -> np.ndarray:
    """Encode every scene (mirrored if `flip`), f16 [N, 4, 24, 24], already scaled; resumable."""
    folder.mkdir(parents=True, exist_ok=True)
    path, marker = folder / f"latents-{int(flip)}.npy", folder / f"done-{int(flip)}.txt"
    shape = (len(pool["pixels"]), 4, *(side // 4 for side in pool["pixels"].shape[1:3]))
    latents = open_memmap(
        path, mode="r+" if path.is_file() else "w+", dtype=np.float16, shape=shape
    )
    done = int(marker.read_text()) if marker.is_file() else 0
    for start in tqdm(range(done, len(latents), 64), desc=path.stem, mininterval=2):
        batch = to_tensor(pool["pixels"][start : start + 64])
        batch = batch.flip(-1) if flip else batch
        with torch.autocast("cpu", torch.bfloat16):
            mean = vae.encode(batch).latent_dist.mean.float() * vae.config.scaling_factor
        latents[start : start + 64] = mean.numpy().astype(np.float16)
        if start % 6400 == 0 or start + 64 >= len(latents):
            latents.flush()
            marker.write_text(str(min(start + 64, len(latents))))
    return np.load(path, mmap_mode="r")
