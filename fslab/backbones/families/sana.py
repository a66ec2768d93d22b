"""Sana: a transformer with linear self-attention over latents of 32 x 32 pixels a cell."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor

from fslab.backbones.families.base import Encoder, Family, Text, family
from fslab.backbones.schedule import Schedule, read_flow
from fslab.records import FslabError

GEMMA = "text_encoder"
TOKENS = 300


@family("SanaTransformer2DModel", version=1)
class Sana(Family):
    """As diffusers' SanaPipeline calls it, without guidance.

    Self-attention is linear and has no probabilities; the prompt is read by cross-attention under
    the mask of Gemma's tokens. As in the pipeline, prompts are read in small letters behind an
    instruction, and an empty one without it. Source: Xie et al. 2025 (ICLR).
    """

    title = "Sana"
    vae = "AutoencoderDC"
    encoders = {  # noqa: RUF012
        GEMMA: Encoder("Gemma2Model", "GemmaTokenizerFast", TOKENS, ("gemma2",)),
    }

    def check(self) -> None:
        """Refuse networks that are told a guidance scale (Sana-Sprint), and others' latents."""
        super().check()
        if self.config.get("guidance_embeds"):
            raise FslabError(
                f"{self.model.folder} is told how strongly to follow its prompt, as Sana-Sprint "
                "is, and its time has another meaning; fslab reads Sana"
            )
        if self.config.get("in_channels", 32) != self.latent_channels:
            raise FslabError(
                f"the transformer of {self.model.folder} takes {self.config['in_channels']} "
                f"channels and its VAE gives {self.latent_channels}: they belong to two models"
            )

    @property
    def patch(self) -> int:
        """Cells of the latent on a side of a token."""
        return int(self.config.get("patch_size", 1))

    @property
    def factor(self) -> int:
        """Pixels of a side of the latent's cells."""
        return int(2 ** (len(self.model.config("vae")["encoder_block_out_channels"]) - 1))

    def encode(
        self, vae: Any, pixels: Tensor, draw: Callable[[torch.Size], Tensor] | None
    ) -> Tensor:
        """Return the autoencoder's code, which is one: it has no posterior to sample."""
        code: Tensor = vae.encode(pixels).latent
        return code

    def spans(self, prompt: str) -> list[tuple[int, int]]:
        """Return where each token stands in the prompt, (0, 0) for those of the instruction."""
        given, length, start = self._given(prompt)
        skipped = len(given) - len(prompt.strip())
        before = len(prompt) - len(prompt.lstrip()) - skipped
        spans = self.model.spans(GEMMA, given, length)
        kept = [spans[0], *spans[start:]] if start else spans
        return [(a + before, b + before) if b > skipped else (0, 0) for a, b in kept]

    def _given(self, prompt: str) -> tuple[str, int, int]:
        """Return what Gemma reads, in how many tokens, and the first kept of those but one."""
        text = prompt.strip().lower()
        if not text:
            return "", TOKENS, 0
        before = instruction()
        taken = len(self.model.spans(GEMMA, before, 10 * TOKENS))
        return before + text, taken + TOKENS - 2, taken - 1

    def text(self, prompt: str, dtype: torch.dtype) -> Text:
        """Return Gemma's last states, and which of its tokens count."""
        self.model.tokens(GEMMA, prompt.strip().lower(), TOKENS - 1)  # a long one is named alone
        given, length, start = self._given(prompt)
        batch = self.model.tokens(GEMMA, given, length)
        ids, mask = batch.input_ids, batch.attention_mask
        states = self.model.load(GEMMA, dtype)(ids, attention_mask=mask)[0]
        if start:
            kept = [0, *range(start, length)]
            states, mask = states[:, kept], mask[:, kept]
        return Text(states, mask=mask)

    def schedule(self) -> Schedule:
        """Return the flow."""
        return read_flow(self.model.folder / "scheduler", self.model.config("scheduler"))

    def blank(self) -> Text:
        """Return a text of one token without numbers."""
        mask = torch.empty(1, 1, device="meta")
        return Text.blank(self.config["caption_channels"], mask=mask)

    def call(
        self, net: Any, latent: Tensor, timesteps: Tensor, text: Text, size: tuple[int, int]
    ) -> object:
        """Pass latents through the transformer."""
        return net(
            latent, encoder_hidden_states=text.states, encoder_attention_mask=text.mask,
            timestep=timesteps * net.config.timestep_scale, return_dict=False,
        )  # fmt: skip


@cache
def instruction() -> str:
    """Return what SanaPipeline puts before a prompt, by its own default."""
    from diffusers import SanaPipeline

    given = inspect.signature(SanaPipeline.__call__).parameters["complex_human_instruction"]
    return "\n".join(given.default)
