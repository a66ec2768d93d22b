"""PixArt-alpha and PixArt-Sigma: a transformer of picture tokens that reads a T5 beside them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fslab.backbones.families.base import Encoder, Family, Opened, Text, family
from fslab.backbones.schedule import Schedule, check_schedule, read_schedule
from fslab.records import FslabError
from fslab.weights.trust import read_config

T5 = "text_encoder"

FIRST = (
    "double_self_attention", "num_vector_embeds", "only_cross_attention", "use_linear_projection",
)  # fmt: skip
"""Settings of the first class that the second does not have, and files keep as false."""

ALPHA_TOKENS = 120
"""The T5's tokens that PixArt-alpha was trained with; PixArt-Sigma has more."""


@family("PixArtTransformer2DModel", version=1)
class PixArt(Family):
    """As diffusers' PixArtAlphaPipeline and PixArtSigmaPipeline call it, without guidance.

    Blocks hold picture tokens alone and read the prompt by cross-attention, under the mask of the
    T5's tokens. Prompts are read in small letters. Source: Chen et al. 2024 (ICLR, and ECCV).
    """

    title = "PixArt"
    encoders = {  # noqa: RUF012
        T5: Encoder("T5EncoderModel", "T5TokenizerFast", 300, ("t5",)),
    }

    def __init__(self, model: Opened) -> None:
        super().__init__(model)
        self.config = {
            key: value for key, value in self.config.items() if value or key not in FIRST
        }

    def check(self) -> None:
        """Refuse other latents than the VAE's."""
        super().check()
        if self.config.get("in_channels", 4) != self.latent_channels:
            raise FslabError(
                f"the transformer of {self.model.folder} takes {self.config['in_channels']} "
                f"channels and its VAE gives {self.latent_channels}: they belong to two models"
            )
        check_schedule(self.model.folder / "scheduler", self.model.config("scheduler"))

    @property
    def patch(self) -> int:
        """Cells of the latent on a side of a token."""
        return int(self.config.get("patch_size", 2))

    def schedule(self) -> Schedule:
        """Return the noise of DDPM training."""
        return read_schedule(self.model.folder / "scheduler", self.model.config("scheduler"))

    @property
    def text_tokens(self) -> int:
        """The T5's tokens, as many as the model was trained with."""
        folder = self.model.folder
        named = (folder / "model_index.json").exists() and read_config(folder, "model_index.json")
        is_alpha = named and named.get("_class_name") == "PixArtAlphaPipeline"
        return ALPHA_TOKENS if is_alpha else super().text_tokens

    def spans(self, prompt: str) -> list[tuple[int, int]]:
        """Return where each token stands in the prompt, whose outer spaces are not read."""
        before = len(prompt) - len(prompt.lstrip())
        spans = super().spans(prompt.strip().lower())
        return [(start + before, end + before) if end else (0, 0) for start, end in spans]

    def text(self, prompt: str, dtype: torch.dtype) -> Text:
        """Return the T5's states, and which of its tokens count."""
        batch = self.model.tokens(T5, prompt.strip().lower(), self.text_tokens)
        states = self.model.load(T5, dtype)(batch.input_ids, attention_mask=batch.attention_mask)
        return Text(states[0], mask=batch.attention_mask)

    def blank(self) -> Text:
        """Return a text of one token without numbers."""
        width = self.config.get("caption_channels") or self.config["cross_attention_dim"]
        return Text.blank(width, mask=torch.empty(1, 1, device="meta"))

    def call(
        self, net: Any, latent: Tensor, timesteps: Tensor, text: Text, size: tuple[int, int]
    ) -> object:
        """Pass latents through the transformer; alpha's for 1,024 pixels is told the size."""
        added: dict[str, Tensor | None] = {"resolution": None, "aspect_ratio": None}
        if net.use_additional_conditions:
            like: dict[str, Any] = {"dtype": latent.dtype, "device": latent.device}
            height, width = size
            added["resolution"] = torch.tensor([size], **like).repeat(len(latent), 1)
            added["aspect_ratio"] = torch.tensor([[height / width]], **like).repeat(len(latent), 1)
        return net(
            latent, encoder_hidden_states=text.states, encoder_attention_mask=text.mask,
            timestep=timesteps, added_cond_kwargs=added, return_dict=False,
        )  # fmt: skip


@family("Transformer2DModel", version=1)
class FirstPixArt(PixArt):
    """PixArt whose files name the class that diffusers had for it at first, as alpha's do."""

    def check(self) -> None:
        """Refuse the other networks of that class."""
        kind = self.config.get("norm_type")
        if kind != "ada_norm_single":
            raise FslabError(
                f"{self.model.folder / self.network}/config.json is of a Transformer2DModel with "
                f"norm_type {kind!r}; fslab reads PixArt's there, which has 'ada_norm_single'"
            )
        super().check()
