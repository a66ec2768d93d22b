"""From a picture to candidate classes: a caption, its nouns, and what the nouns name."""

from fslab.captions.captioner import Captioner
from fslab.captions.classes import Embed, candidates, closest_classes, named_classes
from fslab.captions.families import CAPTIONERS, captioner_family, load_captioner
from fslab.captions.tagging import STOP_NOUNS, noun_runs, nouns

__all__ = [
    "CAPTIONERS",
    "STOP_NOUNS",
    "Captioner",
    "Embed",
    "candidates",
    "captioner_family",
    "closest_classes",
    "load_captioner",
    "named_classes",
    "noun_runs",
    "nouns",
]
