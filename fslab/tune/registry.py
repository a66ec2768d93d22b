"""Every criterion by name: what tells good segments from bad ones where there is no truth."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

from fslab.parts import Part, Registry, call, named_object, qualified
from fslab.records import FslabError
from fslab.records.base import described

GIVEN = ("picture", "features", "segments", "settings", "repeats", "attentions")
"""What a criterion may have parameters for, see `Criterion`."""

_OF_SEGMENTS = frozenset(("features", "segments", "settings", "repeats"))
_VARIABLE = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


@dataclass(frozen=True, kw_only=True)
class Criterion(Part):
    """How good segments are, told without a truth.

    run: returns a number, more is better, and is given what it has parameters for: picture, the
    `Picture`; features, its `Features` of the layers at the timestep; segments, its `Segments`;
    settings, those of the clustering; repeats, a tuple of `Segments` of the same picture made with
    other noise, where there is noise, and of the mirrored picture, turned back; attentions, the
    `Features` of self-attention at the timestep and a step away from it. What is not asked for is
    not computed. One that asks for neither features nor segments tells timesteps apart, and layers
    and K not. note: in words.
    """

    note: str = ""

    def __post_init__(self) -> None:
        if isinstance(self.run, str):
            return
        if not callable(self.run):
            raise FslabError(f"criterion {self.name!r} is {described(self.run)}; give a function")
        strange = [
            name
            for name, each in inspect.signature(self.run).parameters.items()
            if name not in GIVEN and each.default is each.empty and each.kind not in _VARIABLE
        ]
        if strange:
            raise FslabError(
                f"criterion {self.name!r} has a parameter {strange[0]!r}; a criterion is given "
                f"{', '.join(GIVEN)}, by these names"
            )
        if not self.asks:
            raise FslabError(
                f"criterion {self.name!r} asks for nothing; give it parameters among "
                f"{', '.join(GIVEN)}"
            )

    @cached_property
    def asks(self) -> frozenset[str]:
        """What of `GIVEN` it has parameters for."""
        return frozenset(inspect.signature(self.function).parameters) & frozenset(GIVEN)

    @property
    def tells_timesteps_only(self) -> bool:
        """Whether it says the same of all layers and K."""
        return not self.asks & _OF_SEGMENTS

    def value(self, **given: Any) -> float:
        """Return what it says; FslabError for what is no finite number."""
        found = call(self.function, **given)
        try:
            value = float(found)
        except (TypeError, ValueError) as error:
            raise FslabError(
                f"criterion {self.name!r} returned {described(found)}; it must return a number"
            ) from error
        if value != value or value in (float("inf"), -float("inf")):
            raise FslabError(f"criterion {self.name!r} returned {value}; it must be finite")
        return value


CRITERIA: Registry[Criterion] = Registry("criterion", Criterion, "fslab.criteria")
"""All criteria by name."""

criterion = CRITERIA
"""The same, as the decorator that adds one: `@criterion("compactness")` before a function."""

DEFAULT = ("contours", "stability")
"""What is asked where none is named: chosen on mini-VOC's split search, see docs/howto/tune.md."""

CRITERIA.add(
    "silhouette", "fslab.tune.criteria:silhouette",
    note="how much nearer cells are to their own segment than to the next, in feature space "
    "(Rousseeuw 1987)",
)  # fmt: skip
CRITERIA.add(
    "stability", "fslab.tune.criteria:stability",
    note="how alike segments are under other noise and of the mirrored picture: adjusted Rand "
    "index (Hubert and Arabie 1985)",
)  # fmt: skip
CRITERIA.add(
    "contours", "fslab.tune.criteria:contours",
    note="how far the picture's gradient on the segments' borders is above its mean, in its "
    "standard deviations",
)  # fmt: skip
CRITERIA.add(
    "divergence", "fslab.tune.criteria:divergence",
    note="how far self-attention moves from this timestep to one 20 away (TRACE, 2026); tells "
    "timesteps apart, and layers and K not",
)  # fmt: skip


Chosen = str | Callable[..., Any] | Criterion


def find_criteria(chosen: Chosen | Sequence[Chosen]) -> tuple[Criterion, ...]:
    """Return criteria: by name, by "package.module:function", or functions of one's own."""
    several = isinstance(chosen, Sequence) and not isinstance(chosen, str)
    found = tuple(map(_found, cast("Sequence[Chosen]", chosen if several else (chosen,))))
    names = [one.name for one in found]
    twice = [name for name in names if names.count(name) > 1]
    if not found or twice:
        raise FslabError(
            f"criteria are {names}; name one at least, and each once: {', '.join(CRITERIA)}"
        )
    return found


def _found(chosen: Chosen) -> Criterion:
    if isinstance(chosen, Criterion):
        return chosen
    if isinstance(chosen, str):
        if ":" not in chosen:
            return CRITERIA.find(chosen)
        chosen = named_object(chosen)
    if not callable(chosen):
        raise FslabError(
            f"{chosen!r:.60} is no criterion; give a function, or a name: {', '.join(CRITERIA)}"
        )
    return Criterion(name=qualified(chosen), run=chosen)
