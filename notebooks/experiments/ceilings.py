"""What holds a method back: its score with one stage at a time made perfect by the truth.

    python notebooks/experiments/ceilings.py data/minivoc --split val --out ceilings.csv

The truth serves here only to ask "what if"; no method is chosen or trained by it.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from fslab.datasets import Dataset, voc
from fslab.lab import Lab
from fslab.records import VOID, LabelMap, Picture, Recipe, Segments, Vocabulary
from fslab.score import ImageScore, oracle, score_image, summarise

COLUMNS = ("name", "dataset", "split", "images", "voc21", "voc21_low", "voc21_high")


def main() -> None:
    """Command line: a VOC-layout folder, a split, a method; prints and writes a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--split", default="val")
    parser.add_argument("--method", default="fslab")
    parser.add_argument("--preset", default="mini")
    parser.add_argument("--limit", type=int, help="the first N pictures only")
    parser.add_argument("--out", type=Path, help="write the table here, as CSV")
    asked = parser.parse_args()
    dataset = voc(asked.folder, asked.split).limit(asked.limit)
    rows = list(ceilings(Lab(asked.preset), dataset, asked.method))
    for name, miou, low, high in rows:
        print(f"{name:<76} {100 * miou:5.1f} ({100 * low:.1f} to {100 * high:.1f})")
    if asked.out:
        with asked.out.open("w", newline="") as file:
            lines = csv.writer(file, lineterminator="\n")
            lines.writerow(COLUMNS)
            for name, *figures in rows:
                shown = [f"{figure:.4f}" for figure in figures]
                lines.writerow([name, dataset.name, dataset.split, len(dataset), *shown])


def ceilings(lab: Lab, dataset: Dataset, method: str) -> Iterator[tuple[str, float, float, float]]:
    """Yield what is made perfect, the mIoU (VOC21) then, and its 95 % interval."""
    recipe, found = lab.recipe(method), {}
    for sample in tqdm(dataset, desc=f"{recipe.name} on {dataset.name}"):
        picture, truth = sample.picture(), sample.truth()
        for name, labels in guesses(lab, picture, truth, recipe, dataset.vocabulary):
            found.setdefault(name, []).append(_score(truth, labels))
    for name, per_image in found.items():
        score = summarise("voc21", per_image, draws=1000)
        yield name, score.miou, score.interval.low, score.interval.high


def guesses(
    lab: Lab, picture: Picture, truth: np.ndarray, recipe: Recipe, vocabulary: Vocabulary
) -> Iterator[tuple[str, LabelMap]]:
    """Yield label maps of one picture, each with another stage made perfect."""
    whole = lab.segment(picture, recipe, vocabulary)
    yield "nothing", whole.labels
    there = [vocabulary.names[label] for label in np.unique(truth) if 0 < label < VOID]
    yield (
        "captions: the true classes are the candidates",
        lab.segment(picture, recipe, vocabulary, there).labels,
    )
    named = voted(whole.segments, truth, vocabulary.names)
    yield "names: each segment gets its majority class, no refinement", named
    yield "names, then refinement", lab.refine(picture, named, method=recipe.refine)
    _, regions = np.unique(np.where(truth == VOID, 0, truth), return_inverse=True)
    masks = Segments(regions.reshape(truth.shape).astype(np.int32))
    candidates = whole.caption.candidates
    yield (
        "masks: the true regions, captions and CLIP as they are, no refinement",
        lab.match(picture, masks, candidates, vocabulary, whole.features, **vars(recipe.match)),
    )


def voted(segments: Segments, truth: np.ndarray, names: tuple[str, ...]) -> LabelMap:
    """Give each segment its majority class, and where there are several segmentations, a vote."""
    if not segments.others:
        return oracle(segments, truth, names)
    votes = [oracle(one, truth, names).labels for one in (segments, *segments.others)]
    kinds = np.unique(votes)
    beliefs = np.stack([np.mean(votes == kind, 0, dtype=np.float32) for kind in kinds])
    labels = kinds[beliefs.argmax(0)].astype(np.uint8)
    return LabelMap(labels, names, beliefs=dict(zip(kinds.tolist(), beliefs, strict=True)))


def _score(truth: np.ndarray, labels: LabelMap) -> ImageScore:
    return score_image(truth, labels.names, labels.labels)


if __name__ == "__main__":
    main()
