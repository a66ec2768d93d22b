"""Which versions of the libraries made a value: this process's, and those of values kept before."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from importlib.metadata import PackageNotFoundError, version

PACKAGES = (
    "numpy", "scipy", "torch", "diffusers", "transformers", "scikit-learn", "numba",
    "pillow", "pydensecrf2", "textblob", "lemminflect",
)  # fmt: skip
"""The packages that decide the bits of features, labels and scores."""

_SEVERAL = ", "

Versions = Mapping[str, str]
"""Versions by package; several of one package stand side by side: "2.12.1, 2.13.0"."""


@cache
def versions() -> Versions:
    """Return Python's version and those of the packages that numbers come from, by name."""
    from fslab import __version__  # of a checkout, whose metadata are as old as its install

    others = {name: _version(name) for name in PACKAGES}
    return {"Python": platform.python_version(), "fslab": __version__, **others}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def merged(*made: Versions) -> dict[str, str]:
    """Return all versions of each package that had a hand in several values."""
    found: dict[str, dict[str, None]] = {}
    for each in made:
        for package, numbers in each.items():
            found.setdefault(package, {}).update(dict.fromkeys(numbers.split(_SEVERAL)))
    return {package: _SEVERAL.join(sorted(numbers)) for package, numbers in found.items()}


def differing(made: Versions) -> dict[str, str]:
    """Return what of `made` is not this process's version, by package."""
    here = versions()
    return {package: each for package, each in made.items() if each != here.get(package)}


class Noted:
    """The versions that had a hand in what was done inside `noting`."""

    def __init__(self) -> None:
        self._kept: dict[str, Versions] = {}

    def add(self, made: Versions) -> None:
        """Note the versions of a value that was kept."""
        if made != versions():
            self._kept.setdefault(repr(made), made)

    @property
    def versions(self) -> Versions:
        """This process's versions, and those of all values that were read."""
        return merged(versions(), *self._kept.values()) if self._kept else versions()


_noted: ContextVar[Noted | None] = ContextVar("noted", default=None)


@contextmanager
def noting() -> Iterator[Noted]:
    """Gather the versions of the kept values that are read inside; whoever notes outside has them
    too."""
    outside, inside = _noted.get(), Noted()
    token = _noted.set(inside)
    try:
        yield inside
    finally:
        _noted.reset(token)
        if outside is not None:
            outside.add(inside.versions)


def note(made: Versions) -> None:
    """Note the versions of a value that was kept, if anybody gathers them."""
    noted = _noted.get()
    if noted is not None:
        noted.add(made)


def versions_here() -> Versions:
    """Return this process's versions, and those that were noted so far: what a new value has."""
    noted = _noted.get()
    return versions() if noted is None else noted.versions
