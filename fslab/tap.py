"""Read what named layers of any `nn.Module` take, output and attend to. Knows no diffusion."""

from __future__ import annotations

import difflib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from fnmatch import fnmatchcase
from functools import partial
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from torch.overrides import TorchFunctionMode

from fslab.heads import check_head, count_heads, head_of, part_of_head, whole_of
from fslab.overtaking import giving_way
from fslab.records import FslabError

INPUT = ".input"
"""Behind a module's path: what it is given."""

PROBABILITIES = ".probs"
"""Behind a module's path: where the attention within it looks."""

TO_TEXT = ".to_text"
"""Behind an attention's path: how much a picture's cells look at each token of a text."""

FROM_TEXT = ".from_text"
"""Behind an attention's path: how much each token of a text looks at a picture's cells."""

ATTENTION = (PROBABILITIES, TO_TEXT, FROM_TEXT)

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
def tap(
    net: nn.Module,
    *patterns: str,
    stop: bool = False,
    entries: Mapping[str, int] | None = None,
    pick: Callable[[str, Tensor], Tensor] | None = None,
) -> Iterator[dict[str, Tensor]]:
    """Collect what the named layers output, by module path, in the order in which they fire.

    net: any module; patterns: as in `layer_paths`, or a path with ".input" behind it for what that
    module is given, or with one of ATTENTION for `attention_probabilities` of the attention within
    it, of which `pick`, given path and matrix, says what is kept. "#3" behind a path of queries,
    keys, values or attention reads that head alone. A layer that fires more than once
    keeps its last output, or its first with stop=True. A layer that returns several things gives
    its first tensor: a UNet block's hidden states come before its skip connections; entries: by
    path, the place of another one.
    stop=True ends the forward pass as soon as the last wanted layer has fired and leaves the
    `with` block there: what comes after it never runs, so keep only the pass inside.
    Every hook is removed on the way out, also when the pass fails. Hooks see every pass, so a
    network is tapped by one thread at a time; another one waits.
    """
    seen: dict[str, Tensor] = {}
    wanted = _modules(net, patterns)

    def keep(path: str, value: Any) -> None:
        if stop and path in seen:
            return
        place = (entries or {}).get(path, 0)
        found = first_tensor(entries_of(value)[place:] if place else value, path)
        seen[path] = wanted[path].part(path, found)
        if stop and len(seen) == len(wanted):
            raise _AllSeen(seen)

    with alone(net), ExitStack() as hooks:
        watched: dict[nn.Module, list[str]] = {}
        for path, (module, how, _) in wanted.items():
            if how in ATTENTION:
                watched.setdefault(module, []).append(path)
        if watched:
            looks = {each: partial(_look, paths, keep, pick) for each, paths in watched.items()}
            hooks.enter_context(attending(looks))
        for path, (module, how, _) in wanted.items():
            if how not in ATTENTION:
                hooks.callback(_hook(module, how, partial(keep, path)).remove)
        try:
            with giving_way(net):
                yield seen
        except _AllSeen as signal:
            if signal.owner is not seen:  # an outer tap's signal passes through an inner one
                raise


def _hook(module: nn.Module, how: str, keep: Callable[[Any], None]) -> Any:
    if how == INPUT:
        return module.register_forward_pre_hook(
            lambda _, inputs, named: keep((*inputs, *named.values())), with_kwargs=True
        )
    return module.register_forward_hook(lambda _, inputs, output: keep(output))


def _look(
    paths: Sequence[str],
    keep: Callable[[str, Tensor], None],
    pick: Callable[[str, Tensor], Tensor] | None,
    *given: Any,
    **named: Any,
) -> None:
    found: dict[int | None, Tensor] = {}
    for path in paths:
        head = head_of(path)
        if head not in found:
            found[head] = partial(attention_probabilities, head=head)(*given, **named)
        keep(path, found[head] if pick is None else pick(path, found[head]))


