"""Stable Diffusion 3 and 3.5: picture and text attend together; two CLIPs and a T5 read prompts."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from fslab.backbones.base import Order
from fslab.backbones.families.base import Encoder, Family, Text, family
from fslab.records import FslabError

T5 = "text_encoder_3"


@family("SD3Transformer2DModel", version=1)
class StableDiffusion3(Family):
    """As diffusers' StableDiffusion3Pipeline calls it, without guidance.

    Blocks output text, then picture; inside attention the picture comes first, then the CLIPs'
    tokens, then the T5's. A model without its T5 reads zeros in its place, as the pipeline does.
    Source: Esser et al. 2024.
    """

    title = "Stable Diffusion 3"
    encoders = {  # noqa: RUF012
        "text_encoder": Encoder("CLIPTextModelWithProjection"),
        "text_encoder_2": Encoder("CLIPTextModelWithProjection"),
        T5: Encoder("T5EncoderModel", "T5TokenizerFast", 256, ("t5",), optional=True),
    }
    order = Order(attended="first")

    def check(self) -> None:
        """Refuse a lost T5, other latents than the VAE's, and widths that do not fit."""
        super().check()
        folder, channels = self.model.folder, self.config["in_channels"]
        if not self.model.has(T5) and self.model.index(T5):
            raise FslabError(
                f"{folder} lacks its T5, {T5}/ (9.5 GB), which model_index.json names; fetch it, "
                f'or read the model without it: set "{T5}" and "tokenizer_3" to [null, null] '
                "there, and zeros stand in its place, as in diffusers"
            )
        if channels != self.latent_channels:
            raise FslabError(
                f"the transformer of {folder} takes {channels} channels and its VAE gives "
                f"{self.latent_channels}; models that see another picture too are not read"
            )

    @property
    def patch(self) -> int:
        """Cells of the latent on a side of a token."""
        return int(self.config["patch_size"])

    @property
    def text_tokens(self) -> int:
        """The CLIPs' tokens, which stand side by side, and behind them the T5's."""
        return self.model.length("text_encoder") + (self.encoders[T5].length or 0)

    def spans(self, prompt: str) -> list[tuple[int, int]]:
        """Return where each token stands: the CLIPs' to the end of their length, then the T5's."""
        clip = self.model.spans("text_encoder", prompt)
        clip += [(0, 0)] * (self.model.length("text_encoder") - len(clip))
        return clip + (self.model.spans(T5, prompt) if self.model.has(T5) else [])

    def text(self, prompt: str, dtype: torch.dtype) -> Text:
        """Return both CLIPs' last states but one side by side, the T5's after them, and the
        CLIPs' pooled texts; what the CLIPs have no tokens for, the T5 alone reads."""
        states, pooled = [], []
        has_long = self.model.has(T5)
        ids = self.model.tokens(T5, prompt).input_ids if has_long else None
        long = None if ids is None else self.model.load(T5, dtype)(ids)[0]
        for part in ("text_encoder", "text_encoder_2"):
            ids = self.model.tokens(part, prompt, cut=has_long).input_ids
            output = self.model.load(part, dtype)(ids, output_hidden_states=True)
            states.append(output.hidden_states[-2])
            pooled.append(output[0])
        clip = torch.cat(states, dim=-1)
        width, length = self.config["joint_attention_dim"], self.encoders[T5].length or 0
        if long is None:
            long = clip.new_zeros(1, length, width)
        clip = nn.functional.pad(clip, (0, width - clip.shape[-1]))
        return Text(torch.cat([clip, long], dim=-2), torch.cat(pooled, dim=-1))

    def blank(self) -> Text:
        """Return a text of one token without numbers."""
        return Text.blank(self.config["joint_attention_dim"], self.config["pooled_projection_dim"])

    def call(
        self, net: Any, latent: Tensor, timesteps: Tensor, text: Text, size: tuple[int, int]
    ) -> object:
        """Pass latents through the transformer; FslabError for a grid beyond its positions."""
        most, patch = self.config["pos_embed_max_size"], self.patch
        if max(latent.shape[-2:]) // patch > most:
            raise FslabError(
                f"{max(size)} pixels are more than the positions of {self.model.name}, which has "
                f"{most} x {most} of {self.factor * patch} pixels; give a smaller resolution"
            )
        return net(
            hidden_states=latent, encoder_hidden_states=text.states,
            pooled_projections=text.pooled, timestep=timesteps, return_dict=False,
        )  # fmt: skip
