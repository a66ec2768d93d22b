"""fslab: see what a text-to-image diffusion model knows about a picture, and name its parts.

Names are imported at their first use, so that `import fslab` costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from fslab.records import (
    Agglomerative,
    Caption,
    Captioning,
    CellClustering,
    Clustering,
    Components,
    Confusion,
    Correspondence,
    Extraction,
    Features,
    FslabError,
    FslabWarning,
    JointCrf,
    KClustering,
    KMeans,
    LabelMap,
    MaskCrfs,
    Matching,
    Merging,
    Neighbours,
    NormalisedCut,
    Pamr,
    Picture,
    RandomWalk,
    Reading,
    Recipe,
    Refinement,
    Segments,
    Slider,
    Spectral,
    Unrefined,
    Vocabulary,
    clustering,
    read_recipe,
    refinement,
)

__version__ = "0.2.0"

_HOMES = {
    "COCO_OBJECT": "datasets",
    "FeatureSet": "lab.featureset",
    "Lab": "lab",
    "METHODS": "lab",
    "PRESETS": "lab",
    "Result": "lab",
    "Store": "store",
    "VOC": "datasets",
    "agglomerative": "cluster",
    "checkout": "datasets",
    "crf": "refine",
    "editing": "edits",
    "fetch": "lab.fetch",
    "kmeans": "cluster",
    "mean_over": "edits",
    "merge": "cluster",
    "ncut": "cluster",
    "read": "datasets",
    "scale": "edits",
    "show": "plots",
    "spectral": "cluster",
    "swap": "edits",
    "zero": "edits",
}

__all__ = [
    "COCO_OBJECT",
    "METHODS",
    "PRESETS",
    "VOC",
    "Agglomerative",
    "Caption",
    "Captioning",
    "CellClustering",
    "Clustering",
    "Components",
    "Confusion",
    "Correspondence",
    "Extraction",
    "FeatureSet",
    "Features",
    "FslabError",
    "FslabWarning",
    "JointCrf",
    "KClustering",
    "KMeans",
    "Lab",
    "LabelMap",
    "MaskCrfs",
    "Matching",
    "Merging",
    "Neighbours",
    "NormalisedCut",
    "Pamr",
    "Picture",
    "RandomWalk",
    "Reading",
    "Recipe",
    "Refinement",
    "Result",
    "Segments",
    "Slider",
    "Spectral",
    "Store",
    "Unrefined",
    "Vocabulary",
    "agglomerative",
    "checkout",
    "clustering",
    "crf",
    "editing",
    "fetch",
    "kmeans",
    "mean_over",
    "merge",
    "ncut",
    "read",
    "read_recipe",
    "refinement",
    "scale",
    "show",
    "spectral",
    "swap",
    "zero",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'fslab' has no attribute {name!r}")
    return getattr(import_module(f"fslab.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])


if TYPE_CHECKING:
    from fslab.cluster import agglomerative, kmeans, merge, ncut, spectral
    from fslab.datasets import COCO_OBJECT, VOC, checkout, read
    from fslab.edits import editing, mean_over, scale, swap, zero
    from fslab.lab import METHODS, PRESETS, Lab, Result
    from fslab.lab.featureset import FeatureSet
    from fslab.lab.fetch import fetch
    from fslab.plots import show
    from fslab.refine import crf
    from fslab.store import Store
