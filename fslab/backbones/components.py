"""The parts of a diffusion model in diffusers' folder layout, each loaded at its first use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fslab.backbones.adapters import check_no_adapters
from fslab.backbones.families import Encoder, Family, family
from fslab.backbones.limits import check_length
from fslab.backbones.schedule import FILE as SCHEDULE_FILE
from fslab.backbones.understood import class_named, text_config, text_number
from fslab.backbones.weights import load_model, load_tokenizer, one_at_a_time, seeded
from fslab.parts import Part
from fslab.records import FslabError
from fslab.weights import files_of
from fslab.weights.parts import NETWORKS, check_files, small_files
from fslab.weights.trust import check_shapes, read_config

ENCODER = "encoder"
"""The part that gives latents in the VAE's place, whose folder lies elsewhere."""


class Components:
    """What an opened model's parts are: configurations, weights by precision, tokenizers.

    folder: holds the network's folder (unet/ or transformer/), vae/, scheduler/, and the text
    encoders and tokenizers that the network's family names. random: a seed for untrained weights
    of the network. encoder: a folder of diffusers' AutoencoderTiny in the VAE's place. name: what
    messages call the model.
    Raises FslabError for a network of no known family.
    """

    def __init__(
        self,
        folder: Path,
        device: torch.device,
        random: int | None = None,
        encoder: Path | None = None,
    ) -> None:
        self.folder, self.device, self.random, self.encoder = folder, device, random, encoder
        self.name = "the model"
        self.loaded: dict[tuple[str, torch.dtype], nn.Module] = {}
        self._tokenizers: dict[str, Any] = {}
        self._configs: dict[str, Mapping[str, Any]] = {}
        self.registered = self._family()
        self.kind: type[Family] = self.registered.function  # type: ignore[assignment]

    def _family(self) -> Part:
        place = next((each for each in NETWORKS if (self.folder / each).is_dir()), NETWORKS[0])
        name = read_config(self.folder / place).get("_class_name")
        if place == "unet" and name not in family:  # older files do not say it
            name = "UNet2DConditionModel"
        if name not in family:
            raise FslabError(
                f"{self.folder / place}/config.json is of {name or 'no class of diffusers'}, a "
                f"network of a family that fslab does not know; it knows {', '.join(family)}"
            )
        return family.find(str(name))

    def config(self, part: str) -> Mapping[str, Any]:
        """Return a part's configuration; FslabError where it is missing or not JSON."""
        if part not in self._configs:
            name = SCHEDULE_FILE if part == "scheduler" else "config.json"
            self._configs[part] = read_config(self.folder / part, name)
        return self._configs[part]

    def has(self, part: str) -> bool:
        """Return whether the folder holds a part."""
        return (self.folder / part).is_dir()

    @property
    def network(self) -> str:
        """The folder of the network that is passed."""
        return self.kind.network

    @property
    def texts(self) -> tuple[str, ...]:
        """The folders of the text encoders that are there."""
        return tuple(part for part in self.kind.encoders if self.has(part))

    @property
    def weighted(self) -> tuple[str, ...]:
        """The folders whose weights a pass depends on."""
        vae = () if self.encoder else ("vae",)
        return tuple(part for part in (self.network, *vae, *self.texts) if self.has(part))

    def check(self) -> None:
        """Refuse weights that are pickled, cut short, or adapters'; only headers are read."""
        for part in self.weighted:
            if part != self.network or self.random is None:
                check_files(self.folder / part)
        check_no_adapters(self.folder)

    def files(self, parts: Sequence[str]) -> list[Path]:
        """Return the files of weights and words of some parts; of an untrained network none."""
        read = [part for part in parts if part != self.network or self.random is None]
        weights = [path for part in read for path in files_of(self.folder / part)]
        names = [_tokenizer_of(part) for part in self.kind.encoders]
        return [*weights, *(path for each in names for path in small_files(self.folder / each))]

    def configs(self, parts: Sequence[str]) -> dict[str, Mapping[str, Any]]:
        """Return configurations by part."""
        return {part: self.config(part) for part in parts}

    @property
    def latent_files(self) -> Sequence[Path]:
        """The files of weights that latents depend on."""
        return files_of(self.encoder or self.folder / "vae")

    def load(self, part: str, dtype: torch.dtype) -> Any:
        """Return a part in one precision, and drop it in any other; threads share what is there."""
        with one_at_a_time:
            if (part, dtype) not in self.loaded:
                for key in [key for key in self.loaded if key[0] == part]:
                    del self.loaded[key]
                if part == self.network and self.random is not None:
                    found = self._untrained(self.random, dtype)
                else:
                    found = self._load(part, dtype)
                self.loaded[part, dtype] = found.to(self.device).eval()
            return self.loaded[part, dtype]

    def _load(self, part: str, dtype: torch.dtype) -> nn.Module:
        if part == "vae" and self.encoder is not None:
            tiny: nn.Module = load_model(class_named("AutoencoderTiny"), self.encoder, dtype)
            del tiny.decoder
            return tiny
        found = self.weights(part, dtype)
        if part == "vae":  # pictures are read and none is drawn: the decoder need not stay
            for name in ("decoder", "post_quant_conv"):
                if hasattr(found, name):
                    setattr(found, name, nn.Identity())  # which some ask for their size
        return found

    def weights(self, part: str, dtype: torch.dtype) -> nn.Module:
        """Load a part's weights."""
        found: nn.Module = load_model(self._class(part), self.folder / part, dtype)
        return found

    def _class(self, part: str) -> Any:
        if part == self.network:
            return class_named(self.kind.network_class or self.registered.name)
        return class_named(self.kind.vae if part == "vae" else self.kind.encoders[part].kind)

    def _untrained(self, seed: int, dtype: torch.dtype) -> nn.Module:
        with seeded(seed):
            net = self._class(self.network).from_config(self.config(self.network))
        # diffusers' own `to` warns of parts that it has not
        part: nn.Module = nn.Module.to(net, dtype)
        return part

    def on_meta(self) -> nn.Module:
        """Return the network without numbers; FslabError where its weights have other shapes."""
        with torch.device("meta"):
            net: nn.Module = self._class(self.network).from_config(self.config(self.network))
        if self.random is None:
            self.check_shapes({name: each.shape for name, each in net.state_dict().items()})
        return net.eval()

    def check_shapes(self, wanted: Mapping[str, tuple[int, ...]]) -> None:
        """Refuse the network's weights of other shapes, by their headers."""
        check_shapes(check_files(self.folder / self.network), wanted)

    def index(self, part: str) -> bool:
        """Return whether the pipeline's index, if there is one, names a class for a part."""
        if not (self.folder / "model_index.json").exists():
            return False
        named = read_config(self.folder, "model_index.json").get(part)
        return isinstance(named, list) and any(named)

    def length(self, encoder: str) -> int:
        """Return how many tokens a text encoder is given."""
        about = self.kind.encoders[encoder]
        if about.length is not None:
            return about.length
        config = self.text_config(encoder)
        return text_number(self.folder / encoder, "max_position_embeddings", config)

    def tokens(
        self, encoder: str, prompt: str, length: int | None = None, cut: bool = False
    ) -> Any:
        """Return a prompt's `input_ids` and `attention_mask` [1, length], filled up.

        length: None for as many as the encoder is usually given. cut: leave out what is beyond
        them, where another encoder reads it. Raises FslabError for a prompt of more tokens.
        """
        tokenizer = self.tokenizer(encoder)
        limit = tokenizer.model_max_length if length is None else length
        if not cut:
            check_length(tokenizer, [prompt], limit, f"{self.name}'s text encoder")
        how = {"padding": "max_length", "max_length": limit, "padding_side": "right"}
        filled = tokenizer(prompt, truncation=cut, return_tensors="pt", **how)
        return filled.to(self.device)

    def spans(self, encoder: str, prompt: str, length: int | None = None) -> list[tuple[int, int]]:
        """Return where in the prompt each token stands, (0, 0) for the start and the end token.

        length: of how many tokens at most, None for as many as the encoder is usually given.
        """
        tokenizer = self.tokenizer(encoder)
        how = {"return_offsets_mapping": True, "return_special_tokens_mask": True}
        limit = tokenizer.model_max_length if length is None else length
        batch = tokenizer(prompt, truncation=True, max_length=limit, **how)
        both = zip(batch.special_tokens_mask, batch.offset_mapping, strict=True)
        return [(0, 0) if mark else tuple(span) for mark, span in both]

    def tokenizer(self, encoder: str) -> Any:
        """Load an encoder's tokenizer at its first use: one that gives as many tokens as it reads.

        Raises FslabError where it knows more words than that, whose states do not exist, and where
        it has no token to fill a prompt up with.
        """
        if encoder not in self._tokenizers:
            name, about = _tokenizer_of(encoder), self.kind.encoders[encoder]
            tokenizer = self.words(name, about)
            words = text_number(self.folder / encoder, "vocab_size", self.text_config(encoder))
            if len(tokenizer) > words:
                raise FslabError(
                    f"{name} of {self.folder} has {len(tokenizer)} words and its text encoder "
                    f"{words}; they belong to two models"
                )
            if tokenizer.pad_token_id is None:
                raise FslabError(
                    f"{name} of {self.folder} names no pad_token, with which prompts are filled "
                    "up; bring its tokenizer_config.json from where the model came from"
                )
            limit, most = tokenizer.model_max_length, self.length(encoder)
            shorter = about.length is None and isinstance(limit, (int, float)) and limit > 0
            tokenizer.model_max_length = min(int(limit), most) if shorter else most
            self._tokenizers[encoder] = tokenizer
        return self._tokenizers[encoder]

    def words(self, name: str, about: Encoder) -> Any:
        """Load a tokenizer from its folder."""
        folder = self.folder / name
        if not (folder / "tokenizer_config.json").is_file():
            raise FslabError(
                f"{folder} holds no tokenizer_config.json, which says how prompts are filled up; "
                "fetch it again"
            )
        return load_tokenizer(class_named(about.tokenizer), folder)

    def text_config(self, encoder: str) -> Mapping[str, Any]:
        """Return a text encoder's configuration."""
        about = self.kind.encoders[encoder]
        found = text_config(self.folder / encoder, about.types)
        if "clip" in about.types:
            return found
        defaults = class_named(about.kind).config_class().get_text_config()
        return {"vocab_size": defaults.vocab_size, **found}


def _tokenizer_of(encoder: str) -> str:
    return encoder.replace("text_encoder", "tokenizer")
