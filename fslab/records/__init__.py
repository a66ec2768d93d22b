"""The records that stages hand to each other: frozen dataclasses over numpy arrays.

Axes, everywhere: H, W rows and columns of a picture; h, w of a feature map; C channels;
K clusters, classes or segments. Pictures are u8 [H, W, 3], maps are f32 [C, h, w].
"""

from fslab.errors import FslabError, OutOfMemory, Unwritable
from fslab.records.base import (
    VOID,
    check_kind,
    check_numbers,
    check_unicode,
    digest_of,
    voc_palette,
    words_of,
)
from fslab.records.recipe import (
    Captioning,
    Clustering,
    Extraction,
    Matching,
    Precision,
    Recipe,
    Refinement,
)
from fslab.records.stages import (
    Caption,
    Confusion,
    Features,
    LabelMap,
    Picture,
    Segments,
    Vocabulary,
)
from fslab.records.things import COCO_THINGS

__all__ = [
    "COCO_THINGS",
    "VOID",
    "Caption",
    "Captioning",
    "Clustering",
    "Confusion",
    "Extraction",
    "Features",
    "FslabError",
    "LabelMap",
    "Matching",
    "OutOfMemory",
    "Picture",
    "Precision",
    "Recipe",
    "Refinement",
    "Segments",
    "Unwritable",
    "Vocabulary",
    "check_kind",
    "check_numbers",
    "check_unicode",
    "digest_of",
    "voc_palette",
    "words_of",
]
