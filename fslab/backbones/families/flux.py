"""FLUX.1 (dev, schnell): picture and text attend together, first in two streams, then in one."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fslab.backbones.families.base import Encoder, Family, Text, family
from fslab.records import FslabError

GUIDANCE = 3.5
"""What models that are told the guidance scale (dev) are told: the pipeline's own."""

TOKENS = {True: 512, False: 256}
"""The T5's tokens of models with guidance (dev) and without (schnell), as they were trained."""


@family("FluxTransformer2DModel", version=1)
class Flux(Family):
    """As diffusers' FluxPipeline calls it.

    Latents are packed, 2 x 2 cells a token; text comes first in all sequences, and single blocks
    give text and picture apart. Source: Black Forest Labs 2024.
    """

    title = "FLUX.1"
    encoders = {  # noqa: RUF012
        "text_encoder": Encoder(),
        "text_encoder_2": Encoder("T5EncoderModel", "T5TokenizerFast", 512, ("t5",)),
    }
    patch = 2
    resolution = 1024

    def check(self) -> None:
        """Refuse transformers that see another picture or a mask beside the latent."""
        super().check()
        given = self.config.get("in_channels", 64)
        if given != 4 * self.latent_channels:
            raise FslabError(
                f"the transformer of {self.model.folder} takes {given} channels a token, and 2 x 2 "
                f"cells of its VAE's latents have {4 * self.latent_channels}: models that see "
                "another picture or a mask too (Fill, Depth, Canny) are not read"
            )

    @property
    def text_tokens(self) -> int:
        """The T5's tokens; CLIP gives its pooled text alone."""
        return TOKENS[bool(self.config.get("guidance_embeds"))]

    def spans(self, prompt: str) -> list[tuple[int, int]]:
        """Return where each of the T5's tokens stands in the prompt."""
        return self.model.spans("text_encoder_2", prompt)

    def text(self, prompt: str, dtype: torch.dtype) -> Text:
        """Return the T5's states and the pooled text of as much as CLIP has tokens for."""
        ids = self.model.tokens("text_encoder_2", prompt, self.text_tokens).input_ids
        begins = self.model.tokens("text_encoder", prompt, cut=True).input_ids
        pooled = self.model.load("text_encoder", dtype)(begins).pooler_output
        return Text(self.model.load("text_encoder_2", dtype)(ids)[0], pooled)

    def blank(self) -> Text:
        """Return a text of one token without numbers."""
        return Text.blank(self.config["joint_attention_dim"], self.config["pooled_projection_dim"])

    def call(
        self, net: Any, latent: Tensor, timesteps: Tensor, text: Text, size: tuple[int, int]
    ) -> object:
        """Pass packed latents through the transformer, told the tokens' places."""
        guidance = None
        if self.config.get("guidance_embeds"):
            guidance = torch.full((len(latent),), GUIDANCE, device=latent.device)
        return net(
            hidden_states=packed(latent), encoder_hidden_states=text.states,
            pooled_projections=text.pooled, timestep=timesteps.to(latent.dtype) / 1000,
            img_ids=places(latent), txt_ids=latent.new_zeros(text.states.shape[1], 3),
            guidance=guidance, return_dict=False,
        )  # fmt: skip


def packed(latent: Tensor) -> Tensor:
    """Return [B, C, h, w] as tokens of 2 x 2 cells [B, h / 2 * w / 2, 4 C], row by row."""
    b, c, h, w = latent.shape
    cells = latent.view(b, c, h // 2, 2, w // 2, 2).permute(0, 2, 4, 1, 3, 5)
    return cells.reshape(b, (h // 2) * (w // 2), 4 * c)


def places(latent: Tensor) -> Tensor:
    """Return (0, row, column) of each token of 2 x 2 cells [tokens, 3]."""
    rows, columns = (side // 2 for side in latent.shape[-2:])
    found = latent.new_zeros(rows, columns, 3)
    found[..., 1] += torch.arange(rows, device=latent.device)[:, None]
    found[..., 2] += torch.arange(columns, device=latent.device)[None, :]
    return found.reshape(rows * columns, 3)
