"""An instances json as people have it: each entry read for sure, or named with what is wrong."""

from __future__ import annotations

import json
import posixpath
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fslab.datasets import oddities
from fslab.datasets.oddities import Oddity
from fslab.datasets.places import Place, Url, is_file
from fslab.datasets.read import MAX_PIXELS
from fslab.datasets.regions import Box, Outline, apart, disagreement, read_box, short
from fslab.datasets.samples import names_of
from fslab.datasets.vocabularies import COCO_OBJECT
from fslab.records import VOID, FslabError

Identity = int | str


@dataclass(frozen=True, eq=False)
class Listed:
    """A picture as a json lists it: its file and size, and what lies on it.

    outlines: regions that can be painted, those of an unknown class with label 255; doubts: boxes
    in which something lies whose region is not known; refused: why it has no truth, or empty.
    """

    name: str
    file: str
    size: tuple[int, int] = (0, 0)
    outlines: tuple[Outline, ...] = ()
    doubts: tuple[Box, ...] = ()
    refused: str = ""


@dataclass
class _Entry:
    """An entry of `images` on its way to be a `Listed`."""

    place: int
    file: str = ""
    identity: Identity | None = None
    size: tuple[int, int] = (0, 0)
    refused: str = ""
    annotations: list[tuple[str, Mapping[str, Any]]] = field(default_factory=list)


class _Twice:
    """What a json object holds under a key that it gives twice, with two values."""

    def __repr__(self) -> str:
        return "two values"


def parse(data: bytes, source: Place) -> dict[str, Any]:
    """Return the json's object; UTF-8, UTF-16 and UTF-32 are told apart, with a mark or without.

    A key given twice with two values has neither. Raises FslabError for anything but an
    instances JSON, which has the lists images, annotations and categories, none of them empty.
    """
    try:
        found = json.loads(data, object_pairs_hook=_object)
    except (ValueError, RecursionError) as error:
        raise FslabError(f"{str(source)!r} is not valid JSON: {error}") from error
    if not isinstance(found, dict):
        raise FslabError(
            f"{str(source)!r} is not an instances JSON: it holds a {type(found).__name__}"
        )
    for key in ("categories", "annotations", "images"):
        if not isinstance(found.get(key), list):
            raise FslabError(
                f"{str(source)!r} is not an instances JSON: its {key!r} is "
                f"{short(found[key]) if key in found else 'missing'}, and must be a list"
            )
        if not found[key]:
            raise FslabError(f"{str(source)!r} lists no {key}, so there is no truth to read")
    return found


def read_instances(
    data: Mapping[str, list[Any]], source: Place, folder: Place
) -> tuple[tuple[Listed, ...], tuple[Oddity, ...]]:
    """Return the pictures that a json lists, in its order, and all that is odd about its entries.

    folder: where their files lie, so that one file under two paths is seen to be one.
    Raises FslabError where a class is none of COCO's, and where not one annotation has a region
    on a listed picture.
    """
    odd: list[Oddity] = []
    entries = _images(data["images"], folder, odd)
    classes = _Classes(data["categories"], source, odd)
    _give(data["annotations"], entries, str(source), odd)
    entries = _each_file_once(entries, folder, odd)
    names = names_of([entry.file for entry in entries])
    listed = [
        _listed(name, entry, classes, odd) for name, entry in zip(names, entries, strict=True)
    ]
    odd += [Oddity(oddities.PICTURE, each.name, each.refused) for each in listed if each.refused]
    if not any(outline.label != VOID for each in listed for outline in each.outlines):
        first = next((each.why for each in odd), "no annotation has a region")
        raise FslabError(
            f"{str(source)!r} has no region of a listed picture in {len(data['annotations'])} "
            f"annotations, so there is no truth of pixels; the first oddity: {first}"
        )
    return tuple(listed), tuple(odd)


def identity(value: Any) -> Identity | None:
    """Return an id as it is compared: 7, 7.0 and "7" are one; None for anything else."""
    if isinstance(value, str):
        return int(value) if _is_plain_digits(value) else value or None
    if type(value) is int:
        return value
    return int(value) if type(value) is float and value.is_integer() else None


def _is_plain_digits(text: str) -> bool:
    """Tell a number's own digits, which `007` are not."""
    return text.isascii() and text.isdigit() and len(text) < 19 and str(int(text)) == text


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        first: dict[str, Any] = {}
        for key, value in pairs:
            if repr(first.setdefault(key, value)) != repr(value):
                found[key] = _Twice()
    return found


