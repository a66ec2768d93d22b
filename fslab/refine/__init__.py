"""Sharpen a label map on its picture's edges: dense CRF, pixel-adaptive mask refinement."""

from fslab.refine.adaptive import pamr
from fslab.refine.dense import dense_crf, label_energy
from fslab.refine.sharpen import crf, refine

__all__ = ["crf", "dense_crf", "label_energy", "pamr", "refine"]
