"""One picture's features as numpy's archive."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

from fslab.files import file_aside
from fslab.records import Features, FslabError, Unwritable

_SIZE = "fslab:size"
_NAME = "fslab:name"
"""Beside the maps in an archive: the picture's height and width, and its name."""


def write(features: Features, path: Path) -> None:
    """Write an .npz, one layer after the other."""
    arrays = {**features, _SIZE: np.array(features.size), _NAME: np.array(features.name)}
    try:
        with file_aside(path) as (file, _), zipfile.ZipFile(file, "w") as whole:
            for name, array in arrays.items():  # np.savez takes a layer called "file" for its own
                with whole.open(f"{name}.npy", "w", force_zip64=True) as entry:
                    np.lib.format.write_array(entry, np.asarray(array), allow_pickle=False)
    except OSError as error:
        raise Unwritable(f"{path} cannot be written ({error.strerror or error})") from error


def read(path: Path) -> Features:
    """Return the features of an .npz; FslabError for one that is damaged or another program's."""
    try:
        with np.load(path, allow_pickle=False) as whole:
            arrays = {name: whole[name] for name in whole.files}
    except (OSError, ValueError, zipfile.BadZipFile, AttributeError) as error:
        words = " ".join(str(error).split())
        raise FslabError(f"{str(path)!r} is no whole .npz ({words}); write it again") from error
    size, name = arrays.pop(_SIZE, None), arrays.pop(_NAME, None)
    if size is None or name is None:
        raise FslabError(f"{str(path)!r} lacks {_SIZE!r}; it was not written by fslab.exports")
    return Features(arrays, tuple(size.tolist()), str(name))
