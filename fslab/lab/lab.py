"""The lab: holds the models, loads each at its first use, and offers stages and methods."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from fslab.datasets import VOC
from fslab.lab.clock import Clock
from fslab.lab.memory import Memory
from fslab.lab.models import Models
from fslab.lab.recipes import METHODS, find_recipe
from fslab.records import (
    Caption,
    Captioning,
    Clustering,
    Extraction,
    Features,
    FslabError,
    LabelMap,
    Matching,
    Picture,
    Recipe,
    Refinement,
    Segments,
    Vocabulary,
)

if TYPE_CHECKING:
    from fslab.backbones import Layer
    from fslab.match import Match


@dataclass(frozen=True, eq=False)
class Result:
    """One picture's way through a method, every stage kept.

    named: the label map before refinement; seconds: by stage, a model's loading included in
    the first stage that uses it.
    """

    picture: Picture
    recipe: Recipe
    vocabulary: Vocabulary
    caption: Caption
    features: Features
    segments: Segments
    named: LabelMap
    labels: LabelMap
    seconds: Mapping[str, float]


class Lab(Models):
    """Models and a store behind the stages of the method; nothing is loaded before it is used.

    preset: "mini", "sd14", "sd15", "sd21", "ssd1b", or a folder in diffusers or transformers
    format. backbone: takes the features from elsewhere and leaves the text side as it is: a
    folder, a hub id in the cache, or a baseline ("rgb", "handmade", or "random" for the
    preset's own network untrained). store: a folder, an fsspec url or a `Store`.
    Raises FslabError for a preset that is not there; missing weights are said at first use.
    """

    @cached_property
    def _memory(self) -> Memory:
        return Memory(self.store, self.device)

    def layers(self) -> tuple[Layer, ...]:
        """List the backbone's layers, with channels and stride in pixels; loads no weights."""
        from fslab.extract import listed_layers

        return listed_layers(self.backbone, self.store)

    def recipe(self, method: str | Recipe = "freeseg-diff") -> Recipe:
        """Return a method's recipe, with what this backbone fills in or imposes.

        The layers and timesteps that a method names are a UNet's: another backbone takes its own.
        """
        from fslab.extract import complete

        recipe = find_recipe(method)
        cluster = replace(recipe.cluster, **self.backbone.imposed)
        extraction = recipe.extract
        if self.backbone.timestep is None:
            own = {known.extract.layers for known in METHODS.values()}
            layers = () if extraction.layers in own else extraction.layers
            extraction = replace(extraction, layers=layers, timesteps=())
        return replace(recipe, extract=complete(extraction, self.backbone), cluster=cluster)

    def extract(
        self,
        picture: Picture,
        layers: Sequence[str] | str = (),
        timestep: int | Sequence[int] | None = None,
        seed: int = 0,
        **settings: Any,
    ) -> Features:
        """Return the named layers' maps f32 [C, h, w], from the store where they are.

        layers: module paths or patterns, the preset's own if empty; timestep: one, or several
        for a map each; settings: the rest of `Extraction`. Raises FslabError for a layer or a
        timestep that does not exist.
        """
        timesteps = () if timestep is None else tuple(np.atleast_1d(timestep).tolist())
        layers = (layers,) if isinstance(layers, str) else tuple(layers)
        return self._extract(
            picture, _build(Extraction, layers=layers, timesteps=timesteps, seed=seed, **settings)
        )

    def attention(
        self,
        picture: Picture,
        words: Sequence[str],
        prompt: str | None = None,
        layers: Sequence[str] = ("*attn2.to_q",),
        timestep: int | None = None,
        **settings: Any,
    ) -> dict[str, np.ndarray]:
        """Return where each word looks: f32 [h, w] of 0..1 by word, on the finest layer's grid.

        prompt: a sentence that holds the words, else "a photo of" them. layers: cross-attention
        queries. settings: the rest of `Extraction`. Raises FslabError for a word that the prompt
        does not hold, and for a backbone that reads no text.
        """
        from fslab.backbones import StableDiffusion, word_attention
        from fslab.extract import complete

        backbone = self.backbone
        if not isinstance(backbone, StableDiffusion):
            raise FslabError(f"{backbone.name} reads no text, so it has no attention to words")
        prompt = prompt or f"a photo of {' and '.join(f'a {word}' for word in words)}"
        steps = () if timestep is None else (timestep,)
        part = _build(Extraction, layers=layers, timesteps=steps, prompt=prompt, **settings)
        part = complete(part, backbone)
        size = backbone.input_size(picture, part)
        inputs = ["attention-1", backbone.fingerprint, picture.digest, tuple(words), asdict(part)]
        maps = self._memory.array(
            inputs, lambda: word_attention(backbone, picture, size, words, part).numpy()
        )
        return dict(zip(words, maps, strict=True))

    def cluster(self, features: Features, candidates: int = 0, **settings: Any) -> Segments:
        """Return segments at the picture's size; settings as in `Clustering`."""
        return self._cluster(features, _build(Clustering, **settings), candidates)

    def caption(self, picture: Picture, vocabulary: Vocabulary = VOC, **settings: Any) -> Caption:
        """Caption a picture and find its candidate classes; settings as in `Captioning`.

        With words="open" candidates may lie outside the vocabulary: match them in
        `vocabulary.extended(caption.candidates)`.
        """
        return self._caption(picture, vocabulary, _build(Captioning, **settings))[0]

    def match(
        self,
        picture: Picture,
        segments: Segments,
        candidates: Sequence[str],
        vocabulary: Vocabulary = VOC,
        **settings: Any,
    ) -> LabelMap:
        """Name segments among the candidates; settings as in `Matching`."""
        return self._match(picture, segments, vocabulary, candidates, _build(Matching, **settings))

    def score_segments(
        self,
        picture: Picture,
        segments: Segments,
        candidates: Sequence[str],
        vocabulary: Vocabulary = VOC,
        **settings: Any,
    ) -> Match:
        """Return CLIP's whole matrix of segments against texts; settings as in `Matching`."""
        return self._score(picture, segments, vocabulary, candidates, _build(Matching, **settings))

    def refine(self, picture: Picture, labels: LabelMap, **settings: Any) -> LabelMap:
        """Sharpen a label map on the picture's edges; settings as in `Refinement`."""
        return self._refine(picture, labels, _build(Refinement, **settings))

    def segments(self, picture: Picture, method: str | Recipe = "freeseg-diff") -> Segments:
        """Run a method's class-agnostic half: features and clusters, no text side.

        Raises FslabError for a recipe whose K depends on the caption.
        """
        return self.timed_segments(picture, method)[0]

    def timed_segments(
        self, picture: Picture, method: str | Recipe = "freeseg-diff"
    ) -> tuple[Segments, dict[str, float]]:
        """Return what `segments` does, and the seconds of its two stages."""
        recipe, clock = self.recipe(method), Clock()
        if recipe.cluster.k_is == "candidates":
            raise FslabError(f"K of {recipe.name} depends on the caption; run the whole method")
        with clock.stage("extract"):
            features = self._extract(picture, recipe.extract)
        with clock.stage("cluster"):
            segments = self._cluster(features, recipe.cluster, 0)
        return segments, clock.seconds

    def segment(
        self,
        picture: Picture,
        method: str | Recipe = "freeseg-diff",
        vocabulary: Vocabulary = VOC,
        candidates: Sequence[str] | None = None,
        on_stage: Callable[[str], None] | None = None,
    ) -> Result:
        """Run a whole method on a picture.

        candidates: the classes to look for, which asks no captioner; None lets the recipe
        find them. on_stage: told each stage's name as it begins.
        """
        recipe, clock = self.recipe(method), Clock(on_stage)
        with clock.stage("caption"):
            if candidates is None:
                caption, vocabulary = self._caption(picture, vocabulary, recipe.caption)
            else:
                caption = Caption("", (), tuple(candidates))
        with clock.stage("extract"):
            features = self._extract(picture, recipe.extract)
        with clock.stage("cluster"):
            segments = self._cluster(features, recipe.cluster, len(caption.candidates))
        with clock.stage("match"):
            named = self._match(picture, segments, vocabulary, caption.candidates, recipe.match)
        with clock.stage("refine"):
            labels = self._refine(picture, named, recipe.refine)
        return Result(
            picture, recipe, vocabulary, caption, features, segments, named, labels, clock.seconds
        )

    def _extract(self, picture: Picture, settings: Extraction) -> Features:
        from fslab.extract import extract

        return extract(picture, settings, self.backbone, self.store)

    def _cluster(self, features: Features, settings: Clustering, candidates: int) -> Segments:
        def compute() -> Segments:
            from fslab.cluster import cluster

            return cluster(features, settings, candidates)

        return self._memory.segments(features, [asdict(settings), candidates], compute)

    def _caption(
        self, picture: Picture, vocabulary: Vocabulary, settings: Captioning
    ) -> tuple[Caption, Vocabulary]:
        from fslab.captions import candidates

        text = ""
        if settings.words != "all":
            text = self._memory.text(
                [
                    "caption-1",
                    self.captioner_fingerprint,
                    picture.digest,
                    settings.max_new_tokens,
                    settings.beams,
                ],
                lambda: self.captioner.caption(
                    picture.pixels, settings.max_new_tokens, settings.beams
                ),
            )
        return candidates(text, vocabulary, settings, self._embed)

    def _embed(self, texts: Sequence[str]) -> np.ndarray:
        """Return mean text states f32 [N, D], each text encoded once for good."""
        own = self.preset.words == "diffusion"
        weights = self.text_model.fingerprint if own else self.clip_fingerprint

        def encode(text: str) -> np.ndarray:
            return (self.text_model.embed_texts if own else self.matcher.mean_states)([text])[0]

        kept = self._memory.array
        rows = [kept(["text-1", weights, text], lambda text=text: encode(text)) for text in texts]
        return np.stack(rows)

    def _match(
        self,
        picture: Picture,
        segments: Segments,
        vocabulary: Vocabulary,
        candidates: Sequence[str],
        settings: Matching,
    ) -> LabelMap:
        from fslab.match import paint

        if not candidates:
            return LabelMap(np.zeros(picture.size, np.uint8), vocabulary.names)
        return paint(
            segments, self._score(picture, segments, vocabulary, candidates, settings), vocabulary
        )

    def _score(
        self,
        picture: Picture,
        segments: Segments,
        vocabulary: Vocabulary,
        candidates: Sequence[str],
        settings: Matching,
    ) -> Match:
        def compute() -> Match:
            from fslab.match import score_segments

            return score_segments(picture, segments, vocabulary, candidates, settings, self.matcher)

        texts = [vocabulary.names, dict(vocabulary.spoken), dict(vocabulary.synonyms)]
        inputs = [self.clip_fingerprint, picture.digest, texts, tuple(candidates), asdict(settings)]
        return self._memory.match(segments, inputs, compute)

    def _refine(self, picture: Picture, labels: LabelMap, settings: Refinement) -> LabelMap:
        def compute() -> LabelMap:
            from fslab.refine import refine

            return refine(picture, labels, settings)

        return self._memory.labels(labels, [picture.digest, asdict(settings)], compute)


def _build(kind: type, **settings: Any) -> Any:
    """Build a part of a recipe from keywords; FslabError for one that it does not have."""
    known = kind.__dataclass_fields__
    for name in settings:
        if name not in known:
            raise FslabError(
                f"{kind.__name__.lower()} has no setting {name!r}; it has {', '.join(known)}"
            )
    return kind(
        **{
            key: tuple(value) if isinstance(value, list) else value
            for key, value in settings.items()
        }
    )
