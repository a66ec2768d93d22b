"""Label maps as COCO's json of instances."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from fslab.files import portable, write_or_refuse
from fslab.records import FslabError, LabelMap, Picture, check_kind
from fslab.records.base import void_of


def write_coco(
    pairs: Iterable[tuple[Picture, LabelMap]],
    path: str | os.PathLike[str],
    *,
    pictures: bool = False,
) -> int:
    """Write label maps as COCO's instances json; return the number of its annotations.

    pairs: pictures, each with its labels; `((each.picture, each.labels) for each in results)`. Each
    class of a picture is one annotation, of all its pixels: category_id is the class's label, the
    region a compressed run length (pycocotools'), bbox [left, top, width, height], and "score" its
    matching probability where it has one. Background and void are none. pictures: also write the
    pixels as PNGs into `data/` beside the json, which FiftyOne's COCODetectionDataset takes where
    the json is called labels.json.

    Raises FslabError for pairs of two sizes, names that are used twice, label maps of several
    vocabularies, and where it cannot be written.
    """
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    names: tuple[str, ...] | None = None
    path = Path(path)
    seen: set[str] = set()
    for picture, labels in pairs:
        check_kind(picture, Picture, "a picture")
        check_kind(labels, LabelMap, "its labels")
        names = labels.names if names is None else names
        _check_pair(picture, labels, names, seen)
        file = f"{portable(picture.name)}.png"
        height, width = picture.size
        images.append({"id": len(images) + 1, "file_name": file, "height": height, "width": width})
        for each in _annotations(labels):
            annotations.append({"id": len(annotations) + 1, "image_id": len(images), **each})
        if pictures:
            from fslab.datasets.read import write_picture

            write_picture(picture.pixels, path.parent / "data" / file)
    categories = [
        {"id": number, "name": name, "supercategory": ""}
        for number, name in enumerate(names or ())
        if number
    ]
    whole = {"images": images, "annotations": annotations, "categories": categories}
    write_or_refuse(path, json.dumps(whole).encode())
    return len(annotations)


def _check_pair(picture: Picture, labels: LabelMap, names: tuple[str, ...], seen: set[str]) -> None:
    if labels.size != picture.size:
        raise FslabError(
            f"{picture.name} is {picture.size[0]} x {picture.size[1]} pixels (height x width), its "
            f"labels {labels.size[0]} x {labels.size[1]}; both belong to one picture"
        )
    if labels.names != names:
        raise FslabError(
            f"the labels of {picture.name} have other classes than those before it; one json has "
            "one list of classes: give all pictures one vocabulary"
        )
    if picture.name in seen:
        raise FslabError(
            f"two pictures are called {picture.name!r}, by which the json tells them apart; "
            "give each its own: dataclasses.replace(picture, name=...)"
        )
    seen.add(picture.name)


def _annotations(labels: LabelMap) -> Iterable[dict[str, Any]]:
    """Yield what COCO's json says of each class of a label map."""
    from pycocotools import mask as coco_mask

    for label in np.unique(labels.labels).tolist():
        if label in (0, void_of(labels.labels)):
            continue
        if label >= len(labels.names):
            raise FslabError(
                f"a label map holds {label}, and its names end at {len(labels.names) - 1}"
            )
        region = coco_mask.encode(np.asfortranarray(labels.labels == label, np.uint8))
        found = {
            "category_id": label,
            "segmentation": {"size": region["size"], "counts": region["counts"].decode()},
            "area": int(coco_mask.area(region)),
            "bbox": coco_mask.toBbox(region).tolist(),
            "iscrowd": 0,
        }
        score = labels.scores.get(labels.names[label])
        yield found if score is None else {**found, "score": float(score)}
