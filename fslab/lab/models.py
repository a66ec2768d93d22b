"""The models of a lab, each loaded at its first use, and the names of their weights."""

from __future__ import annotations

import gc
import os
import re
import sys
import threading
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, cast, get_args

from fslab.devices import checked_device, on_processors
from fslab.lab.needs import BASELINES, OBJECT, Need, check, folder_of, needs_of
from fslab.lab.own import OwnCaptioner, print_of
from fslab.lab.presets import PRESETS, Preset, default_preset, find_preset
from fslab.lab.words import check_reads_text
from fslab.parts import named_object
from fslab.recent import Recent, once
from fslab.records import FslabError, Own, Precision, Recipe
from fslab.store import Store, Unkept

if TYPE_CHECKING:
    import torch

    from fslab.backbones import Backbone, TextBackbone
    from fslab.captions import Captioner
    from fslab.match import Matcher

PRESETS_OWN = "preset"
"""As captioner or CLIP: the one that belongs to the preset."""

_HELD = ("clean_backbone", "text_model", "captioner", "matcher")
"""What a lab loads and holds until it is closed."""

RANDOM_SEED = 0
"""The seed of the untrained weights of backbone "random"."""


class Models:
    """What a lab loads; see `Lab` for the arguments."""

    def __init__(
        self,
        preset: str | os.PathLike[str] | None = None,
        backbone: str | os.PathLike[str] | Backbone | None = None,
        store: str | os.PathLike[str] | Store | None = None,
        device: str | None = None,
        captioner: Any = PRESETS_OWN,
        clip: Any = PRESETS_OWN,
        precision: str | None = None,
        encoder: str | os.PathLike[str] | None = None,
    ) -> None:
        if sys.flags.optimize > 1:
            raise FslabError(
                "Python runs without docstrings (-OO, PYTHONOPTIMIZE=2), and transformers cannot "
                "be imported so; leave it out, or take -O"
            )
        preset = default_preset() if preset is None else preset
        backbone, captioner, clip = self._take(backbone, captioner, clip)
        given = {"preset": preset, "backbone": backbone, "captioner": captioner, "clip": clip}
        given["encoder"] = encoder
        _check_sources(given)
        self.preset: Preset = _with_text_side(find_preset(preset), captioner, clip)
        self._held = _Held()
        self.store = store if isinstance(store, Store) else Store(store)
        if backbone is not None and not os.fspath(backbone).strip():
            raise FslabError("backbone is empty; give a folder, rgb, handmade or random")
        source = os.fspath(backbone) if backbone is not None else None
        self._backbone_source = source if source in (None, *BASELINES) else _absolute(source)
        self._device = device
        if precision not in (None, *get_args(Precision)):
            names = ", ".join(get_args(Precision))
            raise FslabError(f"precision is {precision!r}; it must be one of {names}")
        self._precision = cast("Precision | None", precision)
        self._encoder = None if encoder is None else folder_given(encoder, "encoder")
        self._asked = os.fspath(preset)
        self._text_side: tuple[str | None, ...] = tuple(
            None if each is None else _absolute(os.fspath(each)) for each in (captioner, clip)
        )
        check(self._asked, self._needs, named=self._asked in PRESETS)

    def _take(self, backbone: Any, captioner: Any, clip: Any) -> tuple[Any, ...]:
        """Keep models that came as objects; return names, with what stands for such objects."""
        if (
            isinstance(backbone, str)
            and _DOTTED.fullmatch(backbone)
            and not Path(backbone).exists()
        ):
            backbone = named_object(backbone)
            if callable(backbone):
                backbone = backbone()
        needed = {
            "backbone": (backbone, ("run", "layers", "fingerprint"), OBJECT),
            "captioner": (captioner, ("caption",), None),
            "clip": (clip, ("encode_images", "encode_texts"), None),
        }
        self._objects: dict[str, Any] = {
            what: each
            for what, (each, names, _) in needed.items()
            if all(hasattr(type(each), name) for name in names)
        }
        return tuple(
            stands if what in self._objects else each for what, (each, _, stands) in needed.items()
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.preset.name!r}, backbone={self._backbone_source!r})"

    @property
    def specification(self) -> tuple[Any, ...]:
        """What opens the same lab in another process and another folder: `Lab(*these)`.

        Preset, backbone, store, device, captioner, CLIP, precision and encoder as plain text,
        paths absolute; models that came as objects as they are.
        """
        return self._specified(self._objects)

    @property
    def light_specification(self) -> tuple[Any, ...]:
        """What `specification` is for work that asks no network: without models as objects."""
        return self._specified({})

    def _specified(self, objects: Mapping[str, Any]) -> tuple[Any, ...]:
        backbone, store = self._backbone_source, self.store.location
        captioner, clip = self._text_side
        return (
            self._asked if self._asked in PRESETS else self.preset.diffusion,
            objects.get("backbone", backbone),
            store if ":" in store else os.path.abspath(Path(store).expanduser()),
            self.device,
            objects.get("captioner", captioner),
            objects.get("clip", clip),
            self.precision,
            None if self._encoder is None else os.fspath(self._encoder),
        )

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle what opens the same lab elsewhere; models are loaded there when they are used."""
        return type(self), self.specification

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the models and of all that is held in memory.

        `with Lab(...) as lab:` does so at its end. What is used again is loaded again, and what was
        stored stays.
        """
        for name in _HELD:
            vars(self).pop(name, None)
        self.recent.forget()
        gc.collect()  # hooks of networks make circles
        if not on_processors(self.device):
            import torch

            torch.get_device_module(self.device.partition(":")[0]).empty_cache()

    @once
    def recent(self) -> Recent:
        """What was used lately, beside the store."""
        return Recent()

    @cached_property
    def device(self) -> str:
        """The device that models run on: the one asked for, else CUDA, MPS or the CPU.

        Raises FslabError for a device that is not there.
        """
        return checked_device(self._device)

    @property
    def knows_drawings_only(self) -> bool:
        """Whether the text side is mini's, which names things of its drawn world and no others."""
        mini = PRESETS["mini"]
        return self.preset.captioner == mini.captioner or self.preset.clip == mini.clip

    @cached_property
    def precision(self) -> Precision:
        """What models compute in: the one asked for, else fp32 on a CPU and fp16 on a GPU.

        A recipe that names a precision of its own has its features in that one.
        """
        return self._precision or ("fp32" if on_processors(self.device) else "fp16")

    @property
    def backbone(self) -> Backbone:
        """What features come from; inside `Lab.edit`, with what is edited."""
        return self._held.backbone or self.clean_backbone

    @backbone.setter
    def backbone(self, backbone: Backbone) -> None:
        self.clean_backbone = backbone

    @property
    def store(self) -> Store:
        """Where what was computed is kept; nowhere inside an edit that nothing tells from others.

        The location stays that of the lab's own.
        """
        kept = getattr(self._held.backbone, "kept", True)
        return self._store if kept else Unkept(self._store.location)

    @store.setter
    def store(self, store: Store) -> None:
        self._store = store

    @once
    def clean_backbone(self) -> Backbone:
        """What features come from while nothing is edited."""
        from fslab.backbones import open_backbone

        if "backbone" in self._objects:
            own: Backbone = self._objects["backbone"]
            return own
        if self._backbone_source in (None, "random"):
            return self._open_diffusion(random=RANDOM_SEED if self._backbone_source else None)
        backbone = open_backbone(
            self._backbone_source, device=self.device, store=self.store, encoder=self._encoder
        )
        if self._backbone_source not in BASELINES:
            backbone.precision = self.precision
        return backbone

    @once
    def text_model(self) -> Backbone:
        """The preset's own diffusion model, whose text encoder compares nouns and classes."""
        if self._backbone_source is None:
            return self.clean_backbone
        return self._open_diffusion()

    @once
    def captioner(self) -> Captioner | OwnCaptioner:
        """The preset's BLIP, or what was given in its place."""
        if "captioner" in self._objects:
            return OwnCaptioner(self._objects["captioner"])
        from fslab.captions import load_captioner

        return load_captioner(self._captioner_folder, self.device, self._dtype)

    @cached_property
    def prompt(self) -> str:
        """What the captions begin with that the captioner was trained on."""
        from fslab.captions import captioner_family

        if "captioner" in self._objects:
            return self.preset.prompt
        trained = captioner_family(self._captioner_folder).trained_prompt
        return self.preset.prompt if trained is None else trained

    @once
    def matcher(self) -> Matcher:
        """The preset's CLIP, or what was given in its place."""
        if "clip" in self._objects:
            own: Matcher = self._objects["clip"]
            return own
        from fslab.match import load_matcher

        return load_matcher(self._clip_folder, self.device, self._dtype)

    def text_fingerprint(self, recipe: Recipe) -> str:
        """Name of the text side's weights that a recipe asks: BLIP, CLIP and the diffusion model's
        text encoder, but for those whose stage is a function of one's own."""
        parts = []
        if not isinstance(recipe.caption, Own):
            parts += [self.captioner_fingerprint, self.clip_fingerprint]
            parts += [self.text_model_fingerprint] if self.preset.words == "diffusion" else []
        elif not isinstance(recipe.match, Own):
            parts.append(self.clip_fingerprint)
        return "-".join(parts)

    @property
    def text_model_fingerprint(self) -> str:
        """Name of the weights of the diffusion model whose text encoder compares words."""
        return self._computed(self._word_encoder.words_fingerprint)

    @property
    def _word_encoder(self) -> TextBackbone:
        so = "it compares no nouns with classes; set caption.encoder to 'clip'"
        return check_reads_text(self.text_model, so)

    def _computed(self, weights: str) -> str:
        """Name what weights give in the lab's precision."""
        return weights if self.precision == "fp32" else f"{weights}-{self.precision}"

    @property
    def _dtype(self) -> torch.dtype:
        from fslab.backbones.precision import dtype_of

        return dtype_of(self.precision, self.device)

    def _open_diffusion(self, random: int | None = None) -> Backbone:
        from fslab.backbones import open_backbone

        preset = self.preset
        name = preset.name if random is None else f"{preset.name} (random weights)"
        need = self._needs.get("diffusion")
        backbone = open_backbone(
            preset.diffusion, name, resolution=preset.resolution, timestep=preset.timestep,
            layers=preset.layers, device=self.device, random=random, store=self.store,
            without=need.without if need else (),
            encoder=self._encoder if self._backbone_source in (None, "random") else None,
        )  # fmt: skip
        backbone.precision = self.precision
        return backbone

    @property
    def _needs(self) -> dict[str, Need]:
        return needs_of(self.preset, self._backbone_source, self._encoder is not None)

    @cached_property
    def _captioner_folder(self) -> Path:
        return folder_of(self._asked, self._needs, "captioner")

    @cached_property
    def _clip_folder(self) -> Path:
        return folder_of(self._asked, self._needs, "clip")

    def check_text_side(self, recipe: Recipe, captioned: bool) -> None:
        """Refuse a method before any of its work where BLIP or CLIP, if it asks them, is not there.

        captioned: whether the caption finds the candidates. What an unnamed preset has beside its
        backbone is looked for here at the latest.
        """
        if captioned and recipe.caption.words != "all" and not isinstance(recipe.caption, Own):
            _ = self.captioner_fingerprint
        if not isinstance(recipe.match, Own):
            _ = self.clip_fingerprint

    @cached_property
    def captioner_fingerprint(self) -> str:
        """Name of BLIP's weights, tokenizer and processor, and of what it computes in."""
        if "captioner" in self._objects:
            return print_of("captioner", self._objects["captioner"])
        from fslab.captions import captioner_family

        folder = self._captioner_folder
        return self._computed(_print_of(folder, captioner_family(folder), self.store))

    @cached_property
    def clip_fingerprint(self) -> str:
        """Name of CLIP's weights, tokenizer and processor, and of what it computes in."""
        if "clip" in self._objects:
            return print_of("clip", self._objects["clip"])
        from fslab.match import matcher_family

        folder = self._clip_folder
        return self._computed(_print_of(folder, type(matcher_family(folder)), self.store))


