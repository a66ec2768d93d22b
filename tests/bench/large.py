"""Stable Diffusion 1.x in its true configuration: a pass that ends early against a whole one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from contest import Contest, Setting
from diffusers import UNet2DConditionModel
from torch import Tensor
from true import UNET

from fslab.lab.presets import PAPER_LAYERS
from fslab.tap import layer_paths, tap

TINY = {
    "sample_size": 16, "layers_per_block": 1, "cross_attention_dim": 32, "attention_head_dim": 8,
    "block_out_channels": (32, 32, 64, 64), "norm_num_groups": 8,
}  # fmt: skip


def benches(setting: Setting) -> Iterator[Contest]:
    """Random weights: time does not depend on what they are."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        unet = UNet2DConditionModel(**(TINY if setting.smoke else UNET)).eval()
    chance = torch.Generator().manual_seed(0)
    side, width = unet.config.sample_size, unet.config.cross_attention_dim
    given = (
        torch.randn(1, 4, side, side, generator=chance),
        torch.tensor([0]),
        torch.randn(1, 77, width, generator=chance),
    )
    cases = {
        "paper": (PAPER_LAYERS, 0.55, "the paper's five layers"),
        "encoder": (("down_blocks.1",), 0.27, "an encoder-only layer, down_blocks.1"),
    }
    for name, (patterns, target, what) in cases.items():
        early, whole = early_pass(unet, patterns, given), whole_pass(unet, patterns, given)
        assert all(torch.equal(value, whole[path]) for path, value in early.items())
        yield Contest(
            f"early-stop-{name}",
            f"{what}, SD 1.x at {side} x {side} latents, fp32, random weights",
            "a whole UNet pass with ordinary hooks",
            lambda patterns=patterns: early_pass(unet, patterns, given),
            lambda patterns=patterns: whole_pass(unet, patterns, given),
            target,
            "of its time",
        )


@torch.no_grad()
def early_pass(
    unet: UNet2DConditionModel, patterns: Sequence[str], given: tuple[Tensor, ...]
) -> dict[str, Tensor]:
    """Return the layers' outputs by path; the pass ends at the last of them."""
    with tap(unet, *patterns, stop=True) as seen:
        unet(*given)
    return seen


@torch.no_grad()
def whole_pass(
    unet: UNet2DConditionModel, patterns: Sequence[str], given: tuple[Tensor, ...]
) -> dict[str, Tensor]:
    """Return the layers' outputs by path, by hooks and a pass to the end."""
    kept = {}

    def keep(path: str, output: Tensor | tuple) -> None:
        kept[path] = output if isinstance(output, Tensor) else output[0]

    hooks = [
        unet.get_submodule(path).register_forward_hook(
            lambda module, inputs, output, path=path: keep(path, output)
        )
        for path in layer_paths(unet, patterns)
    ]
    unet(*given)
    for hook in hooks:
        hook.remove()
    return kept
