"""Tiny models of the text side with random weights, in the layouts of their checkpoints."""

from __future__ import annotations

import string
from pathlib import Path
from typing import Any

import torch
import transformers

SMALL = {
    "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
}  # fmt: skip
LETTERS = list(string.ascii_lowercase)
VISION = {**SMALL, "image_size": 16, "patch_size": 4}
SQUARE = {"height": 16, "width": 16}


def _saved(folder: Path, build: Any, *parts: Any) -> Path:
    """Save a model with weights large enough for every input to count, and its other parts."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = build().eval()
        for name, value in model.named_parameters():
            if value.ndim > 1 and "norm" not in name:
                torch.nn.init.normal_(value, std=2.0 if "encoder_attn" in name else 0.4)
    for part in (model, *parts):
        part.save_pretrained(folder)
    return folder


def save_siglip(folder: Path, **vision: Any) -> Path:
    """A SigLIP 2 of fixed resolution: the tokenizer that its checkpoints name is Gemma's."""
    from transformers import GemmaTokenizer, SiglipConfig, SiglipImageProcessorPil, SiglipModel

    words = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "▁", *LETTERS, *string.ascii_uppercase]
    words += ["do", "dog"]
    tokens = GemmaTokenizer(
        vocab={word: number for number, word in enumerate(words)},
        merges=[("d", "o"), ("do", "g")], add_bos_token=False, add_eos_token=True,
        padding_side="right", model_input_names=["input_ids"],
    )  # fmt: skip
    text = {**SMALL, "vocab_size": len(words), "max_position_embeddings": 64}
    text |= {"projection_size": 16, "bos_token_id": 2, "eos_token_id": 1, "pad_token_id": 0}
    config = SiglipConfig(text_config=text, vision_config={**VISION, **vision})

    def build() -> Any:
        model = SiglipModel(config)
        model.logit_scale.data.fill_(2.0)
        model.logit_bias.data.fill_(-1.5)
        return model

    return _saved(folder, build, tokens, SiglipImageProcessorPil(size=SQUARE))


def save_metaclip2(folder: Path) -> Path:
    from transformers import (
        CLIPImageProcessorPil,
        MetaClip2Config,
        MetaClip2Model,
        XLMRobertaTokenizer,
    )

    pieces = [(word, 0.0) for word in ("<s>", "<pad>", "</s>", "<unk>")] + [("▁", -3.0)]
    pieces += [(letter, -4.0) for letter in LETTERS] + [("▁dog", -1.0), ("<mask>", 0.0)]
    text = {**SMALL, "vocab_size": len(pieces), "max_position_embeddings": 77}
    text |= {"projection_dim": 8, "bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1}
    config = MetaClip2Config(text_config=text, vision_config=VISION, projection_dim=8)
    processor = CLIPImageProcessorPil(size={"shortest_edge": 16}, crop_size=SQUARE)
    tokens = XLMRobertaTokenizer(vocab=pieces)
    return _saved(folder, lambda: MetaClip2Model(config), tokens, processor)


def save_blip2(folder: Path, language: str) -> Path:
    """language: "opt" or "t5"."""
    from transformers import (
        Blip2Config,
        Blip2ForConditionalGeneration,
        Blip2Processor,
        BlipImageProcessorPil,
        GPT2Tokenizer,
        T5Tokenizer,
    )

    if language == "opt":
        words = ["<pad>", "</s>", *LETTERS, "Ġ", "do", "dog", "Ġdog"]
        tokens = GPT2Tokenizer(
            vocab={word: number for number, word in enumerate(words)},
            merges=[("d", "o"), ("do", "g"), ("Ġ", "dog")], add_bos_token=True,
            unk_token="</s>", bos_token="</s>", eos_token="</s>", pad_token="<pad>",
        )  # fmt: skip
        text: dict[str, Any] = {
            "hidden_size": 16, "ffn_dim": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
            "max_position_embeddings": 64, "word_embed_proj_dim": 16,
        }  # fmt: skip
    else:
        pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0), ("▁dog", -1.0)]
        pieces += [(letter, -4.0) for letter in LETTERS]
        tokens = T5Tokenizer(vocab=pieces, extra_ids=0)
        text = {"d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_heads": 2}
        text |= {"decoder_start_token_id": 0}
    processor = Blip2Processor(BlipImageProcessorPil(size=SQUARE), tokens, num_query_tokens=4)
    text |= {"model_type": language, "vocab_size": len(tokens)}
    text |= {"bos_token_id": 1, "eos_token_id": 1, "pad_token_id": 0}
    config = Blip2Config(
        vision_config=VISION, text_config=text, num_query_tokens=4,
        qformer_config={**SMALL, "vocab_size": 8, "encoder_hidden_size": 16},
        image_token_index=tokens.convert_tokens_to_ids("<image>"),
    )  # fmt: skip
    return _saved(folder, lambda: Blip2ForConditionalGeneration(config), processor)


def save_florence2(folder: Path) -> Path:
    from transformers import (
        CLIPImageProcessorPil,
        Florence2Config,
        Florence2ForConditionalGeneration,
        Florence2Processor,
        RobertaTokenizer,
    )

    words = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", "Ġ", *LETTERS, "W", "?", "<image>"]
    tokens = RobertaTokenizer(
        vocab={word: number for number, word in enumerate(words)}, merges=[],
        extra_special_tokens={"image_token": "<image>"},
    )  # fmt: skip
    vision = {
        "depths": (1, 1), "patch_size": (7, 3), "patch_stride": (4, 2), "patch_padding": (3, 1),
        "patch_prenorm": (False, True), "embed_dim": (8, 16), "num_heads": (2, 2),
        "num_groups": (2, 2), "window_size": 4, "projection_dim": 16,
        "max_position_embeddings": 10, "max_temporal_embeddings": 4,
    }  # fmt: skip
    text = {
        "model_type": "bart", "vocab_size": len(words), "d_model": 16, "encoder_layers": 1,
        "decoder_layers": 1, "encoder_attention_heads": 2, "decoder_attention_heads": 2,
        "encoder_ffn_dim": 16, "decoder_ffn_dim": 16, "max_position_embeddings": 128,
        "bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 2,
        "forced_bos_token_id": 0, "forced_eos_token_id": 2,
    }  # fmt: skip
    config = Florence2Config(
        vision_config=vision, text_config=text, image_token_id=words.index("<image>")
    )
    pictures = CLIPImageProcessorPil(
        size={"height": 32, "width": 32}, do_center_crop=False, image_seq_length=17
    )
    processor = Florence2Processor(pictures, tokens)
    return _saved(folder, lambda: Florence2ForConditionalGeneration(config), processor)


MATCHERS = {"siglip": save_siglip, "metaclip_2": save_metaclip2}
CAPTIONERS = {
    "blip-2 opt": lambda folder: save_blip2(folder, "opt"),
    "blip-2 t5": lambda folder: save_blip2(folder, "t5"),
    "florence2": save_florence2,
}


def classes(*names: str) -> list[Any]:
    """Return classes of transformers by name, as a plain script would take them."""
    return [getattr(transformers, name) for name in names]
