"""Change what a network's modules output while it runs: to nothing, scaled, another picture's."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from numbers import Real
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from fslab.heads import HEAD, check_head, count_heads, part_of_head, parted, whole_of
from fslab.parts import identity, qualified
from fslab.records import FslabError, Picture, check_kind
from fslab.tap import ATTENTION, INPUT, alone, entries_of, layer_paths

Edit = Callable[[Tensor], Tensor]
"""Takes what a module outputs, a tensor with the batch first, and returns one of the same shape."""

Edits = Sequence[tuple[str, Any]]
"""Whole paths of modules, or of their heads, and what is done to them, in this order."""


def zero(output: Tensor) -> Tensor:
    """Edit: nothing comes from the module, which in a residual network takes its part away."""
    return torch.zeros_like(output)


@dataclass(frozen=True)
class Scale:
    """Edit: so many times what the module outputs; see `scale`."""

    factor: float

    def __call__(self, output: Tensor) -> Tensor:
        """Return the scaled output."""
        return output * self.factor


def scale(factor: float) -> Scale:
    """Return an edit that multiplies by a finite number; FslabError for anything else."""
    if not isinstance(factor, Real) or isinstance(factor, bool) or not math.isfinite(factor):
        raise FslabError(f"factor is {factor!r:.60}; give a finite number: fslab.scale(0.5)")
    return Scale(float(factor))


@dataclass(frozen=True)
class OfPictures:
    """Edit: what the module outputs for other pictures, their mean; see `swap` and `mean_over`.

    A lab passes each of them through the unedited network, at the size, timestep, noise and prompt
    of the pass that is edited.
    """

    pictures: tuple[Picture, ...]


def swap(picture: Picture) -> OfPictures:
    """Return an edit that puts another picture's output in the place of a picture's own."""
    check_kind(picture, Picture, "picture")
    return OfPictures((picture,))


def mean_over(pictures: Sequence[Picture]) -> OfPictures:
    """Return an edit that puts the mean output of pictures in the place of a picture's own."""
    found = () if isinstance(pictures, (str, Picture)) else tuple(pictures)
    if not found:
        raise FslabError(f"pictures are {pictures!r:.60}; give a list of one picture at least")
    for each in found:
        check_kind(each, Picture, "a picture of mean_over")
    return OfPictures(found)


def named(edit: Any) -> Any:
    """Return plain data that tells an edit from others.

    Raises FslabError for a callable that nothing can tell from another.
    """
    if edit is zero:
        return "zero"
    if isinstance(edit, Scale):
        return ["scale", edit.factor]
    if isinstance(edit, OfPictures):
        return ["of pictures", [each.digest for each in edit.pictures]]
    return identity(edit)


_edited: WeakKeyDictionary[nn.Module, int] = WeakKeyDictionary()
"""Networks under `editing`, and how often; changed while they are held alone."""


@contextmanager
def editing(net: nn.Module, edits: Mapping[str, Edit]) -> Iterator[nn.Module]:
    """Change what modules of any network output, for as long as the `with` block runs.

    edits: by a module's path or pattern as in `fslab.tap.layer_paths`, what is done to its output:
    `fslab.zero`, `fslab.scale(0.5)`, or a function of your own, tensor -> tensor of the same shape.
    "attn1.to_v#3" is one head of an attention's queries, keys or values, "#*" each of them. Of a
    module that returns several things the first tensor is changed: a UNet block's hidden states,
    and not its skip connections. Edits within each other are done one after the other.

    Hooks are removed on the way out, also when a pass fails. While it is edited the network is
    this thread's alone: fslab's passes in others wait. Features that a lab files are edited with
    `Lab.edit`, whose keys say so, and a lab refuses a network that is edited by this.
    Raises FslabError for a module or a head that is not there, and for what is no edit.
    """
    if not isinstance(net, nn.Module):
        raise FslabError(f"net is {type(net).__name__}; give an nn.Module, such as pipe.unet")
    found = planned(net, edits)
    for path, edit in found:
        if isinstance(edit, OfPictures):
            raise FslabError(
                f"the edit of {path!r} reads other pictures, which a network alone does not know; "
                "use swap and mean_over with lab.edit"
            )
    with alone(net), hooked(net, found):
        _edited[net] = _edited.get(net, 0) + 1
        try:
            yield net
        finally:
            _edited[net] -= 1


def check_unedited(net: nn.Module) -> None:
    """Refuse a network under `editing`: what it gives would be kept as its own."""
    with alone(net):
        if _edited.get(net, 0):
            raise FslabError(
                "the lab's network is under fslab.editing, and what it gives would be kept as "
                "unedited; use lab.edit, whose keys say what was edited"
            )


