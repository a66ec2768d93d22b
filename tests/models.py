"""Tiny models with random weights in the real formats, saved to folders for the tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, AutoencoderTiny, DDIMScheduler, UNet2DConditionModel
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    Dinov2Config,
    Dinov2Model,
    ViTConfig,
    ViTModel,
)

UNET = {
    "sample_size": 16,
    "layers_per_block": 1,
    "block_out_channels": (32, 64, 64),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "cross_attention_dim": 32,
    "attention_head_dim": 8,
    "norm_num_groups": 8,
}
SDXL = {
    **UNET,
    "cross_attention_dim": 64,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 8,
    "projection_class_embeddings_input_dim": 6 * 8 + 32,
    "transformer_layers_per_block": (1, 1, 2),
    "use_linear_projection": True,
}
VAE = {
    "block_out_channels": (16, 32, 32),
    "down_block_types": ("DownEncoderBlock2D",) * 3,
    "up_block_types": ("UpDecoderBlock2D",) * 3,
    "latent_channels": 4,
    "norm_num_groups": 8,
    "sample_size": 64,
}


def tokenizer(words=("a", "photo", "of", "dog", "cat", "grass")) -> CLIPTokenizer:
    """Return a CLIP tokenizer over a few whole words."""
    letters = sorted(
        {letter for word in words for letter in word} | set("abcdefghijklmnopqrstuvwxyz")
    )
    merges, pieces = [], set()
    for word in words:
        parts = [*word[:-1], word[-1] + "</w>"]
        while len(parts) > 1:
            merges.append((parts[0], parts[1]))
            parts = [parts[0] + parts[1], *parts[2:]]
            pieces.add(parts[0])
    symbols = [*letters, *(f"{letter}</w>" for letter in letters), *sorted(pieces)]
    symbols += ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {symbol: number for number, symbol in enumerate(dict.fromkeys(symbols))}
    return CLIPTokenizer(vocab=vocabulary, merges=list(dict.fromkeys(merges)), model_max_length=16)


def text_config(tokens: CLIPTokenizer) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=len(tokens), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=2, max_position_embeddings=16, projection_dim=32,
        bos_token_id=tokens.bos_token_id, eos_token_id=tokens.eos_token_id,
    )  # fmt: skip


def save_diffusion(folder: Path, kind: str = "sd1") -> Path:
    """Save a tiny Stable Diffusion of kind "sd1", "sd2" (v-prediction) or "sdxl"."""
    tokens = tokenizer()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        UNet2DConditionModel(**(SDXL if kind == "sdxl" else UNET)).save_pretrained(folder / "unet")
        AutoencoderKL(**VAE, scaling_factor=0.2).save_pretrained(folder / "vae")
        CLIPTextModel(text_config(tokens)).save_pretrained(folder / "text_encoder")
        if kind == "sdxl":
            second = CLIPTextModelWithProjection(text_config(tokens))
            second.save_pretrained(folder / "text_encoder_2")
            tokens.save_pretrained(folder / "tokenizer_2")
    tokens.save_pretrained(folder / "tokenizer")
    prediction = "v_prediction" if kind == "sd2" else "epsilon"
    DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1,
        clip_sample=False, set_alpha_to_one=False, prediction_type=prediction,
    ).save_pretrained(folder / "scheduler")  # fmt: skip
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "StableDiffusionPipeline"}))
    return folder


def save_encoder(folder: Path, **settings: Any) -> Path:
    """Save a tiny autoencoder of the tiny Stable Diffusion's latents."""
    size = {"encoder_block_out_channels": (8,) * 3, "decoder_block_out_channels": (8,) * 3,
            "num_encoder_blocks": (1,) * 3, "num_decoder_blocks": (1,) * 3}  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(9)
        AutoencoderTiny(**{**size, **settings}).save_pretrained(folder)
    return folder


def save_vision(folder: Path, kind: str) -> Path:
    """Save a tiny vision transformer of kind "dinov2", "vit" or "clip"."""
    size = {
        "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
        "image_size": 32, "patch_size": 8,
    }  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        if kind == "dinov2":
            model = Dinov2Model(Dinov2Config(**size))
        elif kind == "vit":
            model = ViTModel(ViTConfig(**size, intermediate_size=64))
        else:
            tokens = tokenizer()
            text = text_config(tokens).to_dict()
            vision = {**size, "intermediate_size": 64, "projection_dim": 32}
            model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=32))
    model.save_pretrained(folder)
    statistics = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.25, 0.3]}
    (folder / "preprocessor_config.json").write_text(json.dumps(statistics))
    return folder


def save_captioner(folder: Path) -> Path:
    """Save a tiny random BLIP, its tokenizer and its image processor to a folder."""
    from transformers import (
        BertTokenizer,
        BlipConfig,
        BlipForConditionalGeneration,
        BlipImageProcessorPil,
    )

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "dog", "on", "grass", "[DEC]"]
    tokenizer = BertTokenizer(vocab={word: index for index, word in enumerate(words)})
    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    small["num_attention_heads"] = 2
    text = {
        **small,
        "vocab_size": len(words),
        "encoder_hidden_size": 16,
        "bos_token_id": 9,
        "sep_token_id": 3,
        "eos_token_id": 3,
        "pad_token_id": 0,
    }
    config = BlipConfig(
        text_config=text, vision_config={**small, "image_size": 16, "patch_size": 8}
    )
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = BlipForConditionalGeneration(config).eval()
    for part in (model, tokenizer, BlipImageProcessorPil(size={"height": 16, "width": 16})):
        part.save_pretrained(folder)
    return folder


def save_matcher(folder: Path) -> Path:
    """Save a tiny random CLIP, its tokenizer and its image processor to a folder."""
    from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

    letters = "abcdefghijklmnopqrstuvwxyz"
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), "do", "dog</w>"]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    start, end = len(tokens) - 2, len(tokens) - 1
    tokenizer = CLIPTokenizer(
        vocab=vocabulary, merges=[("d", "o"), ("do", "g</w>")], model_max_length=128
    )
    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    small["num_attention_heads"] = 2
    text = {**small, "vocab_size": len(tokens), "max_position_embeddings": 128}
    text |= {"bos_token_id": start, "eos_token_id": end, "pad_token_id": end}
    vision = {**small, "image_size": 16, "patch_size": 8}
    with torch.random.fork_rng():
        torch.manual_seed(2)
        config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)
        model = CLIPModel(config).eval()
    processor = CLIPImageProcessorPil(
        size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16}
    )
    for part in (model, tokenizer, processor):
        part.save_pretrained(folder)
    return folder
