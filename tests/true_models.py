"""Stable Diffusion, BLIP and CLIP in true configurations with random weights, as fp16 files."""

from __future__ import annotations

from pathlib import Path

import torch
from bench.true import TEXT, TEXT_21, UNET, UNET_21, VAE
from models import tokenizer

KINDS = {"sd1": (UNET, TEXT, "epsilon"), "sd21": (UNET_21, TEXT_21, "v_prediction")}
SCHEDULE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
TOKENS = {"vocab_size": 49408, "bos_token_id": 49406, "eos_token_id": 49407}


def save_diffusion(place: Path, kind: str = "sd1", **smaller: dict) -> Path:
    """Save a Stable Diffusion; smaller: settings of "unet", "vae" or "text" to change."""
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    (unet, text, prediction), tokens = KINDS[kind], tokenizer()
    unet, vae = {**unet, **smaller.get("unet", {})}, {**VAE, **smaller.get("vae", {})}
    text = {**text, **TOKENS, **smaller.get("text", {})}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        UNet2DConditionModel(**unet).half().save_pretrained(place / "unet")
        AutoencoderKL(**vae).half().save_pretrained(place / "vae")
        CLIPTextModel(CLIPTextConfig(**text)).half().save_pretrained(place / "text_encoder")
    tokens.model_max_length = text["max_position_embeddings"]
    tokens.save_pretrained(place / "tokenizer")
    schedule = DDIMScheduler(**SCHEDULE, prediction_type=prediction)
    schedule.save_pretrained(place / "scheduler")
    return place


def save_captioner(place: Path, words: tuple[str, ...]) -> Path:
    """Save BLIP base; a bias makes it say some of the words, over and over."""
    from transformers import (
        BertTokenizer,
        BlipConfig,
        BlipForConditionalGeneration,
        BlipImageProcessorPil,
    )

    known = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]
    known += [f"[unused{number}]" for number in range(30523 - len(known))] + ["[DEC]"]
    text = {"num_attention_heads": 12, "bos_token_id": 30523, "sep_token_id": 3, "eos_token_id": 3}
    config = BlipConfig(text_config=text, vision_config={"image_size": 384})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = BlipForConditionalGeneration(config)
    with torch.no_grad():
        model.text_decoder.cls.predictions.bias[5 : 5 + len(words)] += 50
    model.half().save_pretrained(place)
    BertTokenizer(vocab={word: at for at, word in enumerate(known)}).save_pretrained(place)
    BlipImageProcessorPil(size={"height": 384, "width": 384}).save_pretrained(place)
    return place


def save_matcher(place: Path, patch_size: int = 32) -> Path:
    """Save CLIP ViT-B/32: the configuration that transformers has as its default, or ViT-B/16."""
    from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        model = CLIPModel(CLIPConfig(text_config=TOKENS, vision_config={"patch_size": patch_size}))
    tokens = tokenizer()
    tokens.model_max_length = 77
    for part in (model.half(), tokens, CLIPImageProcessorPil()):
        part.save_pretrained(place)
    return place
