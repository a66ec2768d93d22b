"""Sharpen a label map on its picture's edges: dense CRF, pixel-adaptive refinement, random walk."""

from fslab.refine.adaptive import pamr
from fslab.refine.dense import dense_crf, label_energy
from fslab.refine.sharpen import crf, refine
from fslab.refine.walking import walk

__all__ = ["crf", "dense_crf", "label_energy", "pamr", "refine", "walk"]
