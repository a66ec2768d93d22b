"""A Stable Diffusion in one file, as web interfaces keep it: told apart, checked, loaded in parts.

The tensors bear the names of the first releases (CompVis' latent diffusion); diffusers' own
single-file loader gives them its names, by configurations that ship with fslab, so that nothing is
asked of a network. Until a part is loaded only the file's header is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fslab.backbones.adapters import adapter_tensor
from fslab.backbones.weights import UNBUILT, building
from fslab.records import FslabError
from fslab.weights.single import check_single_file
from fslab.weights.trust import check_numbers, read_config, read_header

CONFIGURATIONS = Path(str(files("fslab"))) / "backbones" / "configurations"
UNET, VAE = "model.diffusion_model.", "first_stage_model."
TEXT = {
    "sd1": {"text_encoder": "cond_stage_model.transformer."},
    "sd2": {"text_encoder": "cond_stage_model.model."},
    "sdxl": {
        "text_encoder": "conditioner.embedders.0.transformer.",
        "text_encoder_2": "conditioner.embedders.1.model.",
    },
}
"""Kind of model -> what the names of each of its text encoders begin with."""
PADS = {
    "sd1": {"tokenizer": "<|endoftext|>"},
    "sd2": {"tokenizer": "!"},
    "sdxl": {"tokenizer": "<|endoftext|>", "tokenizer_2": "!"},
}
"""What each tokenizer fills a prompt up with; the files say no word of it."""
TRAINING = (
    "model_ema.", "alphas_cumprod", "betas", "sqrt_", "log_one_minus_", "posterior_",
    "logvar", "lvlb_weights", "global_step", "epoch", "denoiser.", "v_pred", "ztsnr",
    "first_stage_model.loss.", "scale_factor",
)  # fmt: skip
"""Tensors that training leaves: schedules, and averaged weights, which diffusers leaves too."""
NAMES = {"sd1": "Stable Diffusion 1.x", "sd2": "Stable Diffusion 2.x", "sdxl": "SDXL"}
OTHERS = {
    "joint_blocks.": "Stable Diffusion 3", "double_blocks.": "Flux", "single_blocks.": "Flux",
    "control_model.": "a ControlNet", "controlnet_": "a ControlNet",
    "motion_modules.": "AnimateDiff",
    "clip_txt_mapper.": "Stable Cascade", "transformer_blocks.": "a diffusion transformer",
}  # fmt: skip


class Checkpoint:
    """One file of a Stable Diffusion 1.x, 2.x or SDXL.

    path: the file. kind: "sd1", "sd2" or "sdxl". Raises FslabError for a file that is not whole,
    of another model, or with tensors that no part of the model has a use for.
    """

    def __init__(self, path: Path) -> None:
        check_single_file(path)
        self.path = path
        self._header = read_header(path)
        self.kind = _kind(path, self._header)
        check_numbers(path, self._header)
        self._check_used()

    def config(self, part: str) -> dict[str, Any]:
        """Return the configuration of a part: "unet", "vae", "scheduler" or a text encoder."""
        name = "scheduler_config.json" if part == "scheduler" else "config.json"
        config = read_config(CONFIGURATIONS / self.kind / part, name)
        zero_snr = part == "scheduler" and "ztsnr" in self._header
        return {**config, "rescale_betas_zero_snr": True} if zero_snr else config

    @property
    def parts(self) -> tuple[str, ...]:
        """The parts that hold weights."""
        return ("unet", "vae", *TEXT[self.kind])

    @property
    def pads(self) -> Mapping[str, str]:
        """What each tokenizer of the model fills a prompt up with."""
        return PADS[self.kind]

    def load(self, part: str, dtype: torch.dtype) -> Any:
        """Load one part's tensors by diffusers' own loader, ready for inference.

        Raises FslabError where the file does not hold what the part needs.
        """
        from safetensors import safe_open

        prefix = self._prefix(part)
        with safe_open(self.path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in self._names(part)}
        try:
            with building():
                model = _build(part, self.kind, tensors)
        except UNBUILT as error:
            reason = " ".join(str(error).split())
            raise FslabError(f"{self.path} does not fit a {NAMES[self.kind]}: {reason}") from error
        empty = [name for name, value in model.named_parameters() if value.is_meta]
        if empty:
            raise FslabError(f"{self.path} lacks {min(empty)} of its {prefix}*")
        return nn.Module.to(model, dtype).eval()  # diffusers' own `to` warns of parts it has not

    def check_fits(self, part: str, wanted: Mapping[str, tuple[int, ...]]) -> None:
        """Refuse a UNet or VAE of other tensors than its configuration's, by the header alone.

        wanted: shapes by diffusers' names.
        """
        given: dict[str, Tensor] = {}
        try:
            with torch.device("meta"):
                for name in self._names(part):
                    given[name] = torch.empty(self._header[name]["shape"])
            found = _renamed(part, self.config(part), given)
        except UNBUILT as error:
            reason = " ".join(str(error).split())
            raise FslabError(f"{self.path} does not fit a {NAMES[self.kind]}: {reason}") from error
        kept = {id(value) for value in found.values()}
        left = [name for name, value in given.items() if id(value) not in kept]
        left = [name for name in left if ".attn_1." not in name]  # reshaped, so not the same object
        shapes = {name: tuple(value.shape) for name, value in found.items()}
        wrong = [name for name in wanted if shapes.get(name) != tuple(wanted[name])]
        if left or wrong or len(found) != len(wanted):
            other = min(left or wrong or set(shapes) - set(wanted))
            raise FslabError(
                f"{self.path} does not fit a {NAMES[self.kind]}: {other} is missing, left over or "
                "of another shape; give a smaller or larger model as a folder in diffusers format"
            )

    def _names(self, part: str) -> list[str]:
        prefix = self._prefix(part)
        return [
            name
            for name in self._header
            if name.startswith(prefix) and not name.startswith(TRAINING)
        ]

    def _prefix(self, part: str) -> str:
        return {"unet": UNET, "vae": VAE, **TEXT[self.kind]}[part]

    def _check_used(self) -> None:
        """Refuse tensors outside of the model's parts, such as an adapter's or a control net's."""
        adapter = adapter_tensor(self._header)
        prefixes = (*map(self._prefix, self.parts), *TRAINING)
        beside = next((name for name in sorted(self._header) if not name.startswith(prefixes)), "")
        found = adapter or beside
        if found:
            what = "an adapter" if adapter else "a tensor that is not part of the model"
            raise FslabError(f"{self.path} holds {what} ({found}), which fslab would leave out")
        for part in self.parts:
            if not self._names(part):
                raise FslabError(
                    f"{self.path} holds no {self._prefix(part)}*; give a file with the whole model"
                )


