"""Label maps and their pictures as a folder, in a format by its name."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from fslab.exports.coco import write_coco, write_panoptic
from fslab.exports.fiftyone import write_fiftyone
from fslab.exports.label_studio import write_label_studio
from fslab.exports.pairs import Pairs
from fslab.names import did_you_mean
from fslab.records import FslabError


def _coco(pairs: Pairs, folder: Path) -> int:
    return write_coco(pairs, folder / "labels.json", pictures=True)


def _panoptic(pairs: Pairs, folder: Path) -> int:
    return write_panoptic(pairs, folder / "panoptic.json", pictures=True)


_WRITERS: dict[str, Callable[[Pairs, Path], int]] = {
    "coco": _coco,
    "panoptic": _panoptic,
    "label-studio": write_label_studio,
    "fiftyone": write_fiftyone,
}
MASK_FORMATS = tuple(_WRITERS)
"""What `write_masks` writes, by name; `fslab segment --format` takes the same."""


def write_masks(pairs: Pairs, folder: str | os.PathLike[str], format: str) -> int:
    """Write label maps and their pictures as a folder that another program reads.

    format: "coco", `write_coco` as labels.json; "panoptic", `write_panoptic` as panoptic.json;
    "label-studio", `write_label_studio`; or "fiftyone", `write_fiftyone`. Returns what that does,
    and raises as it does. In each, `data/` has the pictures as PNGs; a file that names them all is
    written last, so it is there when the rest is.
    """
    check_format(format)
    return _WRITERS[format](pairs, Path(folder))


def check_format(format: str) -> None:
    """Raise FslabError for a format that is none."""
    if format not in _WRITERS:
        raise FslabError(
            f"there is no format {format!r}; there are {', '.join(MASK_FORMATS)}"
            f"{did_you_mean(format, MASK_FORMATS)}"
        )
