"""Label maps as Label Studio's tasks, whose predictions are brushed regions."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

import numpy as np
from numpy.typing import NDArray

from fslab.datasets.read import write_picture
from fslab.exports.pairs import Pair, Pairs, Region, checked
from fslab.files import file_aside, write_or_refuse
from fslab.records import Unwritable, voc_palette

LOCAL_FILES = "/data/local-files/?d="
"""Where Label Studio serves what is below its LOCAL_FILES_DOCUMENT_ROOT."""

_LENGTHS = (3, 4, 8, 16)
"""Bits that a run's length may be written in, by the two bits before it."""


def write_label_studio(
    pairs: Pairs, folder: str | os.PathLike[str], *, address: str = LOCAL_FILES
) -> int:
    """Write label maps as a folder for Label Studio; return the number of its regions.

    `tasks.json` is what its import takes: a picture is one task, each thing or class of it one
    region of a prediction, brushed, with its score where it has one; background and void are none.
    `config.xml` is the labelling interface that the regions belong to, and `data/` has the pictures
    as PNGs.

    pairs: as in `write_coco`. address: what stands before `data/NAME.png` where Label Studio looks
    for a picture; left out, its own local files, with this folder as their root.

    Raises FslabError as `write_coco` does. Source of the format: Label Studio's guide, "Import
    pre-annotated data", and rle-pack of thi.ng/umbrella, by which it packs masks.
    """
    folder = Path(folder)
    names: tuple[str, ...] = ()
    regions = 0
    try:
        with file_aside(folder / "tasks.json") as (file, _):
            begun = b"[\n"
            before = begun
            for pair in checked(pairs):  # a task at a time: all together may be gigabytes
                names = pair.labels.names
                picture = f"data/{pair.file}.png"
                write_picture(pair.picture.pixels, folder / picture)
                task = _task(pair, address + quote(picture))
                regions += len(task["predictions"][0]["result"])
                file.write(before + json.dumps(task).encode())
                before = b",\n"
            file.write(b"[]\n" if before is begun else b"\n]\n")
            write_or_refuse(folder / "config.xml", _interface(names).encode())
    except OSError as error:
        raise Unwritable(f"{folder} cannot be written ({error.strerror or error})") from error
    return regions


def _task(pair: Pair, address: str) -> dict[str, Any]:
    kind = "class" if pair.things is None else "thing"
    regions = [_region(each, kind, pair.labels.names) for each in pair.regions()]
    return {
        "data": {"image": address, "name": pair.picture.name},
        "predictions": [{"model_version": "fslab", "result": regions}],
    }


def _region(region: Region, kind: str, names: tuple[str, ...]) -> dict[str, Any]:
    height, width = region.mask.shape
    value = {"format": "rle", "rle": packed(region.mask), "brushlabels": [names[region.label]]}
    found = {
        "id": f"{kind}-{region.number}",
        "from_name": "tag",
        "to_name": "image",
        "type": "brushlabels",
        "original_width": width,
        "original_height": height,
        "image_rotation": 0,
        "value": value,
    }
    return found if region.score is None else {**found, "score": region.score}


def packed(mask: NDArray[np.bool_]) -> list[int]:
    """Return a mask [H, W] as Label Studio packs it: bytes of runs of an RGBA picture.

    The picture is 255 in all four channels where the mask is, and 0 elsewhere. Its bits: how many
    numbers there are in 32, their size less one in 5, the four sizes of lengths less one in 4 each;
    then each run, 1, which size its length has in 2, its length less one, and the number in 8.
    """
    flat = mask.ravel()
    ends = np.flatnonzero(np.append(flat[1:] != flat[:-1], True))
    head = f"{4 * flat.size:032b}{7:05b}" + "".join(f"{size - 1:04b}" for size in _LENGTHS)
    runs = _runs(4 * np.diff(ends, prepend=-1), flat[ends])
    bits = np.concatenate([np.array(list(head), np.uint8), runs])
    packed_bits: list[int] = np.packbits(bits).tolist()
    return packed_bits


def _runs(lengths: NDArray[np.intp], inside: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Return the bits of runs, one after the other; one that is too long is several."""
    longest = 1 << _LENGTHS[-1]
    whole, rest = divmod(lengths - 1, longest)
    parts = np.full(int((whole + 1).sum()), longest)
    parts[np.cumsum(whole + 1) - 1] = rest + 1
    which = np.searchsorted(np.left_shift(1, _LENGTHS), parts)
    sizes = np.array(_LENGTHS)[which]
    numbers = 255 * np.repeat(inside, whole + 1)
    codes = (((4 + which) << sizes | (parts - 1)) << 8) | numbers
    words = (codes << (32 - 11 - sizes)).astype(">u4")
    bits = np.unpackbits(words.view(np.uint8)).reshape(-1, 32)
    kept: NDArray[np.uint8] = bits[np.arange(32) < (11 + sizes)[:, None]]
    return kept


def _interface(names: tuple[str, ...]) -> str:
    """Return the labelling interface: a brush for each class, in its colour."""
    colours = voc_palette()
    labels = "".join(
        f"    <Label value={quoteattr(name)} "
        f'background="#{bytes(colours[1 + (label - 1) % 254]).hex()}"/>\n'
        for label, name in enumerate(names)
        if label
    )
    return (
        '<View>\n  <Image name="image" value="$image" zoom="true"/>\n'
        f'  <BrushLabels name="tag" toName="image">\n{labels}  </BrushLabels>\n</View>\n'
    )
