"""Features and masks as files that other programs read."""

from fslab.exports.coco import write_coco
from fslab.exports.features import each_features, read_features, write_features

__all__ = ["each_features", "read_features", "write_coco", "write_features"]
