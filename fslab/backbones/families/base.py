"""What a family of diffusion networks says of itself, so that `Diffusion` can pass pictures.

A family is a class registered under the `_class_name` of the networks that it passes. Everything
that its class does not say, it takes from the defaults here: pictures become latents by the VAE's
mean, its shift and its factor; a text has one encoder or several.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from fslab.backbones.base import Layer, Order
from fslab.backbones.latents import to_scale
from fslab.backbones.schedule import Schedule, read_flow
from fslab.backbones.understood import check_class, check_pipeline
from fslab.parts import Part, Registry
from fslab.records import FslabError
from fslab.weights.trust import read_config


@dataclass(frozen=True)
class Text:
    """A prompt as a network reads it, a row for each prompt.

    states: [B, tokens, D]. pooled: [B, P], of the whole prompt. mask: [B, tokens], 1 where a token
    counts. Each None where the family has none.
    """

    states: Tensor
    pooled: Tensor | None = None
    mask: Tensor | None = None

    @classmethod
    def blank(cls, width: int, pooled: int | None = None, mask: Tensor | None = None) -> Text:
        """Return a text of one token without numbers; width, pooled: channels of its parts."""
        whole = None if pooled is None else torch.empty(1, pooled, device="meta")
        return cls(torch.empty(1, 1, width, device="meta"), whole, mask)

    @classmethod
    def joined(cls, texts: Sequence[Text]) -> Text:
        """Return several prompts' as one, row by row."""
        given: dict[str, Any] = {
            each.name: [getattr(text, each.name) for text in texts] for each in fields(cls)
        }
        return cls(**{name: torch.cat(each) for name, each in given.items() if each[0] is not None})


@dataclass(frozen=True)
class Encoder:
    """A text encoder: its class in transformers, its tokenizer's, and how many tokens it is given.

    kind, tokenizer: the classes' names there, or classes of one's own. length: None for as many as
    it has positions. types: `model_type`s that its class reads. optional: a model may come without
    it.
    """

    kind: str | type = "CLIPTextModel"
    tokenizer: str | type = "CLIPTokenizer"
    length: int | None = None
    types: tuple[str, ...] = ("clip_text_model", "clip")
    optional: bool = False


class Opened(Protocol):
    """The parts of an opened model, as a family asks for them."""

    folder: Path
    name: str

    def config(self, part: str) -> Mapping[str, Any]:
        """Return a part's configuration."""

    def has(self, part: str) -> bool:
        """Return whether the model has a part."""

    def text_config(self, encoder: str) -> Mapping[str, Any]:
        """Return a text encoder's configuration, also out of a whole model's."""

    def load(self, part: str, dtype: torch.dtype) -> Any:
        """Return a part in a precision, loaded at its first use."""

    def index(self, part: str) -> bool:
        """Return whether the pipeline's index, if there is one, names a class for a part."""

    def length(self, encoder: str) -> int:
        """Return how many tokens a text encoder is given."""

    def tokens(
        self, encoder: str, prompt: str, length: int | None = None, cut: bool = False
    ) -> Any:
        """Return a prompt's `input_ids` and `attention_mask` [1, length], filled up, or cut."""

    def tokenizer(self, encoder: str) -> Any:
        """Return a text encoder's tokenizer."""

    def spans(self, encoder: str, prompt: str, length: int | None = None) -> list[tuple[int, int]]:
        """Return where in the prompt each token stands up to the last that is not filled in."""


def check_transformer(one: Family) -> None:
    """Refuse a folder whose parts are not those that a transformer's family passes.

    Networks are built from all settings of their class; one that the class does not have may stand
    for what a pass would leave out, and is refused.
    """
    folder, model = one.model.folder, one.model
    lacking = [
        part
        for part in ("vae", "scheduler", *one.encoders)
        if not model.has(part) and not (part in one.encoders and one.encoders[part].optional)
    ]
    if lacking:
        raise FslabError(f"{folder} holds no {' and no '.join(lacking)}; fetch the whole model")
    if (folder / "model_index.json").exists():
        words = [part.replace("text_encoder", "tokenizer") for part in one.encoders]
        index = read_config(folder, "model_index.json")
        check_pipeline(folder, index, (one.network, *one.encoders, *words))
    own = one.network_class or str(one.config.get("_class_name"))
    check_class(folder / one.network, one.config, own)
    check_class(folder / "vae", model.config("vae"), one.vae)
    for part in one.encoders:
        if model.has(part):
            model.text_config(part)
    one.schedule()


