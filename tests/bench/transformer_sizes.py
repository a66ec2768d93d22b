"""Layers, sizes and cost of the transformers' presets: true configurations on the meta device.

Run: python tests/bench/transformer_sizes.py. Nothing is loaded and nothing measured by a clock:
parameters are counted, floating-point operations are those of one pass at 1024 x 1024 pixels by
torch's counter, two for a product and its sum.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers import AutoencoderKL, FluxTransformer2DModel, SD3Transformer2DModel
from torch.utils.flop_counter import FlopCounterMode
from transformers import CLIPTextConfig, CLIPTextModelWithProjection, T5Config, T5EncoderModel

from fslab.backbones.families import family
from fslab.backbones.listing import spatial_layers

SIDE, CELLS = 1024, 64
SD3 = {
    "sample_size": 128, "patch_size": 2, "in_channels": 16, "out_channels": 16, "num_layers": 24,
    "attention_head_dim": 64, "num_attention_heads": 24, "joint_attention_dim": 4096,
    "caption_projection_dim": 1536, "pooled_projection_dim": 2048, "pos_embed_max_size": 192,
}  # fmt: skip
LARGE = {"num_layers": 38, "num_attention_heads": 38, "caption_projection_dim": 2432}
NETWORKS: dict[str, tuple[Any, dict[str, Any]]] = {
    "sd3-medium": (SD3Transformer2DModel, SD3),
    "sd35-medium": (SD3Transformer2DModel, {
        **SD3, "qk_norm": "rms_norm", "dual_attention_layers": tuple(range(13)),
        "pos_embed_max_size": 384,
    }),
    "sd35-large": (SD3Transformer2DModel, {**SD3, **LARGE, "qk_norm": "rms_norm"}),
    "flux-dev": (FluxTransformer2DModel, {"guidance_embeds": True}),
    "flux-schnell": (FluxTransformer2DModel, {}),
}  # fmt: skip
VAE = {
    "latent_channels": 16, "block_out_channels": (128, 256, 512, 512), "layers_per_block": 2,
    "down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4,
    "use_quant_conv": False, "use_post_quant_conv": False,
}  # fmt: skip
T5 = {
    "d_model": 4096, "d_ff": 10240, "d_kv": 64, "num_heads": 64, "num_layers": 24,
    "vocab_size": 32128, "feed_forward_proj": "gated-gelu",
}  # fmt: skip
LARGE_CLIP = {
    "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12,
    "num_attention_heads": 12, "projection_dim": 768, "vocab_size": 49408,
}  # fmt: skip
BIG_CLIP = {
    "hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32,
    "num_attention_heads": 20, "projection_dim": 1280, "vocab_size": 49408,
}  # fmt: skip


class Shown:
    """What a family asks of a model that is there as configurations alone."""

    def __init__(self, config: dict[str, Any]) -> None:
        self._config, self.name = config, "a model"

    def config(self, part: str) -> dict[str, Any]:
        """Return the network's configuration, or the VAE's."""
        return VAE if part == "vae" else self._config

    def length(self, encoder: str) -> int:
        """Return CLIP's positions."""
        return 77


def parameters(*nets: torch.nn.Module) -> float:
    """Return the numbers in the weights of networks, in billions; tables of positions count."""
    numbers = 0
    for net in nets:
        tables = net.state_dict().keys() & dict(net.named_buffers()).keys()
        numbers += sum(value.numel() for value in net.parameters())
        numbers += sum(net.get_buffer(name).numel() for name in tables)
    return numbers / 1e9


def measured(name: str) -> tuple[float, int, int, float]:
    """Return a preset's parameters in billions, its layers, its default's channels, and TFLOP."""
    kind, config = NETWORKS[name]
    with torch.device("meta"):
        net = kind(**config).eval()
        own = family.find(kind.__name__).function(Shown(dict(net.config)))

        def run(side: int, tokens: int = 1) -> object:
            text = own.blank()
            states = text.states.expand(1, tokens, -1)
            latent = torch.empty(1, 16, side // 8, side // 8)
            return own.call(
                net, latent, torch.empty(1), type(text)(states, text.pooled), (side, side)
            )

        layers = spatial_layers(net, run, SIDE, 16, SIDE, own.text_tokens)
        default = own.default_layers(layers)[0]
        channels = next(each.channels for each in layers if each.path == default)
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            run(SIDE, own.text_tokens)
    return parameters(net), len(layers), channels, counter.get_total_flops() / 1e12


def main() -> None:
    """Print the table."""
    with torch.device("meta"):
        vae = AutoencoderKL(**VAE)
        decoder = parameters(vae.decoder)
        clips = [
            CLIPTextModelWithProjection(CLIPTextConfig(**each)) for each in (LARGE_CLIP, BIG_CLIP)
        ]
        t5 = T5EncoderModel(T5Config(**T5, is_encoder_decoder=False, use_cache=False))
    print("| preset | network | layers | channels | TFLOP a pass | all parts, 16 bits | held |")
    print("|---|---|---|---|---|---|---|")
    for name in NETWORKS:
        own, layers, channels, flops = measured(name)
        texts = [t5, *clips] if name.startswith("sd3") else [t5, clips[0]]
        whole = 2 * (own + parameters(vae, *texts))
        print(
            f"| `{name}` | {own:.2f} B | {layers} | {channels} | {flops:.1f} | {whole:.1f} GB "
            f"| {whole - 2 * decoder:.1f} GB |"
        )


if __name__ == "__main__":
    main()