def _kind(path: Path, header: Mapping[str, Any]) -> str:
    if UNET + "input_blocks.0.0.weight" not in header:
        raise FslabError(f"{path} {_what_else(header)}")
    if "edm_mean" in header:
        raise FslabError(
            f"{path} is a Playground v2.5, whose noise is EDM's; fslab adds that of DDPM"
        )
    if any(name.startswith("conditioner.embedders.0.model.") for name in header):
        raise FslabError(
            f"{path} is an SDXL refiner, whose passes need an aesthetic score; give SDXL"
        )
    shape = header[UNET + "input_blocks.0.0.weight"]["shape"]
    channels = shape[1] if len(shape) == 4 else f"{shape} in place of"
    if channels != 4:
        raise FslabError(
            f"the UNet of {path} takes {channels} channels: UNets that see a mask or another "
            "picture beside the latent, for inpainting or editing, are not read"
        )
    for kind, prefixes in TEXT.items():
        if all(any(name.startswith(prefix) for name in header) for prefix in prefixes.values()):
            return kind
    raise FslabError(
        f"{path} holds no text encoder of Stable Diffusion 1.x, 2.x or SDXL; give a file with the "
        "whole model"
    )


def _what_else(header: Mapping[str, Any]) -> str:
    """Say what a file without a UNet of the first releases' names is, and what to do."""
    adapter = adapter_tensor(dict(header))
    if adapter:
        return (
            f"holds an adapter ({adapter}) and no model; merge it into its model and give that "
            "(diffusers: load_lora_weights, fuse_lora, save_pretrained)"
        )
    if {"conv_in.weight", "conv_out.weight", "time_embedding.linear_1.weight"} <= header.keys():
        return (
            "is a UNet alone, as diffusers keeps it; put it into a folder in diffusers format, as "
            "unet/diffusion_pytorch_model.safetensors"
        )
    for mark, name in OTHERS.items():
        if any(mark in key for key in header):
            return f"is {name}; fslab reads Stable Diffusion 1.x, 2.x and SDXL"
    return "holds no Stable Diffusion 1.x, 2.x or SDXL (no model.diffusion_model.*)"


def _renamed(part: str, config: dict[str, Any], tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    from diffusers.loaders import single_file_utils

    convert = {
        "unet": single_file_utils.convert_ldm_unet_checkpoint,
        "vae": single_file_utils.convert_ldm_vae_checkpoint,
    }[part]
    converted: dict[str, Tensor] = convert(tensors, config=config)
    return converted


def _build(part: str, kind: str, tensors: dict[str, Tensor]) -> Any:
    import diffusers
    from diffusers.loaders.single_file_utils import create_diffusers_clip_model_from_ldm
    from transformers import CLIPTextModel, CLIPTextModelWithProjection

    folder = str(CONFIGURATIONS / kind)
    if part in ("unet", "vae"):
        name = {"unet": "UNet2DConditionModel", "vae": "AutoencoderKL"}[part]
        return getattr(diffusers, name).from_single_file(
            tensors, config=folder, subfolder=part, local_files_only=True
        )
    classes = {"text_encoder": CLIPTextModel, "text_encoder_2": CLIPTextModelWithProjection}
    return create_diffusers_clip_model_from_ldm(
        classes[part], tensors, subfolder=part, config=folder, local_files_only=True
    )
