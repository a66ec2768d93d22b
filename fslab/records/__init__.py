"""The records that stages hand to each other: frozen dataclasses over numpy arrays.

Axes, everywhere: H, W rows and columns of a picture; h, w of a feature map; C channels;
K clusters, classes or segments. Pictures are u8 [H, W, 3], maps are f32 [C, h, w].
"""

from fslab.errors import FslabError, FslabWarning, OutOfMemory, Unwritable
from fslab.records.base import (
    VOID,
    WIDE_VOID,
    check_kind,
    check_numbers,
    check_unicode,
    digest_of,
    label_type,
    some_labels,
    typed_labels,
    voc_palette,
    void_of,
    words_of,
)
from fslab.records.checks import Precision
from fslab.records.clusterings import (
    Agglomerative,
    CellClustering,
    Clustering,
    KClustering,
    KMeans,
    Merging,
    NormalisedCut,
    OwnClustering,
    Spectral,
    clustering,
)
from fslab.records.components import Components, Decomposition
from fslab.records.correspondence import (
    Correspondence,
    KeypointPair,
    Neighbours,
    Point,
    Points,
    points_of,
)
from fslab.records.instances import Instances
from fslab.records.parting import Parting
from fslab.records.reading import Reading
from fslab.records.recipe import (
    STAGES,
    Captioning,
    Extraction,
    Matching,
    OwnCaptioning,
    OwnExtraction,
    OwnMatching,
    Recipe,
)
from fslab.records.recipe_file import read_recipe, recipe_text
from fslab.records.refinements import (
    DenseCrf,
    JointCrf,
    MaskCrfs,
    OwnRefinement,
    Pamr,
    RandomWalk,
    Refinement,
    Unrefined,
    refinement,
)
from fslab.records.regions import Regions
from fslab.records.stage import Own, Slider
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
    "STAGES",
    "VOID",
    "WIDE_VOID",
    "Agglomerative",
    "Caption",
    "Captioning",
    "CellClustering",
    "Clustering",
    "Components",
    "Confusion",
    "Correspondence",
    "Decomposition",
    "DenseCrf",
    "Extraction",
    "Features",
    "FslabError",
    "FslabWarning",
    "Instances",
    "JointCrf",
    "KClustering",
    "KMeans",
    "KeypointPair",
    "LabelMap",
    "MaskCrfs",
    "Matching",
    "Merging",
    "Neighbours",
    "NormalisedCut",
    "OutOfMemory",
    "Own",
    "OwnCaptioning",
    "OwnClustering",
    "OwnExtraction",
    "OwnMatching",
    "OwnRefinement",
    "Pamr",
    "Parting",
    "Picture",
    "Point",
    "Points",
    "Precision",
    "RandomWalk",
    "Reading",
    "Recipe",
    "Refinement",
    "Regions",
    "Segments",
    "Slider",
    "Spectral",
    "Unrefined",
    "Unwritable",
    "Vocabulary",
    "check_kind",
    "check_numbers",
    "check_unicode",
    "clustering",
    "digest_of",
    "label_type",
    "points_of",
    "read_recipe",
    "recipe_text",
    "refinement",
    "some_labels",
    "typed_labels",
    "voc_palette",
    "void_of",
    "words_of",
]
