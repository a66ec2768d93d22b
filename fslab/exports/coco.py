"""Label maps, or the things in them, as COCO's json: of instances, and panoptic."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from fslab.datasets.read import write_picture
from fslab.exports.pairs import Pair, Pairs, Region, checked
from fslab.files import write_or_refuse
from fslab.records import FslabError, voc_palette


def write_coco(pairs: Pairs, path: str | os.PathLike[str], *, pictures: bool = False) -> int:
    """Write label maps as COCO's instances json; return the number of its annotations.

    pairs: pictures, each with its labels, `((each.picture, each.labels) for each in results)`, or
    all with their `Instances`. Each thing, or each class of a label map, is one annotation, of all
    its pixels: category_id is the class's label, the
    region a compressed run length (pycocotools'), bbox [left, top, width, height], and "score" its
    matching probability where it has one. Background and void are none. pictures: also write the
    pixels as PNGs into `data/` beside the json, which FiftyOne's COCODetectionDataset takes where
    the json is called labels.json.

    Raises FslabError for pairs of two sizes, names that are used twice, label maps of several
    vocabularies, label maps beside Instances, and where it cannot be written.
    """
    path = Path(path)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    names: tuple[str, ...] = ()
    for pair in checked(pairs):
        names = pair.labels.names
        images.append(_image(pair, len(images) + 1))
        for region in pair.regions():
            found = _instance(region)
            annotations.append({"id": len(annotations) + 1, "image_id": len(images), **found})
        if pictures:
            write_picture(pair.picture.pixels, path.parent / "data" / f"{pair.file}.png")
    categories = [_category(label, name) for label, name in enumerate(names) if label]
    whole = {"images": images, "annotations": annotations, "categories": categories}
    write_or_refuse(path, json.dumps(whole).encode())
    return len(annotations)


def write_panoptic(pairs: Pairs, path: str | os.PathLike[str], *, pictures: bool = False) -> int:
    """Write label maps as COCO's panoptic json and PNGs; return the number of segments.

    The PNGs are in a folder beside the json that is called as it is, without ".json", as
    panopticapi looks for them: a pixel's segment is R + 256 G + 65536 B, and 0 is none. A thing
    is one segment, numbered in its picture; of label maps, which do not part what is of one class,
    a class is one, whose id is the label, and "isthing" is 0. Background and void are 0. pairs,
    pictures, and what is raised: as in `write_coco`.

    Source of the format: https://cocodataset.org/#format-data, part 4.
    """
    path = Path(path)
    if path.suffix != ".json":
        raise FslabError(f"{str(path)!r} does not end in .json, as the file beside its PNGs must")
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    names: tuple[str, ...] = ()
    segments = told_apart = 0
    for pair in checked(pairs):
        names, told_apart = pair.labels.names, int(pair.things is not None)
        images.append(_image(pair, len(images) + 1))
        ids = np.zeros(pair.labels.size, np.uint16)
        found = []
        for region in pair.regions():
            ids[region.mask] = region.number
            found.append(_segment(region))
        segments += len(found)
        file = f"{pair.file}.png"
        annotations.append({"image_id": len(images), "file_name": file, "segments_info": found})
        coded = np.stack([ids & 255, ids >> 8, np.zeros_like(ids)], -1).astype(np.uint8)
        write_picture(coded, path.with_suffix("") / file)
        if pictures:
            write_picture(pair.picture.pixels, path.parent / "data" / file)
    colours = voc_palette()
    categories = [
        {
            **_category(label, name),
            "isthing": told_apart,
            "color": colours[1 + (label - 1) % 254].tolist(),
        }
        for label, name in enumerate(names)
        if label
    ]
    whole = {"images": images, "annotations": annotations, "categories": categories}
    write_or_refuse(path, json.dumps(whole).encode())
    return segments


def _image(pair: Pair, number: int) -> dict[str, Any]:
    height, width = pair.picture.size
    return {"id": number, "file_name": f"{pair.file}.png", "height": height, "width": width}


def _category(label: int, name: str) -> dict[str, Any]:
    return {"id": label, "name": name, "supercategory": ""}


def _instance(region: Region) -> dict[str, Any]:
    """Return what the json of instances says of a region."""
    from pycocotools import mask as coco_mask

    coded = coco_mask.encode(np.asfortranarray(region.mask, np.uint8))
    found = {
        "category_id": region.label,
        "segmentation": {"size": coded["size"], "counts": coded["counts"].decode()},
        "area": int(coco_mask.area(coded)),
        "bbox": coco_mask.toBbox(coded).tolist(),
        "iscrowd": 0,
    }
    return found if region.score is None else {**found, "score": region.score}


def _segment(region: Region) -> dict[str, Any]:
    """Return what the panoptic json says of a region."""
    mask = region.mask
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    box = [columns[0], rows[0], columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1]
    return {
        "id": region.number,
        "category_id": region.label,
        "area": int(mask.sum()),
        "bbox": [int(each) for each in box],
        "iscrowd": 0,
    }
