"""Peak memory of an extraction in bf16, each time in a new process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from contest import Contest, Setting
from diffusers import AutoencoderKL, DDPMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer
from true import TEXT, UNET, VAE

import fslab
from fslab.backbones import Diffusion, pick_layers
from fslab.backbones.latents import prepare
from fslab.lab.presets import PAPER_LAYERS
from fslab.records import Extraction, Picture

SMALL_UNET = {
    "sample_size": 16, "layers_per_block": 1, "cross_attention_dim": 32, "attention_head_dim": 8,
    "block_out_channels": (32, 32, 64, 64), "norm_num_groups": 8,
}  # fmt: skip
SMALL_VAE = VAE | {"block_out_channels": (16, 16, 32, 32), "norm_num_groups": 8, "sample_size": 128}
SMALL_TEXT = TEXT | {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
                     "num_attention_heads": 2}  # fmt: skip
PROMPT_TOKENS = Path(fslab.__file__).parent / "mini" / "weights" / "stable-diffusion" / "tokenizer"


def benches(setting: Setting) -> Iterator[Contest]:
    """VAE encoder, UNet and text encoder of one folder, the paper's layers, the same maps."""
    folder = setting.folder / "model"
    write_model(folder, setting.smoke)
    found = {way: setting.folder / f"{way}.npz" for way in WAYS}
    both = {way: lambda way=way: measured(way, folder, found[way]) for way in WAYS}
    yield Contest(
        "memory-bf16",
        "peak memory of a process, the paper's five layers, SD 1.x, bf16, random weights",
        "StableDiffusionPipeline.from_pretrained and a whole UNet pass with hooks",
        both["ours"],
        both["plain"],
        target=0.8,
        figure="of its memory",
        seconds_of=lambda call: call(),
        warm=False,
        notes=lambda: check_maps(*(np.load(found[way]) for way in WAYS)),
    )


def check_maps(first: Mapping[str, np.ndarray], second: Mapping[str, np.ndarray]) -> dict[str, int]:
    """Fail where the two ways read other layers, or other numbers."""
    assert sorted(first) == sorted(second)
    apart = [path for path in first if (first[path] != second[path]).any()]
    assert not apart, f"maps of {apart} differ"
    assert all(value.any() for value in first.values())
    return {"layers, bit for bit the same": len(first)}


def write_model(folder: Path, small: bool) -> None:
    """Write a Stable Diffusion 1.x of random weights in bf16."""
    unet, vae, text = (SMALL_UNET, SMALL_VAE, SMALL_TEXT) if small else (UNET, VAE, TEXT)
    tokenizer = CLIPTokenizer.from_pretrained(PROMPT_TOKENS)
    kinds = {"eos_token_id": tokenizer.eos_token_id, "bos_token_id": tokenizer.bos_token_id}
    words = CLIPTextConfig(**text, vocab_size=len(tokenizer), **kinds)
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            UNet2DConditionModel(**unet).save_pretrained(folder / "unet")
            AutoencoderKL(**vae).save_pretrained(folder / "vae")
            CLIPTextModel(words).save_pretrained(folder / "text_encoder")
    finally:
        torch.set_default_dtype(torch.float32)
    tokenizer.save_pretrained(folder / "tokenizer")
    DDPMScheduler(steps_offset=1).save_pretrained(folder / "scheduler")
    parts = {
        "unet": ["diffusers", "UNet2DConditionModel"], "vae": ["diffusers", "AutoencoderKL"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"], "scheduler": ["diffusers", "DDPMScheduler"],
        "safety_checker": [None, None], "feature_extractor": [None, None],
    }  # fmt: skip
    index = {"_class_name": "StableDiffusionPipeline", **parts}
    (folder / "model_index.json").write_text(str(index).replace("'", '"').replace("None", "null"))


def measured(way: str, folder: Path, out: Path) -> float:
    """Return the megabytes that a new process held at its highest."""
    command = [sys.executable, __file__, way, os.fspath(folder), os.fspath(out)]
    several = {**os.environ, "OMP_NUM_THREADS": str(os.cpu_count())}  # time is not asked for here
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=several)
    assert done.returncode == 0, done.stderr
    return float(done.stdout.split()[-1])


def ours(folder: Path, picture: Picture) -> dict[str, np.ndarray]:
    """Read the layers with the package."""
    backbone = Diffusion(folder)
    settings = Extraction(precision="bf16", squash=True)
    size = backbone.input_size(picture, settings)
    paths = [layer.path for layer in pick_layers(PAPER_LAYERS, backbone.layers())]
    maps = backbone.run(picture, size, {0: paths}, settings)
    return {path: value.numpy() for (path, _), value in maps.items()}


@torch.no_grad()
def plain(folder: Path, picture: Picture) -> dict[str, np.ndarray]:
    """Read the layers with diffusers and ordinary hooks."""
    pipe = StableDiffusionPipeline.from_pretrained(
        folder, torch_dtype=torch.bfloat16, low_cpu_mem_usage=True, safety_checker=None
    )
    seen = {}
    for path, module in pipe.unet.named_modules():
        if path.endswith("attn2.to_q") and path.startswith(("down_blocks.2", "up_blocks.1")):
            module.register_forward_hook(
                lambda module, given, output, path=path: seen.__setitem__(path, output)
            )
    side = pipe.unet.config.sample_size * pipe.vae_scale_factor
    pixels = prepare(picture, (side, side)).to(torch.bfloat16)
    mean = pipe.vae.encode(pixels).latent_dist.mean
    noise = torch.randn(mean.shape, generator=torch.Generator().manual_seed(0))
    latent = (mean * pipe.vae.config.scaling_factor).float()
    noisy = pipe.scheduler.add_noise(latent, noise, torch.tensor([0])).to(torch.bfloat16)
    states, _ = pipe.encode_prompt("", pipe.device, 1, False)
    pipe.unet(noisy, torch.tensor([0]), states)
    maps = {}
    for path, value in seen.items():
        cells = round(value.shape[1] ** 0.5)
        maps[path] = value[0].T.reshape(-1, cells, cells).float().numpy()
    return maps


WAYS = {"ours": ours, "plain": plain}


def peak() -> float:
    """Return this process's highest resident megabytes, as the system counted them."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1000


if __name__ == "__main__":
    way, folder, out = sys.argv[1:]
    pixels = np.random.default_rng(0).integers(0, 256, (512, 512, 3), dtype=np.uint8)
    np.savez(out, **WAYS[way](Path(folder), Picture(pixels)))
    print(peak())
