"""Diffusion models in diffusers' format: any family of networks, one interface.

A picture becomes a latent, the latent gets noise of one timestep, and one call of the network is
watched layer by layer; it ends as soon as the last wanted layer has fired. What differs between
families of networks is said in `fslab.backbones.families`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from fslab.backbones.base import TextBackbone
from fslab.backbones.components import Components
from fslab.backbones.edited import Editable
from fslab.backbones.families import Family, Text
from fslab.backbones.latents import Latents, noises
from fslab.backbones.reading import check_read, cut, fold_layer
from fslab.backbones.schedule import Schedule
from fslab.backbones.understood import tiny_config
from fslab.backbones.weights import check_finite, fingerprint
from fslab.edits import OfPictures, check_unedited, hooked
from fslab.heads import whole_of
from fslab.keys import PASS
from fslab.parts import identity, versioned
from fslab.process import ordinary, stage
from fslab.records import Extraction, FslabError, Picture, check_unicode
from fslab.tap import alone, tap
from fslab.weights import name_of

_PROMPTS = 64
"""Prompts whose states are kept at hand: many words in a row share few prompts."""


class Row(NamedTuple):
    """One row of a batch: its timestep, which of the noise draws it has, and what is read.

    given: f32 [1, C, h, w].
    """

    timestep: int
    draw: int
    given: Tensor


@versioned(1)
class Diffusion(Editable, TextBackbone):
    """A folder in diffusers' format; each part is loaded at its first use.

    folder: holds unet/ or transformer/, vae/, scheduler/, and the text encoders and tokenizers
    that the family of its network reads. random: a seed for untrained weights of the network in
    the same configuration, the floor that trained features are held against; None loads the
    weights. encoder: a folder of diffusers' AutoencoderTiny, which gives the latents in the VAE's
    place. Timesteps are 0 to 999 for all: of the betas of DDPM training, or of a flow, where
    timestep t means sigma = t / 1000.
    """

    batches = True

    def __init__(
        self,
        folder: Path,
        name: str = "",
        *,
        resolution: int | None = None,
        timestep: int = 0,
        layers: Sequence[str] = (),
        device: torch.device | str = "cpu",
        random: int | None = None,
        encoder: Path | None = None,
    ) -> None:
        self.folder, self.random = folder, random
        self.device: torch.device = torch.device(device)
        self.encoder = encoder
        self.name, self.timestep = name or self._own_name(), timestep
        self._own_layers = tuple(layers)
        self.components = self._open()
        self.components.name = self.name
        self.family: Family = self.components.kind(self.components)
        self._check()
        self._autoencoder = self.components.config("vae")
        if encoder is not None:
            given = encoder, self.family.factor, self.family.latent_channels
            self._autoencoder = tiny_config(*given)
            self.name += f" with {name_of(encoder)}"
        self.multiple = self.family.factor * self.family.patch
        self.resolution = resolution or self.family.resolution
        self.has_unet, self.order = self.family.has_unet, self.family.order
        self.reads_text = bool(self.family.encoders)
        self._latents = Latents(self, self.components, self.family, self._autoencoder)
        self._states: dict[tuple[str, torch.dtype], Text] = {}
        self._encoded: tuple[tuple[Any, ...], tuple[Tensor, list[Tensor]]] | None = None

    def _own_name(self) -> str:
        return name_of(self.folder)

    def _open(self) -> Components:
        return Components(self.folder, self.device, self.random, self.encoder)

    def _check(self) -> None:
        self.family.check()
        self.components.check()

    @cached_property
    def fingerprint(self) -> str:
        """Name of the weights and settings of every part that features depend on."""
        parts = self.components
        settings: dict[str, Any] = {"scheduler": parts.config("scheduler"), "random": self.random}
        settings["family"] = identity(parts.registered)
        length = {} if self.has_unet else {"tokens": self.family.text_tokens}  # PixArt's by index
        if self.encoder is not None:
            settings["encoder"] = self.vae_fingerprint
        return self._print_of(parts.weighted, **settings, **length)

    @cached_property
    def words_fingerprint(self) -> str:
        """Name of the text encoders and their tokenizers, which is all that words depend on."""
        return self._print_of(self.components.texts)

    @cached_property
    def vae_fingerprint(self) -> str:
        """Name of the VAE's weights and settings, which is all that latents depend on."""
        return fingerprint(self.components.latent_files, self.store, config=self._autoencoder)

    def _print_of(self, parts: Sequence[str], **settings: Any) -> str:
        files = self.components.files(parts)
        return fingerprint(files, self.store, configs=self.components.configs(parts), **settings)

    @property
    def default_layers(self) -> tuple[str, ...]:
        """The given layers, else those that the family has by default."""
        return self._own_layers or self.family.default_layers(self.layers())

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
        layers = self.layers_by_path()
        sums: list[dict[tuple[str, int], Tensor]] = [{} for _ in pictures]
        asked = [(picture, settings) for picture in pictures]
        for place, timestep, seen in self.passes(asked, size, wanted, most):
            for path in wanted[timestep]:
                value = fold_layer(seen[path], layers[path], size, self.order).float()
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
        layers: dict[tuple[str, ...], list[tuple[int, Row]]] = {}
        for timestep, paths in wanted.items():
            layers.setdefault(tuple(paths), []).extend(
                (place, Row(timestep, draw, self._given(latent, noise, timestep, asked[place][1])))
                for place, (latent, noises) in enumerate(starts)
                for draw, noise in enumerate(noises)
            )
        for paths, rows in layers.items():
            for some in self._together(rows, asked, most):
                prompts = [asked[place][1].prompt for place, _ in some]
                seen = self._pass([row for _, row in some], prompts, paths, size, asked[0][1])
                for at, (place, row) in enumerate(some):
                    yield place, row.timestep, {path: each[[at]] for path, each in seen.items()}

    def _together(
        self,
        rows: Sequence[tuple[int, Row]],
        asked: Sequence[tuple[Picture, Extraction]],
        most: int,
    ) -> Iterator[Sequence[tuple[int, Row]]]:
        """Yield rows that pass at once: `most` at most, with texts that the family has alike."""
        dtype = self.dtype(asked[0][1].precision)
        lengths: dict[int, list[tuple[int, Row]]] = {}
        for row in rows:
            text = self.text(asked[row[0]][1].prompt, dtype)
            lengths.setdefault(self.family.alike(text), []).append(row)
        for alike in lengths.values():
            for start in range(0, len(alike), most):
                yield alike[start : start + most]

    def module(self, path: str, precision: str | None = None) -> nn.Module:
        """Return a module of the network, in the backbone's own precision if none is named."""
        return self.network(precision).get_submodule(path)

    def network(self, precision: str | None = None) -> nn.Module:
        """Return the network that is passed, in the backbone's own precision if none is named."""
        found: nn.Module = self.components.load(self.components.network, self.dtype(precision))
        return found

    @contextmanager
    def edited_module(self, path: str, precision: str | None = None) -> Iterator[nn.Module]:
        """Give a module to be called by itself; text gives the same for any picture swapped in."""
        net = self.network(precision)
        check_unedited(net)
        edits: list[tuple[str, Any]] = []
        for each, edit in self.edits:
            if isinstance(edit, OfPictures):
                edits = [one for one in edits if one[0] != each]
            elif whole_of(each) == path:
                edits.append((each, edit))
        with alone(net), hooked(net, edits):
            yield net.get_submodule(path)

    @stage
    def latent(self, picture: Picture, size: tuple[int, int], settings: Extraction) -> Tensor:
        """Return the scaled latent f32 [1, C, h, w] of a picture, on the CPU.

        It is kept in the backbone's store, so that another timestep or layer of a picture costs a
        pass of the network alone and the VAE is not even loaded.
        """
        (latent,) = self._latents_of([picture], size, settings).values()
        return latent

    def _latents_of(
        self, pictures: Sequence[Picture], size: tuple[int, int], settings: Extraction
    ) -> dict[str, Tensor]:
        dtype = self.dtype(settings.precision)
        return self._latents.of(pictures, size, settings, dtype, self.store)

    @ordinary()
    @torch.no_grad()
    def text_states(self, prompt: str, precision: str | None = None) -> Tensor:
        """Return a prompt's text states [1, tokens, D] as the network reads them."""
        return self.text(prompt, self.dtype(precision)).states

    @ordinary()
    @torch.no_grad()
    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        """Return each text's mean token state, f32 [N, D], padding included."""
        states = [self.text_states(text).float().mean(1) for text in texts]
        return check_finite({"text": torch.cat(states)}, self.folder)["text"].cpu().numpy()

    def token_spans(self, prompt: str) -> list[tuple[int, int]]:
        """Return where in the prompt each token of its states stands, (0, 0) for those of none."""
        check_unicode(prompt)
        return self.family.spans(prompt)

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
        latents = self._latents_of([picture for picture, _ in asked], size, settings)
        found = [latents[picture.digest] for picture, _ in asked]
        return [(latent, noises(latent.shape, settings)[:-1]) for latent in found]

    def _given(self, latent: Tensor, noise: Tensor, timestep: int, settings: Extraction) -> Tensor:
        """Return what the network reads: the latent with a timestep's noise, or as it is."""
        clean = settings.noise == "none"
        return latent if clean else self._schedule.noised(latent, noise, timestep)

    @torch.no_grad()
    def _pass(
        self,
        rows: Sequence[Row],
        prompts: Sequence[str],
        paths: Sequence[str],
        size: tuple[int, int],
        settings: Extraction,
    ) -> dict[str, Tensor]:
        """Pass rows through the network, with their prompts."""
        dtype, layers = self.dtype(settings.precision), self.layers_by_path()
        text = Text.joined([self.text(prompt, dtype) for prompt in prompts])
        entries = {path: layers[path].entry for path in paths}
        net = self.network(settings.precision)

        def pick(path: str, matrix: Tensor) -> Tensor:
            return cut(matrix, layers[path], size, self.order)

        with (
            self.edited_pass(net, rows, text, size, settings, tuple(prompts)),
            tap(net, *paths, stop=True, entries=entries, pick=pick) as seen,
        ):
            self.call(net, rows, text, size, dtype)
        return check_read(check_finite(seen, self.folder), paths)

    def edited_pass(
        self,
        net: nn.Module,
        rows: Sequence[Row],
        text: Text,
        size: tuple[int, int],
        settings: Extraction,
        said: tuple[str, ...],
    ) -> AbstractContextManager[None]:
        """Edit the network for a `call` with these rows; said: what names the text."""

        def others(picture: Picture, paths: Sequence[str]) -> dict[str, Tensor]:
            latent, noises = self._start(picture, size, settings)
            given = [
                row._replace(given=self._given(latent, noises[row.draw], row.timestep, settings))
                for row in rows
            ]
            with tap(net, *paths, stop=True, entries=self._entries(paths)) as seen:
                self.call(net, given, text, size, self.dtype(settings.precision))
            return seen

        alike = tuple(getattr(settings, name) for name in PASS) if self.edits else ()
        asked = tuple((row.timestep, row.draw) for row in rows), size, alike, said
        return self.editing(net, len(rows), others, asked)

    def rows(self, picture: Picture, size: tuple[int, int], settings: Extraction) -> Iterator[Row]:
        """Yield what the network reads of a picture, for all timesteps and noise draws."""
        self._check_timesteps(settings.timesteps)
        latent, noises = self._start(picture, size, settings)
        for timestep in settings.timesteps:
            for draw, noise in enumerate(noises):
                yield Row(timestep, draw, self._given(latent, noise, timestep, settings))

    def call(
        self,
        net: nn.Module,
        rows: Sequence[Row],
        text: Text,
        size: tuple[int, int],
        dtype: torch.dtype,
    ) -> None:
        """Call a network of `network` with rows, and as many texts."""
        given = torch.cat([row.given for row in rows]).to(self.device, dtype)
        steps = torch.tensor([row.timestep for row in rows], device=self.device)
        self.family.call(net, given, steps, text, size)

    def text(self, prompt: str, dtype: torch.dtype) -> Text:
        """Return a prompt as the network reads it; FslabError for one where it reads none."""
        if prompt and not self.reads_text:
            raise FslabError(f"{self.name} reads no text; leave out the prompt {prompt!r}")
        if (prompt, dtype) not in self._states:
            if len(self._states) == _PROMPTS:
                del self._states[next(iter(self._states))]
            with torch.no_grad():
                self._states[prompt, dtype] = self.family.text(prompt, dtype)
        return self._states[prompt, dtype]

    @cached_property
    def _schedule(self) -> Schedule:
        return self.family.schedule()

    def _text_tokens(self) -> int | None:
        return self.family.text_tokens if self.reads_text else None

    def _listing_step(self) -> int:
        return self.family.step

    def _meta(self) -> tuple[nn.Module, Callable[[int], object]]:
        net = self.components.on_meta()
        return net, lambda side: self._meta_pass(net, side)

    def _meta_pass(self, net: nn.Module, side: int) -> object:
        """Pass a square of `side` pixels and one text token through a network without numbers."""
        cells = side // self.family.factor
        with torch.device("meta"):
            latent = torch.empty(1, self.family.latent_channels, cells, cells)
            return self.family.call(net, latent, torch.empty(1), self.family.blank(), (side, side))
