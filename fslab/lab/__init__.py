"""The lab, its presets and its methods."""

from fslab.lab.lab import Lab
from fslab.lab.presets import PRESETS, Preset, find_preset
from fslab.lab.recipes import METHODS, find_recipe
from fslab.lab.result import Result

__all__ = ["METHODS", "PRESETS", "Lab", "Preset", "Result", "find_preset", "find_recipe"]
