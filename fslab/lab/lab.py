"""The lab: holds the models, loads each at its first use, and offers stages and methods."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from functools import cache, partial
from typing import TYPE_CHECKING, Any, Literal, Self, cast

import numpy as np

from fslab.datasets import VOC, PictureLike, read
from fslab.keys import (
    attention_key,
    caption_key,
    changed,
    match_key,
    reading_key,
    refined_key,
    segments_key,
    text_key,
)
from fslab.lab.banks import opened_bank, with_bank
from fslab.lab.clock import Clock
from fslab.lab.common import Common
from fslab.lab.memory import Memory
from fslab.lab.own import (
    check_overrides_nothing,
    own_caption,
    own_features,
    own_labels,
    with_own,
)
from fslab.lab.recipes import find_recipe
from fslab.lab.result import Result
from fslab.lab.settings import build, extraction
from fslab.lab.words import (
    AS_USUAL,
    asked_for,
    beside_layers,
    check_agnostic,
    check_conditioned,
    check_reads_text,
    compounds_by_word,
    conditioned,
    evidence_for,
    fitting_beside,
    looked_for,
    looks_asked,
    purifying_looks,
    sentence_of,
    with_words,
    word_layers,
)
from fslab.process import ordinary, stage
from fslab.records import (
    Caption,
    Captioning,
    Clustering,
    Extraction,
    Features,
    FslabError,
    LabelMap,
    Matching,
    Own,
    OwnCaptioning,
    OwnExtraction,
    OwnMatching,
    Picture,
    Reading,
    Recipe,
    Refinement,
    Segments,
    Unrefined,
    Vocabulary,
    check_kind,
    words_of,
)
from fslab.records.recipe import whole_stage

if TYPE_CHECKING:
    from fslab.backbones import Layer
    from fslab.match import Match, Patches


CELLS = Matching(tokens=True, views_up_to=0, synonyms=True)
"""How CLIP reads the cells of a picture."""

Chosen = Any
"""What stands for a stage: a method's name, a record of settings, a function of one's own, or the
dotted name of one."""


class Lab(Common):
    """Models and a store behind the stages of the method; nothing is loaded before it is used.

    A picture is taken as `fslab.read` takes it: a `Picture`, a path, a PIL image, an array.

    preset: "mini", "sd14", "sd15", "sd21", "sdxl", "ssd1b", "pixart-alpha", "pixart-sigma",
    "sana-600m", "sana-1600m" (left out: what the environment variable FSLAB_PRESET names, else
    "mini"), or a folder in diffusers or transformers format, or one safetensors file, or an id of
    the hub whose files are in its cache (ID@REVISION for one revision). backbone: takes the
    features from elsewhere and leaves the text side as it is: a folder, a hub id in the cache, or a
    baseline ("rgb", "handmade", or "random" for the preset's own network untrained), or a
    `fslab.backbones.Backbone` of one's own, or what makes one as "package.module:Class". store: a
    folder, an fsspec url or a `Store`. captioner, clip: a folder or a hub id in the place of the
    preset's own, an object of one's own with a text `fingerprint` (with `caption(pixels)`, or a
    `fslab.match.Matcher`), or None for a lab without it, which captions or names nothing.
    precision: "fp32", "fp16" or "bf16", of all models; fp32 on a CPU and fp16 on a GPU if left out.
    encoder: a folder of diffusers' AutoencoderTiny that gives the latents in the place of the
    diffusion model's VAE, sooner and not quite the same; it has no posterior to sample.
    Raises FslabError, before any work, for a preset that is not there and for weights of it that
    are missing or not whole.
    """

    @property
    def _memory(self) -> Memory:
        return Memory(self.store, self.recent)

    @contextmanager
    def edit(self, edits: Mapping[str, Any]) -> Iterator[Self]:
        """Change what modules of the backbone output, for all that this thread asks inside.

        edits: by a module's path or pattern, as in `fslab.editing`, or by a head's
        ("attn1.to_v#3"): `fslab.zero`, `fslab.scale(0.5)`, `fslab.swap(picture)` and
        `fslab.mean_over(pictures)`, what the module outputs for other pictures, or a function of
        your own, tensor [B, ...] -> tensor of the same shape. Of a module that returns several
        things the one that is listed as its layer is changed. Edits may stand within each other.

        Results are kept under keys that name the edits, never as those of the lab without them;
        where nothing tells a callable from others they are not kept. Text encoders, VAE, captioner
        and CLIP are not edited. Other threads see the lab as it is; explorers, and evaluations on a
        cluster, are refused inside. Raises FslabError for a module or a head that is not there.
        """
        from fslab.lab.editing import edited_backbone, held

        with held(self, edited_backbone(self, edits)):
            yield self

    def caveat(self, picture: PictureLike) -> str:
        """Return what must be said of this picture with these models; "" where nothing.

        The text side of "mini" names things of its drawn world only, and writes confident nonsense
        about a photograph. Whether a picture looks drawn is decided by `fslab.lab.drawn`, which is
        wrong on 2 % of mini-VOC's val and on 4 % of 48 photographs (fslab/mini/README.md).
        """
        from fslab.lab.drawn import DRAWN_ONLY, looks_drawn

        picture = read(picture)
        if not self.knows_drawings_only or looks_drawn(picture):
            return ""
        return f"{picture.name} does not look like a scene of mini's drawn world; {DRAWN_ONLY}"

    @ordinary()
    def layers(self) -> tuple[Layer, ...]:
        """List the backbone's layers, with channels and stride in pixels; loads no weights."""
        from fslab.extract import listed_layers

        return listed_layers(self.backbone, self.store)

    @ordinary()
    def recipe(self, method: str | Recipe = "freeseg-diff", **stages: Chosen) -> Recipe:
        """Return a method's recipe, with what this backbone fills in or imposes.

        stages: functions of one's own in stages' places, `cluster=function`: see `Recipe.change`.
        A backbone that has no UNet takes its own layers where the recipe names parts of one, and
        one that reads no text gives no evidence for names.
        """
        check_overrides_nothing(self, Lab)
        recipe = with_own(find_recipe(method), stages)
        has = {entry.name: getattr(recipe.cluster, entry.name) for entry in fields(recipe.cluster)}
        imposed = {name: each for name, each in self.backbone.imposed.items() if name in has}
        if imposed and imposed != {name: has[name] for name in imposed}:
            recipe = replace(recipe, cluster=replace(recipe.cluster, **imposed))
        recipe = recipe.renewed()
        own = isinstance(recipe.extract, OwnExtraction)
        return with_bank(self, recipe if own else self._completed(recipe))

    def _completed(self, recipe: Recipe) -> Recipe:
        """Return a recipe with what this backbone fills in of layers, timesteps and words."""
        from fslab.backbones import written_for_unet
        from fslab.extract import complete

        extraction = recipe.extract
        if not self.backbone.has_unet and written_for_unet(extraction.layers):
            extraction = replace(extraction, layers=())
        if self.backbone.timestep is None:
            extraction = replace(extraction, timesteps=())
        if extraction.attention != "none":
            check_reads_text(self.backbone)
        if extraction.prompted != "given":
            check_conditioned(extraction, self.backbone)
        match = recipe.match
        if not self.backbone.reads_text:
            match = replace(match, attention=0.0)
        look = word_layers(match.attention_layers, self.backbone)
        match = replace(match, attention_layers=tuple(look))
        extraction = complete(extraction, self.backbone)
        return replace(recipe, extract=extraction, match=match)

    def extract(
        self,
        picture: PictureLike,
        layers: Sequence[str] | str = (),
        timesteps: int | Sequence[int] | None = None,
        seed: int = 0,
        words: Sequence[str] = (),
        **settings: Any,
    ) -> Features:
        """Return the named layers' maps f32 [C, h, w], from the store where they are.

        layers: module paths or patterns, the preset's own if empty; timesteps: one, or several
        for a map each; words: their attention maps join the layers; settings: the rest of
        `Extraction`. Raises FslabError for a layer or a timestep that does not exist.
        """
        part = extraction(layers, timesteps, seed=seed, **settings)
        return self._extract(read(picture), part, beside_layers(part, words))

    @stage
    def attention(
        self,
        picture: PictureLike,
        words: Sequence[str],
        prompt: str | None = None,
        layers: Sequence[str] = ("*attn2.to_q",),
        timesteps: int | Sequence[int] | None = None,
        reading: Literal["attention", "concepts"] | Reading = "attention",
        **settings: Any,
    ) -> dict[str, np.ndarray]:
        """Return where each word looks: f32 [h, w] of 0..1 by word, on the finest layer's grid.

        prompt: a sentence that holds the words, else "a photo of" them. layers: cross-attention
        queries, or paths that end in "to_text", which stand for a UNet's queries in other networks.
        timesteps: one, or several, which are averaged.
        reading: how maps are made of attention, a `Reading`; "attention" is its defaults. Words
        beside join the prompt where none is given, as far as there is room. "concepts" is
        `fslab.backbones.concept_maps`, by which cells choose among the words, where text and
        picture attend jointly. settings: the rest of `Extraction`. Raises FslabError for a word
        that the prompt does not hold, or only inside a compound of another meaning ("dog" in "hot
        dog"), for a backbone that reads no text, and as `fslab.backbones.word_readings` does.
        """
        from fslab.captions import noun_runs
        from fslab.extract import mean_maps, mirror_of

        check_reads_text(self.backbone)
        picture, words = read(picture), asked_for(words)
        if extraction(layers, timesteps, **settings).mirrored:
            plain = {**settings, "mirrored": False}
            given = (words, prompt, layers, timesteps, reading)
            both = [self.attention(p, *given, **plain) for p in (picture, mirror_of(picture))]
            return mean_maps(*both)
        if reading not in ("attention", "concepts") and not isinstance(reading, Reading):
            raise FslabError(
                f"reading is {reading!r}; it must be 'attention', 'concepts' or a Reading"
            )
        if reading == "concepts":
            return self._concepts(picture, words, prompt, layers, timesteps, settings)
        given = (picture, words, prompt, layers, timesteps, settings)
        if isinstance(reading, Reading) and reading != Reading():
            (one, size, key) = self._reading_asked(*given, reading)
            maps = self._memory.array(
                key, lambda: self._read_words([(picture, words, *one)], size)[0]
            )
            return dict(zip(words, maps, strict=True))
        part, size, key = self._attention_asked(*given)
        beside = (compounds_by_word(prompt, words), noun_runs(prompt)) if prompt else ()
        asked = [(picture, words, part, *beside)]
        maps = self._memory.array(key, lambda: self._look(asked, size)[0])
        return dict(zip(words, maps, strict=True))

    def _attention_asked(
        self,
        picture: Picture,
        words: Sequence[str],
        prompt: str | None,
        layers: Sequence[str],
        timesteps: int | Sequence[int] | None,
        settings: dict[str, Any],
    ) -> tuple[Extraction, tuple[int, int], str]:
        """Return how words are looked for, at which size, and the key of the maps."""
        from fslab.backbones import word_attentions
        from fslab.extract import complete

        backbone = self.backbone
        said = sentence_of(words) if prompt is None else prompt
        layers = word_layers(layers, backbone)
        part = complete(extraction(layers, timesteps, prompt=said, **settings), backbone)
        size = backbone.input_size(picture, part)
        return part, size, attention_key(word_attentions, backbone, picture, size, words, part)

    def _reading_asked(
        self,
        picture: Picture,
        words: Sequence[str],
        prompt: str | None,
        layers: Sequence[str],
        timesteps: int | Sequence[int] | None,
        settings: dict[str, Any],
        reading: Reading,
    ) -> tuple[tuple[Extraction, Reading], tuple[int, int], str]:
        """Return how words are looked for and read, at which size, and the key of the maps."""
        from fslab.backbones import word_readings

        if prompt is None:
            beside = fitting_beside(words, reading.beside, check_reads_text(self.backbone))
            reading = replace(reading, beside=beside)
            prompt = sentence_of([*words, *beside])
        part, size, _ = self._attention_asked(picture, words, prompt, layers, timesteps, settings)
        asked = part, reading
        return (
            asked, size,
            reading_key(word_readings, self.backbone, picture, size, words, asked),
        )  # fmt: skip

    def _read_words(
        self, asked: Sequence[tuple[Any, ...]], size: tuple[int, int], most: int = 1
    ) -> list[np.ndarray]:
        """Return `fslab.backbones.word_readings` of pictures of one size as arrays."""
        from fslab.backbones import word_readings

        backbone = check_reads_text(self.backbone)
        return [maps.numpy() for maps in word_readings(backbone, asked, size, most)]

    def _concepts(
        self, picture: Picture, words: Sequence[str], prompt: str | None, *how: Any
    ) -> dict[str, np.ndarray]:
        """Return which cells are which word, of a prompt that need not hold them."""
        from fslab.backbones import Diffusion, concept_maps

        said = "" if prompt is None else prompt
        part, size, _ = self._attention_asked(picture, words, said, *how)
        backbone = cast("Diffusion", check_reads_text(self.backbone))
        key = attention_key(concept_maps, backbone, picture, size, words, part)
        asked = (backbone, picture, size, words, part)
        maps = self._memory.array(key, lambda: concept_maps(*asked).numpy())
        return dict(zip(words, maps, strict=True))

    def _look(
        self, asked: Sequence[tuple[Any, ...]], size: tuple[int, int], most: int = 1
    ) -> list[np.ndarray]:
        """Return `fslab.backbones.word_attentions` of pictures of one size as arrays."""
        from fslab.backbones import word_attentions

        backbone = check_reads_text(self.backbone)
        return [maps.numpy() for maps in word_attentions(backbone, asked, size, most)]

    def cluster(
        self,
        features: Features,
        candidates: int = 0,
        method: Chosen = "kmeans",
        **settings: Any,
    ) -> Segments:
        """Return segments at the picture's size.

        method: a clustering's name, with its settings beside it, or its whole record of settings
        (`recipe.cluster`), or a function of one's own.
        """
        chosen = whole_stage("cluster", method, **settings).renewed()
        return self._cluster(features, chosen, candidates)

    def caption(
        self,
        picture: PictureLike,
        vocabulary: Vocabulary = VOC,
        method: Chosen = None,
        **settings: Any,
    ) -> Caption:
        """Caption a picture and find its candidate classes.

        settings: as in `Captioning`; method: all of them as a record, or a function of one's own.
        With words="open" candidates may lie outside the vocabulary: match them in
        `vocabulary.extended(caption.candidates)`.
        """
        if method is None:
            chosen = build(Captioning, **settings)
        else:
            chosen = whole_stage("caption", method, **settings)
        return self._caption(read(picture), vocabulary, chosen.renewed())[0]

    def match(
        self,
        picture: PictureLike,
        segments: Segments,
        candidates: Sequence[str],
        vocabulary: Vocabulary = VOC,
        features: Features | None = None,
        **settings: Any,
    ) -> LabelMap:
        """Name segments among the candidates; settings as in `Matching`.

        features: those that were clustered, which some settings of regions compare cells by.
        """
        asked = (vocabulary, candidates, build(Matching, **settings))
        return self._match(read(picture), segments, *asked, features=features)

    def score_segments(
        self,
        picture: PictureLike,
        segments: Segments,
        candidates: Sequence[str],
        vocabulary: Vocabulary = VOC,
        features: Features | None = None,
        **settings: Any,
    ) -> Match:
        """Return CLIP's whole matrix of segments against texts; arguments as in `match`."""
        asked = (vocabulary, candidates, build(Matching, **settings))
        return self._score(read(picture), segments, *asked, features=features)

    def refine(
        self, picture: PictureLike, labels: LabelMap, method: Chosen = "crf", **settings: Any
    ) -> LabelMap:
        """Sharpen a label map on the picture's edges; method and settings as in `cluster`."""
        chosen = whole_stage("refine", method, **settings).renewed()
        return self._refine(read(picture), labels, chosen)

    def segments(
        self,
        picture: PictureLike,
        method: str | Recipe = "freeseg-diff",
        vocabulary: Vocabulary = VOC,
        **stages: Chosen,
    ) -> Segments:
        """Run a method's class-agnostic half: features and clusters, no text side.

        stages: functions of one's own, as in `segment`. vocabulary: read only by a recipe with
        attention to it. Raises FslabError for a recipe whose features or K depend on the caption.
        """
        return self.timed_segments(picture, method, vocabulary, **stages)[0]

    def timed_segments(
        self,
        picture: PictureLike,
        method: str | Recipe = "freeseg-diff",
        vocabulary: Vocabulary = VOC,
        **stages: Chosen,
    ) -> tuple[Segments, dict[str, float]]:
        """Return what `segments` does, and the seconds of its two stages."""
        picture = read(picture)
        recipe, clock = self.recipe(method, **stages), Clock()
        check_agnostic(recipe)
        with clock.stage("extract"):
            words = looked_for(recipe.extract, vocabulary, ())
            features = self._extract(picture, recipe.extract, words)
        with clock.stage("cluster"):
            segments = self._cluster(features, recipe.cluster, 0)
        return segments, clock.seconds

    def segment(
        self,
        picture: PictureLike,
        method: str | Recipe = "freeseg-diff",
        vocabulary: Vocabulary = VOC,
        candidates: Sequence[str] | None = None,
        on_stage: Callable[[str], None] | None = None,
        **stages: Chosen,
    ) -> Result:
        """Run a whole method on a picture.

        candidates: the classes to look for, which asks no captioner; None lets the recipe
        find them. on_stage: told each stage's name as it begins. stages: functions of one's own
        in stages' places (extract, caption, cluster, match, refine), such as `cluster=function`;
        see `OwnClustering` and its like for what each is given and returns.
        """
        picture = read(picture)
        recipe, clock = self.recipe(method, **stages), Clock(on_stage)
        self.check_text_side(recipe, candidates is None)
        with clock.stage("caption"):
            if candidates is None:
                caption, vocabulary = self._caption(picture, vocabulary, recipe.caption)
            else:
                caption = Caption("", (), words_of(candidates, "a caption's candidates"))
        with clock.stage("extract"):
            read_by = conditioned(recipe.extract, caption, vocabulary, self.backbone)
            words = looked_for(read_by, vocabulary, caption.candidates)
            features = self._extract(picture, read_by, words)
        with clock.stage("cluster"):
            segments = self._cluster(features, recipe.cluster, len(caption.candidates))
        with clock.stage("match"):
            asked = vocabulary, caption.candidates, recipe.match, read_by, features
            named = self._match(picture, segments, *asked)
        with clock.stage("refine"):
            labels = self._refine(picture, named, recipe.refine)
        return Result(
            picture, recipe, vocabulary, caption, features, segments, named, labels,
            clock.seconds, clock.noted.versions,
        )  # fmt: skip

    @stage
    def _extract(
        self, picture: Picture, settings: Extraction, words: Sequence[str] = ()
    ) -> Features:
        if isinstance(settings, OwnExtraction):
            check_kind(picture, Picture, "picture")
            return own_features(settings, picture, words)
        from fslab.extract import extract

        return self._with_words(
            extract(picture, settings, self.backbone, self.store), settings, words
        )

    def _with_words(
        self, features: Features, settings: Extraction, words: Sequence[str]
    ) -> Features:
        if settings.attention == "none" and not words:
            return features
        settings = replace(settings, precision=settings.precision or self.backbone.precision)
        return with_words(features, words, settings, self.backbone, self._memory)

    @stage
    def _cluster(self, features: Features, settings: Clustering, candidates: int) -> Segments:
        check_kind(features, Features, "features")

        from fslab.cluster import cluster

        counts = isinstance(settings, Own) or getattr(settings, "k_is", "") == "candidates"
        counted = candidates if counts else 0
        key = segments_key(cluster, self.device, features, changed(settings), counted)
        return self._memory.segments(key, lambda: cluster(features, settings, candidates))

    @stage
    def _caption(
        self, picture: Picture, vocabulary: Vocabulary, settings: Captioning
    ) -> tuple[Caption, Vocabulary]:
        check_kind(picture, Picture, "picture")
        check_kind(vocabulary, Vocabulary, "vocabulary")
        if isinstance(settings, OwnCaptioning):
            return own_caption(settings, picture, vocabulary)
        text = "" if settings.words == "all" else self._caption_text(picture, settings)
        return self._purified(picture, *self._candidates(text, vocabulary, settings), settings)

    def _purified(
        self, picture: Picture, caption: Caption, vocabulary: Vocabulary, settings: Captioning
    ) -> tuple[Caption, Vocabulary]:
        """Leave out the candidates whose maps by CLIP agree too little with themselves spread.

        CLIP reads each cell of the finest self-attention by a mask token, over all classes.
        """
        if not settings.purify or not caption.candidates:
            return caption, vocabulary
        from fslab.cluster import aggregate, nearest
        from fslab.extract import complete
        from fslab.match import consistency

        asked = complete(purifying_looks(settings, self.backbone), self.backbone)
        looks = aggregate(self._extract(picture, asked).maps)
        grid = looks.shape[:2]
        numbers = nearest(np.arange(grid[0] * grid[1]).reshape(grid), picture.size)
        there, labels = np.unique(numbers, return_inverse=True)  # a small picture has not all
        cells = Segments(labels.reshape(picture.size).astype(np.int32))
        scored = self._score(picture, cells, vocabulary, vocabulary.classes, CELLS)
        columns = [scored.texts.index(name) for name in caption.candidates]
        maps = np.zeros((len(columns), grid[0] * grid[1]), np.float32)
        maps[:, there] = scored.probabilities[:, columns].T
        found = consistency(maps.reshape(-1, *grid), looks)
        pairs = zip(caption.candidates, found, strict=True)
        kept = [name for name, agreement in pairs if agreement >= settings.purify]
        return replace(caption, candidates=tuple(kept)), vocabulary

    def _candidates(
        self, text: str, vocabulary: Vocabulary, settings: Captioning
    ) -> tuple[Caption, Vocabulary]:
        from fslab.captions import candidates

        def embed(texts: Sequence[str]) -> np.ndarray:
            return self._embed(texts, settings.encoder)

        return candidates(text, vocabulary, settings, embed)

    def _caption_text(self, picture: Picture, settings: Captioning) -> str:
        asked = self._asked_of_captioner(settings)
        return self._memory.text(
            self._caption_key(picture, asked),
            lambda: self.captioner.caption(picture.pixels, **asked),
        )

    def _asked_of_captioner(self, settings: Captioning) -> dict[str, Any]:
        return {
            "max_new_tokens": settings.max_new_tokens,
            "beams": settings.beams,
            "prompt": self.prompt if settings.prompted else "",
            "min_length": settings.min_length,
            "max_length": settings.max_length,
        }

    def _caption_key(self, picture: Picture, asked: dict[str, Any]) -> str:
        from fslab.captions import load_captioner

        weights = self.captioner_fingerprint
        return caption_key(load_captioner, self.device, weights, picture, asked)

    def _embed(self, texts: Sequence[str], encoder: str) -> np.ndarray:
        """Return mean text states f32 [N, D], each text encoded once for good."""
        from fslab.match import load_matcher

        own = (self.preset.words if encoder == "preset" else encoder) == "diffusion"
        maker: Any = type(self._word_encoder) if own else load_matcher
        weights = self.text_model_fingerprint if own else self.clip_fingerprint

        def encode(text: str) -> np.ndarray:
            if own:
                states = self._word_encoder.embed_texts([text])
            else:
                states = self.matcher.mean_states([text])
            state: np.ndarray = states[0]
            return state

        kept, device = self._memory.shared, self.device
        keys = [text_key(maker, device, weights, text) for text in texts]
        pairs = zip(keys, texts, strict=True)
        return np.stack([kept(key, partial(encode, text)) for key, text in pairs])

    @stage
    def _match(
        self,
        picture: Picture,
        segments: Segments,
        vocabulary: Vocabulary,
        candidates: Sequence[str],
        settings: Matching,
        read: Extraction = AS_USUAL,
        features: Features | None = None,
    ) -> LabelMap:
        """read: how the features were taken, so that the evidence is taken likewise."""
        if isinstance(settings, OwnMatching):
            return own_labels(settings, picture, segments, candidates, vocabulary)
        from fslab.match import name_segments

        beside = cache(lambda: self._patches(picture)), features
        asked = (self.attention, picture, candidates, vocabulary, settings)
        return name_segments(
            picture, segments, vocabulary, candidates, settings,
            lambda one: self._score(picture, one, vocabulary, candidates, settings, *beside),
            lambda: evidence_for(*asked, self.backbone, read),
            lambda: self._extract(picture, self._looks_asked(settings, read)),
        )  # fmt: skip

    def _looks_asked(self, settings: Matching, read: Extraction) -> Extraction:
        """Return how the self-attention is read by which beliefs are spread."""
        from fslab.extract import complete

        return complete(looks_asked(settings, self.backbone, read), self.backbone)

    def _patches(self, picture: Picture) -> Patches:
        from fslab.match import Patches

        return Patches(picture, self.matcher)

    @stage
    def _score(
        self,
        picture: Picture,
        segments: Segments,
        vocabulary: Vocabulary,
        candidates: Sequence[str],
        settings: Matching,
        patches: Callable[[], Patches] | None = None,
        features: Features | None = None,
    ) -> Match:
        check_kind(picture, Picture, "picture")
        check_kind(segments, Segments, "segments")
        check_kind(vocabulary, Vocabulary, "vocabulary")
        candidates = words_of(candidates, "candidates")

        def compute() -> Match:
            from fslab.match import score_segments

            return score_segments(
                picture, segments, vocabulary, candidates, settings, self.matcher,
                patches and patches(), features=features, bank=opened_bank(self, settings),
            )  # fmt: skip

        key = self._score_key(picture, segments, vocabulary, candidates, settings, features)
        return self._memory.match(key, compute)

    def _score_key(
        self,
        picture: Picture,
        segments: Segments,
        vocabulary: Vocabulary,
        candidates: Sequence[str],
        settings: Matching,
        features: Features | None = None,
    ) -> str:
        from fslab.match import load_matcher, read_regions, region_keys, score_segments

        makers, asked = [score_segments, load_matcher], (vocabulary, candidates, settings)
        makers += [read_regions] if settings.regions != "none" else []
        weights, bank = self.clip_fingerprint, opened_bank(self, settings)
        if bank is not None:
            makers += [region_keys]
            bank.check_apart(picture)
        held = "" if bank is None else bank.digest
        return match_key(makers, self.device, weights, picture, segments, asked, features, held)

    @stage
    def _refine(self, picture: Picture, labels: LabelMap, settings: Refinement) -> LabelMap:
        check_kind(picture, Picture, "picture")
        check_kind(labels, LabelMap, "labels")
        if isinstance(settings, Unrefined):
            return labels

        from fslab.refine import refine

        key = refined_key(refine, self.device, picture, labels, changed(settings))
        return self._memory.labels(
            key, labels, lambda: refine(picture, labels, settings, self.device)
        )
