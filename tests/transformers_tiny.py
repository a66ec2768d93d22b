"""Tiny diffusion transformers with random weights, saved by their own pipelines."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderDC,
    AutoencoderKL,
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    PixArtAlphaPipeline,
    PixArtSigmaPipeline,
    PixArtTransformer2DModel,
    SanaPipeline,
    SanaTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
)
from models import VAE, text_config, tokenizer
from tokenizers.processors import TemplateProcessing
from transformers import (
    CLIPTextModel,
    CLIPTextModelWithProjection,
    Gemma2Config,
    Gemma2Model,
    GemmaTokenizer,
    T5Config,
    T5EncoderModel,
    T5TokenizerFast,
)

WORDS = ("a", "photo", "of", "dog", "cat", "grass", "and")


def t5(number: str = "", width: int = 32) -> dict[str, Any]:
    """Return a T5 encoder and its tokenizer as parts of a pipeline; number: "", "_2" or "_3"."""
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -9.0)]
    pieces += [(f"▁{word}", -2.0) for word in WORDS]
    pieces += [(letter, -8.0) for letter in "abcdefghijklmnopqrstuvwxyz"]
    config = T5Config(
        vocab_size=64, d_model=width, d_kv=8, d_ff=32, num_layers=1, num_heads=4,
        is_encoder_decoder=False, use_cache=False,
    )  # fmt: skip
    tokens = T5TokenizerFast(vocab=pieces, extra_ids=0)
    return {f"text_encoder{number}": T5EncoderModel(config), f"tokenizer{number}": tokens}


def clip(number: str = "", kind: Any = CLIPTextModelWithProjection) -> dict[str, Any]:
    """Return a CLIP text encoder and its tokenizer as parts of a pipeline."""
    tokens = tokenizer(WORDS)
    return {f"text_encoder{number}": kind(text_config(tokens)), f"tokenizer{number}": tokens}


def vae(channels: int = 4) -> AutoencoderKL:
    """Return a VAE whose latents are shifted and scaled, without quantising convolutions."""
    more = {"latent_channels": channels, "use_quant_conv": False, "use_post_quant_conv": False}
    return AutoencoderKL(**{**VAE, **more}, scaling_factor=0.6, shift_factor=0.1)


def sd3(**settings: Any) -> StableDiffusion3Pipeline:
    """Return a Stable Diffusion 3, or with dual attention and normalised queries a 3.5."""
    small = {
        "sample_size": 16, "patch_size": 2, "in_channels": 4, "out_channels": 4, "num_layers": 3,
        "attention_head_dim": 8, "num_attention_heads": 4, "caption_projection_dim": 32,
        "joint_attention_dim": 80, "pooled_projection_dim": 64, "pos_embed_max_size": 24,
    }  # fmt: skip
    return StableDiffusion3Pipeline(
        transformer=SD3Transformer2DModel(**{**small, **settings}), vae=vae(),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        **clip(), **clip("_2"), **t5("_3", 80),
    )  # fmt: skip


def sd35() -> StableDiffusion3Pipeline:
    """Return a Stable Diffusion 3.5 (medium)."""
    return sd3(dual_attention_layers=(0, 1), qk_norm="rms_norm")


def flux(guidance: bool = True) -> FluxPipeline:
    """Return a FLUX.1: dev, which is told the guidance, or schnell."""
    transformer = FluxTransformer2DModel(
        patch_size=1, in_channels=16, num_layers=2, num_single_layers=2, attention_head_dim=16,
        num_attention_heads=2, joint_attention_dim=32, pooled_projection_dim=32,
        axes_dims_rope=(4, 4, 8), guidance_embeds=guidance,
    )  # fmt: skip
    return FluxPipeline(
        transformer=transformer, vae=vae(), scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        **clip(kind=CLIPTextModel), **t5("_2"),
    )  # fmt: skip


def schnell() -> FluxPipeline:
    """Return a FLUX.1 schnell."""
    return flux(guidance=False)


def pixart(kind: Any = PixArtSigmaPipeline, size: int = 16) -> Any:
    """Return a PixArt; of size 128, and told the picture's size, alpha's for 1,024 pixels."""
    transformer = PixArtTransformer2DModel(
        sample_size=size, num_layers=3, attention_head_dim=8, num_attention_heads=3,
        cross_attention_dim=24, caption_channels=32, use_additional_conditions=size == 128,
    )  # fmt: skip
    betas = {"beta_start": 0.0001, "beta_end": 0.02, "beta_schedule": "linear"}
    return kind(
        transformer=transformer, vae=vae(), scheduler=DPMSolverMultistepScheduler(**betas), **t5()
    )


def sana() -> SanaPipeline:
    """Return a Sana, whose autoencoder has no posterior and whose self-attention is linear."""
    transformer = SanaTransformer2DModel(
        in_channels=4, out_channels=4, sample_size=8, num_layers=3, num_attention_heads=2,
        attention_head_dim=12, num_cross_attention_heads=3, cross_attention_head_dim=8,
        cross_attention_dim=24, caption_channels=16,
    )  # fmt: skip
    sides = {
        "block_types": ("ResBlock", "ResBlock", "EfficientViTBlock", "EfficientViTBlock"),
        "block_out_channels": (8, 8, 16, 16), "layers_per_block": (1,) * 4,
        "qkv_multiscales": ((), (), (5,), (5,)),
    }  # fmt: skip
    autoencoder = AutoencoderDC(
        latent_channels=4, attention_head_dim=2, scaling_factor=0.4,
        downsample_block_type="conv", upsample_block_type="interpolate",
        **{f"{side}_{key}": each for side in ("encoder", "decoder") for key, each in sides.items()},
    )  # fmt: skip
    scheduler = DPMSolverMultistepScheduler(
        use_flow_sigmas=True, prediction_type="flow_prediction", flow_shift=3.0
    )
    return SanaPipeline(transformer=transformer, vae=autoencoder, scheduler=scheduler, **gemma())


def gemma() -> dict[str, Any]:
    """Return a Gemma 2 and its tokenizer, which puts a start token before a text, as parts."""
    marks = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "▁", *map(chr, range(32, 127)), "\n"]
    tokens = GemmaTokenizer(vocab={word: place for place, word in enumerate(marks)}, merges=[])
    tokens._tokenizer.post_processor = TemplateProcessing(
        single="<bos> $A", special_tokens=[("<bos>", tokens.bos_token_id)]
    )
    config = Gemma2Config(
        vocab_size=len(tokens), hidden_size=16, intermediate_size=32, num_hidden_layers=2,
        head_dim=8, num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=2048,
    )  # fmt: skip
    return {"text_encoder": Gemma2Model(config), "tokenizer": tokens}


KINDS: dict[str, Callable[[], Any]] = {
    "sd3": sd3, "sd35": sd35, "flux": flux, "schnell": schnell,
    "pixart-alpha": partial(pixart, PixArtAlphaPipeline, 128), "pixart-sigma": pixart,
    "sana": sana,
}  # fmt: skip


def save(folder: Path, kind: str) -> Path:
    """Save a tiny model of a kind, the same weights each time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(11)
        KINDS[kind]().save_pretrained(folder)
    return folder
