"""Everything that changes a number, stage by stage."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any, ClassVar, Literal

from fslab.errors import FslabError
from fslab.html import line, table
from fslab.parts import named_object
from fslab.records.banks import FromBank
from fslab.records.base import described, digest_of
from fslab.records.checks import (
    Precision,
    check_most,
    check_positive,
    check_range,
    check_seed,
    check_timestep,
    check_types,
)
from fslab.records.clusterings import Clustering, KMeans, OwnClustering, clustering
from fslab.records.reading import Reading, check_weights
from fslab.records.refinements import MaskCrfs, OwnRefinement, Refinement, refinement
from fslab.records.stage import Methods, Own, Settings, Stage


@dataclass(frozen=True)
class Extraction(Stage):
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
    prompted: what the pass is conditioned on: the prompt as it is "given", or what is found of each
    picture: its "candidates", "a photo of a dog and a car", or its "caption", with the candidates
    behind it that it does not name. Words beyond what the text encoder reads are left out, and
    where a picture has no caption, as the candidates were given, there are those alone.
    mirrored: maps are the mean of the picture's and of its mirror image's, mirrored back; evidence
    and self-attention that a recipe reads likewise. Noise is not mirrored.
    """

    stage: ClassVar[str] = "extraction"

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
    prompted: Literal["given", "candidates", "caption"] = "given"
    mirrored: bool = False

    def __post_init__(self) -> None:
        check_types(self)
        check_positive(self, "draws")
        check_seed(self)
        if self.resolution is not None:
            check_positive(self, "resolution")
        for timestep in self.timesteps:
            check_timestep(timestep)
        if self.noise == "none" and self.draws > 1:
            raise FslabError(
                f"extraction.draws is {self.draws} with noise='none'; a clean latent has one pass"
            )
        if self.prompt and self.prompted != "given":
            raise FslabError(
                f"extraction.prompt is {self.prompt!r} and prompted {self.prompted!r}, which makes "
                "another of each picture; leave out one of them"
            )
        if len(set(self.timesteps)) != len(self.timesteps):
            raise FslabError(f"timesteps {list(self.timesteps)} name one timestep twice")


