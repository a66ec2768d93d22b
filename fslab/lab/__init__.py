"""The lab, its presets and its methods."""

from fslab.lab.lab import Lab, Result
from fslab.lab.presets import PRESETS, Preset, find_preset
from fslab.lab.recipes import METHODS, find_recipe

__all__ = ["METHODS", "PRESETS", "Lab", "Preset", "Result", "find_preset", "find_recipe"]
