"""Everything that changes a number, stage by stage."""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from functools import cache, cached_property
from typing import Any, Literal, get_args, get_origin, get_type_hints

import numpy as np

from fslab.errors import FslabError
from fslab.records.base import digest_of

MOST = 10_000
"""Of iterations, rounds and restarts: all has long settled by then."""

Precision = Literal["fp32", "fp16", "bf16"]
"""What models compute in; fp32 is exact enough to compare, the others halve the memory."""

_hints = cache(get_type_hints)


def _check_types(part: object) -> None:
    """Bring numbers and lists to plain Python, and refuse a setting of another type."""
    record: Any = type(part)
    for name, kind in _hints(record).items():
        given = getattr(part, name)
        try:
            object.__setattr__(part, name, _as(kind, given))
        except TypeError as error:
            setting = f"{type(part).__name__.lower()}.{name}"
            raise FslabError(f"{setting} is {given!r}; it is {error}") from None


def _as(kind: Any, given: Any) -> Any:
    """Return a value as the type says; TypeError with what was expected."""
    if get_origin(kind) is Literal:
        if given not in get_args(kind):
            raise TypeError(f"one of {', '.join(map(repr, get_args(kind)))}")
        return given
    if get_origin(kind) is tuple:
        if isinstance(given, (str, bytes)) or not hasattr(given, "__iter__"):
            raise TypeError("a list")
        return tuple(_as(get_args(kind)[0], entry) for entry in given)
    if type(None) in get_args(kind):
        return None if given is None else _as(get_args(kind)[0], given)
    number = isinstance(given, numbers.Real) and not isinstance(given, (bool, np.bool_))
    finite = number and math.isfinite(given)
    if kind is int and finite and int(given) == given:
        return int(given)
    if kind is float and finite:
        return float(given)
    if kind in (str, bool) and isinstance(given, kind):
        return given
    words = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}
    raise TypeError(words[kind])


def _check_positive(part: Any, *names: str) -> None:
    for name in names:
        if getattr(part, name) < 1:
            setting = f"{type(part).__name__.lower()}.{name}"
            raise FslabError(f"{setting} is {getattr(part, name)}; it is a whole number from 1 up")


def _check_most(part: Any, *names: str) -> None:
    for name in names:
        if getattr(part, name) > MOST:
            setting = f"{type(part).__name__.lower()}.{name}"
            raise FslabError(f"{setting} is {getattr(part, name)}; it is at most {MOST}")


def _check_seed(part: Any) -> None:
    if not 0 <= part.seed < 2**32:
        raise FslabError(f"seed is {part.seed}; it is a whole number from 0 to {2**32 - 1}")


def _check_timestep(timestep: int) -> None:
    if not 0 <= timestep <= 999:
        raise FslabError(f"timestep is {timestep}; it is a whole number from 0 to 999")


@dataclass(frozen=True)
class Extraction:
    """How features are taken from a backbone.

    layers: module paths or fnmatch patterns over them, "last:" before one for the last layer that
    it fits; empty means the backbone's own default.
    timesteps: 0..999 of the model's noise schedule, empty for the preset's own; draws: noise
    samples averaged per timestep.
    noise: "added" as the model's schedule says, or "none": the UNet reads the clean latent and the
    timestep as it is given, which weights tuned for it need (CleanDIFT, Stracke et al. 2024).
    posterior: the VAE's latent as its mean, or sampled as the authors' released code does.
    precision: what the backbone computes in; None for the lab's, which is what BLIP and CLIP use.
    resolution: the shorter side in pixels, None for the model's own; squash: ignore the aspect.
    resize: how a picture gets a diffusion model's size: Pillow's Lanczos filter, as diffusers
    resizes, or its bilinear one, as the authors' released code does.
    attention: how strongly cells answer words joins the features, a map for each head and word at
    every cross-attention query among the layers; the words are those of the candidates or of the
    whole vocabulary. The paper's last stage.
    """

    layers: tuple[str, ...] = ()
    timesteps: tuple[int, ...] = ()
    draws: int = 1
    seed: int = 0
    prompt: str = ""
    resolution: int | None = None
    squash: bool = False
    resize: Literal["lanczos", "bilinear"] = "lanczos"
    noise: Literal["added", "none"] = "added"
    posterior: Literal["mean", "sample"] = "mean"
    precision: Precision | None = None
    attention: Literal["none", "candidates", "vocabulary"] = "none"

    def __post_init__(self) -> None:
        _check_types(self)
        _check_positive(self, "draws")
        _check_seed(self)
        if self.resolution is not None:
            _check_positive(self, "resolution")
        for timestep in self.timesteps:
            _check_timestep(timestep)
        if self.noise == "none" and self.draws > 1:
            raise FslabError(
                f"extraction.draws is {self.draws} with noise='none'; a clean latent has one pass"
            )
        if len(set(self.timesteps)) != len(self.timesteps):
            raise FslabError(f"timesteps {list(self.timesteps)} name one timestep twice")


