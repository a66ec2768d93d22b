"""Label maps as the folder that FiftyOne imports as masks."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
from PIL import Image

from fslab.datasets.masks import write_mask
from fslab.datasets.read import png, write_picture
from fslab.exports.pairs import Pairs, checked
from fslab.files import write_or_refuse


def write_fiftyone(pairs: Pairs, folder: str | os.PathLike[str]) -> int:
    """Write label maps as FiftyOne's ImageSegmentationDirectory; return the number of pictures.

    `data/NAME.png` has the pixels and `labels/NAME.png` the labels, as grey of 8 bits, or 16 of
    more than 255 names: masks with a palette, as VOC has them, FiftyOne reads as colours.
    `mask_targets.json` has the names by label, for `dataset.default_mask_targets`. 0 is the
    background; void stays 255, or 65535. Things of one class are not told apart there.

    pairs, and what is raised: as in `write_coco`. Source of the format: FiftyOne's guide, "Import
    image segmentation directory".
    """
    folder = Path(folder)
    names: tuple[str, ...] = ()
    count = 0
    for pair in checked(pairs):
        names, count = pair.labels.names, count + 1
        write_picture(pair.picture.pixels, folder / "data" / f"{pair.file}.png")
        target, labels = folder / "labels" / f"{pair.file}.png", pair.labels.labels
        if labels.dtype == np.uint8:
            write_or_refuse(target, png(Image.fromarray(labels)))
        else:
            write_mask(labels, target)
    targets = {str(label): name for label, name in enumerate(names) if label}
    write_or_refuse(folder / "mask_targets.json", json.dumps(targets, indent=1).encode())
    return count
