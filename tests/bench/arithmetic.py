"""Stable Diffusion 1.x's VAE encoder and UNet in true configuration: other ways to compute them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator

import torch
from contest import Contest, Setting
from diffusers import AutoencoderKL, UNet2DConditionModel
from large import TINY, early_pass
from torch import Tensor, nn
from true import UNET, VAE

from fslab.backbones.precision import cpu_computes_in
from fslab.lab.presets import PAPER_LAYERS

TINY_VAE = {
    **VAE, "block_out_channels": (32, 32), "norm_num_groups": 8, "sample_size": 64,
    "down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2,
}  # fmt: skip
WAYS = {
    "channels-last": "memory format channels_last",
    "bf16": "bf16",
    "compiled": "torch.compile, compiled before",
    "compiled-last": "torch.compile and channels_last, compiled before",
}
"""The compiled ones are tried of the encoder alone: the UNet is read by hooks that end its pass."""


def benches(setting: Setting) -> Iterator[Contest]:
    """Random weights: time does not depend on what they are. One copy is in memory at a time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        encoder = AutoencoderKL(**(TINY_VAE if setting.smoke else VAE)).eval().encoder
    side = (TINY_VAE if setting.smoke else VAE)["sample_size"]
    pixels = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(0))
    what = f"SD 1.x VAE encoder, {side} px, random weights"
    yield from contests("vae", what, encoder, lambda net: encoded(net, pixels), setting, WAYS)
    del encoder
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        unet = UNet2DConditionModel(**(TINY if setting.smoke else UNET)).eval()
    side, width = unet.config.sample_size, unet.config.cross_attention_dim
    given = torch.randn(1, 4, side, side), torch.randn(1, 77, width)
    what = f"SD 1.x UNet to the paper's last layer, {side} x {side} latents, random weights"
    ways = [way for way in WAYS if not way.startswith("compiled")]
    yield from contests("unet", what, unet, lambda net: read(net, *given), setting, ways)


def contests(
    name: str,
    what: str,
    net: nn.Module,
    call: Callable[[nn.Module], list[Tensor]],
    setting: Setting,
    ways: list[str],
) -> Iterator[Contest]:
    """Yield a contest of each way against fp32 as it is, with how far apart they are."""
    for way in ways:
        if setting.smoke and way.startswith("compiled"):
            continue
        other = changed(net, way)
        gap = change(call(other), call(net))
        has = {"this CPU has bf16 arithmetic": cpu_computes_in("bf16")} if way == "bf16" else {}
        yield Contest(
            f"arithmetic-{name}-{way}",
            f"{what}, {WAYS[way]}",
            "the same in fp32",
            lambda other=other: call(other),
            lambda: call(net),
            None,
            rounds=3,
            warm=False,
            notes=lambda gap=gap, has=has: {"change": gap, **has},
        )
        del other


def changed(net: nn.Module, way: str) -> nn.Module:
    """Return a copy that computes in another way."""
    net = copy.deepcopy(net)
    if way == "bf16":
        return net.to(torch.bfloat16)
    if way.endswith("last"):
        net = net.to(memory_format=torch.channels_last)
    if way.startswith("compiled"):
        net.compile()
    return net


@torch.inference_mode()
def encoded(net: nn.Module, pixels: Tensor) -> list[Tensor]:
    """Return what the VAE's encoder gives."""
    weight = net.conv_in.weight
    last = weight.is_contiguous(memory_format=torch.channels_last)
    form = torch.channels_last if last else torch.contiguous_format
    return [net(pixels.to(weight.dtype, memory_format=form))]


@torch.inference_mode()
def read(net: nn.Module, latent: Tensor, states: Tensor) -> list[Tensor]:
    """Return the paper's layers of the UNet."""
    dtype = net.conv_in.weight.dtype
    seen = early_pass(net, PAPER_LAYERS, (latent.to(dtype), torch.tensor([0]), states.to(dtype)))
    return list(seen.values())


def change(found: list[Tensor], plain: list[Tensor]) -> float:
    """Return the largest difference, over the largest value of its map."""
    return max(
        float((one.float() - other).abs().max() / other.abs().max())
        for one, other in zip(found, plain, strict=True)
    )
