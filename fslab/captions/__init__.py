"""From a picture to candidate classes: a BLIP caption, its nouns, and what the nouns name."""

from fslab.captions.captioner import Captioner, load_captioner
from fslab.captions.classes import Embed, candidates, closest_classes, named_classes
from fslab.captions.tagging import STOP_NOUNS, noun_runs, nouns

__all__ = [
    "STOP_NOUNS",
    "Captioner",
    "Embed",
    "candidates",
    "closest_classes",
    "load_captioner",
    "named_classes",
    "noun_runs",
    "nouns",
]
