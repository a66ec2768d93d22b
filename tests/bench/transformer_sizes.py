"""Layers, sizes and cost of the transformers' presets: true configurations on the meta device.

Run: python tests/bench/transformer_sizes.py. Nothing is loaded and nothing measured by a clock:
parameters are counted, floating-point operations are those of one pass at 1024 x 1024 pixels by
torch's counter, two for a product and its sum.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderDC,
    AutoencoderKL,
    FluxTransformer2DModel,
    PixArtTransformer2DModel,
    SanaTransformer2DModel,
    SD3Transformer2DModel,
)
from torch.utils.flop_counter import FlopCounterMode
from transformers import (
    CLIPTextConfig,
    CLIPTextModelWithProjection,
    Gemma2Config,
    Gemma2Model,
    T5Config,
    T5EncoderModel,
)

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
    "pixart-sigma": (PixArtTransformer2DModel, {
        "caption_channels": 4096, "use_additional_conditions": False, "interpolation_scale": 2,
    }),
    "sana-600m": (SanaTransformer2DModel, {
        "num_attention_heads": 36, "num_layers": 28, "num_cross_attention_heads": 16,
        "cross_attention_head_dim": 72, "cross_attention_dim": 1152,
    }),
    "sana-1600m": (SanaTransformer2DModel, {}),
}  # fmt: skip
VAE = {
    "latent_channels": 16, "block_out_channels": (128, 256, 512, 512), "layers_per_block": 2,
    "down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4,
    "use_quant_conv": False, "use_post_quant_conv": False,
}  # fmt: skip
FIRST_VAE = {**VAE, "latent_channels": 4, "use_quant_conv": True, "use_post_quant_conv": True}
_SIDES = {
    "block_types": ("ResBlock",) * 3 + ("EfficientViTBlock",) * 3,
    "block_out_channels": (128, 256, 512, 512, 1024, 1024),
    "qkv_multiscales": ((), (), (), (5,), (5,), (5,)),
}  # fmt: skip
DEEP_VAE = {
    "latent_channels": 32, "downsample_block_type": "Conv", "upsample_block_type": "interpolate",
    "encoder_layers_per_block": (2, 2, 2, 3, 3, 3), "decoder_layers_per_block": (3,) * 6,
    **{f"{side}_{key}": each for side in ("encoder", "decoder") for key, each in _SIDES.items()},
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

    folder = Path("a model")

    def __init__(self, config: dict[str, Any], vae: dict[str, Any]) -> None:
        self._config, self._vae, self.name = config, vae, "a model"

    def config(self, part: str) -> dict[str, Any]:
        """Return the network's configuration, or the VAE's."""
        return self._vae if part == "vae" else self._config

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


def vae_of(name: str) -> dict[str, Any]:
    """Return the configuration of a preset's autoencoder."""
    return {"pixart": FIRST_VAE, "sana": DEEP_VAE}.get(name.partition("-")[0], VAE)


def measured(name: str) -> tuple[float, int, int, float]:
    """Return a preset's parameters in billions, its layers, its default's channels, and TFLOP."""
    kind, config = NETWORKS[name]
    with torch.device("meta"):
        net = kind(**config).eval()
        own = family.find(kind.__name__).function(Shown(dict(net.config), vae_of(name)))

        def run(side: int, tokens: int = 1) -> object:
            text = own.blank()
            states = text.states.expand(1, tokens, -1)
            mask = None if text.mask is None else text.mask.expand(1, tokens)
            cells = side // own.factor
            latent = torch.empty(1, own.latent_channels, cells, cells)
            text = type(text)(states, text.pooled, mask)
            return own.call(net, latent, torch.empty(1), text, (side, side))

        layers = spatial_layers(net, run, SIDE, own.step, SIDE, own.text_tokens)
        default = own.default_layers(layers)[0]
        channels = next(each.channels for each in layers if each.path == default)
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            run(SIDE, own.text_tokens)
    return parameters(net), len(layers), channels, counter.get_total_flops() / 1e12


def main() -> None:
    """Print the table."""
    with torch.device("meta"):
        clips = [
            CLIPTextModelWithProjection(CLIPTextConfig(**each)) for each in (LARGE_CLIP, BIG_CLIP)
        ]
        t5 = T5EncoderModel(T5Config(**T5, is_encoder_decoder=False, use_cache=False))
        gemma = Gemma2Model(Gemma2Config())
    print("| preset | network | layers | channels | TFLOP a pass | all parts, 16 bits | held |")
    print("|---|---|---|---|---|---|---|")
    for name in NETWORKS:
        own, layers, channels, flops = measured(name)
        kinds = {"pixart": [t5], "sana": [gemma], "flux": [t5, clips[0]]}
        texts = kinds.get(name.partition("-")[0], [t5, *clips])
        with torch.device("meta"):
            deep = name.startswith("sana")
            vae = (AutoencoderDC if deep else AutoencoderKL)(**vae_of(name))
        decoder, whole = parameters(vae.decoder), 2 * (own + parameters(vae, *texts))
        print(
            f"| `{name}` | {own:.2f} B | {layers} | {channels} | {flops:.1f} | {whole:.1f} GB "
            f"| {whole - 2 * decoder:.1f} GB |"
        )


if __name__ == "__main__":
    main()
