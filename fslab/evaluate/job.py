"""What a run does with one picture: plain data in and out, so that it can be done anywhere."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal

import numpy as np

from fslab.datasets import Sample
from fslab.keys import result_key, run_key
from fslab.lab import Lab, Result
from fslab.lab.courses import run_many
from fslab.lab.together import Order
from fslab.lab.words import evidence_asked
from fslab.process import memory_refused
from fslab.records import (
    FslabError,
    OutOfMemory,
    Picture,
    Reading,
    Recipe,
    Vocabulary,
    label_type,
    void_of,
)
from fslab.score import Count, ImageScore, find_metric, score_image
from fslab.versions import Versions, noting


@dataclass(frozen=True)
class Job:
    """A run's settings, the same for all its pictures; nothing but plain data, so it pickles.

    recipe: complete, as `Lab.recipe` gives it. named: whether segments get names; a run that
    only class-agnostic metrics are asked of needs no text side. base: names all that changes a
    result beside the picture and its truth: settings, weights, vocabulary, device, what metrics
    count by themselves, and whether pictures pass together, however many. The number of threads is
    not in it, as it is not in the store's keys: it moves features in their last bits. batch:
    pictures that pass at once. counts: what the metrics asked for count by themselves.
    given: each picture's own classes are its candidates, and no captioner is asked.
    """

    recipe: Recipe
    vocabulary: Vocabulary
    named: bool
    base: str
    batch: int = 1
    counts: tuple[Count, ...] = ()
    given: bool = False

    def key(self, name: str, picture: Picture, truth: np.ndarray) -> str:
        """Name a picture's result by all that it depends on; truth is u8 [H, W]."""
        return result_key(self.base, name, picture, truth)


def plan(
    lab: Lab,
    method: str | Recipe,
    vocabulary: Vocabulary,
    metrics: Iterable[str] = ("voc21",),
    batch: int = 1,
    given: bool = False,
) -> Job:
    """Return the job that serves all the metrics asked for, `batch` pictures at once.

    given: each picture's own classes are its candidates; of one picture at a time only. Raises
    FslabError for an unknown method or metric, and where weights are missing: before any picture
    is touched.
    """
    asked = [find_metric(metric) for metric in metrics]
    named = any(metric.needs == "guess" for metric in asked)
    counts = tuple(count for metric in asked for count in metric.counts)
    recipe = lab.recipe(method)
    if given and batch > 1:
        raise FslabError(f"the true classes are given to a picture at a time; batch is {batch}")
    job = Job(recipe, vocabulary, named, "", batch, counts, given and named)
    return replace(job, base=base_of(lab, job))


def base_of(lab: Lab, job: Job) -> str:
    """Name all that changes a job's results beside the picture and its truth, with a lab."""
    weights = [lab.backbone.fingerprint]
    weights += [lab.text_fingerprint(job.recipe)] if job.named else []
    makers = [*_makers(lab, job.named, job.recipe), *(count.function for count in job.counts)]
    makers += ["the true classes given"] if job.given else []
    how = (job.recipe, job.vocabulary, job.named, job.batch > 1)
    return run_key(makers, lab.device, weights, *how)


def _makers(lab: Lab, named: bool, recipe: Recipe) -> list[Any]:
    """Return all that has a hand in a result; the later ones only where the recipe asks them."""
    from fslab.backbones import word_attentions, word_keys, word_readings
    from fslab.captions import candidates, load_captioner
    from fslab.cluster import cluster
    from fslab.match import (
        consistency,
        load_matcher,
        name_segments,
        score_segments,
        spread_beliefs,
        walk_beliefs,
    )
    from fslab.refine import refine

    makers: list[Any] = [type(lab.backbone), word_keys, cluster, score_image]
    if named:
        makers += [candidates, load_captioner, score_segments, load_matcher, name_segments]
        makers += [evidence_asked, word_attentions, refine]
        makers += [word_readings] if recipe.match.reading != Reading() else []
        makers += [spread_beliefs] if recipe.match.spread_layers else []
        makers += [consistency] if recipe.caption.purify else []
        makers += [walk_beliefs] if recipe.match.spread_trust else []
    own = type(lab).__module__.partition(".")[0] == "fslab"
    return makers if own else [type(lab), *makers]  # whose stages may be others


RefusedBy = Literal["", "reading", "stage", "memory"]


