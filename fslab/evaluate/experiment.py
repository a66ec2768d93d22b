"""An ablation as a file: a table of recipes in TOML, read strictly."""

from __future__ import annotations

import itertools
import os
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from fslab.lab import find_recipe
from fslab.lab.recipes import clustering_recipe
from fslab.records import FslabError, Recipe
from fslab.score import find_metric

_TOP = ("title", "metrics", "split", "base", "row", "grid")
_BASE = ("method", "cluster", "backbone", "candidates", "set")
_ROW = ("name", *_BASE)


@dataclass(frozen=True)
class Variant:
    """One row of an experiment: a recipe, where its features come from, its place in a grid.

    given: the classes that are in each picture's truth are its candidates; no caption is asked.
    """

    name: str
    recipe: Recipe
    backbone: str | None = None
    axes: Mapping[str, str] = field(default_factory=dict)
    given: bool = False


@dataclass(frozen=True)
class Experiment:
    """What an ablation file says: which recipes, and which metrics tell them apart."""

    title: str
    metrics: tuple[str, ...]
    split: str
    variants: tuple[Variant, ...]


def read_experiment(path: str | os.PathLike[str]) -> Experiment:
    """Read an ablation file.

    title: text; metrics: list of names, the first is drawn; split: "val" if left out. [base]
    has method or cluster, backbone, candidates ("true" gives each picture's own classes, which no
    captioner is asked for), and set, a table of dotted settings. Then rows, [[row]] each
    with a name and what it changes of the base; or [grid], dotted settings (or "backbone") each
    with a list of values, whose product is the rows. A backbone that is a folder may be named
    from where the file lies.
    Raises FslabError, with file and row, for anything but such a file.
    """
    path = Path(path)
    with _naming(str(path)):
        data = _load(path)
        _check_keys(data, _TOP)
        title, metrics = _text(data, "title"), _metrics(data)
        base = _table(data, "base")
        _check_keys(base, _BASE, "[base]")
        if ("row" in data) == ("grid" in data):
            raise FslabError("an experiment has either [[row]] tables or one [grid]")
        made = _grid(data, base) if "grid" in data else _rows(data, base)
        variants = tuple(_beside(path, variant) for variant in made)
        _check_names(variants)
        split = _text(data, "split") if "split" in data else "val"
        return Experiment(title, metrics, split, variants)


class _naming:
    """Put where it was before what is wrong: `with _naming("file.toml")`."""

    def __init__(self, where: str) -> None:
        self._where = where

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, FslabError):
            raise FslabError(f"{self._where}: {error}") from error


def _load(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise FslabError(f"it cannot be read ({error.strerror or error})") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise FslabError(f"it is not valid TOML ({error})") from error


def _rows(data: Mapping[str, Any], base: Mapping[str, Any]) -> Iterator[Variant]:
    rows = data["row"]
    if not isinstance(rows, list) or not rows:
        raise FslabError("an experiment needs at least one [[row]] table")
    for number, row in enumerate(rows, 1):
        with _naming(f"row {number}"):
            _check_keys(row, _ROW)
            yield _variant(_text(row, "name"), base, row)


def _grid(data: Mapping[str, Any], base: Mapping[str, Any]) -> Iterator[Variant]:
    grid = _table(data, "grid")
    for setting, values in grid.items():
        if not isinstance(values, list) or not values:
            raise FslabError(
                f"[grid] {setting!r} is {values!r}; it must be a list of values, in quotes"
            )
    for values in itertools.product(*grid.values()):
        point = dict(zip(grid, values, strict=True))
        axes = {setting: said(value) for setting, value in point.items()}
        name = ", ".join(f"{setting.split('.')[-1]} {value}" for setting, value in axes.items())
        row: dict[str, Any] = {"backbone": point.pop("backbone")} if "backbone" in point else {}
        with _naming(f"[grid] at {name}"):
            yield _variant(name, base, {**row, "set": point}, axes)


def _variant(
    name: str,
    base: Mapping[str, Any],
    row: Mapping[str, Any],
    axes: Mapping[str, str] | None = None,
) -> Variant:
    own = row if "method" in row or "cluster" in row else base
    recipe = _recipe(own).change(_settings(base)).change(_settings(row), name=name)
    backbone = row.get("backbone", base.get("backbone"))
    if backbone is not None and (not isinstance(backbone, str) or not backbone.strip()):
        raise FslabError(f"backbone is {backbone!r}; it must be a folder, rgb, handmade or random")
    candidates = row.get("candidates", base.get("candidates", "found"))
    if candidates not in ("found", "true"):
        raise FslabError(
            f"candidates is {candidates!r}; it must be 'found', by the recipe, or 'true', those of "
            "the picture's truth"
        )
    return Variant(name, recipe, backbone, axes or {}, candidates == "true")


def _beside(path: Path, variant: Variant) -> Variant:
    """Return a variant whose backbone, where it is a folder named from the file's own, is found."""
    place = path.parent / variant.backbone if variant.backbone else None
    return replace(variant, backbone=str(place)) if place and place.is_dir() else variant


def _recipe(part: Mapping[str, Any]) -> Recipe:
    if "method" in part and "cluster" in part:
        raise FslabError("method and cluster exclude each other: a whole method, or segments only")
    if "cluster" in part:
        return clustering_recipe(_text(part, "cluster"))
    return find_recipe(_text(part, "method"))


def _settings(part: Mapping[str, Any]) -> dict[str, Any]:
    settings = _table(part, "set") if "set" in part else {}
    for setting, value in settings.items():
        if isinstance(value, Mapping):
            inner = next(iter(value), "k")
            raise FslabError(f'set has a table {setting!r}; write "{setting}.{inner}", in quotes')
    return settings


def said(value: Any) -> str:
    """Write a setting's value as a reader would: a list by its entries."""
    if isinstance(value, list):
        return ", ".join(map(said, value)) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


def _metrics(data: Mapping[str, Any]) -> tuple[str, ...]:
    metrics = data.get("metrics")
    if not isinstance(metrics, list) or not metrics:
        raise FslabError(f'metrics is {metrics!r}; it must be a list of names, such as ["voc21"]')
    for metric in metrics:
        find_metric(metric)
    return tuple(dict.fromkeys(metrics))


def _text(part: Mapping[str, Any], key: str) -> str:
    value = part.get(key)
    if not isinstance(value, str) or not value.strip():
        raise FslabError(f"{key} is {value!r}; it must be a text")
    return value


def _table(part: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = part.get(key)
    if not isinstance(value, dict) or not value:
        raise FslabError(f"{key} is {value!r}; it must be a table with something in it")
    return value


def _check_keys(part: Any, known: tuple[str, ...], where: str = "") -> None:
    if not isinstance(part, Mapping):
        raise FslabError(f"{part!r} is not a table")
    unknown = [key for key in part if key not in known]
    if unknown:
        at = f"{where} " if where else ""
        raise FslabError(f"{at}has an unknown key {unknown[0]!r}; there is {', '.join(known)}")


def _check_names(variants: tuple[Variant, ...]) -> None:
    names = [variant.name for variant in variants]
    twice = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    if twice:
        raise FslabError(f"two rows are called {twice[0]!r}; give each its own name")
