"""Methods over datasets."""

from fslab.evaluate.ablation import Ablation, AblationRow, ablate, read_table
from fslab.evaluate.common import CosegmentScore, score_cosegments
from fslab.evaluate.experiment import Experiment, Variant, read_experiment
from fslab.evaluate.instances import score_instances
from fslab.evaluate.job import ImageResult, Job, plan, score_sample, score_samples, within
from fslab.evaluate.keypoints import score_each_layer, score_keypoints
from fslab.evaluate.log import Log
from fslab.evaluate.page import report_page, write_page
from fslab.evaluate.pictures import Drawn, draw
from fslab.evaluate.run import Report, SampleMap, evaluate
from fslab.evaluate.worth import Worth, head_reports, layer_worth, map_shares, word_shares

__all__ = [
    "Ablation",
    "AblationRow",
    "CosegmentScore",
    "Drawn",
    "Experiment",
    "ImageResult",
    "Job",
    "Log",
    "Report",
    "SampleMap",
    "Variant",
    "Worth",
    "ablate",
    "draw",
    "evaluate",
    "head_reports",
    "layer_worth",
    "map_shares",
    "plan",
    "read_experiment",
    "read_table",
    "report_page",
    "score_cosegments",
    "score_each_layer",
    "score_instances",
    "score_keypoints",
    "score_sample",
    "score_samples",
    "within",
    "word_shares",
    "write_page",
]