def _images(given: list[Any], folder: Place, odd: list[Oddity]) -> list[_Entry]:
    """Read the entries of `images`; ids of several pictures refuse all of them."""
    entries = [_image(entry, place, folder) for place, entry in enumerate(given)]
    by_identity: dict[Identity, list[_Entry]] = defaultdict(list)
    for entry in entries:
        if entry.identity is not None:
            by_identity[entry.identity].append(entry)
    again: set[int] = set()
    for number, same in by_identity.items():
        if len(same) == 1:
            continue
        first, *others = same
        if all((each.file, each.size) == (first.file, first.size) for each in others):
            again |= {each.place for each in others}
            odd += [_listed_again(first.file, len(same))]
            continue
        for each in same:
            each.refused = f"image id {number!r} is that of {len(same)} pictures, so whose the "
            each.refused += "annotations are is not known; give each picture an id of its own"
    return [entry for entry in entries if entry.place not in again]


def _image(given: Any, place: int, folder: Place) -> _Entry:
    entry = _Entry(place, f"images[{place}]")
    if not isinstance(given, dict):
        entry.refused = f"images[{place}] is {short(given)}; it must be an object"
        return entry
    entry.identity = identity(given.get("id"))
    file = given.get("file_name")
    if not isinstance(file, str) or not file.strip() or "\0" in file:
        entry.refused = f"images[{place}] has file_name {short(file)}; it must be a file's name"
        return entry
    entry.file = _below(file, folder)
    height, width = identity(given.get("height")), identity(given.get("width"))
    if not (isinstance(height, int) and isinstance(width, int) and min(height, width) > 0):
        said = ", ".join(f"{side} {short(given.get(side))}" for side in ("height", "width"))
        entry.refused = f"{file!r} is listed with {said}; both must be whole numbers from 1 up"
        return entry
    if height * width > MAX_PIXELS:
        entry.refused = f"{file!r} is listed as {height} x {width}, more pixels than are read"
        return entry
    entry.size = height, width
    if entry.identity is None:
        entry.refused = f"{file!r} is listed with id {short(given.get('id'))}, so which "
        entry.refused += "annotations are its own is not known; give it a number"
    return entry


class _Classes:
    """What a json's category ids mean: labels of COCO_OBJECT by name."""

    def __init__(self, given: list[Any], source: Place, odd: list[Oddity]) -> None:
        self._source = source
        self._names: dict[Identity, set[str]] = defaultdict(set)
        for place, entry in enumerate(given):
            name = entry.get("name") if isinstance(entry, dict) else None
            number = identity(entry.get("id")) if isinstance(entry, dict) else None
            if number is None or not isinstance(name, str):
                why = f"categories[{place}] is {short(entry)}; it must have an id and a name"
                odd.append(Oddity(oddities.ENTRY, f"categories[{place}]", why))
            else:
                self._names[number].add(name)

    def label(self, annotation: Mapping[str, Any]) -> tuple[int, str]:
        """Return an annotation's label, and why it is void where its class is not known.

        Raises FslabError for a class that is known and none of COCO's.
        """
        given = annotation.get("category_id")
        number = identity(given)
        names = self._names.get(number, set()) if number is not None else set()
        if len(names) != 1:
            how = f"that of {len(names)} categories" if names else "none of the json's"
            return VOID, f"has category {short(given)}, which is {how}"
        (name,) = names
        if name not in COCO_OBJECT.classes:
            raise FslabError(
                f"category {name!r} of {str(self._source)!r} is not one of COCO's 80 things"
            )
        return COCO_OBJECT.names.index(name), ""


def _give(given: list[Any], entries: Sequence[_Entry], source: str, odd: list[Oddity]) -> None:
    """Give each annotation to its picture, and name those that have none."""
    owners = {entry.identity: entry for entry in entries if entry.identity is not None}
    for place, annotation in enumerate(given):
        if not isinstance(annotation, dict):
            why = f"annotations[{place}] is {short(annotation)}; it must be an object"
            odd.append(Oddity(oddities.ENTRY, f"annotations[{place}]", why))
            continue
        number = identity(annotation.get("id"))
        name = f"annotation {number}" if number is not None else f"annotations[{place}]"
        image = identity(annotation.get("image_id"))
        if image is None or image not in owners:
            why = f"{name} has image_id {short(annotation.get('image_id'))}, which no picture has"
            odd.append(Oddity(oddities.STRAY, name, why))
            for entry in entries:  # "000001" may be 1: without it the truth would be background
                if image is not None and _unpadded(entry.identity) == _unpadded(image):
                    entry.refused = f"{name} of {source!r} has the image_id {image!r}, and it has "
                    entry.refused += f"the id {entry.identity!r}; write them alike"
        else:
            owners[image].annotations.append((f"{name} of {source!r}", annotation))


def _unpadded(number: Identity | None) -> str:
    return str(number).lstrip("0")


def _below(file: str, folder: Place) -> str:
    """Return a file's path as it is below a folder, however it is written: "../val2017/a.png"."""
    home = str(folder) if isinstance(folder, Url) else Path(folder).absolute().as_posix()
    whole = posixpath.normpath(posixpath.join(home, file))
    inside = whole.removeprefix(f"{posixpath.normpath(home)}/")
    return inside if inside != whole else posixpath.normpath(file)


