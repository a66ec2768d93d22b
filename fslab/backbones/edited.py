"""Backbones whose network is edited: others by name, so that nothing of theirs passes for clean."""

from __future__ import annotations

import copy
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Self
from uuid import uuid4

import torch
from torch import Tensor, nn

from fslab.backbones.listing import MetaListing
from fslab.edits import Edits, OfPictures, check_unedited, hooked, named, planned
from fslab.heads import whole_of
from fslab.recent import Recent
from fslab.records import FslabError, Picture, digest_of
from fslab.tap import alone

Others = Callable[[Picture, Sequence[str]], Mapping[str, Tensor]]
"""Passes another picture as the one that is edited; returns what modules output, by path."""


class Editable(MetaListing):
    """A backbone with a network of modules, whose outputs `Lab.edit` changes.

    edits: what is done to them, none for the network as it is. kept: whether what it gives may be
    filed: no name tells some callables from others.
    """

    edits: Edits = ()
    kept: bool = True
    _unedited: str = ""
    _said: tuple[Any, ...] = ()
    _others: Recent

    def edited(self, edits: Mapping[str, Any]) -> Self:
        """Return this backbone with edits after those that it has, and the same network.

        Its fingerprint is another one, and so are all keys of what it gives. Its layers must have
        been listed. Raises FslabError as `fslab.editing` does.
        """
        more = planned(self._meta()[0], edits)
        if not more:
            return self
        other = copy.copy(self)
        other.edits = (*self.edits, *more)
        other._unedited = self._unedited or self.name
        other.name = f"{other._unedited}, {len({path for path, _ in other.edits})} modules edited"
        other._others = Recent()
        try:
            said: Any = [[path, named(edit)] for path, edit in more]
            other._said = (*self._said, *said)
        except FslabError:
            said, other.kept = uuid4().hex, False
        vars(other)["fingerprint"] = digest_of({"edited": self.fingerprint, "by": said})
        return other

    @contextmanager
    def editing(self, net: nn.Module, rows: int, others: Others, asked: Hashable) -> Iterator[None]:
        """Edit the network inside; others and asked: how a picture passes, and what tells passes.

        rows: of the batch. The pictures of `swap` and `mean_over` pass before, through the
        network without any edit.
        """
        check_unedited(net)
        if not self.edits:
            yield
            return
        self._check_as_named()
        entries = self._entries([path for path, _ in self.edits])
        made: list[tuple[str, Any]] = []
        for path, edit in self.edits:
            if isinstance(edit, OfPictures):
                compute = partial(_mean, path, edit, others)
                mean = self._others.get((path, edit, asked), compute)
                edit = partial(_put, mean.expand(rows, *mean.shape[1:]))
            made.append((path, edit))
        with alone(net), hooked(net, made, entries):
            yield

    def _check_as_named(self) -> None:
        """Refuse an edit that is another one than its keys say."""
        if not self.kept:
            return
        for (path, edit), (_, said) in zip(self.edits, self._said, strict=True):
            if named(edit) != said:
                raise FslabError(
                    f"the edit of {path!r} has changed since lab.edit began, by which all inside "
                    "is kept; leave lab.edit, and begin it again with the edit as it is now"
                )

    def _entries(self, paths: Sequence[str]) -> dict[str, int]:
        """Return which of the things that a module returns is its layer, by path."""
        layers = self.layers_by_path()
        return {path: layers[whole].entry for path in paths if (whole := whole_of(path)) in layers}


def _mean(path: str, edit: OfPictures, others: Others) -> Tensor:
    """Return the mean of what a module outputs for an edit's pictures."""
    total: Tensor | int = 0
    for picture in edit.pictures:
        seen = others(picture, [path])
        if path not in seen:
            raise FslabError(f"{path!r} outputs nothing in a pass, so there is nothing to swap")
        total = seen[path].float() + total
    return torch.as_tensor(total) / len(edit.pictures)


def _put(mean: Tensor, output: Tensor) -> Tensor:
    return mean.to(output)
