"""Features and masks as files that other programs read."""

from fslab.exports.coco import write_coco, write_panoptic
from fslab.exports.features import each_features, read_features, write_features
from fslab.exports.fiftyone import write_fiftyone
from fslab.exports.label_studio import write_label_studio
from fslab.exports.masks import MASK_FORMATS, write_masks

__all__ = [
    "MASK_FORMATS",
    "each_features",
    "read_features",
    "write_coco",
    "write_features",
    "write_fiftyone",
    "write_label_studio",
    "write_masks",
    "write_panoptic",
]
