"""Pictures of every stage: plotly figures, drawn overlays, and a page that shows a whole run."""

from fslab.plots.bars import interval_bars
from fslab.plots.cells import cell_maps
from fslab.plots.common import component_colours, component_maps
from fslab.plots.described import described
from fslab.plots.diagrams import Diagram, network_diagram, pipeline_diagram
from fslab.plots.draw import label_picture, overlay, pca_colours, segment_picture
from fslab.plots.gallery import GalleryRow, gallery
from fslab.plots.grid import grid
from fslab.plots.heat import head_map, heat_map
from fslab.plots.layers import layer_map
from fslab.plots.likeness import similarities
from fslab.plots.lines import grouped_bars, lines
from fslab.plots.maps import feature_colours, show, similarity
from fslab.plots.pairs import correspondences, likeness_picture, neighbours
from fslab.plots.regions import region_views, value_maps
from fslab.plots.rows import Table, table
from fslab.plots.saving import save
from fslab.plots.scatter import scatter
from fslab.plots.tables import confusion_matrix, iou_bars, score_matrix

__all__ = [
    "Diagram",
    "GalleryRow",
    "Table",
    "cell_maps",
    "component_colours",
    "component_maps",
    "confusion_matrix",
    "correspondences",
    "described",
    "feature_colours",
    "gallery",
    "grid",
    "grouped_bars",
    "head_map",
    "heat_map",
    "interval_bars",
    "iou_bars",
    "label_picture",
    "layer_map",
    "likeness_picture",
    "lines",
    "neighbours",
    "network_diagram",
    "overlay",
    "pca_colours",
    "pipeline_diagram",
    "region_views",
    "save",
    "scatter",
    "score_matrix",
    "segment_picture",
    "show",
    "similarities",
    "similarity",
    "table",
    "value_maps",
]
