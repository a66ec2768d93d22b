"""Stable Diffusion UNets of diffusers: SD 1.x, SD 2.x and SDXL types, one interface.

A picture becomes a latent, the latent gets noise of one timestep, and one UNet call is
watched layer by layer; it ends as soon as the last wanted layer has fired.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fslab.backbones.adapters import check_no_adapters
from fslab.backbones.latents import noises, prepare, to_scale
from fslab.backbones.limits import check_length
from fslab.backbones.listing import MetaListing
from fslab.backbones.probabilities import fold_layer, sources, with_derived
from fslab.backbones.schedule import FILE as SCHEDULE_FILE
from fslab.backbones.schedule import Schedule, check_schedule, read_schedule
from fslab.backbones.understood import (
    check_pipeline,
    check_text,
    check_unet,
    check_vae,
    text_config,
    text_number,
    tiny_config,
)
from fslab.backbones.weights import check_finite, fingerprint, load_model, load_tokenizer, seeded
from fslab.batches import look_up
from fslab.keys import batched, latent_key
from fslab.overtaking import giving_way
from fslab.parts import versioned
from fslab.process import ordinary, stage
from fslab.records import Extraction, FslabError, Picture, check_unicode
from fslab.tap import tap
from fslab.weights import files_of, name_of
from fslab.weights.parts import check_files, small_files
from fslab.weights.trust import check_shapes, read_config

COMPONENTS = ("unet", "vae", "text_encoder", "text_encoder_2")
TOKENIZERS = ("tokenizer", "tokenizer_2")

_PROMPTS = 64
"""Prompts whose states are kept at hand: many words in a row share few prompts."""


@versioned(1)
class StableDiffusion(MetaListing):
    """A Stable Diffusion folder in diffusers format; each part is loaded at its first use.

    folder: holds unet/, vae/, text_encoder/, tokenizer/ and scheduler/ (SDXL types also the
    second text encoder and tokenizer). random: a seed for untrained UNet weights in the same
    configuration, the floor that trained features are held against; None loads the weights.
    encoder: a folder of diffusers' AutoencoderTiny, which gives the latents in the VAE's place.
    """

    batches = True
    _vae_config: dict[str, Any]

    def __init__(
        self,
        folder: Path,
        name: str = "",
        resolution: int | None = None,
        timestep: int = 0,
        layers: Sequence[str] = (),
        device: torch.device | str = "cpu",
        random: int | None = None,
        encoder: Path | None = None,
    ) -> None:
        self.folder, self.device, self.random = folder, torch.device(device), random
        self.encoder = encoder
        self.name, self.timestep = name or self._own_name(), timestep
        self._own_layers = tuple(layers)
        self._open()
        self._factor = factor = 2 ** (len(self._vae_config["block_out_channels"]) - 1)
        if encoder is not None:
            self._vae_config = tiny_config(encoder, factor, self._config["in_channels"])
            self.name += f" with {name_of(encoder)}"
        self.multiple = factor * 2 ** (len(self._config["block_out_channels"]) - 1)
        self.resolution = resolution or factor * self._config["sample_size"]
        self._parts: dict[tuple[str, torch.dtype], nn.Module] = {}
        self._states: dict[tuple[str, torch.dtype], tuple[Tensor, Tensor | None]] = {}
        self._tokenizers: dict[str, Any] = {}
        self._encoded: tuple[tuple[Any, ...], tuple[Tensor, list[Tensor]]] | None = None

    def _own_name(self) -> str:
        return name_of(self.folder)

    @cached_property
    def fingerprint(self) -> str:
        """Name of the weights and settings of every part that features depend on."""
        settings = {"scheduler": self._scheduler_config, "random": self.random}
        return self._print_of(self._parts_read(COMPONENTS), **settings, **self._named_encoder())

    @cached_property
    def words_fingerprint(self) -> str:
        """Name of the text encoders and their tokenizers, which is all that words depend on."""
        return self._print_of([part for part in COMPONENTS if part.startswith("text")])

    @cached_property
    def vae_fingerprint(self) -> str:
        """Name of the VAE's weights and settings, which is all that latents depend on."""
        return fingerprint(self._vae_files(), self.store, config=self._vae_config)

    def _vae_files(self) -> Sequence[Path]:
        return files_of(self.encoder or self.folder / "vae")

    def _parts_read(self, parts: Sequence[str]) -> list[str]:
        return [part for part in parts if part != "vae" or self.encoder is None]

    def _named_encoder(self) -> dict[str, str]:
        return {} if self.encoder is None else {"encoder": self.vae_fingerprint}

    def _print_of(self, parts: Sequence[str], **settings: Any) -> str:
        folders = [self.folder / part for part in parts if (self.folder / part).is_dir()]
        read = [folder for folder in folders if folder.name != "unet" or self.random is None]
        files = [path for folder in read for path in files_of(folder)]
        configs = {folder.name: read_config(folder) for folder in folders}
        tokens = [path for name in TOKENIZERS for path in small_files(self.folder / name)]
        return fingerprint([*files, *tokens], self.store, configs=configs, **settings)

    @property
    def _is_sdxl(self) -> bool:
        return self._config.get("addition_embed_type") == "text_time"

    @property
    def default_layers(self) -> tuple[str, ...]:
        """The given layers, else the paper's rule: coarsest cross-attention queries."""
        if self._own_layers:
            return self._own_layers
        queries = [
            layer
            for layer in self.layers()
            if layer.path.endswith("attn2.to_q") and not layer.path.startswith("mid_block")
        ]
        coarsest = max((layer.stride for layer in queries), default=0)
        return tuple(layer.path for layer in queries if layer.stride == coarsest)

    @stage
    def run(
        self,
        picture: Picture,
        size: tuple[int, int],
        wanted: Mapping[int, Sequence[str]],
        settings: Extraction,
    ) -> dict[tuple[str, int], Tensor]:
        """Return the wanted maps, averaged over the noise draws; see `Backbone.run`."""
        return self.run_many([picture], size, wanted, settings, 1)[0]

    @ordinary()
    def run_many(
        self,
        pictures: Sequence[Picture],
        size: tuple[int, int],
        wanted: Mapping[int, Sequence[str]],
        settings: Extraction,
        most: int,
    ) -> list[dict[tuple[str, int], Tensor]]:
        """Return what `run` does of each picture; see `Backbone.run_many`."""
        strides = {path: layer.stride for path, layer in self.layers_by_path().items()}
        sums: list[dict[tuple[str, int], Tensor]] = [{} for _ in pictures]
        asked = [(picture, settings) for picture in pictures]
        for place, timestep, seen in self.passes(asked, size, wanted, most):
            for path in wanted[timestep]:
                value = fold_layer(seen, path, size, strides[path]).float()
                key = path, timestep
                sums[place][key] = sums[place][key] + value if key in sums[place] else value
        return [
            {key: (total / settings.draws).cpu() for key, total in each.items()} for each in sums
        ]

    def passes(
        self,
        asked: Sequence[tuple[Picture, Extraction]],
        size: tuple[int, int],
        wanted: Mapping[int, Sequence[str]],
        most: int = 1,
    ) -> Iterator[tuple[int, int, dict[str, Tensor]]]:
        """Yield (place in `asked`, timestep, what its layers output by path) for each noise draw.

        asked: pictures of one size and how they are read, which differs in the prompt at most. So
        many at most pass at once, of all pictures, timesteps and draws that read the same layers.
        """
        self._check_timesteps(wanted)
        starts = self._starts(asked, size)
        layers: dict[tuple[str, ...], list[tuple[int, int, Tensor]]] = {}
        for timestep, paths in wanted.items():
            layers.setdefault(tuple(paths), []).extend(
                (place, timestep, self._given(latent, noise, timestep, asked[place][1]))
                for place, (latent, noises) in enumerate(starts)
                for noise in noises
            )
        for paths, rows in layers.items():
            for start in range(0, len(rows), most):
                some = rows[start : start + most]
                prompts = [asked[place][1].prompt for place, _, _ in some]
                seen = self._pass(some, prompts, paths, size, asked[0][1].precision)
                for row, (place, timestep, _) in enumerate(some):
                    yield place, timestep, {path: each[[row]] for path, each in seen.items()}

    def module(self, path: str, precision: str | None = None) -> nn.Module:
        """Return a module of the UNet, in the backbone's own precision if none is named."""
        return self._part("unet", self.dtype(precision)).get_submodule(path)

    @stage
    def latent(self, picture: Picture, size: tuple[int, int], settings: Extraction) -> Tensor:
        """Return the scaled latent f32 [1, 4, h, w] of a picture, on the CPU.

        It is kept in the backbone's store, so that another timestep or layer of a picture costs a
        pass of the UNet alone and the VAE is not even loaded.
        """
        (latent,) = self._latents([picture], size, settings).values()
        return latent

    @ordinary()
    @torch.no_grad()
    def text_states(self, prompt: str, precision: str | None = None) -> Tensor:
        """Return a prompt's text states [1, tokens, D] as the UNet reads them."""
        return self._encode_prompt(prompt, self.dtype(precision))[0]

    @ordinary()
    @torch.no_grad()
    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        """Return each text's mean token state, f32 [N, D], padding included."""
        states = [self.text_states(text).float().mean(1) for text in texts]
        return check_finite({"text": torch.cat(states)}, self.folder)["text"].cpu().numpy()

    def token_spans(self, prompt: str) -> list[tuple[int, int]]:
        """Return where in the prompt each token stands, (0, 0) for the start and the end token."""
        check_unicode(prompt)
        batch = self._tokenizer("tokenizer")(prompt, truncation=True, return_offsets_mapping=True)
        return [(0, 0), *map(tuple, batch.offset_mapping[1:-1]), (0, 0)]

    def _check_timesteps(self, timesteps: Iterable[int]) -> None:
        steps = self._schedule.timesteps
        for timestep in timesteps:
            if timestep >= steps:
                raise FslabError(f"timestep is {timestep}; {self.name} has 0 to {steps - 1}")

    def _start(
        self, picture: Picture, size: tuple[int, int], settings: Extraction
    ) -> tuple[Tensor, list[Tensor]]:
        """Return latent and noise; the last picture's are kept, as one is passed several times."""
        key = (picture.digest, size, settings.seed, settings.draws)
        key += (settings.posterior, self.dtype(settings.precision), settings.resize)
        kept = self._encoded
        if kept is None or kept[0] != key:
            latent = self.latent(picture, size, settings)
            kept = self._encoded = key, (latent, noises(latent.shape, settings)[:-1])
        return kept[1]

    def _starts(
        self, asked: Sequence[tuple[Picture, Extraction]], size: tuple[int, int]
    ) -> list[tuple[Tensor, list[Tensor]]]:
        """Return `_start` of each; the latents of several pictures are had in one go."""
        settings = asked[0][1]
        if len({picture.digest for picture, _ in asked}) == 1:
            return [self._start(picture, size, settings) for picture, _ in asked]
        latents = self._latents([picture for picture, _ in asked], size, settings)
        found = [latents[picture.digest] for picture, _ in asked]
        return [(latent, noises(latent.shape, settings)[:-1]) for latent in found]

    def _latents(
        self, pictures: Sequence[Picture], size: tuple[int, int], settings: Extraction
    ) -> dict[str, Tensor]:
        """Return latents by pictures' digests, from the store where it has them.

        What the VAE made of several together has a key of its own, which one picture is not
        answered from.
        """
        by_digest = {picture.digest: picture for picture in pictures}
        found: dict[str, Tensor] = {}
        keys: dict[str, str] = {}
        if self.store is not None:
            for digest, picture in by_digest.items():
                key = keys[digest] = self._latent_key(picture, size, settings)
                entry = look_up(self.store, key) if len(by_digest) > 1 else self.store.get(key)
                if entry is not None:
                    found[digest] = torch.from_numpy(entry["latent"].copy())
        missing = [digest for digest in by_digest if digest not in found]
        if missing:
            codes = self._encode([by_digest[digest] for digest in missing], size, settings)
            found |= zip(missing, codes.split(1), strict=True)
        if self.store is not None:
            for digest in missing:
                key = batched(keys[digest]) if len(missing) > 1 else keys[digest]
                self.store.put(key, {"latent": found[digest].numpy()})
        return found

    @torch.no_grad()
    def _encode(
        self, pictures: Sequence[Picture], size: tuple[int, int], settings: Extraction
    ) -> Tensor:
        dtype = self._vae_dtype(settings)
        vae: Any = self._part("vae", dtype)
        pixels = torch.cat([prepare(picture, size, settings.resize) for picture in pictures])
        with giving_way(vae, "latent"):
            found = vae.encode(pixels.to(self.device, dtype))
        code = found.latent_dist.mean if self.encoder is None else found.latents
        if self.encoder is None and settings.posterior == "sample":
            extra = noises(code[:1].shape, settings)[-1]
            code = code + found.latent_dist.std * extra.to(self.device, dtype)
        check_finite({"a latent": code}, self.encoder or self.folder / "vae")
        return to_scale(code, self._vae_config).float().cpu()

    def _vae_dtype(self, settings: Extraction) -> torch.dtype:
        dtype = self.dtype(settings.precision)
        if self._vae_config.get("force_upcast", self._is_sdxl) and dtype == torch.float16:
            return torch.float32  # SDXL's VAE overflows in fp16
        return dtype

    def _latent_key(self, picture: Picture, size: tuple[int, int], settings: Extraction) -> str:
        dtype = self._vae_dtype(settings)
        return latent_key(self, self.vae_fingerprint, picture, size, settings, dtype)

    def _given(self, latent: Tensor, noise: Tensor, timestep: int, settings: Extraction) -> Tensor:
        """Return what the UNet reads: the latent with a timestep's noise, or as it is."""
        clean = settings.noise == "none"
        return latent if clean else self._schedule.noised(latent, noise, timestep)

    @torch.no_grad()
    def _pass(
        self,
        rows: Sequence[tuple[int, int, Tensor]],
        prompts: Sequence[str],
        paths: Sequence[str],
        size: tuple[int, int],
        precision: str | None,
    ) -> dict[str, Tensor]:
        """Pass rows of (place, timestep, what the UNet reads) through it, each with its prompt."""
        dtype = self.dtype(precision)
        encoded = [self._encode_prompt(prompt, dtype) for prompt in prompts]
        states = torch.cat([tokens for tokens, _ in encoded])
        given = torch.cat([one for _, _, one in rows]).to(self.device, dtype)
        steps = torch.tensor([timestep for _, timestep, _ in rows], device=self.device)
        unet = self._part("unet", dtype)
        with tap(unet, *sources(paths, unet), stop=True) as seen:
            unet(given, steps, states, **self._added([pooled for _, pooled in encoded], size))
        return with_derived(check_finite(seen, self.folder), paths, unet)

    def _added(self, pooled: Sequence[Tensor | None], size: tuple[int, int]) -> dict[str, Any]:
        """Return SDXL's added conditions: pooled text, and size, crop and target size."""
        if not self._is_sdxl:
            return {}
        text = torch.cat([each for each in pooled if each is not None])
        ids = torch.tensor([[*size, 0, 0, *size]], dtype=text.dtype, device=text.device)
        given = {"text_embeds": text, "time_ids": ids.expand(len(text), -1)}
        return {"added_cond_kwargs": given}

    def _encode_prompt(self, prompt: str, dtype: torch.dtype) -> tuple[Tensor, Tensor | None]:
        if (prompt, dtype) not in self._states:
            if len(self._states) == _PROMPTS:
                del self._states[next(iter(self._states))]
            encode = self._encode_twice if self._is_sdxl else self._encode_once
            with torch.no_grad():
                self._states[prompt, dtype] = encode(prompt, dtype)
        return self._states[prompt, dtype]

    def _encode_once(self, prompt: str, dtype: torch.dtype) -> tuple[Tensor, None]:
        batch = self._tokens_of("tokenizer", prompt)
        masked = self._text_config("text_encoder").get("use_attention_mask")  # as diffusers does
        mask = batch.attention_mask if masked else None
        return self._part("text_encoder", dtype)(batch.input_ids, attention_mask=mask)[0], None

    def _encode_twice(self, prompt: str, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """SDXL: both encoders' last states but one side by side; the second's pooled text."""
        states = []
        for part, tokenizer in (("text_encoder", "tokenizer"), ("text_encoder_2", "tokenizer_2")):
            ids = self._tokens_of(tokenizer, prompt).input_ids
            output = self._part(part, dtype)(ids, output_hidden_states=True)
            states.append(output.hidden_states[-2])
        return torch.cat(states, dim=-1), output[0]

    def _tokens_of(self, name: str, prompt: str) -> Any:
        tokenizer = self._tokenizer(name)
        check_length(tokenizer, [prompt], tokenizer.model_max_length, f"{self.name}'s text encoder")
        return tokenizer(prompt, padding="max_length", return_tensors="pt").to(self.device)

    def _tokenizer(self, name: str) -> Any:
        """Load a tokenizer at its first use: one that reads as many tokens as its text encoder.

        Raises FslabError where it knows more words than that, whose states do not exist, and where
        it has no token to fill a prompt up with.
        """
        if name not in self._tokenizers:
            tokenizer = self._load_tokenizer(name)
            part = name.replace("tokenizer", "text_encoder")
            config = self._text_config(part)
            words, positions = (
                text_number(self.folder / part, key, config)
                for key in ("vocab_size", "max_position_embeddings")
            )
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
            limit = tokenizer.model_max_length
            known = isinstance(limit, (int, float)) and limit > 0
            tokenizer.model_max_length = min(int(limit), positions) if known else positions
            self._tokenizers[name] = tokenizer
        return self._tokenizers[name]

    def _load_tokenizer(self, name: str) -> Any:
        from transformers import CLIPTokenizer

        folder = self.folder / name
        if not (folder / "tokenizer_config.json").is_file():
            raise FslabError(
                f"{folder} holds no tokenizer_config.json, which says how prompts are filled up; "
                "fetch it again"
            )
        return load_tokenizer(CLIPTokenizer, folder)

    def _text_config(self, part: str) -> Mapping[str, Any]:
        return text_config(self.folder / part)

    def _open(self) -> None:
        """Read the configurations; refuse a folder of which a pass would be another model's."""
        folder = self.folder
        self._config = read_config(folder / "unet")
        self._vae_config = read_config(folder / "vae")
        self._scheduler_config = read_config(folder / "scheduler", SCHEDULE_FILE)
        check_configs(folder, self._config, self._vae_config)
        if (folder / "model_index.json").exists():
            check_pipeline(folder, read_config(folder, "model_index.json"))
        check_unet(folder / "unet", self._config)
        check_vae(folder / "vae", self._vae_config)
        check_schedule(folder / "scheduler", self._scheduler_config)
        check_text(folder, self._config)
        for part in self._parts_read(COMPONENTS):
            if part != "unet" or self.random is None:
                check_files(folder / part)
        check_no_adapters(folder)

    @cached_property
    def _schedule(self) -> Schedule:
        return read_schedule(self.folder / "scheduler", self._scheduler_config)

    def _part(self, name: str, dtype: torch.dtype) -> nn.Module:
        """Load a part in one precision, dropping it in any other."""
        if (name, dtype) not in self._parts:
            for key in [key for key in self._parts if key[0] == name]:
                del self._parts[key]
            if name == "unet" and self.random is not None:
                part = self._random_unet(self.random, dtype)
            else:
                part = self._load(name, dtype)
            self._parts[name, dtype] = part.to(self.device).eval()
        return self._parts[name, dtype]

    def _load(self, name: str, dtype: torch.dtype) -> nn.Module:
        if name == "vae" and self.encoder is not None:
            part: nn.Module = load_model(_model_class("encoder"), self.encoder, dtype)
            del part.decoder
            return part
        part = self._load_weights(name, dtype)
        if name == "vae":  # pictures are read and none is drawn: the decoder need not stay
            del part.decoder, part.post_quant_conv
        return part

    def _load_weights(self, name: str, dtype: torch.dtype) -> nn.Module:
        part: nn.Module = load_model(_model_class(name), self.folder / name, dtype)
        return part

    def _random_unet(self, seed: int, dtype: torch.dtype) -> nn.Module:
        with seeded(seed):
            unet = _model_class("unet").from_config(self._config)
        # diffusers' own `to` warns of parts that it has not
        part: nn.Module = nn.Module.to(unet, dtype)
        return part

    def _meta(self) -> tuple[nn.Module, Callable[[int], object]]:
        with torch.device("meta"):
            unet = _model_class("unet").from_config(self._config)
        if self.random is None:
            self._check_shapes({name: each.shape for name, each in unet.state_dict().items()})
        return unet, lambda side: self._meta_pass(unet, side)

    def _check_shapes(self, wanted: Mapping[str, tuple[int, ...]]) -> None:
        check_shapes(check_files(self.folder / "unet"), wanted)

    def _meta_pass(self, unet: nn.Module, side: int) -> None:
        """Pass a square of `side` pixels and one text token through a UNet without numbers."""
        cells = side // self._factor
        with torch.device("meta"):
            latent = torch.empty(1, self._config["in_channels"], cells, cells)
            states = torch.empty(1, 1, self._config["cross_attention_dim"])
            more = {}
            if self._is_sdxl:
                ids = 6
                time = ids * self._config["addition_time_embed_dim"]
                pooled = self._config["projection_class_embeddings_input_dim"] - time
                more = {"text_embeds": torch.empty(1, pooled), "time_ids": torch.empty(1, ids)}
            unet(latent, torch.empty(1), states, added_cond_kwargs=more or None)


def check_configs(folder: Path, unet: dict[str, Any], vae: dict[str, Any]) -> None:
    """Refuse configurations that no Stable Diffusion of these types has."""
    needed = {
        "unet": ["block_out_channels", "in_channels", "sample_size", "cross_attention_dim"],
        "vae": ["block_out_channels", "latent_channels"],
    }
    for part, config in (("unet", unet), ("vae", vae)):
        lacking = [key for key in needed[part] if not config.get(key)]
        if lacking:
            raise FslabError(f"{folder / part}/config.json lacks {', '.join(lacking)}")
        for key in needed[part]:
            if not _counts(config[key], key == "block_out_channels"):
                raise FslabError(f"{folder / part}/config.json has the {key} {config[key]!r}")
    if unet["in_channels"] != vae["latent_channels"]:
        raise FslabError(
            f"the UNet of {folder} takes {unet['in_channels']} channels and its VAE gives "
            f"{vae['latent_channels']}: UNets that see a mask or another picture beside the "
            "latent, for inpainting or editing, are not read"
        )


def _counts(value: Any, several: bool) -> bool:
    """Return whether a setting is a whole number above 0, or a list of several."""
    each = value if several and isinstance(value, list) else [value]
    return several == isinstance(value, list) and all(isinstance(x, int) and x > 0 for x in each)


def _model_class(name: str) -> Any:
    from diffusers import AutoencoderKL, AutoencoderTiny, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTextModelWithProjection

    return {
        "unet": UNet2DConditionModel,
        "vae": AutoencoderKL,
        "encoder": AutoencoderTiny,
        "text_encoder": CLIPTextModel,
        "text_encoder_2": CLIPTextModelWithProjection,
    }[name]
