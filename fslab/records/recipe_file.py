"""A recipe as a TOML file: its stages as tables, every setting written out."""

from __future__ import annotations

import json
import os
import tomllib
from pathlib import Path
from typing import Any

from fslab.errors import FslabError
from fslab.records.recipe import Recipe


def read_recipe(path: str | os.PathLike[str]) -> Recipe:
    """Read a recipe that `recipe_text` wrote, or one by hand with a part of its settings.

    name, and tables [extract], [cluster], [caption], [match], [refine] of what differs from the
    defaults; [cluster] and [refine] begin with `method`. Raises FslabError, with the file, for
    anything but such a file.
    """
    try:
        data = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise FslabError(f"{path} cannot be read ({error.strerror or error})") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise FslabError(f"{path} is not valid TOML ({error})") from error
    if not data:
        raise FslabError(f"{path} is empty; a recipe has tables such as [extract] and [cluster]")
    try:
        return Recipe.from_dict(data)
    except FslabError as error:
        raise FslabError(f"{path}: {error}") from error


def recipe_text(recipe: Recipe, comment: str = "") -> str:
    """Return a recipe as TOML; settings that are None, their default, are left out."""
    stages = recipe.to_dict()
    lines = [f"# {' '.join(comment.split())}"] if comment else []
    lines.append(f"name = {_said(stages.pop('name'))}")
    for stage, settings in stages.items():
        lines += ["", f"[{stage}]"]
        lines += [f"{key} = {_said(value)}" for key, value in settings.items() if value is not None]
    return "\n".join(lines) + "\n"


def _said(value: Any) -> str:
    """Write a value; JSON's texts, numbers and lists are TOML's too."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
