"""Qwen-Image: picture and text attend together in two streams; Qwen2.5-VL reads prompts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fslab.backbones.families.base import Encoder, Family, Text, family
from fslab.backbones.families.chat import within
from fslab.backbones.families.flux import packed
from fslab.records import FslabError

_TEMPLATE = (
    "<|im_start|>system\nDescribe the image by detailing the color, shape, size, texture, "
    "quantity, text, spatial relationships of the objects and background:<|im_end|>\n"
    "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
)
_DROPPED = 34
"""The pipeline's own template, and how many of its first tokens the network does not read."""

_OTHER = ("zero_cond_t", "use_additional_t_cond", "use_layer3d_rope", "guidance_embeds")
"""Settings of models that edit pictures or draw layers, which are given more than a prompt."""


@family("QwenImageTransformer2DModel", version=1)
class QwenImage(Family):
    """As diffusers' QwenImagePipeline calls it, without guidance.

    Latents are packed, 2 x 2 cells a token; text comes first inside attention. A prompt has as
    many states as it has tokens, with the template's end behind it. Source: Wu et al. 2025.
    """

    title = "Qwen-Image"
    vae = "AutoencoderKLQwenImage"
    encoders = {  # noqa: RUF012
        "text_encoder": Encoder(
            "Qwen2_5_VLForConditionalGeneration", "Qwen2Tokenizer", 1024 + _DROPPED, ("qwen2_5_vl",)
        ),
    }
    patch = 2
    resolution = 1024

    def check(self) -> None:
        """Refuse models that are given more than a picture, a time and a prompt."""
        super().check()
        folder = self.model.folder
        for name in _OTHER:
            if self.config.get(name):
                raise FslabError(
                    f"the transformer of {folder} has {name} = {self.config[name]!r}: models that "
                    "edit pictures or draw layers are not read; give a Qwen-Image"
                )
        check_mean(folder / "vae", self.model.config("vae"), self.latent_channels)
        if self.config["in_channels"] != 4 * self.latent_channels:
            raise FslabError(
                f"the transformer of {folder} takes {self.config['in_channels']} channels a token, "
                f"and 2 x 2 cells of its VAE's latents have {4 * self.latent_channels}"
            )

    @property
    def factor(self) -> int:
        """Pixels of a side of the latent's cells."""
        return int(2 ** len(self.model.config("vae")["temperal_downsample"]))

    @property
    def latent_channels(self) -> int:
        """Channels of the latent before any packing."""
        return int(self.model.config("vae")["z_dim"])

    def encode(
        self, vae: Any, pixels: Tensor, draw: Callable[[torch.Size], Tensor] | None
    ) -> Tensor:
        """Return the VAE's code of pictures, which it reads as films of one frame."""
        return super().encode(vae, pixels[:, :, None], draw)[:, :, 0]

    def scaled(self, code: Tensor, config: Mapping[str, Any]) -> Tensor:
        """Return a code by its channels' own mean and deviation."""
        if "latents_mean" not in config:  # of a tiny autoencoder
            return super().scaled(code, config)
        mean, std = (
            torch.tensor(config[name]).view(1, -1, 1, 1).to(code)
            for name in ("latents_mean", "latents_std")
        )
        return (code - mean) * (1.0 / std)

    @property
    def text_tokens(self) -> int:
        """The most tokens that a text's states have."""
        return (self.encoders["text_encoder"].length or 0) - _DROPPED

    def spans(self, prompt: str) -> list[tuple[int, int]]:
        """Return where in the prompt each token stands that the network reads."""
        found = self.model.spans("text_encoder", _TEMPLATE.format(prompt))[_DROPPED:]
        return within(found, _TEMPLATE.index("{}"), prompt)

    def text(self, prompt: str, dtype: torch.dtype) -> Text:
        """Return the last states of a prompt within the template."""
        text = _TEMPLATE.format(prompt)
        length = len(self.model.spans("text_encoder", text))
        given = self.model.tokens("text_encoder", text, length)
        output = self.model.load("text_encoder", dtype)(
            given.input_ids, attention_mask=given.attention_mask, output_hidden_states=True
        )
        return Text(output.hidden_states[-1][:, _DROPPED:])

    def blank(self) -> Text:
        """Return a text of one token without numbers."""
        return Text.blank(self.config["joint_attention_dim"])

    def call(
        self, net: Any, latent: Tensor, timesteps: Tensor, text: Text, size: tuple[int, int]
    ) -> object:
        """Pass packed latents through the transformer, told the picture's tokens on its sides."""
        rows, columns = (side // 2 for side in latent.shape[-2:])
        return net(
            hidden_states=packed(latent), timestep=timesteps.to(latent.dtype) / 1000,
            encoder_hidden_states=text.states, encoder_hidden_states_mask=None,
            img_shapes=[[(1, rows, columns)]] * len(latent), return_dict=False,
        )  # fmt: skip


def check_mean(folder: Path, config: Mapping[str, Any], channels: int) -> None:
    """Refuse a VAE that does not say each channel's mean and deviation."""
    for name in ("latents_mean", "latents_std"):
        given = config.get(name)
        if not isinstance(given, list) or len(given) != channels:
            raise FslabError(
                f"{folder}/config.json has the {name} {given!r}; it must be a list of {channels} "
                "numbers, one for each latent channel"
            )
