"""Stable Diffusion 1.x, 2.x and SDXL: a UNet that reads one or two CLIPs' text states."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fslab.backbones.base import Layer
from fslab.backbones.families.base import Encoder, Family, Text, family
from fslab.backbones.schedule import Schedule, check_schedule, read_schedule
from fslab.backbones.understood import (
    check_pipeline,
    check_text,
    check_unet,
    check_vae,
    text_number,
)
from fslab.records import FslabError
from fslab.weights.trust import read_config


@family("UNet2DConditionModel", version=1)
class StableDiffusion(Family):
    """UNets of diffusers that read a picture, a timestep and a prompt alone."""

    title = "Stable Diffusion"
    network = "unet"
    encoders = {  # noqa: RUF012
        "text_encoder": Encoder(),
        "text_encoder_2": Encoder("CLIPTextModelWithProjection", optional=True),
    }
    has_unet = True

    @property
    def is_sdxl(self) -> bool:
        """Whether the UNet reads two text encoders, pooled text and sizes."""
        return self.config.get("addition_embed_type") == "text_time"

    @property
    def upcasts(self) -> bool:  # type: ignore[override]
        """SDXL's VAE overflows in fp16."""
        return self.is_sdxl

    def check(self) -> None:
        """Refuse configurations of which a pass would be another model's; loads nothing."""
        folder, vae = self.model.folder, self.model.config("vae")
        scheduler = self.model.config("scheduler")
        check_configs(folder, self.config, vae)
        if (folder / "model_index.json").exists():
            check_pipeline(folder, read_config(folder, "model_index.json"))
        check_unet(folder / "unet", self.config)
        check_vae(folder / "vae", vae)
        check_schedule(folder / "scheduler", scheduler)
        check_text(folder, self.config)

    @property
    def patch(self) -> int:
        """Cells of the latent that a side must be a multiple of: the UNet halves it so often."""
        return int(2 ** (len(self.config["block_out_channels"]) - 1))

    @property
    def text_tokens(self) -> int:
        """Tokens that a text's states have: the text encoder's positions."""
        part = "text_encoder"
        config = self.model.text_config(part)
        return text_number(self.model.folder / part, "max_position_embeddings", config)

    def schedule(self) -> Schedule:
        """Return the noise of DDPM training."""
        return read_schedule(self.model.folder / "scheduler", self.model.config("scheduler"))

    def text(self, prompt: str, dtype: torch.dtype) -> Text:
        """Return one encoder's last states, or for SDXL both encoders' last but one side by side,
        and the second's pooled text."""
        return self._twice(prompt, dtype) if self.is_sdxl else self._once(prompt, dtype)

    def _once(self, prompt: str, dtype: torch.dtype) -> Text:
        part = "text_encoder"
        batch = self.model.tokens(part, prompt)
        masked = self.model.text_config(part).get("use_attention_mask")  # as diffusers does
        mask = batch.attention_mask if masked else None
        return Text(self.model.load(part, dtype)(batch.input_ids, attention_mask=mask)[0])

    def _twice(self, prompt: str, dtype: torch.dtype) -> Text:
        states = []
        for part in self.encoders:
            ids = self.model.tokens(part, prompt).input_ids
            output = self.model.load(part, dtype)(ids, output_hidden_states=True)
            states.append(output.hidden_states[-2])
        return Text(torch.cat(states, dim=-1), output[0])

    def blank(self) -> Text:
        """Return a text of one token without numbers."""
        width = self.config["cross_attention_dim"]
        if not self.is_sdxl:
            return Text.blank(width)
        sizes = 6 * self.config["addition_time_embed_dim"]
        return Text.blank(width, self.config["projection_class_embeddings_input_dim"] - sizes)

    def call(
        self, net: Any, latent: Tensor, timesteps: Tensor, text: Text, size: tuple[int, int]
    ) -> object:
        """Pass latents through the UNet; SDXL's are told pooled text, and size, crop and target."""
        added: dict[str, Any] = {}
        if text.pooled is not None:
            ids = torch.tensor([[*size, 0, 0, *size]]).to(text.pooled).expand(len(latent), -1)
            added = {"added_cond_kwargs": {"text_embeds": text.pooled, "time_ids": ids}}
        return net(latent, timesteps, text.states, **added)

    def default_layers(self, layers: Sequence[Layer]) -> tuple[str, ...]:
        """Return the paper's rule: coarsest cross-attention queries."""
        queries = [
            layer
            for layer in layers
            if layer.path.endswith("attn2.to_q") and not layer.path.startswith("mid_block")
        ]
        coarsest = max((layer.stride for layer in queries), default=0)
        return tuple(layer.path for layer in queries if layer.stride == coarsest)


def check_configs(folder: Path, unet: Mapping[str, Any], vae: Mapping[str, Any]) -> None:
    """Refuse configurations that no Stable Diffusion of these types has."""
    needed = {
        "unet": ["block_out_channels", "in_channels", "sample_size", "cross_attention_dim"],
        "vae": ["block_out_channels", "latent_channels"],
    }
    for part, config in (("unet", unet), ("vae", vae)):
        lacking = [key for key in needed[part] if not config.get(key)]
        if lacking:
            raise FslabError(f"{folder / part}/config.json lacks {', '.join(lacking)}")
        for key in needed[part]:
            if not _counts(config[key], key == "block_out_channels"):
                raise FslabError(f"{folder / part}/config.json has the {key} {config[key]!r}")
    if unet["in_channels"] != vae["latent_channels"]:
        raise FslabError(
            f"the UNet of {folder} takes {unet['in_channels']} channels and its VAE gives "
            f"{vae['latent_channels']}: UNets that see a mask or another picture beside the "
            "latent, for inpainting or editing, are not read"
        )


def _counts(value: Any, several: bool) -> bool:
    """Return whether a setting is a whole number above 0, or a list of several."""
    each = value if several and isinstance(value, list) else [value]
    return several == isinstance(value, list) and all(isinstance(x, int) and x > 0 for x in each)
