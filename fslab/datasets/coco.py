"""COCO-Object: the 80 things of COCO's instances json as label maps."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from fslab.datasets.places import Place, Url, place
from fslab.datasets.read import picture_size
from fslab.datasets.samples import Dataset, MissingFiles, Sample, counted
from fslab.datasets.vocabularies import COCO_OBJECT
from fslab.records import VOID, FslabError

_UNPAINTABLE = (ValueError, TypeError, LookupError, AttributeError, OverflowError)
"""What pycocotools raises over regions that are none."""


@dataclass(frozen=True, eq=False)
class Outline:
    """One annotated object: its label, and its region as polygons or a run-length dict."""

    label: int
    crowd: bool
    region: Any
    source: str

    def mask(self, height: int, width: int) -> np.ndarray:
        """Rasterise through pycocotools: bool [height, width].

        Raises FslabError, naming the annotation, for a region that is none or of another size.
        """
        try:
            return self._painted(height, width)
        except FslabError:
            raise
        except _UNPAINTABLE as error:
            words = " ".join(str(error).split()) or type(error).__name__
            raise FslabError(
                f"{self.source} has a segmentation that cannot be painted ({words}); give "
                "polygons of x, y, x, y..., or a run-length dict of counts and size"
            ) from error

    def _painted(self, height: int, width: int) -> np.ndarray:
        from pycocotools import mask as coco_mask

        region = self.region
        if isinstance(region, list):
            if not region or any(len(ring) < 6 for ring in region):
                raise FslabError(f"{self.source} has a polygon of fewer than three points")
            self._check_near(region, height, width)
            region = coco_mask.merge(coco_mask.frPyObjects(region, height, width))
        elif list(region["size"]) != [height, width]:
            raise FslabError(
                f"{self.source} is {region['size']}; its picture is {height} x {width}"
            )
        elif isinstance(region["counts"], list):
            region = coco_mask.frPyObjects(region, height, width)
        return coco_mask.decode(region).astype(bool)

    def _check_near(self, rings: list[Any], height: int, width: int) -> None:
        """Refuse points far from the picture: pycocotools walks to them, or ends the process."""
        for ring in rings:
            points = np.asarray(ring[: len(ring) // 2 * 2], np.float64).reshape(-1, 2)
            if not (np.abs(points - [width / 2, height / 2]) <= 2 * max(height, width)).all():
                raise FslabError(
                    f"{self.source} has a polygon with points far outside its picture of "
                    f"{height} x {width}; give x and y in pixels"
                )


@dataclass(frozen=True, eq=False)
class CocoSample(Sample):
    """A picture whose truth is painted from outlines: nothing but plain data, so it pickles."""

    size: tuple[int, int] = (0, 0)
    outlines: tuple[Outline, ...] = ()

    @property
    def has_truth(self) -> bool:
        """Whether there is a truth: always, a picture without an object is all background."""
        return True

    def truth(self) -> np.ndarray:
        """Paint the truth, u8 [H, W]: 0 background, 1..80 things, 255 crowds.

        Larger objects are painted first, so that smaller ones before them stay visible (COCO
        keeps no depth order). Crowd regions are void where no single object lies on them.
        """
        if (found := picture_size(self.path)) != self.size:
            raise FslabError(
                f"{str(self.path)!r} is {found[0]} x {found[1]} pixels (height x width), but its "
                f"annotations are for {self.size[0]} x {self.size[1]}"
            )
        labels = np.zeros(found, np.uint8)
        things = [(each, each.mask(*found)) for each in self.outlines if not each.crowd]
        for outline, mask in sorted(things, key=lambda thing: -int(thing[1].sum())):
            labels[mask] = outline.label
        for outline in self.outlines:
            if outline.crowd:
                labels[outline.mask(*found) & (labels == 0)] = VOID
        return labels


def coco(
    root_or_json: str | os.PathLike[str], split: str = "val2017", skip_missing: bool = False
) -> Dataset:
    """Open COCO-Object: pictures of ROOT/SPLIT/, truth from ROOT/annotations/instances_SPLIT.json.

    A json's own path will do too (the split is what follows "instances_" in its name then), and
    so will fsspec urls of either. Every picture of the json takes part, also those without an
    object (all background), unless its file is not there and skip_missing says to leave it out.

    Raises FslabError where files are missing (naming them) or the json is not of that kind.
    """
    given = place(root_or_json)
    inside = given / "annotations" / f"instances_{split}.json"
    source = given if given.suffix == ".json" else inside
    split = source.stem.removeprefix("instances_")
    root = source.parent.parent
    data = _instances(source)
    try:
        labels = coco_labels(data["categories"])
        outlines = _outlines(data["annotations"], labels, source)
        samples = tuple(_sample(image, root / split, outlines) for image in data["images"])
    except (KeyError, TypeError) as error:
        raise FslabError(f"{str(source)!r} is no instances json ({error!r})") from error
    if not samples:
        raise FslabError(f"{str(source)!r} lists no images")
    missing = _absent(samples, root / split)
    if missing and (not skip_missing or len(missing) == len(samples)):
        files = list(missing.values())
        raise MissingFiles(
            f"{str(root / split)!r} lacks {counted(files)} that the json names", files
        )
    there = tuple(sample for sample in samples if sample.name not in missing)
    return Dataset(root.resolve().name, COCO_OBJECT, split, there, missing)


def coco_labels(categories: Iterable[Mapping[str, Any]]) -> dict[int, int]:
    """Map a json's category ids (1..90 with gaps) to labels 1..80 of COCO_OBJECT, by name."""
    labels = {}
    for category in categories:
        if category["name"] not in COCO_OBJECT.classes:
            raise FslabError(f"category {category['name']!r} is not one of COCO's 80 things")
        labels[category["id"]] = COCO_OBJECT.names.index(category["name"])
    return labels


