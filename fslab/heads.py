"""One head of an attention by name: "PATH#3" is the fourth head of what PATH reads."""

from __future__ import annotations

from torch import Tensor, nn

from fslab.errors import FslabError

HEAD = "#"
"""Between a layer's path and the number of one of its heads, from 0."""

_QUERIES = {
    "to_q": "to_q", "to_k": "to_q", "to_v": "to_q",
    "q_proj": "q_proj", "k_proj": "q_proj", "v_proj": "q_proj",
    "query": "query", "key": "query", "value": "query",
    "add_q_proj": "add_q_proj", "add_k_proj": "add_q_proj", "add_v_proj": "add_q_proj",
}  # fmt: skip
"""The libraries' names of projections that heads share out among themselves, and of the queries'
beside them."""

_COUNTS = ("heads", "num_heads", "num_attention_heads")
"""Where an attention of the libraries says how many heads its queries have."""


def parted(path: str) -> tuple[str, str | None]:
    """Return a layer's path and what stands for its head, None where nothing does."""
    whole, mark, head = path.rpartition(HEAD)
    return (whole, head) if mark else (path, None)


def whole_of(path: str) -> str:
    """Return the path without its head."""
    return parted(path)[0]


def head_of(path: str) -> int | None:
    """Return the number of the head that a path names, None where it names none.

    Raises FslabError for what is no number.
    """
    whole, head = parted(path)
    if head is None:
        return None
    if not (head.isascii() and head.isdigit() and str(int(head)) == head):
        raise FslabError(f"{path!r} names the head {head!r}; it is a number from 0: {whole}#0")
    return int(head)


def count_heads(net: nn.Module, path: str, attention: bool = False) -> int:
    """Return how many heads a module's output is parted among, 0 where it is not.

    path: of a projection of an attention to queries, keys or values, each head's side by side; or,
    with attention=True, of the attention itself. The number is the attention's own word.
    """
    place, _, name = path.rpartition(".")
    if attention:
        return _said(net.get_submodule(path))
    if name not in _QUERIES:
        return 0
    owner = net.get_submodule(place)
    own, queries = (
        getattr(getattr(owner, each, None), "out_features", 0) for each in (name, _QUERIES[name])
    )
    heads = _said(owner) * own
    return 0 if not queries or heads % queries else heads // queries  # keys may have fewer


def _said(attention: nn.Module) -> int:
    """Return the number of heads that an attention has as an attribute of its own."""
    known = vars(attention)
    return next((known[each] for each in _COUNTS if isinstance(known.get(each), int)), 0)


def check_head(path: str, heads: int) -> int:
    """Return the head that a path names; FslabError where the layer has no such head."""
    whole = whole_of(path)
    if not heads:
        raise FslabError(
            f"{whole!r} has no heads; an attention's queries, keys and values have (attn1.to_q#0), "
            "and where it looks (attn1.probs#0)"
        )
    head = head_of(path)
    if head is None or head >= heads:
        raise FslabError(f"{whole!r} has {heads} heads, #0 to #{heads - 1}; there is no #{head}")
    return head


def part_of_head(value: Tensor, path: str, heads: int) -> slice:
    """Return where the channels of a path's head stand in the last axis of what its layer gives."""
    head = check_head(path, heads)
    width = value.shape[-1] // heads
    return slice(head * width, (head + 1) * width)
