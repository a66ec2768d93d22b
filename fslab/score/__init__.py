"""Truth against guesses and segments: pixels counted once, figures that name their protocol."""

from fslab.score.common import CommonOverlaps, common_overlaps
from fslab.score.contours import Contours, boundary
from fslab.score.count import UnknownLabels, best_overlap, confusion, hungarian, oracle
from fslab.score.figures import Score, count_pairs, score_pairs, summarise, summarise_all
from fslab.score.image import Count, ImageScore, score_image
from fslab.score.instances import InstanceScore, count_instances
from fslab.score.intervals import Difference, Interval, bootstrap, paired_bootstrap
from fslab.score.keypoints import KeypointScore, keypoint_errors
from fslab.score.protocols import METRICS, Metric, applicable, find_metric, metric, usual_metric
from fslab.score.terms import Terms

__all__ = [
    "METRICS",
    "CommonOverlaps",
    "Contours",
    "Count",
    "Difference",
    "ImageScore",
    "InstanceScore",
    "Interval",
    "KeypointScore",
    "Metric",
    "Score",
    "Terms",
    "UnknownLabels",
    "applicable",
    "best_overlap",
    "bootstrap",
    "boundary",
    "common_overlaps",
    "confusion",
    "count_instances",
    "count_pairs",
    "find_metric",
    "hungarian",
    "keypoint_errors",
    "metric",
    "oracle",
    "paired_bootstrap",
    "score_image",
    "score_pairs",
    "summarise",
    "summarise_all",
    "usual_metric",
]
