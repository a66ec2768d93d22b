"""Which layer, which timestep and which K for pictures: a search, with masks or without."""

from fslab.tune.cells import KS, TIMESTEPS, Cell, block_patterns, cells_of
from fslab.tune.criteria import contours, divergence, silhouette, stability
from fslab.tune.registry import CRITERIA, DEFAULT, Criterion, criterion, find_criteria
from fslab.tune.result import Tuning
from fslab.tune.search import (
    ByCriteria,
    ByMasks,
    Judge,
    Round,
    Search,
    Source,
    Tried,
    check_tell_apart,
    halve,
)
from fslab.tune.sight import Means

__all__ = [
    "CRITERIA",
    "DEFAULT",
    "KS",
    "TIMESTEPS",
    "ByCriteria",
    "ByMasks",
    "Cell",
    "Criterion",
    "Judge",
    "Means",
    "Round",
    "Search",
    "Source",
    "Tried",
    "Tuning",
    "block_patterns",
    "cells_of",
    "check_tell_apart",
    "contours",
    "criterion",
    "divergence",
    "find_criteria",
    "halve",
    "silhouette",
    "stability",
]
