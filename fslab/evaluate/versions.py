"""Which versions made a figure."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

PACKAGES = (
    "fslab", "numpy", "torch", "diffusers", "transformers", "scikit-learn", "numba", "pydensecrf2",
    "textblob", "lemminflect",
)  # fmt: skip


def versions() -> dict[str, str]:
    """Return Python's version and those of the packages that numbers come from, by name."""
    return {"Python": platform.python_version(), **{name: _version(name) for name in PACKAGES}}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