def planned(net: nn.Module, edits: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Return whole paths of modules and heads with their edits, in the order of the mapping.

    net: may be without numbers. Raises FslabError as `editing` does.
    """
    if not isinstance(edits, Mapping):
        raise FslabError(
            f"edits are {edits!r:.60}; give a dict by module path: {{'mid_block': fslab.zero}}"
        )
    found: list[tuple[str, Any]] = []
    for pattern, edit in edits.items():
        _check_edit(pattern, edit)
        found += [(path, edit) for path in _paths(net, pattern)]
    return found


def _check_edit(pattern: Any, edit: Any) -> None:
    if not isinstance(pattern, str) or not pattern:
        raise FslabError(f"an edit is of {pattern!r:.60}; give a module's path, as text")
    how = next((each for each in (INPUT, *ATTENTION) if whole_of(pattern).endswith(each)), "")
    if how:
        raise FslabError(
            f"{pattern!r} is no module's output, and only these are edited; edit what comes before "
            "it, such as to_q, or the attention itself"
        )
    if not callable(edit) and not isinstance(edit, OfPictures):
        raise FslabError(
            f"the edit of {pattern!r} is {edit!r:.60}; give fslab.zero, fslab.scale(0.5), "
            "fslab.swap(picture), fslab.mean_over(pictures), or a function, tensor -> tensor"
        )


def _paths(net: nn.Module, pattern: str) -> list[str]:
    whole, head = parted(pattern)
    paths = list(layer_paths(net, [whole]))
    lists = (nn.ModuleList, nn.ModuleDict)
    called = [path for path in paths if not isinstance(net.get_submodule(path), lists)]
    if not called:
        raise FslabError(
            f"{paths[0]!r} is a list of modules, which itself outputs nothing; edit its entries, "
            f"{paths[0]}.0 or {paths[0]}.*"
        )
    if head is None:
        return called
    heads = {path: count_heads(net, path) for path in called}
    found = [
        f"{path}{HEAD}{number}"
        for path, count in heads.items()
        for number in range(count)
        if fnmatchcase(str(number), head)
    ]
    if not found:
        most = max(called, key=lambda path: heads[path])
        check_head(f"{most}{HEAD}{head}", heads[most])
    return found


@contextmanager
def hooked(
    net: nn.Module, edits: Edits, entries: Mapping[str, int] | None = None
) -> Iterator[None]:
    """Hook edits into a network that is held alone; entries: as in `fslab.tap.tap`."""
    with ExitStack() as hooks:
        for path, edit in edits:
            whole, head = parted(path)
            heads = 0 if head is None else count_heads(net, whole)
            change = partial(_changed, edit, path, heads)
            replace = partial(_replaced, change, path, (entries or {}).get(path, 0))
            hooks.callback(net.get_submodule(whole).register_forward_hook(replace).remove)
        yield


def _replaced(
    change: Edit, path: str, entry: int, module: nn.Module, inputs: Any, output: Any
) -> Any:
    """Return a module's output with its first tensor, from an entry on, changed."""
    parts = list(entries_of(output))
    place = next((at for at in range(entry, len(parts)) if isinstance(parts[at], Tensor)), None)
    if place is None:
        raise FslabError(f"{path!r} outputs {type(output).__name__}, which holds no tensor to edit")
    parts[place] = change(parts[place])
    if isinstance(output, Tensor):
        return parts[0]
    if isinstance(output, Mapping):
        changed: Any = copy.copy(output)
        changed[list(output)[place]] = parts[place]
        return changed
    return type(output)(*parts) if hasattr(output, "_fields") else type(output)(parts)


def _changed(edit: Edit, path: str, heads: int, output: Tensor) -> Tensor:
    """Return an output, or with heads one head's channels of it, as the edit wants it."""
    part = part_of_head(output, path, heads) if heads else slice(None)
    found = edit(output[..., part].clone())  # a module may output what it was given
    _check_changed(edit, path, found, output[..., part])
    changed = output.clone()
    changed[..., part] = found
    return changed


def _check_changed(edit: Edit, path: str, found: Any, given: Tensor) -> None:
    called = (
        f"the edit of {path!r}, {qualified(edit) if hasattr(edit, '__name__') else edit!r:.60},"
    )
    if not isinstance(found, Tensor) or found.shape != given.shape:
        kind = list(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise FslabError(f"{called} returned {kind}; it must return a tensor {list(given.shape)}")
    if found.dtype != given.dtype or found.device != given.device or found.layout != given.layout:
        kinds = [f"{one.dtype}, {one.device}, {one.layout}" for one in (found, given)]
        raise FslabError(f"{called} returned a tensor of {kinds[0]}; it must be of {kinds[1]}")
    if bool(torch.isfinite(given).all()) and not bool(torch.isfinite(found).all()):
        raise FslabError(f"{called} returned numbers that are not finite")