def _absent(samples: Iterable[Sample], folder: Place) -> dict[str, str]:
    """Return the files that are not there; behind a url one list answers for all of them."""
    if not isinstance(folder, Url):
        return {each.name: each.path.name for each in samples if not each.path.is_file()}
    there = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    return {each.name: each.path.name for each in samples if each.path.name not in there}


def _instances(source: Place) -> dict[str, Any]:
    """Read the json, or say which splits there are."""
    if not source.is_file():
        folder = source.parent
        names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
        there = [name for name in names if name.startswith("instances_") and name.endswith(".json")]
        hint = f"there is {', '.join(there)}" if there else "COCO keeps it in annotations/"
        raise FslabError(f"{str(source)!r} does not exist; {hint}")
    try:
        data = json.loads(source.read_bytes())
    except (ValueError, RecursionError) as error:
        raise FslabError(f"{str(source)!r} is no json: {error}") from error
    if not isinstance(data, dict):
        raise FslabError(f"{str(source)!r} is no instances json: it holds a {type(data).__name__}")
    return data


def _outlines(
    annotations: Iterable[Mapping[str, Any]], labels: Mapping[int, int], source: Place
) -> dict[int, list[Outline]]:
    """Group annotations by image id."""
    grouped: dict[int, list[Outline]] = defaultdict(list)
    for given in annotations:
        name = f"annotation {given['id']} of {str(source)!r}"
        if given["category_id"] not in labels:
            raise FslabError(f"{name} has category {given['category_id']}, which the json lacks")
        outline = Outline(
            labels[given["category_id"]], bool(given.get("iscrowd")), given["segmentation"], name
        )
        grouped[given["image_id"]].append(outline)
    return grouped


def _sample(
    image: Mapping[str, Any], pictures: Place, outlines: Mapping[int, list[Outline]]
) -> CocoSample:
    path = pictures / image["file_name"]
    size = image["height"], image["width"]
    found = tuple(outlines.get(image["id"], ()))
    return CocoSample(path.stem, path, None, len(COCO_OBJECT.names), size, found)
