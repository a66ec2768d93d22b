"""Every key: the name of a value that is stored, remembered, or gone on from.

A key says what a value was made of, by which settings, on which device, and by what. Of settings
it holds those that the maker reads and that are not at their defaults, so that a setting which is
added later names no older value anew. What fslab computes has a version beside its function
(`fslab.parts.versioned`), and a callable from elsewhere its name and its source (`identity`). Tests
hold what each version gives, and the defaults that it reads, to what they were when it got its
number.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import Field, fields
from typing import Any, Protocol

import numpy as np
import xxhash

from fslab.parts import identity
from fslab.records import (
    Extraction,
    Features,
    LabelMap,
    Matching,
    Picture,
    Reading,
    Recipe,
    Regions,
    Segments,
    Vocabulary,
    digest_of,
)

PASS = ("draws", "seed", "prompt", "noise", "posterior", "resize", "precision")
"""What a pass reads of `Extraction` beside layers, timesteps and the picture's size."""

TIMELESS_PASS = ("precision",)
"""What it reads where time has no meaning."""

SCORE = (
    "view", "margin", "tokens", "views_up_to", "templates", "synonyms", "background", "compete",
    "probabilities", "assignment", "temperature", "threshold",
    "bank", "bank_nearest", "bank_weight", *(entry.name for entry in fields(Regions)),
)  # fmt: skip
"""What scoring segments reads of `Matching`; the rest is about evidence and votes."""

Maker = Callable[..., Any] | Sequence[Any] | str
"""What computes a value, several that do it together, or their names."""


def key(maker: Maker, device: object, settings: Mapping[str, Any], **inputs: Any) -> str:
    """Return the key of what a maker makes on a device; all given is plain data but the maker."""
    return digest_of(
        {"by": names_of(maker), "on": str(device), "how": settings, "of": inputs},
    )


def names_of(maker: Maker) -> Any:
    """Return what names makers and the state of their code."""
    if isinstance(maker, str):
        return maker
    return list(map(names_of, maker)) if isinstance(maker, Sequence) else identity(maker)


def changed(settings: Any, reads: Sequence[str] = ()) -> dict[str, Any]:
    """Return which of a record's settings differ from their defaults, and whose they are.

    reads: those that count; all where none is named. A record that knows the code behind it, as a
    clustering's does, gives its `identity` too; fields that are not compared say nothing.
    """
    found = {
        entry.name: value
        for entry in fields(settings)
        if (not reads or entry.name in reads) and entry.compare
        and (value := getattr(settings, entry.name)) != default_of(entry)
    }  # fmt: skip
    by = getattr(settings, "identity", None)
    return found if by is None else {"by": by, **found}


def default_of(entry: Field[Any]) -> Any:
    """Return the default of a record's field, also of a record that came from another process."""
    made: Any = entry.default_factory  # MISSING is another object there
    return made() if callable(made) else entry.default


def content(arrays: Mapping[str, np.ndarray]) -> str:
    """Return a digest of named arrays: names in order, types, shapes and bytes."""
    state = xxhash.xxh3_128()
    for name, array in arrays.items():
        state.update(f"{name}|{array.dtype.str}|{array.shape}|".encode())
        state.update(np.ascontiguousarray(array).tobytes())
    return state.hexdigest()


def batched(alone: str) -> str:
    """Return what names the result of a pass of several pictures.

    Its last bits depend on what else was in the pass, so it never takes the place of the result
    of a pass of its own, whose key is given.
    """
    return digest_of(["batched", alone])


class OfBackbone(Protocol):
    """What keys ask a backbone for."""

    device: Any
    timestep: int | None
    resolution: int

    @property
    def fingerprint(self) -> str:
        """Name of the weights' content."""


def layers_key(backbone: OfBackbone) -> str:
    """Name the list of a backbone's layers."""
    side, weights = backbone.resolution, backbone.fingerprint
    return key(type(backbone), "", {}, of="layers, heads", weights=weights, side=side)


def map_key(
    backbone: OfBackbone,
    picture: Picture,
    size: tuple[int, int],
    layer: tuple[str, int],
    settings: Extraction,
) -> str:
    """Name a map, layer: (path, timestep), of a picture that the network sees at a size."""
    timeless = backbone.timestep is None
    path, timestep = layer
    return key(
        type(backbone), backbone.device, changed(settings, TIMELESS_PASS if timeless else PASS),
        weights=backbone.fingerprint, picture=picture.digest, size=size, path=path,
        timestep=None if timeless else timestep,
    )  # fmt: skip


def latent_key(
    backbone: OfBackbone,
    weights: str,
    picture: Picture,
    size: tuple[int, int],
    settings: Extraction,
    dtype: object,
) -> str:
    """Name a picture's latent; weights: of the VAE alone. A seed counts where it is sampled."""
    sampled = settings.posterior == "sample"
    reads = ("resize", "posterior", *(("seed", "draws") if sampled else ()))
    return key(
        type(backbone), backbone.device, changed(settings, reads),
        of="latent", weights=weights, picture=picture.digest, size=size, dtype=str(dtype),
    )  # fmt: skip


def attention_key(
    maker: Maker,
    backbone: OfBackbone,
    picture: Picture,
    size: tuple[int, int],
    words: Sequence[str],
    settings: Extraction,
) -> str:
    """Name where words look in a picture."""
    return key(
        [maker, type(backbone)], backbone.device,
        changed(settings, (*PASS, "layers", "timesteps")),
        weights=backbone.fingerprint, picture=picture.digest, size=size, words=tuple(words),
    )  # fmt: skip


