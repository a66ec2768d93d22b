"""Read what named layers of any `nn.Module` output. Knows nothing of diffusion."""

from __future__ import annotations

import difflib
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from fnmatch import fnmatchcase
from typing import Any
from weakref import WeakKeyDictionary

from torch import Tensor, nn

from fslab.overtaking import giving_way
from fslab.records import FslabError

_taps: WeakKeyDictionary[nn.Module, threading.RLock] = WeakKeyDictionary()
_taps_grow = threading.Lock()


class _AllSeen(Exception):
    """Raised inside a forward pass to end it, and caught by `tap` alone."""

    def __init__(self, owner: dict[str, Tensor]) -> None:
        super().__init__("every wanted layer has fired")
        self.owner = owner


def layer_paths(net: nn.Module, patterns: Sequence[str]) -> tuple[str, ...]:
    """Return the module paths that any pattern fits, in the network's own order.

    A pattern is a module path, or one with fnmatch's `*`, `?` and `[...]`, where `*` spans
    dots: "up_blocks.*.attn2.to_q" is every cross-attention query of the up blocks.
    Raises FslabError for a pattern that fits nothing; it offers the nearest names.
    """
    paths = [path for path, _ in net.named_modules() if path]
    for pattern in patterns:
        if not any(fnmatchcase(path, pattern) for path in paths):
            raise FslabError(unknown_layer(pattern, paths))
    return tuple(path for path in paths if any(fnmatchcase(path, pattern) for pattern in patterns))


def unknown_layer(pattern: str, paths: Sequence[str]) -> str:
    """Return the sentence for a layer that is not there, with the nearest names."""
    plain = pattern.strip("*")
    words = plain.split(".")
    holding = [path for path in paths if plain in path]
    alike = [path for path in paths if path.endswith(words[-1]) and path.startswith(words[0])]
    near = difflib.get_close_matches(pattern, paths, n=4, cutoff=0.3)
    offered = list(dict.fromkeys([*holding[:4], *near, *alike[:4], *paths[-1:]]))[:4]
    return f"no layer is called {pattern!r}; the nearest are {', '.join(offered)}"


@contextmanager
def tap(net: nn.Module, *patterns: str, stop: bool = False) -> Iterator[dict[str, Tensor]]:
    """Collect what the named layers output, by module path, in the order in which they fire.

    net: any module; patterns: as in `layer_paths`. A layer that fires more than once keeps
    its last output, or its first with stop=True. A layer that returns several things gives
    its first tensor: a UNet block's hidden states come before its skip connections.
    stop=True ends the forward pass as soon as the last wanted layer has fired and leaves the
    `with` block there: what comes after it never runs, so keep only the pass inside.
    Every hook is removed on the way out, also when the pass fails. Hooks see every pass, so a
    network is tapped by one thread at a time; another one waits.
    """
    seen: dict[str, Tensor] = {}
    wanted = _modules(net, patterns)

    def keep(path: str, output: Any) -> None:
        if stop and path in seen:
            return
        seen[path] = first_tensor(output, path)
        if stop and len(seen) == len(wanted):
            raise _AllSeen(seen)

    with _lock_of(net), ExitStack() as hooks:
        for path, module in wanted.items():
            handle = module.register_forward_hook(
                lambda module, inputs, output, path=path: keep(path, output)
            )
            hooks.callback(handle.remove)
        try:
            with giving_way(net):
                yield seen
        except _AllSeen as signal:
            if signal.owner is not seen:  # an outer tap's signal passes through an inner one
                raise


def _lock_of(net: nn.Module) -> threading.RLock:
    with _taps_grow:
        return _taps.setdefault(net, threading.RLock())


def _modules(net: nn.Module, patterns: Sequence[str]) -> dict[str, nn.Module]:
    """Return the modules that any pattern fits, by path; whole paths are not searched for."""
    try:
        paths = patterns if all(patterns) else layer_paths(net, patterns)
        return {path: net.get_submodule(path) for path in paths}
    except AttributeError:
        return {path: net.get_submodule(path) for path in layer_paths(net, patterns)}


def first_tensor(output: Any, path: str) -> Tensor:
    """Return the first tensor of a module's output: itself, or of a tuple, list or mapping."""
    if isinstance(output, Tensor):
        return output
    entries = output.values() if isinstance(output, Mapping) else output
    if isinstance(entries, (tuple, list)) or isinstance(output, Mapping):
        for entry in entries:
            if isinstance(entry, Tensor):
                return entry
    raise FslabError(f"layer {path!r} outputs {type(output).__name__}, which holds no tensor")
