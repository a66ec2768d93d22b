"""Pictures of every stage: plotly figures, drawn overlays, and a page that shows a whole run."""

from fslab.plots.draw import label_picture, overlay, pca_colours, segment_picture
from fslab.plots.gallery import GalleryRow, gallery
from fslab.plots.maps import feature_colours, show, similarity
from fslab.plots.tables import confusion_matrix, iou_bars, score_matrix

__all__ = [
    "GalleryRow",
    "confusion_matrix",
    "feature_colours",
    "gallery",
    "iou_bars",
    "label_picture",
    "overlay",
    "pca_colours",
    "score_matrix",
    "segment_picture",
    "show",
    "similarity",
]
