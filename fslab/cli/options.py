"""From words on the command line to recipes and sizes."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, overload

from fslab.lab.recipes import clustering_recipe, find_recipe
from fslab.records import FslabError, Recipe, read_recipe

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}


def chosen_recipe(
    method: str,
    cluster: str | None,
    k: int | None,
    settings: dict[str, Any],
    file: Path | None = None,
) -> Recipe:
    """Return a method's recipe, a class-agnostic one, or a file's, with settings replaced."""
    if file is not None and cluster is not None:
        raise FslabError("--recipe and --cluster exclude each other: a whole recipe, or segments")
    if file is not None:
        recipe = read_recipe(file)
    else:
        recipe = clustering_recipe(cluster) if cluster else find_recipe(method)
    if k is not None:
        recipe = recipe.change({"cluster.k": k}, name=f"{recipe.name}, K = {k}")
    return recipe.change(settings, name=_changed_name(recipe.name, settings))


def _changed_name(name: str, settings: dict[str, Any]) -> str:
    changes = ", ".join(f"{key} = {value}" for key, value in settings.items())
    return f"{name}, {changes}" if changes else name


def parse_settings(words: list[str]) -> dict[str, Any]:
    """Read "stage.key=value" words; a value is JSON where it can be, else text."""
    settings = {}
    for word in words:
        key, sign, value = word.partition("=")
        if not sign:
            raise FslabError(f"--set takes stage.key=value, such as cluster.k=8, not {word!r}")
        try:
            settings[key.strip()] = json.loads(value)
        except ValueError:
            settings[key.strip()] = value
    return settings


@overload
def local_folder(text: str) -> Path: ...


@overload
def local_folder(text: str | None) -> Path | None: ...


def local_folder(text: str | None) -> Path | None:
    """Read a folder for results, if one is given; FslabError where it is not on this machine."""
    from fslab.datasets import local

    return local(text) if text is not None else None


def check_is_new(folder: Path) -> None:
    """Raise FslabError where a folder to be made holds something, or is a file."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FslabError(f"{folder} is there already; give a new folder, or an empty one")


def parse_size(text: str) -> int:
    """Read a size such as "2GB", "500 MB" or "0" as bytes."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)b?\s*", text, re.IGNORECASE)
    if not match:
        raise FslabError(f"--prune is {text!r}; it must be a size such as 2GB, 500MB or 0")
    return int(float(match[1]) * _UNITS[match[2].lower()])
