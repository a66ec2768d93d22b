"""Points found in another picture, scored on pairs of mini's scenes, beside what knows nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fslab.backbones import UNET_BLOCKS
from fslab.cli.text import aligned
from fslab.files import csv_of, write_or_refuse
from fslab.lab import Lab
from fslab.records import FslabError, KeypointPair
from fslab.score import KeypointScore
from fslab.score.keypoints import NOTE

ALPHAS = (0.1, 0.05)
FLOORS = ("rgb", "handmade")
"""Descriptors without a network, whose maps count in one likeness."""


@dataclass(frozen=True)
class Order:
    """What is asked of each backbone: layers or patterns, timesteps, and how they are read."""

    layers: tuple[str, ...]
    timesteps: tuple[int, ...]
    temperature: float
    draws: int


Scores = Mapping[tuple[str, int], KeypointScore]


def score_preset(
    preset: str,
    backbone: str | None,
    precision: str | None,
    count: int,
    seed: int,
    hard: bool,
    order: Order,
    out: Path | None,
) -> str:
    """Score layers of a preset's network, the same untrained, and the floors; return the table.

    A backbone in the network's place stands beside the floors alone. With `out` the table is
    written there as CSV. Raises FslabError for fewer than two pairs.
    """
    from fslab.mini.pairs import pairs

    if count < 2:
        raise FslabError(f"--pairs is {count}; an interval takes two or more")
    lab = Lab(preset, backbone, captioner=None, clip=None, precision=precision)
    layers = order.layers or (UNET_BLOCKS if lab.backbone.has_unet else ())
    drawn = list(pairs(count, seed, hard))
    scores = _each_layer(lab, drawn, layers, order)
    if backbone is None:
        untrained = Lab(preset, "random", captioner=None, clip=None, precision=precision)
        floor = _each_layer(untrained, drawn, layers, order)
        rows = _rows(lab.backbone.name, scores, floor) + _rows(untrained.backbone.name, floor)
    else:
        rows = _rows(lab.backbone.name, scores)
    rows += [row for name in FLOORS for row in _floor(name, drawn, order)]
    if out is not None:
        write_or_refuse(out, csv_of([_rounded(row) for row in rows]))
    kind = "designs that no training showed" if hard else "designs of training"
    points = sum(len(pair.points) for pair in drawn)
    head = f"{count} pairs of mini scenes (seed {seed}, {kind}), {points} points; {NOTE}"
    gain = ", and gain over the untrained network" if backbone is None else ""
    return f"{head}\nin %, 95 % interval{gain}\n{_text(rows)}"


def _each_layer(
    lab: Lab, pairs: Sequence[KeypointPair], layers: tuple[str, ...], order: Order
) -> Scores:
    from tqdm.auto import tqdm

    from fslab.evaluate import score_each_layer

    shown = tqdm(pairs, lab.backbone.name, unit=" pairs", leave=False, disable=None)
    return score_each_layer(
        lab, shown, layers, order.timesteps, order.temperature, draws=order.draws
    )


def _floor(name: str, pairs: Sequence[KeypointPair], order: Order) -> list[dict[str, Any]]:
    from fslab.evaluate import score_keypoints

    lab = Lab("mini", name, captioner=None, clip=None)
    score = score_keypoints(lab, pairs, temperature=order.temperature)
    return _rows(name, {("all maps", 0): score})


def _rows(name: str, scores: Scores, others: Scores | None = None) -> list[dict[str, Any]]:
    """Return a row for each layer and timestep: figures, intervals, and gains over `others`."""
    rows = []
    for (layer, step), score in scores.items():
        row: dict[str, Any] = {
            "name": f"{name}: {layer}, t = {step}",
            "features": name, "layer": layer, "timestep": step,
            "images": 2 * len(score.errors), "pairs": len(score.errors), "points": score.points,
        }  # fmt: skip
        for alpha in ALPHAS:
            interval, column = score.interval(alpha), f"pck@{alpha}"
            row[column] = score.pck(alpha)
            row |= {f"{column}_low": interval.low, f"{column}_high": interval.high}
            gain = score.above(others[layer, step], alpha) if others else None
            row[f"{column}_gain"] = gain.value if gain else None
            row[f"{column}_gain_low"] = gain.low if gain else None
            row[f"{column}_gain_high"] = gain.high if gain else None
        rows.append(row)
    return rows


def _text(rows: Sequence[Mapping[str, Any]]) -> str:
    lines = [["features", "layer", "t", *(f"PCK@{alpha}" for alpha in ALPHAS)]]
    for row in rows:
        figures = [_said(row, f"pck@{alpha}") for alpha in ALPHAS]
        lines.append([row["features"], row["layer"], str(row["timestep"]), *figures])
    return aligned(lines)


def _said(row: Mapping[str, Any], column: str) -> str:
    """Say a figure as 46.9 (43.1 to 50.2), +3.1 above the untrained; a * where that is clear."""
    value, low, high = (100 * row[f"{column}{end}"] for end in ("", "_low", "_high"))
    words, gain = f"{value:.1f} ({low:.1f} to {high:.1f})", row[f"{column}_gain"]
    if gain is None:
        return words
    clear = row[f"{column}_gain_low"] > 0 or row[f"{column}_gain_high"] < 0
    return f"{words} {100 * gain:+.1f}{'*' if clear else ''}"


def _rounded(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: f"{value:.6f}" if isinstance(value, float) else value for name, value in row.items()
    }
