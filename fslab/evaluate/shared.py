"""What many recipes share on one picture, kept in memory while it is the picture at hand."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import cached_property

import numpy as np
import xxhash

from fslab.datasets import Sample
from fslab.evaluate.job import Job
from fslab.lab import Lab
from fslab.match import Matcher
from fslab.records import Extraction, FslabError, Picture
from fslab.store import Store


class SharedStore(Store):
    """A store that also holds in memory what was read or filed since it was last told to forget.

    So a picture's features are computed once even where nothing can be written, and read once
    where it can.
    """

    def __init__(self, location: str | os.PathLike[str] | None = None) -> None:
        super().__init__(location)
        self._held: dict[str, dict[str, np.ndarray]] = {}

    def get(self, key: str) -> dict[str, np.ndarray] | None:
        """Return an entry's arrays, read-only, or None where it is missing or damaged."""
        if key not in self._held:
            entry = super().get(key)
            if entry is None:
                return None
            self._held[key] = entry
        return dict(self._held[key])

    def put(self, key: str, arrays: Mapping[str, np.ndarray]) -> None:
        """File arrays under a key, and hold them."""
        super().put(key, arrays)
        self._held[key] = {name: _read_only(array) for name, array in arrays.items()}

    def forget(self) -> None:
        """Let go of all that is held in memory."""
        self._held.clear()


class SharedMatcher(Matcher):
    """A matcher that encodes the same views once, until it is told to forget."""

    def __init__(self, matcher: Matcher) -> None:
        super().__init__(matcher.model, matcher.tokenizer, matcher.image_processor)
        self._views: dict[str, np.ndarray] = {}

    def encode_images(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """Return f32 [N, D] of unit length, as `Matcher` does."""
        state = xxhash.xxh3_128()
        for image in images:
            state.update(repr(image.shape).encode())
            state.update(np.ascontiguousarray(image).tobytes())
        key = state.hexdigest()
        if key not in self._views:
            self._views[key] = super().encode_images(images)
        return self._views[key]

    def forget(self) -> None:
        """Let go of all views."""
        self._views.clear()


class SharedLab(Lab):
    """A lab for many recipes over one picture after the other; call `forget` between pictures."""

    def __init__(
        self,
        preset: str | os.PathLike[str],
        backbone: str | None = None,
        precision: str | None = None,
    ) -> None:
        self._shared = SharedStore()
        super().__init__(preset, backbone, self._shared, precision=precision)

    @cached_property
    def matcher(self) -> SharedMatcher:
        """The preset's CLIP, which encodes a picture's views once."""
        return SharedMatcher(super().matcher)

    def forget(self) -> None:
        """Let go of what was kept for the last picture; models and texts stay."""
        self._shared.forget()
        if "matcher" in vars(self):
            self.matcher.forget()


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
    sets = {job.recipe.extract for job in jobs}
    for settings in sorted(sets, key=lambda each: each.layers):
        rest = replace(settings, layers=(), attention="none")
        together.setdefault(rest, {}).update(dict.fromkeys(settings.layers))
    for rest, layers in together.items():
        if sum(replace(each, layers=(), attention="none") == rest for each in sets) < 2:
            continue
        with contextlib.suppress(FslabError, MemoryError, RuntimeError):
            named = {**asdict(rest), "layers": tuple(layers)}
            lab.extract(sample.picture(), timestep=named.pop("timesteps"), **named)


def _read_only(array: np.ndarray) -> np.ndarray:
    view = np.asarray(array).view()
    view.setflags(write=False)
    return view
