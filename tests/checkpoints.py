"""Tiny Stable Diffusions in one file, by the first releases' names: diffusers' names turned round."""

from __future__ import annotations

import json
import re
import struct
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

PARTS = ("unet", "vae", "text_encoder", "text_encoder_2")
RESNET = {
    "norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0", "conv2": "out_layers.3", "conv_shortcut": "skip_connection",
}  # fmt: skip
ENDS = {
    "time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0", "add_embedding.linear_2": "label_emb.0.2",
    "conv_in": "input_blocks.0.0", "conv_norm_out": "out.0", "conv_out": "out.2",
}  # fmt: skip
ATTENTION = {
    "group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out",
}  # fmt: skip
OPEN = {
    "embeddings.token_embedding.weight": "token_embedding.weight",
    "embeddings.position_embedding.weight": "positional_embedding",
    "final_layer_norm.weight": "ln_final.weight", "final_layer_norm.bias": "ln_final.bias",
}  # fmt: skip
LAYER = {
    "layer_norm1": "ln_1", "layer_norm2": "ln_2", "self_attn.out_proj": "attn.out_proj",
    "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj",
}  # fmt: skip


def save_checkpoint(folder: Path, path: Path, kind: str, **more: Tensor) -> Path:
    """Write a folder in diffusers format as one file of kind "sd1", "sd2" or "sdxl"."""
    parts = [part for part in PARTS if (folder / part).is_dir()]
    tensors = first_names(
        {part: _weights(folder / part) for part in parts},
        {part: json.loads((folder / part / "config.json").read_text()) for part in parts[:2]},
        kind,
    )
    whole = {name: value.contiguous().clone() for name, value in (tensors | more).items()}
    save_file(whole, path)
    return path


def save_hollow(parts: dict[str, dict], configs: dict[str, dict], path: Path, kind: str) -> Path:
    """Write a file of true size of which only the header is on the disk, from tensors on meta."""
    entries, end = {}, 0
    for name, value in first_names(parts, configs, kind).items():
        start, end = end, end + 2 * value.numel()
        entries[name] = {"dtype": "F16", "shape": list(value.shape), "data_offsets": [start, end]}
    header = json.dumps(entries).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        file.truncate(8 + len(header) + end)
    return path


def first_names(parts: dict[str, dict], configs: dict[str, dict], kind: str) -> dict[str, Tensor]:
    """Return all parts' tensors by the names that the first releases gave them."""
    unet, layers = parts["unet"], configs["unet"]["layers_per_block"]
    tensors = {f"model.diffusion_model.{_unet_name(k, layers)}": v for k, v in unet.items()}
    blocks = len(configs["vae"]["block_out_channels"])
    tensors |= {f"first_stage_model.{k}": v for k, v in _vae(parts["vae"], blocks).items()}
    first = {k.removeprefix("text_model."): v for k, v in parts["text_encoder"].items()}
    plain = {f"text_model.{name}": value for name, value in first.items()}
    if kind == "sd1":
        tensors |= {f"cond_stage_model.transformer.{k}": v for k, v in plain.items()}
    elif kind == "sd2":
        tensors |= {f"cond_stage_model.model.{k}": v for k, v in _open_clip(first).items()}
    else:
        tensors |= {f"conditioner.embedders.0.transformer.{k}": v for k, v in plain.items()}
        names = {k.removeprefix("text_model."): v for k, v in parts["text_encoder_2"].items()}
        tensors |= {f"conditioner.embedders.1.model.{k}": v for k, v in _open_clip(names).items()}
    return tensors


def _weights(folder: Path) -> dict[str, Tensor]:
    return load_file(next(folder.glob("*.safetensors")))


def _unet_name(name: str, layers: int) -> str:
    for ours, theirs in ENDS.items():
        if name.startswith(f"{ours}."):
            return name.replace(ours, theirs)
    found = re.match(r"(down|up|mid)_block(?:s\.(\d+))?\.(\w+?)s\.(\d+)\.(.*)", name)
    side, block, what, number, rest = found.groups()
    number, block = int(number), int(block or 0)
    if what == "resnet":
        rest = re.sub(r"^\w+", lambda each: RESNET[each[0]], rest)
    if side == "mid":
        return f"middle_block.{1 if what == 'attention' else 2 * number}.{rest}"
    if what == "downsampler":
        return f"input_blocks.{(block + 1) * (layers + 1)}.0.{rest.replace('conv', 'op')}"
    place = 0 if what == "resnet" else 1
    if side == "down":
        return f"input_blocks.{1 + block * (layers + 1) + number}.{place}.{rest}"
    if what == "upsampler":
        return f"output_blocks.{block * (layers + 1) + layers}.2.{rest}"
    return f"output_blocks.{block * (layers + 1) + number}.{place}.{rest}"


def _vae(weights: dict[str, Tensor], blocks: int) -> dict[str, Tensor]:
    last, found = blocks - 1, {}
    for name, value in weights.items():
        new = name.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")
        new = re.sub(r"down_blocks\.(\d+)\.resnets\.", r"down.\1.block.", new)
        new = re.sub(r"down_blocks\.(\d+)\.downsamplers\.0", r"down.\1.downsample", new)
        up = lambda each: f"up.{last - int(each[1])}.block."  # noqa: E731
        new = re.sub(r"up_blocks\.(\d+)\.resnets\.", up, new)
        sampler = lambda each: f"up.{last - int(each[1])}.upsample"  # noqa: E731
        new = re.sub(r"up_blocks\.(\d+)\.upsamplers\.0", sampler, new)
        new = re.sub(r"mid_block\.resnets\.(\d)", lambda each: f"mid.block_{int(each[1]) + 1}", new)
        if "mid_block.attentions.0" in new:
            for ours, theirs in ATTENTION.items():
                new = new.replace(f"attentions.0.{ours}.", f"attentions.0.{theirs}.")
            new = new.replace("mid_block.attentions.0", "mid.attn_1")
            value = value[:, :, None, None] if value.ndim == 2 else value
        found[new] = value
    return found


def _open_clip(names: dict[str, Tensor]) -> dict[str, Tensor]:
    """Turn a CLIP text encoder's names into OpenCLIP's, queries, keys and values in one tensor."""
    like = next(iter(names.values()))
    found: dict[str, Tensor] = {"logit_scale": torch.ones((), device=like.device)}
    for name, value in names.items():
        if name in OPEN:
            found[OPEN[name]] = value
        elif name == "text_projection.weight":
            found["text_projection"] = value.T
        elif layer := re.match(r"encoder\.layers\.(\d+)\.(.+)\.(weight|bias)$", name):
            place, part, kind = f"transformer.resblocks.{layer[1]}", layer[2], layer[3]
            if part in LAYER:
                found[f"{place}.{LAYER[part]}.{kind}"] = value
            elif part == "self_attn.q_proj":
                parts = [names[name.replace("q_proj", f"{each}_proj")] for each in "qkv"]
                found[f"{place}.attn.in_proj_{kind}"] = torch.cat(parts)
    return found
