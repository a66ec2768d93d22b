"""Tiny diffusion transformers that language models read prompts for, saved by their pipelines."""

from __future__ import annotations

import string
from typing import Any

import torch
from diffusers import (
    AutoencoderKLFlux2,
    AutoencoderKLQwenImage,
    FlowMatchEulerDiscreteScheduler,
    Flux2KleinPipeline,
    Flux2Transformer2DModel,
    Lumina2Pipeline,
    Lumina2Transformer2DModel,
    QwenImagePipeline,
    QwenImageTransformer2DModel,
    ZImagePipeline,
    ZImageTransformer2DModel,
)
from models import VAE
from transformers import (
    Gemma2Config,
    Gemma2Model,
    GemmaTokenizer,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2Tokenizer,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3Model,
)
from transformers_tiny import vae

CHAT = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LANGUAGE = {
    "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2,
    "num_key_value_heads": 1, "head_dim": 16,
}  # fmt: skip


def words(chat: str | None = None) -> Qwen2Tokenizer:
    """Return a tokenizer of letters and a few words."""
    symbols = [*string.ascii_letters, *string.digits, *string.punctuation, "Ġ", "Ċ"]
    symbols += ["do", "dog", "ca", "cat", "Ġdog", "Ġcat"]
    merges = [("d", "o"), ("do", "g"), ("c", "a"), ("ca", "t"), ("Ġ", "dog"), ("Ġ", "cat")]
    found = Qwen2Tokenizer(
        vocab={symbol: number for number, symbol in enumerate(symbols)}, merges=merges,
        unk_token="<|endoftext|>", pad_token="<|endoftext|>", eos_token="<|im_end|>",
        extra_special_tokens=["<|im_start|>"],
    )  # fmt: skip
    found.chat_template = chat
    return found


def qwen_image() -> QwenImagePipeline:
    tokens = words()
    text = {
        **LANGUAGE,
        "vocab_size": 128,
        "rope_scaling": {"type": "mrope", "mrope_section": [2, 3, 3]},
    }
    vision = {
        "depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2,
        "out_hidden_size": 32, "patch_size": 14, "fullatt_block_indexes": [0],
    }  # fmt: skip
    config = Qwen2_5_VLConfig(text_config=text, vision_config=vision)
    transformer = QwenImageTransformer2DModel(
        in_channels=16, out_channels=4, num_layers=2, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=32, axes_dims_rope=(4, 6, 6),
    )  # fmt: skip
    autoencoder = AutoencoderKLQwenImage(
        base_dim=8, z_dim=4, dim_mult=[1, 1, 1], num_res_blocks=1, temperal_downsample=[False, True],
        latents_mean=[0.1, -0.2, 0.3, 0.0], latents_std=[0.5, 1.5, 2.0, 0.7],
    )  # fmt: skip
    return QwenImagePipeline(
        transformer=transformer, vae=autoencoder, tokenizer=tokens,
        text_encoder=Qwen2_5_VLForConditionalGeneration(config),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
    )  # fmt: skip


def z_image() -> ZImagePipeline:
    transformer = ZImageTransformer2DModel(
        in_channels=4, dim=32, n_layers=2, n_refiner_layers=1, n_heads=2, n_kv_heads=2,
        cap_feat_dim=32, axes_dims=[4, 6, 6], axes_lens=[1024, 160, 160],
    )  # fmt: skip
    return ZImagePipeline(
        transformer=transformer, vae=vae(), tokenizer=words(CHAT),
        text_encoder=Qwen3Model(Qwen3Config(**LANGUAGE, vocab_size=128)),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
    )  # fmt: skip


def flux2() -> Flux2KleinPipeline:
    transformer = Flux2Transformer2DModel(
        in_channels=16, num_layers=2, num_single_layers=2, attention_head_dim=16,
        num_attention_heads=2, joint_attention_dim=96, axes_dims_rope=(4, 4, 4, 4),
        timestep_guidance_channels=16, guidance_embeds=False,
    )  # fmt: skip
    autoencoder = AutoencoderKLFlux2(**VAE)
    torch.nn.init.normal_(autoencoder.bn.running_mean)
    torch.nn.init.uniform_(autoencoder.bn.running_var, 0.1, 2.0)
    text = Qwen3Config(**{**LANGUAGE, "num_hidden_layers": 28}, vocab_size=128)
    return Flux2KleinPipeline(
        transformer=transformer, vae=autoencoder, tokenizer=words(CHAT),
        text_encoder=Qwen3ForCausalLM(text),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0), is_distilled=True,
    )  # fmt: skip


def lumina2() -> Lumina2Pipeline:
    symbols = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "▁", *string.ascii_letters, "-", "."]
    symbols += ["<", ">", "do", "dog", "ca", "cat"]
    tokens = GemmaTokenizer(
        vocab={symbol: number for number, symbol in enumerate(symbols)},
        merges=[("d", "o"), ("do", "g"), ("c", "a"), ("ca", "t")],
    )  # fmt: skip
    transformer = Lumina2Transformer2DModel(
        sample_size=16, patch_size=2, in_channels=4, hidden_size=24, num_layers=2,
        num_refiner_layers=1, num_attention_heads=3, num_kv_heads=1, multiple_of=16,
        axes_dim_rope=(4, 2, 2), axes_lens=(300, 32, 32), cap_feat_dim=32,
    )  # fmt: skip
    return Lumina2Pipeline(
        transformer=transformer, vae=vae(), tokenizer=tokens,
        text_encoder=Gemma2Model(Gemma2Config(**LANGUAGE, vocab_size=128)),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=6.0),
    )  # fmt: skip


KINDS: dict[str, Any] = {
    "qwen-image": qwen_image, "z-image": z_image, "flux2": flux2, "lumina2": lumina2,
}  # fmt: skip