@dataclass(frozen=True)
class Captioning(Stage):
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
    purify: candidates are dropped whose map by CLIP agrees less than this with itself spread by
    self-attention, see `fslab.match.consistency`; 0 keeps all. purify_layers, purify_timestep: of
    which self-attention, on the clean latent without a prompt.
    """

    stage: ClassVar[str] = "captioning"

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
    purify: float = 0.0
    purify_layers: tuple[str, ...] = ("up_blocks.1.*.attn1.probs",)
    purify_timestep: int = 0

    def __post_init__(self) -> None:
        check_types(self)
        check_positive(self, "max_new_tokens", "beams")
        if self.max_length is not None:
            check_positive(self, "max_length")
        if self.min_length < 0:
            raise FslabError(
                f"captioning.min_length is {self.min_length}; it must be a whole number from 0 up"
            )
        if self.max_length is not None and self.min_length > self.max_length:
            raise FslabError(
                f"captioning.min_length is {self.min_length} and max_length {self.max_length}; "
                "the first must be at most the second"
            )
        check_timestep(self.purify_timestep)
        if not 0 <= self.purify <= 0.5:
            raise FslabError(
                f"captioning.purify is {self.purify!r}; it must lie between 0 and 0.5, which no "
                "map exceeds"
            )
        if self.adjectives and self.tagger != "spacy":
            raise FslabError(
                "captioning.adjectives needs a parse of the caption, and tagger "
                f"{self.tagger!r} has none; set tagger='spacy' too"
            )


def _is_template(text: str) -> bool:
    return "{}" in text and text.count("{") == text.count("}") == 1


@dataclass(frozen=True)
class Matching(FromBank):
    """How segments are named; how CLIP reads their regions in one pass is in `Regions`, and how
    regions of other pictures help is in `FromBank`.

    view: what CLIP sees of a segment: "masked" (whole frame, black elsewhere), "box" (the
    segment's bounding box, nothing hidden), "mean" (whole frame, mean colour elsewhere),
    "masked-box" and "mean-box" (the same two, cropped to the box). margin: context around a
    box, as a share of its longer side.
    tokens: a segment is read by its mask token too (`fslab.match.Patches`), and its logits are the
    mean of the view's and the token's. views_up_to: where there are more segments, tokens or
    regions alone read them, all in one pass; a view is a pass of its own.
    templates: each holds one "{}" and no other braces.
    background: words that are scored too and mean class 0.
    compete: texts that are scored: the whole vocabulary, or the candidates only.
    probabilities: "softmax" over those texts, or "sigmoid": each text by itself, as SigLIP was
    trained; CLIP has none. A segment's best text is the same in both; shares, and so the best
    segment of a class and votes, are not.
    temperature: what cosines are multiplied by first; None for what CLIP learnt.
    assignment: "one-per-class" (a class keeps only its best segment, as the paper), "argmax",
    "majority" (the text that most of a segment's cells take, which regions="scoped" reads),
    "vote": a pixel's class is the most probable one on the mean of all its segments, or
    "evidence": the diffusion model's evidence alone names pixels, and CLIP is not asked.
    threshold: with "argmax" and "majority", a segment or a cell whose best text has less
    probability is background.
    attention: with "vote", the weight of the diffusion model's own evidence, cross-attention to
    the candidates' words, beside CLIP's; 0 leaves it out. attention_layers, attention_timestep,
    attention_draws: where it is read, and how many draws of noise are averaged; the picture's size,
    the precision and whether there is noise are as for the features.
    attention_background: the prompt names the background words too. attention_over,
    attention_heads, attention_weights (of layers), attention_blur, attention_scaled,
    attention_spread: how maps are made of it, see `Reading`.
    attention_pass: the pass has the prompt of the "words", or that of the "features", whose cells
    then meet the keys of the words' own prompt (`Reading.said`), as FA-Seg (2026) does. It is the
    features' own where `Extraction.prompted` says so. attention_grids, attention_spread_grids:
    what the grids of cells weigh, the coarsest first (`Reading.grids`, `spread_grids`).
    spread_layers: self-attention (paths that end in probs) by which the beliefs of a vote or of
    evidence are spread over the picture, `fslab.match.spread_beliefs`; none where it is empty.
    spread_timestep, spread_noise: of its pass, which has no prompt. spread_confident: cells start
    with their "strongest" label alone, or with "all". spread_steps: of the Markov chain, at most;
    spread_change: it ends before where a step changes a map by less than this share of it.
    spread_soonest: labels that settle sooner count for more, by one over their steps.
    spread_share: of the spread beliefs, the rest is of the beliefs as they were.
    spread_trust: beliefs spread over the picture's colours too, as `fslab.refine.walk` has it with
    this trust in them beside their neighbours'; 0 leaves it out.
    """

    stage: ClassVar[str] = "matching"

    view: Literal["masked", "box", "mean", "masked-box", "mean-box"] = "masked"
    margin: float = 0.0
    tokens: bool = False
    views_up_to: int = 6
    templates: tuple[str, ...] = ("{}",)
    synonyms: bool = False
    background: tuple[str, ...] = ()
    compete: Literal["vocabulary", "candidates"] = "vocabulary"
    probabilities: Literal["softmax", "sigmoid"] = "softmax"
    assignment: Literal["one-per-class", "argmax", "majority", "vote", "evidence"] = "one-per-class"
    attention: float = 0.0
    attention_layers: tuple[str, ...] = ("*attn2.to_q",)
    attention_timestep: int = 300
    attention_draws: int = 1
    attention_background: bool = False
    attention_over: Literal["text", "words"] = "text"
    attention_heads: Literal["mean", "agreement"] = "mean"
    attention_weights: Literal["mean", "likeness"] = "mean"
    attention_blur: float = 0.0
    attention_scaled: bool = False
    attention_spread: int = 0
    attention_pass: Literal["words", "features"] = "words"
    attention_grids: tuple[float, ...] = ()
    attention_spread_grids: tuple[float, ...] = ()
    spread_layers: tuple[str, ...] = ()
    spread_timestep: int = 0
    spread_noise: Literal["added", "none"] = "none"
    spread_confident: Literal["strongest", "all"] = "strongest"
    spread_steps: int = 50
    spread_change: float = 0.3
    spread_soonest: bool = True
    spread_share: float = 1.0
    spread_trust: float = 0.0
    temperature: float | None = None
    threshold: float = 0.0

    def __post_init__(self) -> None:
        check_types(self)
        self.check_regions()
        self.check_bank()
        self._check_scores()
        check_positive(self, "attention_draws")
        check_timestep(self.attention_timestep)
        if not 0 <= self.attention < float("inf"):
            raise FslabError(f"matching.attention is {self.attention!r}; it must be 0 or more")
        self._check_beliefs()
        if self.attention and self.assignment != "vote":
            raise FslabError(
                f"matching.attention is {self.attention!r}; it counts with assignment='vote' only, "
                f"and assignment is {self.assignment!r}"
            )
        if not self.templates or not all(map(_is_template, self.templates)):
            raise FslabError(
                f"matching.templates is {self.templates!r}; each template must hold one {{}}, "
                "and no other braces"
            )
        if not all(map(str.strip, self.background)):
            raise FslabError(
                f"matching.background is {self.background!r}; a blank word says nothing"
            )
        if not 0 <= self.margin < float("inf"):
            raise FslabError(f"matching.margin is {self.margin!r}; it must be 0 or more")
        if self.views_up_to < 0:
            raise FslabError(
                f"matching.views_up_to is {self.views_up_to}; it must be a whole number from 0 up"
            )

    def _check_beliefs(self) -> None:
        """Refuse readings out of range, and a spread where there are no beliefs."""
        check_range(self, 0, "attention_blur", "attention_spread", "spread_change", "spread_trust")
        check_most(self, "attention_spread", "spread_steps")
        check_weights(self, "attention_grids", "attention_spread_grids")
        if self.attention_spread_grids and not self.attention_spread:
            raise FslabError(
                f"matching.attention_spread_grids is {list(self.attention_spread_grids)} and "
                "attention_spread 0, which spreads nothing; set attention_spread too"
            )
        check_positive(self, "spread_steps")
        check_timestep(self.spread_timestep)
        if not 0 <= self.spread_share <= 1:
            raise FslabError(
                f"matching.spread_share is {self.spread_share!r}; it must lie between 0 and 1"
            )
        spread = {"spread_layers": self.spread_layers, "spread_trust": self.spread_trust}
        asked = next((name for name, value in spread.items() if value), None)
        if asked and self.assignment not in ("vote", "evidence"):
            raise FslabError(
                f"matching.{asked} is {spread[asked]!r}; beliefs are spread with "
                f"assignment='vote' or 'evidence' only, and assignment is {self.assignment!r}"
            )

    @property
    def reading(self) -> Reading:
        """How attention to words is read."""
        return Reading(
            self.background if self.attention_background else (), self.attention_over,
            self.attention_heads, self.attention_weights, self.attention_blur,
            self.attention_scaled, self.attention_spread, grids=self.attention_grids,
            spread_grids=self.attention_spread_grids,
        )  # fmt: skip

    def _check_scores(self) -> None:
        if self.temperature is not None:
            check_range(self, 0, "temperature", above=True)
        if not 0 <= self.threshold < 1:
            raise FslabError(
                f"matching.threshold is {self.threshold!r}; it must be from 0 to below 1"
            )
        if self.threshold and self.assignment not in ("argmax", "majority"):
            raise FslabError(
                f"matching.threshold is {self.threshold!r}; it goes with assignment='argmax' or "
                f"'majority', and assignment is {self.assignment!r}"
            )
        if self.assignment == "majority" and self.regions != "scoped":
            raise FslabError(
                "matching.assignment is 'majority', which counts a segment's cells; set "
                f"regions='scoped', which reads them, where regions is {self.regions!r}"
            )

    def shows(self, segments: int) -> bool:
        """Tell whether CLIP is shown views of so many segments; tokens or regions read them
        otherwise."""
        other = self.tokens or self.regions != "none"
        return not other or segments <= self.views_up_to


@dataclass(frozen=True)
class OwnExtraction(Own, Extraction):
    """A function of one's own from a `Picture` to its `Features`."""


@dataclass(frozen=True)
class OwnCaptioning(Own, Captioning):
    """A function of one's own from a `Picture` to its `Caption`; a parameter called vocabulary is
    given the classes that there are."""


@dataclass(frozen=True)
class OwnMatching(Own, Matching):
    """A function of one's own from a `Picture`, its `Segments` and the candidates' names to a
    `LabelMap`; a parameter called vocabulary is given the classes that there are."""


@dataclass(frozen=True)
class Recipe:
    """Everything that changes a number, stage by stage; `digest` names the result."""

    name: str = "custom"
    extract: Extraction = field(default_factory=Extraction)
    cluster: Clustering = field(default_factory=KMeans)
    caption: Captioning = field(default_factory=Captioning)
    match: Matching = field(default_factory=Matching)
    refine: Refinement = field(default_factory=MaskCrfs)

    def __repr__(self) -> str:
        lines = []
        for stage in STAGES:
            how, changed, _ = _said(getattr(self, stage))
            lines.append(
                f"  {stage}: {', '.join([*([how] if how else []), *changed]) or 'as usual'}"
            )
        return "\n".join([f"Recipe({self.name!r})", *lines])

    def _repr_html_(self) -> str:
        rows = []
        for stage in STAGES:
            how, changed, usual = _said(getattr(self, stage))
            rows.append(
                {
                    "stage": stage,
                    "method": how,
                    "differs from the defaults": ", ".join(changed),
                    "is as by default": ", ".join(usual),
                }
            )
        return line(repr(self).partition("\n")[0]) + table(rows)

    @cached_property
    def digest(self) -> str:
        """Name of the settings; the recipe's own name plays no part."""
        return digest_of({key: value for key, value in self.to_dict().items() if key != "name"})

    def to_dict(self) -> dict[str, Any]:
        """Return plain dicts and tuples, for JSON."""
        return {"name": self.name, **{stage: getattr(self, stage).to_dict() for stage in STAGES}}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Recipe:
        """Return the recipe that `to_dict` gave, or one from a part of its keys.

        A recipe of version 0.1, which has the settings of all methods, is read where those of
        other methods have their defaults. Raises FslabError for what a recipe does not have, and
        for a function of one's own that is not the one that the recipe was made with.
        """
        if not isinstance(data, Mapping) or not isinstance(data.get("name", ""), str):
            raise FslabError(f"{data!r:.80} is not a recipe; give what Recipe.to_dict returns")
        recipe = cls(name=data.get("name", "custom"))
        for stage, part in data.items():
            if stage == "name":
                continue
            if stage not in STAGES or not isinstance(part, Mapping):
                raise FslabError(f"a recipe has no {stage!r}: {part!r:.80}; {_STAGES_ARE}")
            recipe = replace(recipe, **{stage: _read(recipe, stage, part)})
        return recipe

    def change(self, settings: Mapping[str, Any] | None = None, name: str | None = None) -> Recipe:
        """Return a copy with dotted settings replaced: `recipe.change({"cluster.k": 6})`.

        Another method keeps the settings that it has too: `{"cluster.method": "ncut"}`. A stage
        by its own name takes a record of its settings, or a function of one's own, which may be
        said as "package.module:function". Raises FslabError for what a stage does not have.
        """
        parts: dict[str, dict[str, Any]] = {}
        recipe = self
        for dotted, value in (settings or {}).items():
            stage, dot, key = dotted.partition(".")
            if stage not in STAGES:
                raise FslabError(f"a recipe has no setting {dotted!r}; {_STAGES_ARE}")
            if dot:
                parts.setdefault(stage, {})[key] = value
            else:
                recipe = replace(recipe, **{stage: whole_stage(stage, value)})
        changed = {stage: _changed(recipe, stage, new) for stage, new in parts.items()}
        return replace(recipe, **changed, name=name or self.name)

    def renewed(self) -> Recipe:
        """Return the same recipe, with functions of one's own looked at again."""
        return replace(self, **{stage: getattr(self, stage).renewed() for stage in STAGES})


_Kinds = tuple[type[Stage], type[Any]]

STAGES: Mapping[str, _Kinds] = {
    "extract": (Extraction, OwnExtraction),
    "cluster": (Clustering, OwnClustering),
    "caption": (Captioning, OwnCaptioning),
    "match": (Matching, OwnMatching),
    "refine": (Refinement, OwnRefinement),
}
"""The settings of each stage, and what holds a function of one's own in their place."""

METHODS: Mapping[str, Methods[Any]] = {"cluster": clustering, "refine": refinement}
"""The methods of the stages that can be done in several ways."""

_STAGES_ARE = f"its stages are {', '.join(STAGES)}"


def _said(part: Any) -> tuple[str, list[str], list[str]]:
    """Return a stage's method, its settings that differ from its defaults, and the others."""
    how = part.method if isinstance(part, (Own, Settings)) else ""
    if isinstance(part, Own):
        return how, [], []
    usual = type(part)()
    sides: tuple[list[str], list[str]] = ([], [])
    for entry in fields(part):
        value = getattr(part, entry.name)
        sides[value == getattr(usual, entry.name)].append(f"{entry.name}={value!r}")
    return how, *sides


def whole_stage(stage: str, given: Any, **settings: Any) -> Any:
    """Return what stands for a whole stage.

    given: a method's name, with settings; or a record of settings, a function of one's own, or
    its name, "package.module:function". FslabError for anything else.
    """
    usual, own = STAGES[stage]
    if isinstance(given, str) and ":" not in given and stage in METHODS:
        return METHODS[stage].settings(given, **settings)
    if settings:
        raise FslabError(
            f"{stage} is {described(given)} and comes whole; {', '.join(settings)} cannot be set "
            "beside it"
        )
    if isinstance(given, usual):
        return given
    return own(function=named_object(given) if isinstance(given, str) else given)


def _changed(recipe: Recipe, stage: str, new: Mapping[str, Any]) -> Any:
    """Return a stage with some settings replaced."""
    before = getattr(recipe, stage)
    if isinstance(before, Own):
        raise FslabError(
            f"{stage} is {before.method}, a function of one's own, which has no settings: "
            f"{', '.join(new)}; give it what it needs by functools.partial"
        )
    methods = METHODS.get(stage)
    known = [entry.name for entry in fields(before)]
    if methods is not None and "method" in new:
        has = {entry.name for entry in fields(methods.find(new["method"]).settings)}
        kept = {name: getattr(before, name) for name in known if name in has}
        asked = {**kept, **new}
        return methods.settings(asked.pop("method"), **asked)
    unknown = [name for name in new if name not in known]
    if unknown and methods is not None:
        methods.settings(before.method, **new)  # which says whose it is
    if unknown:
        raise FslabError(
            f"a recipe has no setting {f'{stage}.{unknown[0]}'!r}; {stage} has {', '.join(known)}"
        )
    return replace(before, **new)


def _read(recipe: Recipe, stage: str, part: Mapping[str, Any]) -> Any:
    """Return a stage of a recipe that was written down."""
    part = dict(part)
    identity = part.pop("identity", None)
    if "own" in part:
        found = whole_stage(stage, part.pop("own"), **part)
    else:
        methods = METHODS.get(stage)
        if methods is not None:
            method = part.get("method", getattr(recipe, stage).method)
            part = methods.without_others(method, part)
        found = _changed(recipe, stage, part)
    if identity is not None and identity != found.identity:
        raise FslabError(
            f"{stage} was {identity}, and is {found.identity} now: its code is another; make the "
            "recipe again"
        )
    return found