@dataclass(frozen=True)
class Clustering:
    """How features become segments.

    method: "kmeans", "agglomerative" (Ward) and "spectral" cluster cells into K; "ncut" cuts
    their graph again and again, and "merge" unites self-attention maps: both find K.
    k: clusters; with k_is="candidates" what is added to the number of candidate classes, and
    with "silhouette" the largest number tried, from 2 up. also: further values of K; their
    segments come beside the first ones and have a say where match.assignment is "vote".
    normalise: "l2" gives every cell of every layer unit length before layers are joined.
    position: weight of the cell's row and column as two more channels, relative to one
    standard deviation of the features; 0 leaves them out.
    grid: the side, in cells, of the common grid that layers are resized to; None takes the
    finest layer's grid. upsample: "features" interpolates before pixels choose their cluster,
    "nearest" repeats the cell's label, as the released code does.
    tau: "ncut" cuts while a cut costs less (0 is free, 2 the most). alpha: the exponent of
    cosines as the graph's edges, for "ncut" and "spectral". anchors, rounds, threshold: "merge"
    starts from a grid of anchors by anchors cells and unites, round after round, maps whose
    divergence is below the threshold; normalise and position are nothing to it.
    """

    method: Literal["kmeans", "agglomerative", "spectral", "ncut", "merge"] = "kmeans"
    k: int = 4
    k_is: Literal["fixed", "candidates", "silhouette"] = "fixed"
    also: tuple[int, ...] = ()
    normalise: Literal["none", "l2"] = "none"
    position: float = 0.0
    grid: int | None = None
    upsample: Literal["features", "nearest"] = "features"
    restarts: int = 10
    seed: int = 0
    tau: float = 0.5
    alpha: float = 10.0
    anchors: int = 16
    rounds: int = 3
    threshold: float = 1.0

    def __post_init__(self) -> None:
        _check_types(self)
        _check_positive(self, "restarts", "anchors", "rounds")
        _check_most(self, "restarts", "rounds")
        _check_seed(self)
        if self.k_is == "fixed":
            _check_positive(self, "k")
        if self.also and (self.k_is != "fixed" or self.method in ("ncut", "merge")):
            raise FslabError(
                f"clustering.also is {list(self.also)}; it goes with a fixed K, not with "
                f"k_is={self.k_is!r} and method={self.method!r}"
            )
        if min(self.also, default=1) < 1:
            raise FslabError(f"clustering.also is {list(self.also)}; each K is 1 or more")
        if self.k_is == "silhouette" and self.k < 2:
            raise FslabError(f"clustering.k is {self.k}; a silhouette compares 2 clusters or more")
        if self.grid is not None:
            _check_positive(self, "grid")
        for name in ("position", "tau"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise FslabError(f"clustering.{name} is {getattr(self, name)!r}; it is 0 or more")
        for name in ("alpha", "threshold"):
            if not 0 < getattr(self, name) < float("inf"):
                raise FslabError(f"clustering.{name} is {getattr(self, name)!r}; it is above 0")


@dataclass(frozen=True)
class Captioning:
    """How candidate classes are found.

    words: "closed" maps caption nouns to the nearest classes, "open" adds the nouns to
    the vocabulary, "all" asks no captioner and takes every class.
    mapping: "embedding" compares mean text embeddings by correlation, as the released code
    does; "name" takes a noun that is a class name or synonym and drops the others.
    encoder: whose text embeddings: the diffusion model's own, CLIP's, or the preset's choice.
    compounds: with "embedding", a class of several words is one "phrase", or the mean over its
    "words", each said by itself, as in the released code.
    nouns: "distinct" takes them in the singular and each once, "written" as they stand in the
    caption and as often, as the released code does. adjectives: an adjective counts too, as the
    word that it belongs to or, with words="open", before that word; the released code's rule,
    which needs the parse of tagger="spacy".
    prompted: the caption begins with the prompt that the captioner was trained with, which is
    the preset's, and is given without it. beams: sentences kept in play. min_length, max_length:
    tokens of the whole sequence, the start token and the prompt counted; max_length takes the
    place of max_new_tokens, which counts what follows the prompt.
    """

    words: Literal["closed", "open", "all"] = "closed"
    mapping: Literal["embedding", "name"] = "embedding"
    encoder: Literal["preset", "diffusion", "clip"] = "preset"
    compounds: Literal["phrase", "words"] = "phrase"
    tagger: Literal["textblob", "spacy"] = "textblob"
    nouns: Literal["distinct", "written"] = "distinct"
    adjectives: bool = False
    prompted: bool = False
    max_new_tokens: int = 20
    beams: int = 1
    min_length: int = 0
    max_length: int | None = None

    def __post_init__(self) -> None:
        _check_types(self)
        _check_positive(self, "max_new_tokens", "beams")
        if self.max_length is not None:
            _check_positive(self, "max_length")
        if self.min_length < 0:
            raise FslabError(
                f"captioning.min_length is {self.min_length}; it is a whole number from 0 up"
            )
        if self.max_length is not None and self.min_length > self.max_length:
            raise FslabError(
                f"captioning.min_length is {self.min_length} and max_length {self.max_length}; "
                "the first is at most the second"
            )
        if self.adjectives and self.tagger != "spacy":
            raise FslabError(
                "captioning.adjectives needs a parse of the caption, and tagger "
                f"{self.tagger!r} has none; set tagger='spacy' too"
            )


def _is_template(text: str) -> bool:
    return "{}" in text and text.count("{") == text.count("}") == 1


@dataclass(frozen=True)
class Matching:
    """How segments are named.

    view: what CLIP sees of a segment: "masked" (whole frame, black elsewhere), "box" (the
    segment's bounding box, nothing hidden), "mean" (whole frame, mean colour elsewhere),
    "masked-box" and "mean-box" (the same two, cropped to the box). margin: context around a
    box, as a share of its longer side.
    tokens: a segment is read by its mask token too (`fslab.match.Patches`), and its logits are the
    mean of the view's and the token's. views_up_to: where there are more segments, tokens alone
    read them, all in one pass; a view is a pass of its own.
    templates: each holds one "{}" and no other braces.
    background: words that are scored too and mean class 0.
    compete: texts that are scored: the whole vocabulary, or the candidates only.
    probabilities: "softmax" over those texts, or "sigmoid": each text by itself, as SigLIP was
    trained; CLIP has none. A segment's best text is the same in both; shares, and so the best
    segment of a class and votes, are not.
    assignment: "one-per-class" (a class keeps only its best segment, as the paper), "argmax", or
    "vote": a pixel's class is the most probable one on the mean of all its segments.
    attention: with "vote", the weight of the diffusion model's own evidence, cross-attention to
    the candidates' words, beside CLIP's; 0 leaves it out. attention_layers, attention_timestep,
    attention_draws: where it is read, and how many draws of noise are averaged.
    """

    view: Literal["masked", "box", "mean", "masked-box", "mean-box"] = "masked"
    margin: float = 0.0
    tokens: bool = False
    views_up_to: int = 6
    templates: tuple[str, ...] = ("{}",)
    synonyms: bool = False
    background: tuple[str, ...] = ()
    compete: Literal["vocabulary", "candidates"] = "vocabulary"
    probabilities: Literal["softmax", "sigmoid"] = "softmax"
    assignment: Literal["one-per-class", "argmax", "vote"] = "one-per-class"
    attention: float = 0.0
    attention_layers: tuple[str, ...] = ("*attn2.to_q",)
    attention_timestep: int = 300
    attention_draws: int = 1

    def __post_init__(self) -> None:
        _check_types(self)
        _check_positive(self, "attention_draws")
        _check_timestep(self.attention_timestep)
        if not 0 <= self.attention < float("inf"):
            raise FslabError(f"matching.attention is {self.attention!r}; it is 0 or more")
        if self.attention and self.assignment != "vote":
            raise FslabError(
                f"matching.attention is {self.attention!r}; it counts with assignment='vote' only, "
                f"and assignment is {self.assignment!r}"
            )
        if not self.templates or not all(map(_is_template, self.templates)):
            raise FslabError(
                f"matching.templates is {self.templates!r}; each template holds one {{}}, "
                "and no other braces"
            )
        if not all(map(str.strip, self.background)):
            raise FslabError(
                f"matching.background is {self.background!r}; a blank word says nothing"
            )
        if not 0 <= self.margin < float("inf"):
            raise FslabError(f"matching.margin is {self.margin!r}; it is 0 or more")
        if self.views_up_to < 0:
            raise FslabError(
                f"matching.views_up_to is {self.views_up_to}; it is a whole number from 0 up"
            )

    def shows(self, segments: int) -> bool:
        """Tell whether CLIP is shown views of so many segments; mask tokens read them otherwise."""
        return not self.tokens or segments <= self.views_up_to


@dataclass(frozen=True)
class Refinement:
    """How a label map is sharpened; the defaults are the released code's.

    method: "crf" runs one dense CRF per binary mask, "crf-joint" one over all labels present,
    "pamr" pixel-adaptive mask refinement; the last two start from the beliefs of a map that
    segments voted on, where it has them. Widths are in pixels (`*_sxy`) and grey levels
    (`*_srgb`); certainty is the probability that a given label is right. engine: what runs the
    CRFs, "fslab" or, to compare with, "pydensecrf", which is an extra.
    """

    method: Literal["none", "crf", "crf-joint", "pamr"] = "crf"
    iterations: int = 10
    certainty: float = 0.9
    gaussian_sxy: float = 20.0
    gaussian_compat: float = 5.0
    bilateral_sxy: float = 20.0
    bilateral_srgb: float = 20.0
    bilateral_compat: float = 100.0
    dilations: tuple[int, ...] = (1, 2, 4, 8, 12, 24)
    engine: Literal["fslab", "pydensecrf"] = "fslab"

    def __post_init__(self) -> None:
        _check_types(self)
        _check_positive(self, "iterations")
        _check_most(self, "iterations")
        if not 0.5 < self.certainty < 1:
            raise FslabError(
                f"refinement.certainty is {self.certainty!r}; it lies between 0.5 and 1"
            )
        if not self.dilations or min(self.dilations) < 1:
            raise FslabError(f"refinement.dilations is {self.dilations}; all are 1 or more")
        for name in ("gaussian_sxy", "bilateral_sxy", "bilateral_srgb"):
            if not 0 < getattr(self, name) < float("inf"):
                raise FslabError(f"refinement.{name} is {getattr(self, name)!r}; it is above 0")


@dataclass(frozen=True)
class Recipe:
    """Everything that changes a number, stage by stage; `digest` names the result."""

    name: str = "custom"
    extract: Extraction = field(default_factory=Extraction)
    cluster: Clustering = field(default_factory=Clustering)
    caption: Captioning = field(default_factory=Captioning)
    match: Matching = field(default_factory=Matching)
    refine: Refinement = field(default_factory=Refinement)

    @cached_property
    def digest(self) -> str:
        """Name of the settings; the recipe's own name plays no part."""
        return digest_of({key: value for key, value in self.to_dict().items() if key != "name"})

    def to_dict(self) -> dict[str, Any]:
        """Return plain dicts and tuples, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Recipe:
        """Return the recipe that `to_dict` gave, or one from a part of its keys."""
        recipe = cls(name=data.get("name", "custom"))
        flat = {
            f"{stage}.{key}": value
            for stage, part in data.items()
            if isinstance(part, Mapping)
            for key, value in part.items()
        }
        return recipe.change(flat)

    def change(self, settings: Mapping[str, Any] | None = None, name: str | None = None) -> Recipe:
        """Return a copy with dotted settings replaced: `recipe.change({"cluster.k": 6})`."""
        parts: dict[str, dict[str, Any]] = {}
        for dotted, value in (settings or {}).items():
            stage, _, key = dotted.partition(".")
            part = getattr(self, stage, None)
            known = {entry.name for entry in fields(part)} if is_dataclass(part) else set()
            if key not in known:
                raise FslabError(
                    f"a recipe has no setting {dotted!r}; {_settings_help(self, stage)}"
                )
            parts.setdefault(stage, {})[key] = value
        changed = {stage: replace(getattr(self, stage), **new) for stage, new in parts.items()}
        return replace(self, **changed, name=name or self.name)


def _settings_help(recipe: Recipe, stage: str) -> str:
    part = getattr(recipe, stage, None)
    if is_dataclass(part):
        return f"{stage} has " + ", ".join(entry.name for entry in fields(part))
    return "its stages are " + ", ".join(
        entry.name for entry in fields(recipe) if entry.name != "name"
    )
