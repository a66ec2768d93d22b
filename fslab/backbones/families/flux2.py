"""FLUX.2 klein: as FLUX.1, with latents of patches on a scale of their own; Qwen3 reads prompts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from fslab.backbones.families.base import Encoder, Family, Text, family
from fslab.backbones.families.chat import chat, start_of, within
from fslab.records import FslabError

_LENGTH = 512
_LAYERS = (9, 18, 27)
"""Tokens of a prompt within its chat, and which of Qwen3's hidden states are read side by side."""


@family("Flux2Transformer2DModel", version=1)
class Flux2(Family):
    """As diffusers' Flux2KleinPipeline calls it, without guidance.

    A latent is what that pipeline calls one: 2 x 2 cells of the VAE's code together, by the running
    mean and variance of its batch norm. Text comes first in all sequences. FLUX.2 dev, which
    Mistral reads prompts for, is not read. Source: Black Forest Labs 2025.
    """

    title = "FLUX.2"
    vae = "AutoencoderKLFlux2"
    encoders = {  # noqa: RUF012
        "text_encoder": Encoder("Qwen3ForCausalLM", "Qwen2Tokenizer", _LENGTH, ("qwen3",)),
    }
    patch = 1
    resolution = 1024
    text_tokens = _LENGTH

    def check(self) -> None:
        """Refuse models that are told the guidance, and latents that do not fit."""
        super().check()
        folder, given = self.model.folder, self.config["in_channels"]
        if self.config.get("guidance_embeds"):
            raise FslabError(
                f"the transformer of {folder} is told the guidance, as FLUX.2 dev is; fslab reads "
                "FLUX.2 klein"
            )
        if given != self.latent_channels:
            raise FslabError(
                f"the transformer of {folder} takes {given} channels a token, and 2 x 2 cells of "
                f"its VAE's code have {self.latent_channels}"
            )

    @property
    def factor(self) -> int:
        """Pixels of a side of the latent's cells, which are 2 x 2 of the VAE's code."""
        return 2 * super().factor

    @property
    def latent_channels(self) -> int:
        """Channels of 2 x 2 cells of the VAE's code."""
        return 4 * super().latent_channels

    def encode(
        self, vae: Any, pixels: Tensor, draw: Callable[[torch.Size], Tensor] | None
    ) -> Tensor:
        """Return patches of 2 x 2 cells of the VAE's code, normalised [B, 4 C, h, w]."""
        laid = pixels.contiguous(memory_format=torch.channels_last)  # as the pipeline's are
        code = super().encode(vae, laid, draw)
        b, c, h, w = code.shape
        cells = code.view(b, c, h // 2, 2, w // 2, 2).permute(0, 1, 3, 5, 2, 4)
        patches = cells.reshape(b, 4 * c, h // 2, w // 2)
        mean = vae.bn.running_mean.view(1, -1, 1, 1).to(patches)
        variance = vae.bn.running_var.view(1, -1, 1, 1) + vae.config.batch_norm_eps
        normal: Tensor = (patches - mean) / torch.sqrt(variance).to(patches)
        return normal

    def scaled(self, code: Tensor, config: Mapping[str, Any]) -> Tensor:
        """Return a code as it is: `encode` has normalised it."""
        return code

    def _said(self, prompt: str) -> str:
        return chat(self.model.tokenizer("text_encoder"), prompt, enable_thinking=False)

    def spans(self, prompt: str) -> list[tuple[int, int]]:
        """Return where in the prompt each token stands that the network reads."""
        tokenizer = self.model.tokenizer("text_encoder")
        found = self.model.spans("text_encoder", self._said(prompt))
        filled = [(0, 0)] * (_LENGTH - len(found) if tokenizer.padding_side == "left" else 0)
        return filled + within(found, start_of(tokenizer, enable_thinking=False), prompt)

    def text(self, prompt: str, dtype: torch.dtype) -> Text:
        """Return three layers' states of a prompt within its chat, side by side."""
        given = self.model.tokens("text_encoder", self._said(prompt), _LENGTH)
        output = self.model.load("text_encoder", dtype)(
            input_ids=given.input_ids, attention_mask=given.attention_mask,
            output_hidden_states=True, use_cache=False,
        )  # fmt: skip
        return Text(torch.cat([output.hidden_states[layer] for layer in _LAYERS], dim=-1))

    def blank(self) -> Text:
        """Return a text of one token without numbers."""
        return Text.blank(self.config["joint_attention_dim"])

    def call(
        self, net: Any, latent: Tensor, timesteps: Tensor, text: Text, size: tuple[int, int]
    ) -> object:
        """Pass latents through the transformer, told the tokens' places."""
        rows, columns = latent.shape[-2:]
        return net(
            hidden_states=latent.flatten(2).permute(0, 2, 1), encoder_hidden_states=text.states,
            timestep=timesteps.to(latent.dtype) / 1000, guidance=None,
            img_ids=_places((1, rows, columns, 1), latent.device),
            txt_ids=_places((1, 1, 1, text.states.shape[1]), latent.device), return_dict=False,
        )  # fmt: skip


def _places(sides: tuple[int, ...], device: torch.device) -> Tensor:
    """Return the places (time, row, column, place in text) of tokens [tokens, 4]."""
    return torch.cartesian_prod(*(torch.arange(side, device=device) for side in sides))