class _Held(threading.local):
    """What this thread has in the place of the lab's backbone, one entry within the other."""

    def __init__(self) -> None:
        self.entries: list[list[Backbone | None]] = []

    @property
    def backbone(self) -> Backbone | None:
        """What is in its place now, None for nothing."""
        return self.entries[-1][0] if self.entries else None


def _check_sources(given: dict[str, str | os.PathLike[str] | None]) -> None:
    """Refuse what cannot name a model: another type, or a path that no file system can have."""
    for what, source in given.items():
        if source is None:
            continue
        text = os.fspath(source) if isinstance(source, (str, os.PathLike)) else source
        if not isinstance(text, str):
            raise FslabError(
                f"{what} is {source!r}; give a name, a folder or an id of the hub, as text, or an "
                "object that does the same"
            )
        try:
            Path(text).expanduser().is_dir()
        except (OSError, RuntimeError) as error:
            short = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
            reason = getattr(error, "strerror", None) or error
            raise FslabError(f"{what} {short!r} cannot be looked for: {reason}") from error


_DOTTED = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")
"""A backbone by the name of what makes it, "package.module:function"."""

_SHOWN = 80
"""Characters of a name that a refusal repeats."""


def _with_text_side(
    preset: Preset,
    captioner: str | os.PathLike[str] | None,
    clip: str | os.PathLike[str] | None,
) -> Preset:
    """Put another captioner or CLIP, or none, in the place of the preset's own."""
    given = {"captioner": captioner, "clip": clip}
    for name, source in given.items():
        if source is not None and not os.fspath(source).strip():
            raise FslabError(f"{name} is empty; give a folder, an id of the hub, or None for none")
    others: dict[str, Any] = {
        name: None if each is None else _absolute(os.fspath(each))
        for name, each in given.items()
        if each != PRESETS_OWN
    }
    return replace(preset, **others)


def folder_given(source: str | os.PathLike[str], what: str) -> Path:
    """Return a folder that was given, absolute; FslabError where there is none."""
    folder = Path(os.path.abspath(Path(source).expanduser()))
    if not folder.is_dir():
        raise FslabError(f"{what} is {os.fspath(source)!r}, which is not a folder; give the folder")
    return folder


def _absolute(source: str) -> str:
    """Return a folder's or a file's absolute path, and a hub id as it is."""
    path = Path(source).expanduser()
    return os.path.abspath(path) if path.exists() else source


def _print_of(folder: Path, family: type, store: Store) -> str:
    """Name the content of a text-side model: weights, configuration, tokenizer, processor.

    And the code of its family, where that is not this package's own.
    """
    from fslab.backbones.weights import fingerprint
    from fslab.parts import identity
    from fslab.weights import files_of
    from fslab.weights.parts import small_files

    code = {} if family.__module__.startswith("fslab.") else {"family": identity(family)}
    return fingerprint([*files_of(folder), *small_files(folder)], store, **code)
