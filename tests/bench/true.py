"""Stable Diffusion 1.x and 2.1 in their true configurations, for diffusers' own classes."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

UNET = {"sample_size": 64, "cross_attention_dim": 768, "attention_head_dim": 8}
UNET_21 = {
    "sample_size": 96, "cross_attention_dim": 1024, "attention_head_dim": (5, 10, 20, 20),
    "use_linear_projection": True, "upcast_attention": True,
}  # fmt: skip
VAE = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
    "latent_channels": 4,
    "sample_size": 512,
}
TEXT = {
    "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12,
    "num_attention_heads": 12, "max_position_embeddings": 77,
}  # fmt: skip
TEXT_21 = {
    **TEXT, "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 23,
    "num_attention_heads": 16, "hidden_act": "gelu",
}  # fmt: skip


def true_networks() -> dict[str, torch.nn.Module]:
    """Return Stable Diffusion 1.5's networks by their files' names, without numbers."""
    with torch.device("meta"):
        return {
            "unet/diffusion_pytorch_model": UNet2DConditionModel(**UNET),
            "vae/diffusion_pytorch_model": AutoencoderKL(**VAE),
            "text_encoder/model": CLIPTextModel(CLIPTextConfig(**TEXT)),
        }


def write_hollow(path: Path, network: torch.nn.Module) -> None:
    """Write a safetensors file of a network's size of which only the header is on the disk."""
    header, end = {}, 0
    for name, tensor in network.state_dict().items():
        start, end = end, end + 4 * tensor.numel()
        header[name] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + end)
