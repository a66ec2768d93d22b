"""Python as it is written by hand: calls, literals and imports, broken where a line is long."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

LINE = 88
"""Letters of a line at most, as Black and Ruff have it by default."""

_INDENT = 4


class Words(str):
    """Code that stands as it is, such as the name of a variable."""


@dataclass(frozen=True)
class Group:
    """A call or a collection: what opens it, its parts, and what closes it."""

    before: str
    parts: tuple[Code, ...]
    after: str
    collection: bool = False

    def __str__(self) -> str:
        lone = "," if self.after == ")" and self.collection and len(self.parts) == 1 else ""
        return f"{self.before}{', '.join(map(str, self.parts))}{lone}{self.after}"


Code = Words | Group
"""A piece of Python; `str` writes it on one line."""


def code(value: Any) -> Code:
    """Return a value as Python: a text, a number, None, or a collection of these.

    What is code already stays as it is.
    """
    if isinstance(value, (Words, Group)):
        return value
    if isinstance(value, str):
        return Words(quoted(value))
    if isinstance(value, Mapping):
        parts = tuple(_after(f"{code(key)}: ", each) for key, each in value.items())
        return Group("{", parts, "}", collection=True)
    if isinstance(value, (tuple, list)):
        opening, closing = "()" if isinstance(value, tuple) else "[]"
        return Group(opening, tuple(map(code, value)), closing, collection=True)
    return Words(repr(value))


def call(function: str, *given: Any, **named: Any) -> Group:
    """Return a call; arguments are values, or code."""
    parts = [code(each) for each in given]
    parts += [_after(f"{name}=", value) for name, value in named.items()]
    return Group(f"{function}(", tuple(parts), ")")


def then(first: Group, method: str, *given: Any) -> Group:
    """Return the call of a method of what a call gives; without arguments, the call is broken."""
    if not given:
        return Group(first.before, first.parts, f"{first.after}.{method}()")
    return call(f"{first}.{method}", *given)


def quoted(text: str) -> str:
    """Return a text as a literal, in double quotes unless it holds some itself."""
    written = repr(text)
    if written[0] == "'" and '"' not in written:
        return f'"{written[1:-1]}"'
    return written


def statement(value: Code, name: str = "", indent: int = 0) -> str:
    """Write code as a statement, which gives its value a name, on as few lines as hold it."""
    return _laid_out(_after(f"{name} = ", value) if name else value, indent, "")


def imports(names: Mapping[str, set[str]]) -> str:
    """Write imports: those of the standard library first, then fslab's.

    names: of each module, what comes from it; nothing where the module itself is meant.
    """
    own: list[str] = []
    others: list[str] = []
    for module, wanted in sorted(names.items()):
        home = own if module.partition(".")[0] == "fslab" else others
        listed = ", ".join(sorted(wanted))
        home.append(f"from {module} import {listed}" if wanted else f"import {module}")
    return "\n".join([*others, *([""] if others and own else []), *own])


def _after(before: str, value: Any) -> Code:
    """Return code with words before it: an argument's name, a key, a variable."""
    made = code(value)
    if isinstance(made, Words):
        return Words(before + made)
    return Group(before + made.before, made.parts, made.after, made.collection)


def _laid_out(value: Code, indent: int, comma: str) -> str:
    """Write code at an indent: on one line, with its parts on one, or with a line a part."""
    margin = " " * indent
    whole = f"{margin}{value}{comma}"
    if isinstance(value, Words) or not value.parts or len(whole) <= LINE:
        return whole
    inner = indent + _INDENT
    together = f"{' ' * inner}{', '.join(map(str, value.parts))}"
    if not value.collection and (len(together) <= LINE or len(value.parts) == 1):
        body = together
        if len(together) > LINE:
            body = _laid_out(value.parts[0], inner, "")
    else:
        body = "\n".join(_laid_out(part, inner, ",") for part in value.parts)
    return f"{margin}{value.before}\n{body}\n{margin}{value.after}{comma}"