def _one_name(files: Sequence[str], folder: Place) -> dict[str, str]:
    """Return by file what is one for one file, "A.png" and "a.png" where case does not count."""
    names = {file: file for file in files}
    times = Counter(file.casefold() for file in names)
    for file in names:
        if times[file.casefold()] > 1 and isinstance(folder, Path) and is_file(folder / file):
            status = (folder / file).stat()
            names[file] = f"{file.casefold()} {status.st_dev} {status.st_ino}"
    return names


def _each_file_once(entries: list[_Entry], folder: Place, odd: list[Oddity]) -> list[_Entry]:
    """Return one entry a file: a file under several ids counts once, or is refused once."""
    names = _one_name([entry.file for entry in entries], folder)
    by_file: dict[str, list[_Entry]] = defaultdict(list)
    for entry in entries:
        by_file[names[entry.file]].append(entry)
    for same in by_file.values():
        if len(same) == 1:
            continue
        first, *others = same
        file = first.file
        odd.append(_listed_again(file, len(same)))
        if any(_content(each) != _content(first) for each in others):
            ids = " and ".join(repr(each.identity) for each in same)
            first.refused = (
                f"{file!r} is listed {len(same)} times, under the ids {ids}, with annotations or "
                "sizes that differ, so which are right is not known; list it once"
            )
    return [same[0] for same in by_file.values()]


def _content(entry: _Entry) -> str:
    """Return what a picture's truth is made of, as text: ids of the json play no part."""
    drawn = sorted(
        repr([annotation.get(key) for key in ("category_id", "segmentation", "bbox", "iscrowd")])
        for _, annotation in entry.annotations
    )
    return repr((entry.size, bool(entry.refused), drawn))


def _listed_again(file: str, times: int) -> Oddity:
    return Oddity(oddities.TWICE, file, f"{file!r} is listed {times} times; it counts once")


def _listed(name: str, entry: _Entry, classes: _Classes, odd: list[Oddity]) -> Listed:
    """Read a picture's annotations; one without a region costs its own pixels, and no others."""
    outlines: list[Outline] = []
    doubts: list[Box] = []
    lost = ""
    for source, annotation in entry.annotations if not entry.refused else ():
        label, why = classes.label(annotation)
        outline, doubt, fault = _region(source, annotation, label, entry.size, odd)
        outlines += [outline] if outline else []
        doubts += [doubt] if doubt else []
        lost = lost or (fault if not (outline or doubt) else "")
        why = fault or (f"{source} {why}" if why else "")
        if why:
            how = "its pixels are void" if outline else "its box is void" if doubt else "left out"
            odd.append(Oddity(oddities.REGION, entry.file, f"{why}; {how}"))
    refused = entry.refused
    if lost and not outlines and not doubts:
        refused = f"{entry.file!r} has annotations, and none with a region; the first: {lost}"
    return Listed(name, entry.file, entry.size, tuple(outlines), tuple(doubts), refused)


def _region(
    source: str, annotation: Mapping[str, Any], label: int, size: tuple[int, int], odd: list[Oddity]
) -> tuple[Outline | None, Box | None, str]:
    """Return an annotation's outline, the box of what is in doubt, and why it is."""
    box = read_box(annotation.get("bbox"), *size)
    crowd, fault = _crowd(annotation, source)
    outline = Outline(VOID if fault else label, crowd, annotation.get("segmentation"), source)
    if outline.region in (None, [], {}):
        return None, box, f"{source} has no region"
    try:
        extent, area = outline.extent(*size)
    except FslabError as error:
        return None, box, str(error)
    if not area and isinstance(outline.region, list) and not apart(extent, annotation):
        return None, box, f"{source} has polygons that enclose nothing"
    if apart(extent, annotation):
        void = Outline(VOID, False, outline.region, source)
        return void, box, f"{source} has a box that is elsewhere than its segmentation"
    if extent[2] <= 0 or extent[3] <= 0 or extent[0] >= size[1] or extent[1] >= size[0]:
        return None, None, f"{source} has a region outside its picture"
    if why := disagreement(extent, area, annotation):
        odd.append(Oddity(oddities.FIELDS, source, f"{source}: {why}; the segmentation counts"))
    if outline.is_empty(extent, area, *size):
        why = f"{source} has a region of less than a pixel, so nothing of it is painted"
        odd.append(Oddity(oddities.REGION, source, why))
    if stray := outline.stray_rings():
        why = f"{source} has {stray} of {len(outline.region)} polygons with fewer than three points"
        odd.append(Oddity(oddities.REGION, source, f"{why}; they enclose nothing and are left out"))
    return outline, None, fault


def _crowd(annotation: Mapping[str, Any], source: str) -> tuple[bool, str]:
    """Return whether an annotation is a crowd; with a reason where that is not known."""
    given = annotation.get("iscrowd")
    if given is None or isinstance(given, bool):
        return bool(given), ""
    if (number := identity(given)) in (0, 1):
        return bool(number), ""
    return False, f"{source} has iscrowd {short(given)}; it must be 0 or 1"
