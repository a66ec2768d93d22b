"""Index PNGs of any origin: every figure that applies, each with what it is."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from fslab.datasets import COCO_OBJECT, VOC, mask_pairs
from fslab.datasets.folders import masks_in, said_of_folder
from fslab.records import FslabError, Vocabulary, void_of
from fslab.score import Score, UnknownLabels, count_pairs, find_metric, summarise, summarise_all

VOCABULARIES = {"voc": VOC, "coco": COCO_OBJECT}


def vocabulary_of(given: str) -> Vocabulary:
    """Return a vocabulary by name, or of a text file: a class a line, the background first.

    Raises FslabError for what is neither, and for a file that is no list of classes.
    """
    if given in VOCABULARIES:
        return VOCABULARIES[given]
    path = Path(given)
    if not path.is_file():
        raise FslabError(
            f"vocabulary is {given!r}; it must be {', '.join(VOCABULARIES)} or a text file with a "
            "class a line, the background first"
        )
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise FslabError(f"{given!r} cannot be read as text in UTF-8: {error}") from error
    try:
        return Vocabulary(tuple(line.strip() for line in lines if line.strip()))
    except FslabError as error:
        raise FslabError(f"{given!r}: {error}") from error


def score_folders(
    pred_dir: str, truth_dir: str, metric: str | None, vocabulary: str, draws: int
) -> dict[str, Score]:
    """Score a folder of index PNGs against another's: by one metric, or by all that apply.

    What each folder holds beside them is said on stderr. Raises FslabError for an unknown metric
    or vocabulary, files without a partner (naming them), two sizes, and labels that are not
    classes, naming the picture and the labels, and a truth without one class.
    """
    from tqdm.auto import tqdm

    names = vocabulary_of(vocabulary).names
    if metric is not None:
        find_metric(metric, names)
    pairs = mask_pairs(pred_dir, truth_dir)
    for folder in (pred_dir, truth_dir):
        taken, left = masks_in(folder)
        print(said_of_folder(str(folder), len(taken), left, "mask"), file=sys.stderr)
    pairs = tqdm(pairs, "scoring", unit=" pictures", leave=False, disable=None)
    shown: set[int] = set()
    try:
        per_image = count_pairs(_noting(pairs, shown), names, metric)
    except UnknownLabels as error:
        raise FslabError(f"{error}; for segments without names take --metric mbo") from error
    if not shown - {0}:
        raise FslabError(
            f"the truth of all {len(per_image)} pictures in {truth_dir!r} is background or void, "
            "so there is no figure; masks of 0 and 255 (65535 of 16 bits) are background and void"
        )
    if metric is not None:
        return {metric: summarise(metric, per_image, draws)}
    return summarise_all(per_image, draws)


def _noting(
    pairs: Iterable[tuple[str, np.ndarray, np.ndarray]], shown: set[int]
) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Yield (name, truth, guess) as they come, and note the labels, but void, that truths show."""
    for name, truth, guess in pairs:
        shown.update(np.unique(truth[truth != void_of(truth)]).tolist())
        yield name, truth, guess


def as_json(scores: dict[str, Score], pred_dir: str, truth_dir: str) -> str:
    """Return one object on one line: the first figure's facts, and all figures."""
    first = next(iter(scores.values()))
    figures: dict[str, Any] = {name: score.to_dict() for name, score in scores.items()}
    where = {"predictions": str(pred_dir), "truth": str(truth_dir)}
    return json.dumps({**where, **first.to_dict(), "figures": figures})


def as_text(scores: dict[str, Score], pred_dir: str, truth_dir: str) -> str:
    """Return the figures with their protocols, then the first one's classes."""
    lines = [f"{pred_dir} against {truth_dir}"]
    for score in scores.values():
        lines += ["", *figure_lines(score)]
    first = next(iter(scores.values()))
    return "\n".join([*lines, "", *class_lines(first)] if first.iou else lines)


def figure_lines(score: Score) -> list[str]:
    """Say a figure in percent, its interval, and how it was computed."""
    interval = score.interval
    spread = f", 95 % interval {interval.percent}" if interval else ", no interval"
    known = ((name, value) for name, value in score.sides.items() if value is not None)
    sides = "".join(f", {name} {100 * value:.1f}" for name, value in known)
    return [
        f"{score.metric} {100 * score.figure:.1f} over {score.images} pictures{spread}{sides}",
        f"  {score.note}",
        f"  background: {score.background}; vocabulary: {score.vocabulary}",
    ]


def class_lines(score: Score) -> list[str]:
    """Say a figure's values by class in percent, and the classes that have none."""
    lines = [f"{score.metric} by class"]
    lines += [
        f"  {name:<14} {100 * value:5.1f}" for name, value in score.iou.items() if value is not None
    ]
    if score.absent:
        lines.append(f"  in neither map, so in no mean: {', '.join(score.absent)}")
    return lines
