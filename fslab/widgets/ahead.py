"""Which passes a view needs, and which a researcher is likely to ask for next."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from fslab.lab import Lab
from fslab.records import Recipe
from fslab.tap import ATTENTION
from fslab.widgets.pictures import Subject
from fslab.widgets.worker import Needs


def needs_of(subject: Subject, *layers: Hashable) -> Needs:
    """Return what the passes for some layers of a subject compute; names tell subjects apart."""
    name = subject.name
    return {"latent": frozenset([name]), "layers": frozenset((name, each) for each in layers)}


LAST = 999
"""The last timestep of a slider."""


def next_timesteps(lab: Lab, recipe: Recipe, before: Recipe | None) -> tuple[int, ...]:
    """Return timesteps near a recipe's, the likeliest first; none where time has no meaning.

    before: what was looked at until then. A move that was just made is made once more; then the
    slider's neighbours are looked at.
    """
    if lab.backbone.timestep is None:
        return ()
    now, then = (each.extract.timesteps[0] for each in (recipe, before or recipe))
    likely = dict.fromkeys((2 * now - then, now + 1, now - 1))
    return tuple(step for step in likely if 0 <= step <= LAST and step not in (now, then))


def beside(layers: Sequence[str], layer: str) -> tuple[str, ...]:
    """Return the layers listed before and after one, but for where attention looks: gigabytes."""
    maps = [path for path in layers if path == layer or not path.endswith(ATTENTION)]
    if layer not in maps:
        return ()  # the list was narrowed since
    place = maps.index(layer)
    return (*maps[max(place - 1, 0) : place], *maps[place + 1 : place + 2])