class Attending(TorchFunctionMode):
    """Tells the innermost entered module's listener what attention inside it is called with."""

    def __init__(self) -> None:
        super().__init__()
        self.entered: list[Callable[..., None]] = []

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func is scaled_dot_product_attention and self.entered:
            self.entered[-1](*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


@contextmanager
def attending(
    listeners: Mapping[nn.Module, Callable[..., None]], mode: Attending | None = None
) -> Iterator[None]:
    """Tell listeners what `scaled_dot_product_attention` within their modules is called with.

    So queries and keys are those that count: normalised, rotated, text's among them. Of modules
    within each other the innermost is told. Only this thread's passes are listened to.
    mode: another way of telling.
    """
    mode = Attending() if mode is None else mode
    with ExitStack() as hooks:
        for module, listener in listeners.items():
            enter = partial(_enter, mode.entered, listener)
            hooks.callback(module.register_forward_pre_hook(enter).remove)
            leave = module.register_forward_hook(lambda *_: _leave(mode.entered))
            hooks.callback(leave.remove)
        with mode:
            yield


def _enter(entered: list[Callable[..., None]], listener: Callable[..., None], *_: Any) -> None:
    entered.append(listener)


def _leave(entered: list[Callable[..., None]]) -> None:
    entered.pop()


def attention_probabilities(
    query: Tensor,
    key: Tensor,
    value: Tensor | None = None,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
    head: int | None = None,
) -> Tensor:
    """Return where `scaled_dot_product_attention` looks, head mean: f32 [B, queries, keys].

    Its own arguments: query [B, heads, queries, D], key [B, heads or fewer, keys, D]; value,
    dropout_p and enable_gqa change nothing here. head: where that one alone looks. Head by head:
    all at once need `heads` times the memory, gigabytes for the finest layer of Stable Diffusion.
    """
    heads, (rows, columns) = query.shape[1], (query.shape[2], key.shape[2])
    each = heads // key.shape[1]
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    if is_causal:
        attn_mask = torch.ones(rows, columns, dtype=torch.bool, device=query.device).tril()
    wanted = range(heads) if head is None else [head]
    total = torch.zeros(len(query), rows, columns, device=query.device)
    for one in wanted:
        scores = query[:, one].float() @ key[:, one // each].float().transpose(1, 2) * scale
        total += _masked(scores, attn_mask, one).softmax(-1)
    return total / len(wanted)


def _masked(scores: Tensor, mask: Tensor | None, head: int) -> Tensor:
    if mask is None:
        return scores
    if mask.ndim == 4:
        mask = mask[:, head if mask.shape[1] > 1 else 0]
    if mask.dtype == torch.bool:
        return scores.masked_fill(~mask, -torch.inf)
    return scores + mask


def alone(net: nn.Module) -> threading.RLock:
    """Return what is to be held while a network has hooks: they see the passes of all threads."""
    with _taps_grow:
        return _taps.setdefault(net, threading.RLock())


class _Wanted(NamedTuple):
    """What is read of a module: what it outputs or another thing; heads: of which one is named."""

    module: nn.Module
    how: str = ""
    heads: int = 0

    def part(self, path: str, value: Tensor) -> Tensor:
        """Return a head's channels where a path names one; attention is computed by head."""
        if not self.heads or self.how in ATTENTION:
            return value
        return value[..., part_of_head(value, path, self.heads)]


def _modules(net: nn.Module, patterns: Sequence[str]) -> dict[str, _Wanted]:
    """Return modules that any pattern fits, and what is read of each; whole paths are not searched
    for."""
    try:
        paths = patterns if all(patterns) else layer_paths(net, patterns)
        return {path: _module(net, path) for path in paths}
    except AttributeError:
        return {path: _Wanted(net.get_submodule(path)) for path in layer_paths(net, patterns)}


def _module(net: nn.Module, path: str) -> _Wanted:
    """Return the module of a path, and what is read of it where no module is called so."""
    try:
        return _Wanted(net.get_submodule(path))
    except AttributeError:
        whole = whole_of(path)
        how = next((each for each in (INPUT, *ATTENTION) if whole.endswith(each)), "")
        place = whole.removesuffix(how)
        module = net.get_submodule(place)
    if head_of(path) is None:
        return _Wanted(module, how)
    heads = 0 if how == INPUT else count_heads(net, place, how in ATTENTION)
    check_head(path, heads)
    return _Wanted(module, how, heads)


def first_tensor(output: Any, path: str) -> Tensor:
    """Return the first tensor of a module's output: itself, or of a tuple, list or mapping."""
    for entry in entries_of(output):
        if isinstance(entry, Tensor):
            return entry
    raise FslabError(f"layer {path!r} outputs {type(output).__name__}, which holds no tensor")


def entries_of(output: Any) -> Sequence[Any]:
    """Return the things that a module outputs: a tensor alone, or a tuple's, list's, mapping's."""
    if isinstance(output, Mapping):
        return list(output.values())
    return output if isinstance(output, (tuple, list)) else [output]
