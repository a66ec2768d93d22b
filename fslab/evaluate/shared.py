"""What many recipes share on one picture, held in the memory of their lab."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import cached_property, partial
from typing import Any

import numpy as np

from fslab.datasets import Sample
from fslab.evaluate.job import Job
from fslab.keys import content
from fslab.lab import Lab
from fslab.match import Matcher
from fslab.recent import Recent
from fslab.records import Extraction, FslabError, Own, Picture
from fslab.store import Store, Stored, read_only
from fslab.versions import versions_here


class SharedStore(Store):
    """A store whose entries are also held in memory once they were read or filed.

    So what recipes share is computed once even where nothing can be written, and read once where it
    can.
    """

    def __init__(self, location: str, recent: Recent) -> None:
        super().__init__(location)
        self._recent = recent

    def entry(self, key: str) -> Stored | None:
        """Return an entry, or None where it is missing or damaged."""
        found: Stored | None = self._recent.find(key)
        if found is None:
            found = super().entry(key)
            if found is not None:
                self._recent.keep(key, found)
        return found

    def put(self, key: str, arrays: Mapping[str, np.ndarray]) -> None:
        """File arrays under a key, and hold them."""
        super().put(key, arrays)
        held = {name: read_only(array) for name, array in arrays.items()}
        self._recent.keep(key, Stored(held, versions_here()))


class SharedMatcher(Matcher):
    """A matcher that encodes the same views once, while they are held in memory."""

    def __init__(self, matcher: Matcher, recent: Recent) -> None:
        super().__init__(matcher.model, matcher.tokenizer, matcher.image_processor)
        self._recent = recent

    def encode_images(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """Return f32 [N, D] of unit length, as `Matcher` does."""
        shown = content({f"{place}": image for place, image in enumerate(images)})
        encode = partial(super().encode_images, images)
        vectors: np.ndarray = self._recent.get(("views", shown), encode)
        return vectors


class SharedLab(Lab):
    """A lab for many recipes over one picture after the other, which holds what they share."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self.store = SharedStore(self.store.location, self.recent)

    @cached_property
    def matcher(self) -> SharedMatcher:
        """The preset's CLIP, which encodes a picture's views once."""
        return SharedMatcher(super().matcher, self.recent)


class HeldSample:
    """A sample whose picture and truth are read once, however often they are asked for."""

    def __init__(self, sample: Sample) -> None:
        self._sample, self.name = sample, sample.name

    def picture(self) -> Picture:
        """Return the picture; FslabError each time where it cannot be read."""
        return self._picture

    def truth(self) -> np.ndarray | None:
        """Return the truth, u8 [H, W]; FslabError each time where it cannot be read."""
        return self._truth

    @cached_property
    def _picture(self) -> Picture:
        return self._sample.picture()

    @cached_property
    def _truth(self) -> np.ndarray | None:
        return self._sample.truth()


def extract_together(lab: Lab, jobs: Sequence[Job], sample: HeldSample) -> None:
    """Read the layers of all jobs in as few passes as they allow: one for each timestep.

    Only what some jobs would otherwise pass again for is read; what goes wrong here is left for
    each job to say.
    """
    together: dict[Extraction, dict[str, None]] = {}
    sets = {job.recipe.extract for job in jobs if not isinstance(job.recipe.extract, Own)}
    for settings in sorted(sets, key=lambda each: each.layers):
        rest = replace(settings, layers=(), attention="none")
        together.setdefault(rest, {}).update(dict.fromkeys(settings.layers))
    for rest, layers in together.items():
        if sum(replace(each, layers=(), attention="none") == rest for each in sets) < 2:
            continue
        with contextlib.suppress(FslabError, MemoryError, RuntimeError):
            named = {**asdict(rest), "layers": tuple(layers)}
            lab.extract(sample.picture(), **named)
