"""From a picture to the latent that a diffusion network reads, and the noise it is given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fslab.backbones.weights import check_finite
from fslab.batches import look_up
from fslab.keys import batched, latent_key
from fslab.overtaking import giving_way
from fslab.records import Extraction, Picture
from fslab.store import Store

if TYPE_CHECKING:
    from fslab.backbones.components import Components
    from fslab.backbones.diffusion import Diffusion
    from fslab.backbones.families import Family


def prepare(picture: Picture, size: tuple[int, int], resize: str = "lanczos") -> Tensor:
    """Return a picture as f32 [1, 3, H, W] in [-1, 1], resized by one of Pillow's filters.

    "lanczos" as diffusers does; "bilinear" as torchvision's Resize does to a Pillow image.
    """
    image = Image.fromarray(picture.pixels)
    if picture.size != size:
        image = image.resize(size[::-1], Image.Resampling[resize.upper()])
    array = np.asarray(image, dtype=np.float32) / 255.0
    return 2.0 * torch.from_numpy(array.transpose(2, 0, 1).copy())[None] - 1.0


def to_scale(code: Tensor, config: Mapping[str, Any]) -> Tensor:
    """Return a VAE's latent [B, C, h, w] on the scale that its UNet was trained on.

    As diffusers' pipelines do: by the channels' own mean and deviation where the configuration has
    them (SDXL's), else by one shift (Stable Diffusion 3's) and one factor.
    """
    factor = config.get("scaling_factor", 0.18215)
    if config.get("latents_mean") is not None:
        mean, std = (
            torch.tensor(config[name]).view(1, -1, 1, 1).to(code)
            for name in ("latents_mean", "latents_std")
        )
        scaled: Tensor = (code - mean) * factor / std
        return scaled
    shift = config.get("shift_factor")
    moved: Tensor = (code - shift if shift else code) * factor
    return moved


def noises(shape: torch.Size, settings: Extraction) -> list[Tensor]:
    """Return the draws of noise f32 of a latent's shape, and after them the posterior's own draw.

    One generator gives them in this order, so the noise does not depend on the posterior.
    """
    generator = torch.Generator().manual_seed(settings.seed)
    return [torch.randn(shape, generator=generator) for _ in range(settings.draws + 1)]


class Latents:
    """Pictures' latents of one model, from its store where it has them.

    backbone: whose they are; components: its parts; kind: its family, which knows how a picture
    becomes a code, and a code a latent; config: the autoencoder's settings.
    """

    def __init__(
        self,
        backbone: Diffusion,
        components: Components,
        kind: Family,
        config: Mapping[str, Any],
    ) -> None:
        self._backbone, self._components, self._kind = backbone, components, kind
        self._config = config

    def of(
        self,
        pictures: Sequence[Picture],
        size: tuple[int, int],
        settings: Extraction,
        dtype: torch.dtype,
        store: Store | None,
    ) -> dict[str, Tensor]:
        """Return latents f32 [1, C, h, w] by pictures' digests, on the CPU.

        What the VAE made of several together has a key of its own, which one picture is not
        answered from.
        """
        dtype = self._own_dtype(dtype)
        by_digest = {picture.digest: picture for picture in pictures}
        found: dict[str, Tensor] = {}
        keys: dict[str, str] = {}
        if store is not None:
            for digest, picture in by_digest.items():
                named = self._backbone, self._backbone.vae_fingerprint
                key = keys[digest] = latent_key(*named, picture, size, settings, dtype)
                entry = look_up(store, key) if len(by_digest) > 1 else store.get(key)
                if entry is not None:
                    found[digest] = torch.from_numpy(entry["latent"].copy())
        missing = [digest for digest in by_digest if digest not in found]
        if missing:
            codes = self.encode([by_digest[digest] for digest in missing], size, settings, dtype)
            found |= zip(missing, codes.split(1), strict=True)
        if store is not None:
            for digest in missing:
                key = batched(keys[digest]) if len(missing) > 1 else keys[digest]
                store.put(key, {"latent": found[digest].numpy()})
        return found

    @torch.no_grad()
    def encode(
        self,
        pictures: Sequence[Picture],
        size: tuple[int, int],
        settings: Extraction,
        dtype: torch.dtype,
    ) -> Tensor:
        """Return the latents f32 [B, C, h, w] of pictures of one size, on the CPU."""
        own = self._components.encoder
        vae: Any = self._components.load("vae", dtype)
        pixels = torch.cat([prepare(picture, size, settings.resize) for picture in pictures])
        pixels = pixels.to(self._components.device, dtype)

        def draw(shape: torch.Size) -> Tensor:
            extra = noises(torch.Size((1, *shape[1:])), settings)[-1]
            return extra.to(self._components.device, dtype)

        with giving_way(vae, "latent"):
            if own is not None:
                code = vae.encode(pixels).latents
            else:
                code = self._kind.encode(
                    vae, pixels, draw if settings.posterior == "sample" else None
                )
        check_finite({"a latent": code}, own or self._components.folder / "vae")
        return self._kind.scaled(code, self._config).float().cpu()

    def _own_dtype(self, dtype: torch.dtype) -> torch.dtype:
        if self._config.get("force_upcast", self._kind.upcasts) and dtype == torch.float16:
            return torch.float32  # SDXL's VAE overflows in fp16
        return dtype
