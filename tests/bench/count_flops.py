"""Count the multiply-adds of every stage's network in its true configuration, on no device.

Shapes flow through PyTorch's meta device, so nothing is computed and no weights are needed. A
multiplication and an addition count as two operations, as torch.utils.flop_counter does.

    python tests/bench/count_flops.py
"""

from __future__ import annotations

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch.utils.flop_counter import FlopCounterMode
from transformers import (
    BlipConfig,
    BlipForConditionalGeneration,
    CLIPConfig,
    CLIPModel,
    CLIPTextConfig,
    CLIPTextModel,
)
from true import TEXT, UNET, VAE

from fslab.tap import tap

CLIP_TEXT = {
    "hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 12,
    "num_attention_heads": 8, "max_position_embeddings": 77, "vocab_size": 49408,
}  # fmt: skip
CLIP_VISION = {
    "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12,
    "num_attention_heads": 12, "image_size": 224, "patch_size": 32,
}  # fmt: skip
LAST_LAYERS = {
    "whole": "conv_out",
    "paper's layers": "up_blocks.1.attentions.2.transformer_blocks.0.attn2.to_q",
    "encoder only": "down_blocks.3",
}
WORDS = 12
"""Tokens of a caption that BLIP generates, taken with a cache of keys and values."""


def count(run: object) -> float:
    """Return the operations of a call, in units of 10^9."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops() / 1e9


def unet(last: str) -> float:
    """One pass at 64 x 64 latents that ends after a layer."""
    net = UNet2DConditionModel(**UNET).eval()
    inputs = torch.empty(1, 4, 64, 64), torch.tensor([0]), torch.empty(1, 77, 768)

    def run() -> None:
        with tap(net, last, stop=True):
            net(*inputs)

    return count(run)


def vae_encoder() -> float:
    """One picture of 512 x 512 to its latent."""
    net = AutoencoderKL(**VAE).eval()
    return count(lambda: net.encode(torch.empty(1, 3, 512, 512)))


def sd_text() -> float:
    """One prompt; the empty one is encoded once a process."""
    net = CLIPTextModel(CLIPTextConfig(**TEXT, vocab_size=49408)).eval()
    return count(lambda: net(torch.zeros(1, 77, dtype=torch.long)))


def clip() -> tuple[float, float]:
    """One region view of 224 x 224, and one text."""
    config = CLIPConfig(text_config=CLIP_TEXT, vision_config=CLIP_VISION, projection_dim=512)
    net = CLIPModel(config).eval()
    image = count(lambda: net.vision_model(pixel_values=torch.empty(1, 3, 224, 224)))
    return image, count(lambda: net.text_model(input_ids=torch.zeros(1, 77, dtype=torch.long)))


def blip() -> tuple[float, float]:
    """The picture side at 384 x 384, and one caption of WORDS tokens, each a step.

    A step with cached keys and values costs what its one token costs; the picture's keys and
    values of the cross-attention are computed once, in the first step.
    """
    config = BlipConfig(
        vision_config={"image_size": 384, "hidden_size": 768, "num_hidden_layers": 12},
        text_config={"encoder_hidden_size": 768},
    )
    net = BlipForConditionalGeneration(config).eval()
    image = count(lambda: net.vision_model(pixel_values=torch.empty(1, 3, 384, 384)))
    states = torch.empty(1, (384 // config.vision_config.patch_size) ** 2 + 1, 768)

    def decode(tokens: int) -> float:
        ids = torch.zeros(1, tokens, dtype=torch.long)
        return count(
            lambda: net.text_decoder(
                input_ids=ids, encoder_hidden_states=states, use_cache=False, is_decoder=True
            )
        )

    return image, decode(WORDS)


def main() -> None:
    """Print one line a network."""
    with torch.device("meta"):
        found = {f"UNet, {name}": unet(last) for name, last in LAST_LAYERS.items()}
        found["VAE encoder, 512 x 512"] = vae_encoder()
        found["SD text encoder, one prompt"] = sd_text()
        found["BLIP picture side, 384 x 384"], found[f"BLIP caption, {WORDS} tokens"] = blip()
        found["CLIP ViT-B/32, one region"], found["CLIP, one text"] = clip()
    for name, value in found.items():
        print(f"{name:<40}{value:10.1f} GFLOPs")


if __name__ == "__main__":
    main()
