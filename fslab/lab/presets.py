"""Which models work together: one table, from the bundled ones to the paper's."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from fslab.parts import offer
from fslab.records import FslabError
from fslab.weights import name_of, place_of, source_of
from fslab.weights.single import check_single_file, is_single_file
from fslab.weights.sources import (
    BLIP,
    CLIP,
    FLUX_DEV,
    FLUX_SCHNELL,
    PIXART_ALPHA,
    PIXART_SIGMA,
    SANA_600M,
    SANA_1600M,
    SD3_MEDIUM,
    SD14,
    SD15,
    SD21,
    SD35_LARGE,
    SD35_MEDIUM,
    SDXL,
    SSD1B,
    Source,
    is_hub_id,
    preset_with,
)


@dataclass(frozen=True)
class Preset:
    """A set of models and the defaults that fit them.

    diffusion, captioner, clip: a hub id or a folder, of the last two None for none. resolution:
    the shorter side in pixels, None for the model's own. layers: patterns, empty for the paper's
    rule (cross-attention queries at their coarsest stride). words: whose text states compare
    nouns with classes: the diffusion model's text encoder, which for SD 1.x is a CLIP, or the
    preset's CLIP, where the diffusion model's encoder is not a CLIP, as mini's, which was trained
    with its UNet. prompt: what the captions that the captioner was trained on begin with.
    gigabytes: of all weights on disk; memory: of the weights in fp16 while they are loaded, twice
    as much in fp32; both by parameter count.
    """

    name: str
    diffusion: str
    captioner: str | None = BLIP.id
    clip: str | None = CLIP.id
    resolution: int | None = None
    layers: tuple[str, ...] = ()
    timestep: int = 0
    words: Literal["diffusion", "clip"] = "diffusion"
    prompt: str = "a picture of "
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

DIFFCUT_LAYERS = ("down_blocks.2.attentions.1.transformer_blocks.*.attn1",)
"""The encoder's last self-attention, as DiffCut reads it: at 32 px a cell, for SDXL's types."""

TRANSFORMERS_TIMESTEP = 260
"""Where DiTF (Gan et al. 2025) reads FLUX.1, of 1,000."""


def _transformer(name: str, source: Source) -> Preset:
    """Return the preset of a diffusion transformer, which is read where its family says.

    Its text encoders are large, so nouns and classes are compared by CLIP.
    """
    beside, halved, decoder = 1.6, 0.8, 0.1  # gigabytes of BLIP and CLIP, in fp16, of the VAE
    return Preset(
        name, source.id, timestep=TRANSFORMERS_TIMESTEP, words="clip",
        gigabytes=round(source.gigabytes + beside, 1),
        memory=round(source.gigabytes + halved - decoder, 1), licence=source.licence,
    )  # fmt: skip


PRESETS = {
    preset.name: preset
    for preset in (
        Preset(
            "mini", _bundled("stable-diffusion"), _bundled("blip"), _bundled("clip"),
            layers=("down_blocks.1.attentions.*.attn2.to_q", "up_blocks.1.attentions.*.attn2.to_q"),
            words="clip", prompt="a photo of ", gigabytes=0.024, memory=0.023,
            licence="Apache-2.0; drawn from CC-BY and MIT designs too",
        ),
        Preset(
            "sd14", SD14.id, layers=PAPER_LAYERS,
            gigabytes=5.9, memory=2.8, licence=SD14.licence,
        ),
        Preset(
            "sd15", SD15.id, layers=PAPER_LAYERS,
            gigabytes=5.9, memory=2.8, licence=SD14.licence,
        ),
        Preset(
            "sd21", SD21.id, layers=PAPER_LAYERS,
            gigabytes=6.8, memory=3.2, licence=SD21.licence,
        ),
        Preset(
            "sdxl", SDXL.id, timestep=50, layers=DIFFCUT_LAYERS,
            gigabytes=8.5, memory=7.6, licence=SDXL.licence,
        ),
        Preset(
            "ssd1b", SSD1B.id, timestep=50,
            layers=DIFFCUT_LAYERS,
            gigabytes=10.3, memory=5.0, licence=SSD1B.licence,
        ),
        Preset(
            "pixart-alpha", PIXART_ALPHA.id, timestep=50, words="clip",
            gigabytes=23.4, memory=11.6, licence=PIXART_ALPHA.licence,
        ),
        Preset(
            "pixart-sigma", PIXART_SIGMA.id, timestep=50, words="clip",
            gigabytes=23.4, memory=11.6, licence=PIXART_SIGMA.licence,
        ),
        Preset(
            "sana-600m", SANA_600M.id, timestep=50, words="clip",
            gigabytes=10.5, memory=7.5, licence=SANA_600M.licence,
        ),
        Preset(
            "sana-1600m", SANA_1600M.id, timestep=50, words="clip",
            gigabytes=11.3, memory=9.5, licence=SANA_1600M.licence,
        ),
        _transformer("sd3-medium", SD3_MEDIUM),
        _transformer("sd35-medium", SD35_MEDIUM),
        _transformer("sd35-large", SD35_LARGE),
        _transformer("flux-dev", FLUX_DEV),
        _transformer("flux-schnell", FLUX_SCHNELL),
    )
}  # fmt: skip
"""The sets of models that have a name of their own."""


def default_preset() -> str:
    """Return the preset of whoever names none: the environment's FSLAB_PRESET, else "mini".

    Raises FslabError where that variable names neither a preset nor a folder nor a hub id.
    """
    name = os.environ.get(DEFAULT, "").strip()
    if not name:
        return "mini"
    try:
        find_preset(name)
    except FslabError as error:
        raise FslabError(f"the environment variable {DEFAULT} is {name!r}: {error}") from error
    return name


DEFAULT = "FSLAB_PRESET"
"""The environment variable that names the default preset."""


def find_preset(source: str | os.PathLike[str]) -> Preset:
    """Return a preset by name, or one around a folder, a file or a hub id.

    The id of a preset's own diffusion model, or of a mirror of it, has that preset's settings.
    Raises FslabError for any other name; it offers the nearest presets.
    """
    name = os.fspath(source)
    if name in PRESETS:
        return PRESETS[name]
    folder = Path(name).expanduser()
    if name.strip() and folder.exists():
        folder = Path(os.path.abspath(folder))
    if name.strip() and is_single_file(name):
        check_single_file(folder)
        beside = _around(folder.parent, folder.stem, str(folder))
        return replace(beside, words="diffusion")
    if name.strip() and folder.is_dir():
        return _known(name_of(folder), str(folder)) or _around(folder, name_of(folder), str(folder))
    if is_hub_id(name):
        place = place_of(source_of(name, "backbone"))
        unknown = _around(place.folder, name, name) if place else Preset(name, name)
        return _known(name, name) or unknown
    raise FslabError(f"there is no preset and no folder {name!r}; {offer(name, PRESETS)}")


def _known(name: str, diffusion: str) -> Preset | None:
    """Return the settings of the preset whose diffusion model has an id, if one has."""
    known = preset_with(source_of(name, "diffusion")) if is_hub_id(name) else None
    return replace(PRESETS[known], name=name, diffusion=diffusion) if known else None


def _around(folder: Path, name: str, diffusion: str) -> Preset:
    parts: dict[str, Any] = {
        part: str(folder / sub) for part, sub in _TEXT_SIDE if (folder / sub).is_dir()
    }
    words: Literal["diffusion", "clip"]
    whole = (folder / "unet").is_dir() and (folder / "text_encoder").is_dir()
    words = "diffusion" if whole else "clip"
    return replace(Preset(name, diffusion, words=words), **parts)


_TEXT_SIDE = (("captioner", "blip"), ("clip", "clip"))
