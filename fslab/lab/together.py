"""What the networks do for several pictures at once, beside what `Lab` has them do for one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from fslab.batches import Batch, Entry
from fslab.devices import on_processors
from fslab.lab.banks import opened_bank
from fslab.lab.clock import Clock
from fslab.lab.memory import match_entry, match_of, text_entry, text_of
from fslab.lab.words import (
    conditioned,
    evidence_asked,
    looked_for,
    named_evidence,
    reads_evidence,
    spoken,
)
from fslab.process import memory_refused, ordinary
from fslab.records import (
    Caption,
    DenseCrf,
    Extraction,
    Features,
    FslabError,
    LabelMap,
    OwnCaptioning,
    OwnExtraction,
    OwnMatching,
    Picture,
    Reading,
    Recipe,
    Segments,
    Unrefined,
    Vocabulary,
)
from fslab.versions import Noted, noting

if TYPE_CHECKING:
    from fslab.lab.lab import Lab
    from fslab.match import Match


@dataclass(frozen=True)
class Order:
    """What is done with every picture: plain data, so that other processes can be given it.

    recipe: as `Lab.recipe` gives it. candidates: the classes to look for, or None where the caption
    finds them. named: whether segments get names; without, all is background and no network of the
    text side is asked. last: what is made of each result, `last(lab, result, beside)`, by the
    process that has it; the result's features are left out there. None gives the result itself.
    """

    recipe: Recipe
    vocabulary: Vocabulary
    candidates: tuple[str, ...] | None = None
    named: bool = True
    last: Callable[[Lab, Any, Any], Any] | None = None


@dataclass(eq=False)
class Course:
    """One picture on its way through a method, and what it has so far.

    beside: whatever the caller keeps with the picture. noted: versions that had a hand in it; in
    what several had together, those of each. refused: why it went no further.
    """

    picture: Picture
    beside: Any
    vocabulary: Vocabulary
    caption: Caption = field(default_factory=lambda: Caption("", (), ()))
    features: Features | None = None
    evidence: dict[str, np.ndarray] = field(default_factory=dict)
    looks: Features | None = None
    segments: Segments | None = None
    matches: list[Match] = field(default_factory=list)
    named: LabelMap | None = None
    labels: LabelMap | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    noted: Noted = field(default_factory=Noted)
    refused: FslabError | None = None

    @property
    def clustered(self) -> Segments:
        """The segments; FslabError while there are none."""
        if self.segments is None:
            raise FslabError(f"{self.picture.name} has no segments yet")
        return self.segments

    @property
    def voters(self) -> tuple[Segments, ...]:
        """The segmentations that have a say on names."""
        return (self.clustered, *self.clustered.others)

    def name(self, lab: Lab, order: Order) -> tuple[LabelMap, LabelMap]:
        """Name the segments by their matches and sharpen them, if that is not done yet."""
        from fslab.match import name_segments

        if self.named is not None and self.labels is not None:
            return self.named, self.labels
        if not order.named:
            labels = np.zeros(self.clustered.size, np.uint8)
            nameless = LabelMap(labels, self.vocabulary.names)
            self.named, self.labels = nameless, nameless
            return nameless, nameless
        clock, scored, settings = Clock(), iter(self.matches), order.recipe.match
        given = self.picture, self.clustered, self.vocabulary, self.caption.candidates, settings
        with clock.stage("match"):
            if isinstance(settings, OwnMatching):
                self.named = lab._match(*given)
            else:
                self.named = name_segments(
                    *given, lambda one: next(scored), lambda: self.evidence, lambda: self.looks
                )
        with clock.stage("refine"):
            self.labels = lab._refine(self.picture, self.named, order.recipe.refine)
        self.noted.add(clock.noted.versions)
        for stage, seconds in clock.seconds.items():
            self.seconds[stage] = self.seconds.get(stage, 0.0) + seconds
        return self.named, self.labels


class Networks:
    """A lab's networks for several pictures at a time; what a picture is refused for is kept in it.

    What several passes gave together lies under keys of its own in the store, see `fslab.batches`.
    """

    def __init__(
        self, lab: Lab, order: Order, batch: Batch, on_stage: Callable[[str], object]
    ) -> None:
        self.on_stage = on_stage
        self._lab, self._order, self._batch = lab, order, batch
        self._memory = lab._memory

    @ordinary()
    def begin(self, courses: Sequence[Course]) -> None:
        """Caption pictures and read their features, and the evidence for their names."""
        recipe = self._order.recipe
        if self._order.named:
            with self._stage("caption", courses):
                self._caption(courses)
        with self._stage("extract", courses):
            self._extract(_left(courses))
        if reads_evidence(recipe.match) and self._order.named:
            with self._stage("match", courses):
                self._evidence([each for each in _left(courses) if each.caption.candidates])
        if recipe.match.spread_layers and self._order.named:
            with self._stage("match", courses):
                self._looks([each for each in _left(courses) if each.caption.candidates])

    @ordinary()
    def match(self, courses: Sequence[Course]) -> None:
        """Score all segments of the pictures against the texts.

        Where the networks run on a GPU, refinements other than CRFs do too, and come right after.
        """
        if not self._order.named:
            return
        recipe = self._order.recipe
        if not isinstance(recipe.match, OwnMatching) and recipe.match.assignment != "evidence":
            with self._stage("match", courses):
                self._match([course for course in courses if course.caption.candidates])
        by_crf = isinstance(recipe.refine, (DenseCrf, Unrefined))
        if not by_crf and not on_processors(self._lab.device):
            for course in _left(courses):
                with _refusing(course):
                    course.name(self._lab, self._order)

    @contextmanager
    def _stage(self, name: str, courses: Sequence[Course]) -> Iterator[None]:
        """Share the seconds that a stage takes among its pictures, and note its versions."""
        self.on_stage(name)
        start = perf_counter()
        with noting() as noted:
            yield
        for course in courses:
            course.noted.add(noted.versions)
            share = (perf_counter() - start) / len(courses)
            course.seconds[name] = course.seconds.get(name, 0.0) + share

    def _caption(self, courses: Sequence[Course]) -> None:
        given, settings = self._order.candidates, self._order.recipe.caption
        if given is None and isinstance(settings, OwnCaptioning):
            for course in courses:
                with _refusing(course):
                    found = self._lab._caption(course.picture, course.vocabulary, settings)
                    course.caption, course.vocabulary = found
            return
        if given is None and settings.words != "all":
            texts = self._texts(courses)
        else:
            texts = [""] * len(courses)
        for course, text in zip(courses, texts, strict=True):
            if isinstance(text, FslabError):
                course.refused = text
            elif given is not None:
                course.caption = Caption("", (), given)
            else:
                with _refusing(course):
                    found = self._lab._candidates(text, course.vocabulary, settings)
                    pure = self._lab._purified(course.picture, *found, settings)
                    course.caption, course.vocabulary = pure

    def _texts(self, courses: Sequence[Course]) -> list[str | FslabError]:
        asked = self._lab._asked_of_captioner(self._order.recipe.caption)
        keys = [[self._lab._caption_key(course.picture, asked)] for course in courses]

        def make(places: Sequence[int]) -> list[list[Entry]]:
            pictures = [courses[place].picture.pixels for place in places]
            return [[text_entry(each)] for each in self._lab.captioner.captions(pictures, **asked)]

        found = self._memory.together(keys, make, self._batch, _names(courses))
        return [each if isinstance(each, FslabError) else text_of(each[0]) for each in found]

    def _extract(self, courses: Sequence[Course]) -> None:
        """Read features; pictures whose captions make one prompt pass together."""
        lab, settings = self._lab, self._order.recipe.extract
        if isinstance(settings, OwnExtraction):
            for course in courses:
                with _refusing(course):
                    words = looked_for(settings, course.vocabulary, course.caption.candidates)
                    course.features = lab._extract(course.picture, settings, words)
            return
        alike: dict[Extraction, list[Course]] = {}
        for course in courses:
            alike.setdefault(self._read_by(course), []).append(course)
        for read_by, some in alike.items():
            self._extract_alike(some, read_by)

    def _read_by(self, course: Course) -> Extraction:
        """Return how a picture's features are taken, with the prompt that its caption makes."""
        settings, backbone = self._order.recipe.extract, self._lab.backbone
        return conditioned(settings, course.caption, course.vocabulary, backbone)

    def _extract_alike(self, courses: Sequence[Course], settings: Extraction) -> None:
        from fslab.extract import extract_many

        lab = self._lab
        pictures = [course.picture for course in courses]
        found = extract_many(pictures, settings, lab.backbone, lab.store, self._batch)
        for course, features in zip(courses, found, strict=True):
            if isinstance(features, FslabError):
                course.refused = features
                continue
            with _refusing(course):
                words = looked_for(settings, course.vocabulary, course.caption.candidates)
                course.features = lab._with_words(features, settings, words)

    def _looks(self, courses: Sequence[Course]) -> None:
        """Read the self-attention by which beliefs are spread."""
        from fslab.extract import extract_many

        lab, recipe = self._lab, self._order.recipe
        pictures = [course.picture for course in courses]
        asked = lab._looks_asked(recipe.match, recipe.extract)
        found = extract_many(pictures, asked, lab.backbone, lab.store, self._batch)
        for course, looks in zip(courses, found, strict=True):
            if isinstance(looks, FslabError):
                course.refused = looks
            else:
                course.looks = looks

    def _evidence(self, courses: Sequence[Course]) -> None:
        """Look for the candidates' words; pictures of one size pass together."""
        sizes: dict[tuple[int, int], list[tuple[Course, list[Any]]]] = {}
        for course in courses:
            with _refusing(course):
                asked, size = self._evidence_asked(course)
                sizes.setdefault(size, []).append((course, asked))
        for size, group in sizes.items():
            self._look(size, group)

    def _evidence_asked(self, course: Course) -> tuple[list[Any], tuple[int, int]]:
        """Return what each prompt asks, ((picture, words, settings), key), and the pictures' size.

        What is mirrored is asked of the picture, then of its mirror image.
        """
        from fslab.extract import mirror_of

        lab, recipe, size = self._lab, self._order.recipe, (0, 0)
        found: list[tuple[tuple[Any, ...], str]] = []
        words = spoken(course.caption.candidates, course.vocabulary).values()
        read_by = self._read_by(course)
        for together, how in evidence_asked(words, recipe.match, lab.backbone, read_by):
            how = dict(how)
            layers, step, prompt = how.pop("layers"), how.pop("timesteps"), how.pop("prompt", None)
            reading, mirrored = how.pop("reading", None), how.pop("mirrored", False)
            for picture in (course.picture, *([mirror_of(course.picture)] if mirrored else [])):
                given = (picture, together, prompt, layers, step, how)
                if reading is None:
                    part, size, key = lab._attention_asked(*given)
                    found.append(((picture, together, part), key))
                else:
                    read, size, key = lab._reading_asked(*given, reading)
                    found.append(((picture, together, *read), key))
        return found, size

    def _look(self, size: tuple[int, int], group: list[tuple[Course, list[Any]]]) -> None:
        def make(places: Sequence[int]) -> list[list[Entry]]:
            asked = [how for place in places for how, _ in group[place][1]]
            most = self._batch.size if len(places) > 1 else 1
            read = asked and isinstance(asked[0][-1], Reading)
            look = self._lab._read_words if read else self._lab._look
            maps = iter(look(asked, size, most))
            return [[{"array": next(maps)} for _ in group[place][1]] for place in places]

        keys = [[key for _, key in asked] for _, asked in group]
        courses = [course for course, _ in group]
        found = self._memory.together(keys, make, self._batch, _names(courses))
        for (course, asked), entries in zip(group, found, strict=True):
            if isinstance(entries, FslabError):
                course.refused = entries
                continue
            course.evidence = self._named(course, [how for how, _ in asked], entries)

    def _named(
        self, course: Course, asked: Sequence[tuple[Any, ...]], entries: Sequence[Entry]
    ) -> dict[str, np.ndarray]:
        """Return a picture's evidence by candidate, of the maps of each prompt's words."""
        from fslab.extract import mean_maps

        found = [
            dict(zip(together, entry["array"], strict=True))
            for (_, together, *_), entry in zip(asked, entries, strict=True)
        ]
        if self._order.recipe.extract.mirrored:
            found = [mean_maps(*both) for both in zip(found[::2], found[1::2], strict=True)]
        maps: dict[str, np.ndarray] = {}
        for one in found:
            maps = {**one, **maps}
        words = spoken(course.caption.candidates, course.vocabulary)
        return named_evidence(maps, words, self._order.recipe.match)

    def _match(self, courses: Sequence[Course]) -> None:
        from fslab.match import encode_views, read_together, score_segments

        lab, settings = self._lab, self._order.recipe.match

        def make(places: Sequence[int]) -> list[list[Entry]]:
            some = [courses[place] for place in places]
            patches = {course: lab._patches(course.picture) for course in some}
            if settings.tokens:
                read_together(list(patches.values()))
            shown = [(course.picture, one) for course in some for one in course.voters]
            seen = iter(encode_views(shown, settings, lab.matcher))
            return [
                [
                    match_entry(
                        score_segments(
                            course.picture, one, course.vocabulary, course.caption.candidates,
                            settings, lab.matcher, patches[course], next(seen), course.features,
                            opened_bank(lab, settings),
                        )
                    )
                    for one in course.voters
                ]
                for course in some
            ]  # fmt: skip

        keys = {}
        for course in courses:
            with _refusing(course):
                keys[course] = self._match_keys(course)
        courses = list(keys)
        found = self._memory.together(list(keys.values()), make, self._batch, _names(courses))
        for course, entries in zip(courses, found, strict=True):
            if isinstance(entries, FslabError):
                course.refused = entries
            else:
                course.matches = [match_of(entry) for entry in entries]

    def _match_keys(self, course: Course) -> list[str]:
        asked = course.vocabulary, course.caption.candidates, self._order.recipe.match
        picture, features = course.picture, course.features
        return [self._lab._score_key(picture, one, *asked, features) for one in course.voters]


def _left(courses: Sequence[Course]) -> list[Course]:
    return [course for course in courses if course.refused is None]


def _names(courses: Sequence[Course]) -> list[str]:
    return [course.picture.name for course in courses]


@contextmanager
def _refusing(course: Course) -> Iterator[None]:
    """Keep what a picture is refused for in its course."""
    try:
        with memory_refused(course.picture.name):
            yield
    except FslabError as error:
        course.refused = error
