"""One way in for the command line: a folder and the layout it is in."""

from __future__ import annotations

import os
from pathlib import Path

from fslab.datasets.checkout import where_to_look
from fslab.datasets.coco import coco
from fslab.datasets.folders import folder
from fslab.datasets.places import Url, place
from fslab.datasets.samples import Dataset
from fslab.datasets.voc import voc, voc_home
from fslab.records import FslabError


def load(
    root: str | os.PathLike[str] | Url,
    split: str = "val",
    format: str = "voc",
    skip_missing: bool = False,
) -> Dataset:
    """Open a data set in VOC's or COCO's layout; root is a folder or any fsspec url.

    A folder without ImageSets/Segmentation is taken as plain pictures without truth; it has no
    splits, and its data set says "all". skip_missing: leave out samples whose files are not
    there. Raises FslabError as `voc`, `coco` and `folder` do.
    """
    root = place(root)
    if not root.exists():
        raise FslabError(f"{str(root)!r} does not exist; {where_to_look(Path(str(root)))}")
    if format == "coco":
        return coco(root, split, skip_missing)
    if format != "voc":
        raise FslabError(f"format is {format!r}; it must be 'voc' or 'coco'")
    if voc_home(root) is None:
        return folder(root)
    return voc(root, split, skip_missing=skip_missing)
