"""Write trained models the way diffusers and transformers save theirs: fp16 safetensors."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline
from transformers import (
    BertTokenizer,
    BlipForConditionalGeneration,
    BlipImageProcessorPil,
    BlipProcessor,
    CLIPImageProcessorPil,
    CLIPModel,
    CLIPTokenizer,
)

from fslab.mini.train.augment import MEAN, STD
from fslab.mini.train.blip import SIDE
from fslab.mini.train.clip import IMAGE
from fslab.mini.train.unet import Diffusion, make_scheduler


def export_diffusion(folder: Path, net: Diffusion, vae: AutoencoderKL) -> None:
    """Save a Stable Diffusion pipeline: unet, vae, text_encoder, tokenizer, scheduler."""
    scheduler = DDIMScheduler.from_config(
        make_scheduler().config, set_alpha_to_one=False, steps_offset=1
    )
    pipeline = StableDiffusionPipeline(
        vae=vae,
        text_encoder=net.text,
        tokenizer=net.tokenizer,
        unet=net.unet,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.to(torch.float16).save_pretrained(folder)
    compute_in_single(folder / "text_encoder")


def export_clip(folder: Path, clip: CLIPModel, tokenizer: CLIPTokenizer) -> None:
    """Save CLIP, its tokenizer and its image processor."""
    clip.half().save_pretrained(folder)
    compute_in_single(folder)
    tokenizer.save_pretrained(folder)
    processor = CLIPImageProcessorPil(
        size={"shortest_edge": IMAGE},
        crop_size={"height": IMAGE, "width": IMAGE},
        image_mean=list(MEAN),
        image_std=list(STD),
    )
    processor.save_pretrained(folder)


def export_blip(folder: Path, blip: BlipForConditionalGeneration, tokenizer: BertTokenizer) -> None:
    """Save BLIP, its tokenizer and its image processor."""
    blip.half().save_pretrained(folder)
    compute_in_single(folder)
    size = {"height": SIDE, "width": SIDE}
    images = BlipImageProcessorPil(size=size, image_mean=list(MEAN), image_std=list(STD))
    BlipProcessor(images, tokenizer).save_pretrained(folder)


def compute_in_single(folder: Path) -> None:
    """Let a saved transformers model open in fp32 by default, as diffusers' own parts do.

    Its tensors stay fp16 on disk; left to itself it would open as fp16 and not fit the UNet.
    """
    path = folder / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | {"dtype": "float32"}, indent=2) + "\n")
