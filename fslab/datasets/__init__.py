"""Pictures and truth from disk: any picture as RGB, VOC-layout folders, COCO-Object."""

from fslab.datasets.check import Checked, check
from fslab.datasets.checkout import checkout
from fslab.datasets.coco import coco, coco_labels
from fslab.datasets.folders import folder, mask_pairs
from fslab.datasets.load import load
from fslab.datasets.masks import read_mask, write_mask
from fslab.datasets.places import local, place
from fslab.datasets.read import PictureLike, picture_size, read
from fslab.datasets.samples import Dataset, MissingFiles, Sample
from fslab.datasets.things import read_things
from fslab.datasets.voc import voc
from fslab.datasets.vocabularies import COCO_OBJECT, VOC, VOC_CLASSES
from fslab.records import voc_palette

__all__ = [
    "COCO_OBJECT",
    "VOC",
    "VOC_CLASSES",
    "Checked",
    "Dataset",
    "MissingFiles",
    "PictureLike",
    "Sample",
    "check",
    "checkout",
    "coco",
    "coco_labels",
    "folder",
    "load",
    "local",
    "mask_pairs",
    "picture_size",
    "place",
    "read",
    "read_mask",
    "read_things",
    "voc",
    "voc_palette",
    "write_mask",
]