class Family(ABC):
    """How one family of diffusion networks is passed.

    network: the folder of the network. network_class: the network's class, a ModelMixin and
    ConfigMixin, where it is not diffusers' own of the name that the family is registered under.
    title: what messages call the family. encoders: by their folders, in the order in which their
    tokens stand in a text's states; none for networks that read no text. vae: its class in
    diffusers by name, or one of one's own. order: where the picture's tokens stand among others.
    has_unet: layers are called as in diffusers' UNets. upcasts: the VAE computes in fp32 where fp16
    is asked and its configuration does not say.
    """

    network: ClassVar[str] = "transformer"
    network_class: ClassVar[type | None] = None
    title: ClassVar[str]
    vae: ClassVar[str | type] = "AutoencoderKL"
    encoders: ClassVar[Mapping[str, Encoder]] = {}
    order: ClassVar[Order] = Order()
    has_unet: ClassVar[bool] = False
    upcasts: ClassVar[bool] = False

    def __init__(self, model: Opened) -> None:
        self.model = model
        self.config = model.config(self.network)

    def check(self) -> None:
        """Refuse configurations of which a pass would be another model's; loads nothing."""
        check_transformer(self)

    @property
    @abstractmethod
    def patch(self) -> int:
        """Cells of the latent that a side must be a multiple of, so that the network takes it."""

    @property
    def factor(self) -> int:
        """Pixels of a side of the latent's cells."""
        return int(2 ** (len(self.model.config("vae")["block_out_channels"]) - 1))

    @property
    def resolution(self) -> int:
        """The side of the pictures that it was trained on, in pixels."""
        if "sample_size" not in self.config:
            place = self.model.folder / self.network
            raise FslabError(
                f"{place}/config.json has no sample_size; give {self.title} a resolution"
            )
        return int(self.factor * self.config["sample_size"])

    @property
    def step(self) -> int:
        """Pixels between the two sides at which layers are listed."""
        return self.factor * self.patch

    @property
    def latent_channels(self) -> int:
        """Channels of the latent before any packing."""
        return int(self.model.config("vae")["latent_channels"])

    def schedule(self) -> Schedule:
        """Return how much noise a timestep means; refuses a scheduler of another kind."""
        return read_flow(self.model.folder / "scheduler", self.model.config("scheduler"))

    def encode(
        self, vae: Any, pixels: Tensor, draw: Callable[[torch.Size], Tensor] | None
    ) -> Tensor:
        """Return the VAE's code [B, C, h, w] of pictures [B, 3, H, W] in [-1, 1], before scaling.

        draw: gives noise of a shape where the posterior is to be sampled, not its mean.
        """
        posterior = vae.encode(pixels).latent_dist
        if draw is None:
            return posterior.mean  # type: ignore[no-any-return]
        return posterior.mean + posterior.std * draw(posterior.mean.shape)  # type: ignore[no-any-return]

    def scaled(self, code: Tensor, config: Mapping[str, Any]) -> Tensor:
        """Return a code on the scale that the network was trained on; config: the autoencoder's."""
        return to_scale(code, config)

    @property
    def text_tokens(self) -> int:
        """The most tokens that a text's states have, 0 where no text is read."""
        return sum(each.length or 0 for each in self.encoders.values())

    def alike(self, text: Text) -> int:
        """Return what texts must have in common to pass together: how many tokens they have."""
        return text.states.shape[1]

    def text(self, prompt: str, dtype: torch.dtype) -> Text:
        """Return a prompt as the network reads it; of a family without encoders, of no tokens."""
        if self.encoders:
            raise FslabError(f"{type(self).__name__} names encoders and has no text(); write it")
        return Text(torch.empty(1, 0, 0))

    def spans(self, prompt: str) -> list[tuple[int, int]]:
        """Return where in the prompt each token of the text's states stands, (0, 0) for none."""
        return self.model.spans(next(iter(self.encoders)), prompt)

    def blank(self) -> Text:
        """Return a text of one token without numbers, of the shapes that the network reads.

        Without encoders it has none, and `call` reads none.
        """
        if self.encoders:
            raise FslabError(f"{type(self).__name__} names encoders and has no blank(); write it")
        return Text(torch.empty(1, 0, 0, device="meta"))

    @abstractmethod
    def call(
        self, net: Any, latent: Tensor, timesteps: Tensor, text: Text, size: tuple[int, int]
    ) -> object:
        """Pass latents [B, C, h, w] at timesteps [B], whole numbers, through the network.

        size: the pictures' height and width in pixels. What is returned is not read.
        """

    def check_positions(self, size: tuple[int, int], cells: int, most: Sequence[int]) -> None:
        """Refuse a picture of more rows or columns of tokens than a network has positions for.

        size: in pixels; cells: of the latent on a token's side; most: rows, columns.
        """
        side = self.factor * cells
        if any(pixels // side > limit for pixels, limit in zip(size, most, strict=True)):
            raise FslabError(
                f"{max(size)} pixels are more than the positions of {self.model.name}, which has "
                f"{most[0]} x {most[1]} of {side} pixels; give a smaller resolution"
            )

    def default_layers(self, layers: Sequence[Layer]) -> tuple[str, ...]:
        """Return the layers that are read where neither preset nor recipe names any.

        The modulated features at half the depth: raw outputs of a transformer's blocks are known
        to be a worse place (DiTF, Gan et al. 2025).
        """
        given = [layer.path for layer in layers if layer.path.endswith(MODULATED)]
        if not given:
            raise FslabError(f"{self.title} has no default layers; name some")
        return (given[len(given) // 2],)


MODULATED = (
    "attn.to_q.input", "attn1.to_q.input", "attention.to_q.input", "attn.to_qkv_mlp_proj.input",
)  # fmt: skip
"""How the inputs of self-attention's query projections are called."""

family: Registry[Part] = Registry("family of diffusion networks", Part, "fslab.families")
"""Families by the `_class_name` of the networks that they pass: `@family("MyTransformer2DModel")`
takes in a class, also from other packages, by an entry point of the group."""
