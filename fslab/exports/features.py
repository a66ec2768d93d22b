"""Features as files: numpy's archives, HDF5 and zarr, and back."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from fslab.exports import archive, groups
from fslab.records import Features, FslabError, check_kind

_ENDINGS = (".npz", *groups.ENDINGS)


def write_features(features: Features | Iterable[Features], path: str | os.PathLike[str]) -> int:
    """Write features as arrays f32 [C, h, w], a layer each; return the number of pictures.

    path: what it ends in says what it becomes. ".npz" is numpy's archive of one picture:
    `numpy.load(path)["up_blocks.1"]` reads a layer without fslab, and beside the layers are
    "fslab:size", i64 [2], and "fslab:name", of the picture. ".h5" and ".hdf5" (by h5py) and
    ".zarr" (a folder, by zarr) hold one picture or any number, in a group each by its name:
    `h5py.File(path)["val_0005/up_blocks.1"]`. The group's attributes are "name", "size" and
    "place", its place among the pictures; those of a layer's array are "layer" and "place". Signs
    that no file's name may hold are written as %XX in names of groups and arrays, "/" among them.

    features: of one picture, or an iterable such as `Lab.extract_all` gives, one of which is held
    at a time. Where it ends with FslabError, as that does for pictures left out, the file has what
    came before, and the error is raised again.

    Nothing is there before it is whole. A file is replaced; a folder that is there already is
    refused, and so are another ending, two pictures or layers whose names would be one file's,
    an iterable of nothing, and what cannot be written: FslabError. h5py and zarr come with
    `pip install "fslab[arrays]"`.
    """
    path = Path(path)
    if path.suffix not in _ENDINGS:
        raise FslabError(
            f"{str(path)!r} does not end in {', '.join(_ENDINGS[:-1])} or {_ENDINGS[-1]}, by which "
            "it is known what to write"
        )
    if isinstance(features, Mapping) or not isinstance(features, Iterable):
        check_kind(features, Features, "features")
    if path.suffix in groups.ENDINGS:
        return groups.write([features] if isinstance(features, Features) else features, path)
    if not isinstance(features, Features):
        raise FslabError(
            f"{str(path)!r} holds the features of one picture; several become .h5 or .zarr"
        )
    archive.write(features, path)
    return 1


def read_features(path: str | os.PathLike[str], picture: str | None = None) -> Features:
    """Return the features that `write_features` wrote, with the same bits.

    picture: whose, by its name; left out where there is one. Raises FslabError for a file that is
    not there, is damaged, is another program's, or holds no such picture.
    """
    path = Path(path)
    if not path.exists():
        raise FslabError(f"{str(path)!r} does not exist; check the path")
    if path.suffix in groups.ENDINGS:
        return groups.read_one(path, picture)
    found = archive.read(path)
    if picture not in (None, found.name):
        raise FslabError(f"{str(path)!r} holds the features of {found.name!r}, not of {picture!r}")
    return found


def each_features(path: str | os.PathLike[str]) -> Iterator[Features]:
    """Yield the features of each picture of a file, in the order in which they were written.

    One is held at a time. Raises FslabError as `read_features` does.
    """
    path = Path(path)
    if path.suffix in groups.ENDINGS and path.exists():
        yield from groups.read_each(path)
    else:
        yield read_features(path)
