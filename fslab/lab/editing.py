"""A lab's backbone with edits in its place, for the thread that asked and as long as it asked."""

from __future__ import annotations

import warnings
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from fslab.errors import FslabError, FslabWarning
from fslab.extract import listed_layers

if TYPE_CHECKING:
    from fslab.backbones import Backbone
    from fslab.lab.models import Models

T = TypeVar("T")


def edited_backbone(lab: Models, edits: Mapping[str, Any]) -> Backbone:
    """Return a lab's backbone with edits after those that are in force."""
    from fslab.backbones.edited import Editable

    backbone = lab.backbone
    if not isinstance(backbone, Editable):
        raise FslabError(
            f"{backbone.name} has no network whose modules fslab calls, so none of them can be "
            "edited; take a diffusion model or a vision transformer"
        )
    listed_layers(backbone, lab.store)
    edited = backbone.edited(edits)
    if backbone.kept and not edited.kept:
        warnings.warn(
            "an edit cannot be told from another by name or source, so nothing that is computed "
            "inside is kept; write it as a function in a file or a cell",
            FslabWarning, stacklevel=4,
        )  # fmt: skip
    return edited


@contextmanager
def held(lab: Models, backbone: Backbone | None) -> Iterator[None]:
    """Have a backbone in the place of the lab's in this thread; None for the lab's own.

    Of several the one that began last is there, in whatever order they end.
    """
    entry = [backbone]
    lab._held.entries.append(entry)
    try:
        yield
    finally:
        lab._held.entries[:] = [each for each in lab._held.entries if each is not entry]


def as_begun(lab: Models, made: Generator[T]) -> Iterator[T]:
    """Yield what is made, under those edits that were in force when it was begun."""
    backbone = lab._held.backbone

    def each() -> Iterator[T]:
        with closing(made):
            while True:
                with held(lab, backbone):
                    try:
                        found = next(made)
                    except StopIteration:
                        return
                yield found

    return each()


def check_no_edit(lab: Models, what: str) -> None:
    """Refuse what other threads or processes do, which would not see this thread's edits."""
    if getattr(lab._held.backbone, "edits", ()):
        raise FslabError(f"{what} would show the network as it is; leave lab.edit first")
