"""Lumina 2: one stream of a prompt's tokens and then a picture's; Gemma 2 reads prompts."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from fslab.backbones.families.base import Encoder, Family, Text, family
from fslab.backbones.families.chat import within
from fslab.records import FslabError

_LENGTH = 256
_BEFORE = (
    "You are an assistant designed to generate superior images with the superior degree of "
    "image-text alignment based on textual prompts or user prompts. <Prompt Start> "
)
"""Tokens that a prompt is filled up to, and what the pipeline says before it."""


@family("Lumina2Transformer2DModel", version=1)
class Lumina2(Family):
    """As diffusers' Lumina2Pipeline calls it, without guidance.

    Of a prompt the tokens that count come first, then the picture's, 2 x 2 cells each.
    Source: Qin et al. 2025.
    """

    title = "Lumina 2"
    encoders = {  # noqa: RUF012
        "text_encoder": Encoder("Gemma2Model", "GemmaTokenizer", _LENGTH, ("gemma2",)),
    }
    text_tokens = _LENGTH

    def check(self) -> None:
        """Refuse latents that do not fit."""
        super().check()
        given = self.config["in_channels"]
        if given != self.latent_channels:
            raise FslabError(
                f"the transformer of {self.model.folder} takes {given} channels and its VAE gives "
                f"{self.latent_channels}"
            )

    @property
    def patch(self) -> int:
        """Cells of the latent on a side of a token."""
        return int(self.config["patch_size"])

    def alike(self, text: Text) -> int:
        """Return how many tokens count: pictures stand behind them."""
        return _LENGTH if text.mask is None else int(text.mask.sum())

    def spans(self, prompt: str) -> list[tuple[int, int]]:
        """Return where in the prompt each token stands."""
        found = self.model.spans("text_encoder", _BEFORE + prompt)
        return within(found, len(_BEFORE), prompt)

    def text(self, prompt: str, dtype: torch.dtype) -> Text:
        """Return the last states but one, filled up on the right, and which tokens count."""
        self.model.tokenizer("text_encoder").padding_side = "right"
        given = self.model.tokens("text_encoder", _BEFORE + prompt)
        output = self.model.load("text_encoder", dtype)(
            given.input_ids, attention_mask=given.attention_mask, output_hidden_states=True
        )
        return Text(output.hidden_states[-2], mask=given.attention_mask)

    def blank(self) -> Text:
        """Return a text of one token without numbers."""
        mask = torch.ones(1, 1, dtype=torch.long, device="meta")
        return Text.blank(self.config["cap_feat_dim"], mask=mask)

    def call(
        self, net: Any, latent: Tensor, timesteps: Tensor, text: Text, size: tuple[int, int]
    ) -> object:
        """Pass latents through the transformer, which is told how little noise there is.

        Raises FslabError for a grid beyond its positions.
        """
        self.check_positions(size, self.patch, self.config["axes_lens"][1:])
        with ExitStack() as blank:
            if latent.is_meta:
                blank.enter_context(_OneToken())
            return net(
                hidden_states=latent, timestep=1 - timesteps.float() / 1000,
                encoder_hidden_states=text.states, encoder_attention_mask=text.mask,
                return_dict=False,
            )  # fmt: skip


class _OneToken(TorchFunctionMode):
    """Tells the network, which asks a mask without numbers, that a blank text has one token."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is Tensor.tolist:
            return [1]
        return func(*args, **(kwargs or {}))
