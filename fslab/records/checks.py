"""What settings are checked for, whichever stage they are of."""

from __future__ import annotations

import json
import math
import numbers
from dataclasses import fields
from functools import cache
from typing import Any, Literal, get_args, get_origin, get_type_hints

import numpy as np

from fslab.errors import FslabError

MOST = 10_000
"""Of iterations, rounds and restarts: all has long settled by then."""

PLAIN = "a number, a text, true or false, None, or a list or dict of these"
"""What settings hold."""

Precision = Literal["fp32", "fp16", "bf16"]
"""What models compute in; fp32 is exact enough to compare, the others halve the memory."""


@cache
def _hints(record: Any) -> dict[str, Any]:
    try:
        return get_type_hints(record)
    except NameError as error:
        raise FslabError(
            f"{record.__name__} has a setting of type {error.name!r}, which its module does not "
            "know; import or define it at the module's top"
        ) from error


def check_types(part: Any) -> None:
    """Bring numbers and lists to plain Python, and refuse a setting of another type."""
    record: Any = type(part)
    kinds = _hints(record)
    for name in (entry.name for entry in fields(part)):
        given = getattr(part, name)
        try:
            object.__setattr__(part, name, _as(kinds[name], given))
        except TypeError as error:
            raise FslabError(f"{part.stage}.{name} is {given!r}; it must be {error}") from None


def _as(kind: Any, given: Any) -> Any:
    """Return a value as the type says; TypeError with what was expected."""
    if get_origin(kind) is Literal:
        if given not in get_args(kind):
            raise TypeError(f"one of {', '.join(map(repr, get_args(kind)))}")
        return given
    if get_origin(kind) is tuple:
        if isinstance(given, (str, bytes)) or not hasattr(given, "__iter__"):
            raise TypeError("a list")
        return tuple(_as(get_args(kind)[0], entry) for entry in given)
    if type(None) in get_args(kind):
        return None if given is None else _as(get_args(kind)[0], given)
    number = isinstance(given, numbers.Real) and not isinstance(given, (bool, np.bool_))
    finite = number and math.isfinite(given)
    if kind is int and finite and int(given) == given:
        return int(given)
    if kind is float and finite:
        return float(given)
    if kind in (str, bool) and isinstance(given, kind):
        return given
    words = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}
    if kind in words or not is_plain(given):
        raise TypeError(words.get(kind, PLAIN))
    return given


def is_plain(value: Any) -> bool:
    """Tell what can be written down and read again: in keys, recipes and JSON."""
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return False
    return True


def check_positive(part: Any, *names: str) -> None:
    """Refuse settings below 1."""
    for name in names:
        if getattr(part, name) < 1:
            raise FslabError(
                f"{part.stage}.{name} is {getattr(part, name)}; it must be a whole number from 1 up"
            )


def check_most(part: Any, *names: str) -> None:
    """Refuse settings above `MOST`."""
    for name in names:
        if getattr(part, name) > MOST:
            raise FslabError(
                f"{part.stage}.{name} is {getattr(part, name)}; it must be at most {MOST}"
            )


def check_seed(part: Any) -> None:
    """Refuse a seed that numpy does not take."""
    if not 0 <= part.seed < 2**32:
        raise FslabError(f"seed is {part.seed}; it must be a whole number from 0 to {2**32 - 1}")


def check_timestep(timestep: int) -> None:
    """Refuse a timestep that is not in a model's schedule."""
    if not 0 <= timestep <= 999:
        raise FslabError(f"timestep is {timestep}; it must be a whole number from 0 to 999")


def check_range(part: Any, low: float, *names: str, above: bool = False) -> None:
    """Refuse settings below a bound, or with `above` at it too, and infinite ones."""
    words = f"above {low:g}" if above else f"{low:g} or more"
    for name in names:
        value = getattr(part, name)
        if not (low < value if above else low <= value) or value == math.inf:
            raise FslabError(f"{part.stage}.{name} is {value!r}; it must be {words}")
