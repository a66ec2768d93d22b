"""Z-Image: one stream of a picture's tokens and then a prompt's; Qwen3 reads prompts."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fslab.backbones.base import Order
from fslab.backbones.families.base import Encoder, Family, Text, family
from fslab.backbones.families.chat import chat, start_of, within
from fslab.records import FslabError

_LENGTH = 512
"""Tokens of a prompt within its chat, as the pipeline takes them at most."""

_FILLED = 32
"""The network fills pictures and prompts up to multiples of so many tokens."""


@family("ZImageTransformer2DModel", version=1)
class ZImage(Family):
    """As diffusers' ZImagePipeline calls it, without guidance.

    The picture's tokens come first, 2 x 2 cells each, then the prompt's, in the chat that its
    tokenizer has. Sides are multiples of 16 cells, so that a picture's tokens need no filling up.
    Source: Z-Image team 2025.
    """

    title = "Z-Image"
    encoders = {  # noqa: RUF012
        "text_encoder": Encoder("Qwen3Model", "Qwen2Tokenizer", _LENGTH, ("qwen3",)),
    }
    patch = 16
    resolution = 1024
    order = Order(tokens="first", attended="first")

    def check(self) -> None:
        """Refuse models that are shown other pictures, and patches of another size."""
        super().check()
        folder = self.model.folder
        if self.config.get("siglip_feat_dim"):
            raise FslabError(
                f"the transformer of {folder} is shown other pictures too (Omni), which is not "
                "read; give a Z-Image"
            )
        for name, only in (("all_patch_size", 2), ("all_f_patch_size", 1)):
            if only not in self.config.get(name, [only]):
                raise FslabError(
                    f"the transformer of {folder} has {name} = {self.config[name]!r}; {only} is "
                    "read"
                )
        if self.config["in_channels"] != self.latent_channels:
            raise FslabError(
                f"the transformer of {folder} takes {self.config['in_channels']} channels and its "
                f"VAE gives {self.latent_channels}"
            )

    @property
    def text_tokens(self) -> int:
        """The most tokens that a text has, filled up."""
        return _LENGTH

    def _said(self, prompt: str) -> str:
        return chat(self.model.tokenizer("text_encoder"), prompt, enable_thinking=True)

    def spans(self, prompt: str) -> list[tuple[int, int]]:
        """Return where in the prompt each token stands that the network reads."""
        start = start_of(self.model.tokenizer("text_encoder"), enable_thinking=True)
        return within(self.model.spans("text_encoder", self._said(prompt)), start, prompt)

    def text(self, prompt: str, dtype: torch.dtype) -> Text:
        """Return the last states but one of a prompt within its chat, those that count."""
        given = self.model.tokens("text_encoder", self._said(prompt), _LENGTH)
        counts = given.attention_mask.bool()
        output = self.model.load("text_encoder", dtype)(
            input_ids=given.input_ids, attention_mask=counts, output_hidden_states=True
        )
        return Text(output.hidden_states[-2][0][counts[0]][None])

    def blank(self) -> Text:
        """Return a text of one token without numbers."""
        return Text.blank(self.config["cap_feat_dim"])

    def call(
        self, net: Any, latent: Tensor, timesteps: Tensor, text: Text, size: tuple[int, int]
    ) -> object:
        """Pass latents through the transformer, which is told how little noise there is.

        Raises FslabError for a grid beyond its positions.
        """
        self.check_positions(size, 2, self.config["axes_lens"][1:])
        return net(
            list(latent[:, :, None].unbind()), (1000 - timesteps.float()) / 1000,
            list(text.states.unbind()), return_dict=False,
        )  # fmt: skip