@dataclass(frozen=True)
class ImageResult:
    """What one picture gave: its counts, its caption and candidates, seconds by stage.

    versions: of the libraries that made it, what the store gave included; empty where nobody knows.
    refused: why there is no score, in one sentence, and empty where there is one; refused_by:
    what gave up, "reading" the files, a "stage" of the method, or "memory" that ran out.
    """

    name: str
    key: str = ""
    score: ImageScore | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)
    caption: str = ""
    candidates: tuple[str, ...] = ()
    refused: str = ""
    refused_by: RefusedBy = ""
    versions: Versions = field(default_factory=dict)

    @property
    def counted(self) -> ImageScore:
        """The score; FslabError for a picture that was refused."""
        if self.score is None:
            raise FslabError(f"{self.name} has no score: {self.refused}")
        return self.score

    def to_dict(self) -> dict[str, Any]:
        """Return what a line of the result file holds: all that is the same on every run."""
        return {
            "key": self.key,
            "name": self.name,
            "caption": self.caption,
            "candidates": list(self.candidates),
            "score": self.counted.to_dict(),
            "versions": dict(self.versions),
        }

    @classmethod
    def from_dict(
        cls,
        data: Mapping[str, Any],
        names: Sequence[str],
        seconds: Mapping[str, float] | None = None,
    ) -> ImageResult:
        """Return the result that `to_dict` gave, to the last bit; names are the vocabulary's."""
        score = ImageScore.from_dict(data["score"], names)
        return cls(
            data["name"], data["key"], score, dict(seconds or {}),
            data["caption"], tuple(data["candidates"]), versions=data.get("versions", {}),
        )  # fmt: skip


def read_sample(sample: Sample) -> tuple[Picture, np.ndarray]:
    """Read a picture and its truth, u8 [H, W]; FslabError where either is not to be had."""
    truth = sample.truth()
    if truth is None:
        raise FslabError(f"{sample.name} has no truth; an evaluation needs a mask of every picture")
    return sample.picture(), truth


def score_sample(lab: Lab, job: Job, sample: Sample) -> ImageResult:
    """Read a picture and its truth, run the job, and count for every protocol.

    What goes wrong with this one picture is returned as a refusal and not raised: a run of a
    thousand does not end at one that is damaged or too large.
    """
    doing: Literal["reading", "stage"] = "reading"
    try:
        with memory_refused(sample.name):
            picture, truth = read_sample(sample)
            doing = "stage"
            return _run(lab, job, sample.name, picture, truth)
    except OutOfMemory as error:
        return ImageResult(sample.name, refused=str(error), refused_by="memory")
    except FslabError as error:
        return ImageResult(sample.name, refused=str(error), refused_by=doing)


def score_samples(
    lab: Lab, job: Job, samples: Iterable[Sample], processes: int = 0
) -> Generator[ImageResult]:
    """Yield what `score_sample` gives of each, the job's batch at once.

    processes: how many others do what needs no network, meanwhile.
    """
    if job.batch == 1 and not processes:
        yield from (score_sample(lab, job, sample) for sample in samples)
        return
    unread: set[str] = set()
    samples = list(samples)
    order = Order(job.recipe, job.vocabulary, None, job.named, _counted)
    sources = (partial(_read, job, sample, unread) for sample in samples)
    made = run_many(lab, sources, order, job.batch, processes)
    for sample, found in zip(samples, made, strict=True):
        if isinstance(found, FslabError):
            by: RefusedBy = "reading" if sample.name in unread else "stage"
            by = "memory" if isinstance(found, OutOfMemory) else by
            yield ImageResult(sample.name, refused=str(found), refused_by=by)
        else:
            yield found


def within(labels: np.ndarray, vocabulary: Vocabulary) -> np.ndarray:
    """Return labels [H, W] with words outside the dataset's vocabulary as background.

    They are u8, or u16 of more than 255 names.
    """
    kind = label_type(len(vocabulary.names))
    return np.where(labels < len(vocabulary.names), labels, 0).astype(kind)


def _run(lab: Lab, job: Job, name: str, picture: Picture, truth: np.ndarray) -> ImageResult:
    key = job.key(name, picture, truth)
    if not job.named:
        with noting() as noted:
            segments, seconds = lab.timed_segments(picture, job.recipe, job.vocabulary)
        score = score_image(truth, job.vocabulary.names, segments=segments, counts=job.counts)
        return ImageResult(name, key, score, seconds, versions=noted.versions)
    there = classes_in(truth, job.vocabulary) if job.given else None
    result = lab.segment(picture, job.recipe, job.vocabulary, there)
    return _counted(lab, result, (job, name, key, truth))


def classes_in(truth: np.ndarray, vocabulary: Vocabulary) -> tuple[str, ...]:
    """Return the classes that a truth holds, background and void left out."""
    found = np.unique(truth[(truth != 0) & (truth != void_of(truth))])
    return tuple(vocabulary.names[label] for label in found)


def _read(job: Job, sample: Sample, unread: set[str]) -> tuple[Picture, tuple[Any, ...]]:
    """Return a picture and what it is scored by; note the name of one that cannot be read."""
    unread.add(sample.name)
    with memory_refused(sample.name):
        picture, truth = read_sample(sample)
    unread.remove(sample.name)
    return picture, (job, sample.name, job.key(sample.name, picture, truth), truth)


def _counted(lab: Lab, result: Result, beside: tuple[Job, str, str, np.ndarray]) -> ImageResult:
    job, name, key, truth = beside
    guess = within(result.labels.labels, job.vocabulary) if job.named else None
    score = score_image(truth, job.vocabulary.names, guess, result.segments, counts=job.counts)
    caption = result.caption
    return ImageResult(
        name, key, score, result.seconds, caption.text, tuple(caption.candidates),
        versions=result.versions,
    )  # fmt: skip
