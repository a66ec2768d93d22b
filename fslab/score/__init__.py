"""Truth against guesses and segments: pixels counted once, figures that name their protocol."""

from fslab.score.count import (
    ImageScore,
    best_overlap,
    confusion,
    hungarian,
    oracle,
    score_image,
)
from fslab.score.figures import METRICS, Metric, Score, find_metric, score_pairs, summarise

__all__ = [
    "METRICS",
    "ImageScore",
    "Metric",
    "Score",
    "best_overlap",
    "confusion",
    "find_metric",
    "hungarian",
    "oracle",
    "score_image",
    "score_pairs",
    "summarise",
]