def reading_key(
    maker: Maker,
    backbone: OfBackbone,
    picture: Picture,
    size: tuple[int, int],
    words: Sequence[str],
    asked: tuple[Extraction, Reading],
) -> str:
    """Name where words look by a reading; asked: how the pass is made, and how it is read."""
    settings, reading = asked
    return key(
        [maker, type(backbone)], backbone.device,
        {"pass": changed(settings, (*PASS, "layers", "timesteps")), "reading": changed(reading)},
        weights=backbone.fingerprint, picture=picture.digest, size=size, words=tuple(words),
    )  # fmt: skip


def word_keys_key(
    maker: Maker, backbone: OfBackbone, path: str, words: Sequence[str], precision: str | None
) -> str:
    """Name the keys of words at a cross-attention layer."""
    return key(
        [maker, type(backbone)], backbone.device, {"precision": precision},
        weights=backbone.fingerprint, path=path, words=tuple(words),
    )  # fmt: skip


def text_key(maker: Maker, device: object, weights: str, text: str) -> str:
    """Name a text's mean state."""
    return key(maker, device, {}, of="text", weights=weights, text=text)


def caption_key(
    maker: Maker, device: object, weights: str, picture: Picture, asked: Mapping[str, Any]
) -> str:
    """Name a picture's caption; asked: of the captioner."""
    return key(maker, device, asked, weights=weights, picture=picture.digest)


def segments_key(
    maker: Maker, device: object, features: Features, settings: Mapping[str, Any], candidates: int
) -> str:
    """Name segments by what features hold, whoever made them.

    settings: those that the clustering reads; candidates: how many, where their number counts.
    """
    return key(
        maker, device, settings,
        features=maps_of(features), size=features.size, candidates=candidates,
    )  # fmt: skip


def edges_key(maker: Maker, device: object, features: Features) -> str:
    """Name the edges of self-attention by what features hold, whoever made them."""
    return key(maker, device, {}, of="edges", features=maps_of(features))


def maps_of(features: Features) -> str:
    """Return a digest of what features hold."""
    return content({layer: np.asarray(value) for layer, value in features.items()})


def match_key(
    maker: Maker,
    device: object,
    weights: str,
    picture: Picture,
    segments: Segments,
    asked: tuple[Vocabulary, Sequence[str], Matching],
    features: Features | None = None,
    bank: str = "",
) -> str:
    """Name segments' scores against texts; asked: the vocabulary, the candidates, and how.

    features: those that the scores were made with, where the settings read any. bank: the digest
    of the regions that helped.
    """
    vocabulary, candidates, settings = asked
    read = settings.reads_features and features is not None
    return key(
        maker, device, changed(settings, SCORE),
        weights=weights, picture=picture.digest, segments=content({"": segments.labels}),
        texts=texts_of(vocabulary), candidates=tuple(candidates),
        **({"features": maps_of(features)} if read and features is not None else {}),
        **({"bank": bank} if bank else {}),
    )  # fmt: skip


def texts_of(vocabulary: Vocabulary) -> list[Any]:
    """Return a vocabulary as plain data."""
    return [vocabulary.names, dict(vocabulary.spoken), dict(vocabulary.synonyms)]


def refined_key(
    maker: Maker, device: object, picture: Picture, labels: LabelMap, settings: Mapping[str, Any]
) -> str:
    """Name a sharpened label map; settings: those that the refinement reads."""
    given = {"labels": labels.labels, **{f"{k}": v for k, v in labels.beliefs.items()}}
    return key(maker, device, settings, picture=picture.digest, labels=content(given))


def tuning_key(
    maker: Maker,
    backbone: OfBackbone,
    picture: Picture,
    size: tuple[int, int],
    of: Mapping[str, Any],
) -> str:
    """Name what is said of a picture's segments; of: the stages' settings, and the truth's digest.

    maker: what says it, and what makes the segments.
    """
    return key(
        [maker, type(backbone)], backbone.device, {},
        weights=backbone.fingerprint, picture=picture.digest, size=size, of=dict(of),
    )  # fmt: skip


def file_key(maker: Maker, path: str, stamp: Sequence[int]) -> str:
    """Name what a file holds by its path, size and times of change."""
    return key(maker, "", {}, path=path, stamp=tuple(stamp))


def result_key(run: str, name: str, picture: Picture, truth: np.ndarray) -> str:
    """Name a picture's result in a run; truth is u8 [H, W]."""
    shape = [truth.dtype.str, *truth.shape]
    return digest_of([run, name, picture.digest, shape, hashlib.sha256(truth.data).hexdigest()])


def masks_key(run: str, picture: Picture, candidates: Sequence[str] | None) -> str:
    """Name the files of a picture's masks in a run; candidates: classes that were asked for."""
    return digest_of([run, picture.digest, candidates])


def run_key(
    makers: Maker,
    device: object,
    weights: Sequence[str],
    recipe: Recipe,
    vocabulary: Vocabulary,
    named: bool,
    together: bool,
) -> str:
    """Name a run over pictures by all that changes a result beside the picture and its truth.

    recipe: complete, as `Lab.recipe` gives it; its own name plays no part. named: whether segments
    get names. together: whether pictures pass several at once.
    """
    stages = ("extract", "cluster", "caption", "match", "refine") if named else _AGNOSTIC
    said = named or recipe.extract.attention != "none"
    return key(
        makers, device, {stage: changed(getattr(recipe, stage)) for stage in stages},
        weights=list(weights), named=named, together=together,
        vocabulary=texts_of(vocabulary) if said else vocabulary.names,
    )  # fmt: skip


_AGNOSTIC = ("extract", "cluster")
