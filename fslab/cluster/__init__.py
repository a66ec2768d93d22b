"""From features to class-agnostic segments: cells are clustered, pixels follow."""

from fslab.cluster.cells import best_by_silhouette, labels_of
from fslab.cluster.clusters import agglomerative, cluster, kmeans, merge, ncut, spectral
from fslab.cluster.common import common_labels, fit_components, in_components
from fslab.cluster.graph import affinity, normalised_cut, recursive_cut
from fslab.cluster.joining import coordinates, join, position, resize, unit_length
from fslab.cluster.merging import aggregate, merge_maps
from fslab.cluster.parting import edges, part
from fslab.cluster.pixels import assign_pixels, at_cells, nearest
from fslab.cluster.projection import project

__all__ = [
    "affinity",
    "agglomerative",
    "aggregate",
    "assign_pixels",
    "at_cells",
    "best_by_silhouette",
    "cluster",
    "common_labels",
    "coordinates",
    "edges",
    "fit_components",
    "in_components",
    "join",
    "kmeans",
    "labels_of",
    "merge",
    "merge_maps",
    "ncut",
    "nearest",
    "normalised_cut",
    "part",
    "position",
    "project",
    "recursive_cut",
    "resize",
    "spectral",
    "unit_length",
]
