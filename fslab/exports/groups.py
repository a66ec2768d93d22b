"""Features of any number of pictures as HDF5 or zarr: a group a picture, an array a layer."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from fslab.files import file_aside, folder_aside, one_file, portable
from fslab.records import Features, FslabError, Unwritable, check_kind, check_unicode

_HDF5 = (".h5", ".hdf5")
_ZARR = ".zarr"
ENDINGS = (*_HDF5, _ZARR)

_SOME = 5
"""So many pictures are named where none of them was asked for."""


def write(features: Iterable[Features], path: Path) -> int:
    """Write each picture's features as they come; return the number of pictures."""
    _check_library(path)
    if path.suffix == _ZARR and path.exists():
        raise FslabError(f"{str(path)!r} is there already; remove it, or give another name")
    seen: set[str] = set()
    ended: FslabError | None = None
    with contextlib.ExitStack() as opened:
        with _refusing(path):
            root = opened.enter_context(_new(path))
        coming = iter(features)
        while ended is None:
            try:
                each = next(coming, None)
            except FslabError as error:
                if not seen:
                    raise
                ended = error
                continue
            if each is None:
                break
            check_kind(each, Features, "features")
            with _refusing(path):
                _add(root, each, seen)
        if not seen:
            raise FslabError("features are of no picture; there is nothing to write")
        with _refusing(path):
            opened.close()
    if ended is not None:
        raise ended
    return len(seen)


def read_one(path: Path, picture: str | None) -> Features:
    """Return one picture's features; with None the only one's."""
    with _opened(path) as root:
        keys = list(root)
        if picture is None and len(keys) == 1:
            return _features(root[keys[0]], path)
        if picture is not None and _key(picture) in keys:
            return _features(root[_key(picture)], path)
        some = ", ".join(repr(_attribute(root[key], "name", path)) for key in keys[:_SOME])
        more = f" and {len(keys) - _SOME} more" if len(keys) > _SOME else ""
        wanted = "say whose" if picture is None else f"{picture!r} is none of them"
        raise FslabError(f"{str(path)!r} holds the features of {some}{more}; {wanted}")


def read_each(path: Path) -> Iterator[Features]:
    """Yield each picture's features in the order of writing."""
    with _opened(path) as root:
        for group in _in_order(root, path):
            yield _features(group, path)


def _add(root: Any, features: Features, seen: set[str]) -> None:
    group = root.create_group(_new_key(features.name, "pictures", seen))
    group.attrs.update({"name": features.name, "size": list(features.size), "place": len(seen) - 1})
    layers: set[str] = set()
    for layer, value in features.items():
        array = _new_array(group, _new_key(layer, f"layers of {features.name!r}", layers), value)
        array.attrs.update({"layer": layer, "place": len(layers) - 1})


def _new_array(group: Any, key: str, value: np.ndarray) -> Any:
    if not hasattr(group, "create_array"):
        return group.create_dataset(key, data=value)
    # Chunks of nothing but zeros are written too, so that one that is lost is missed.
    whole = {"shape": value.shape, "chunks": value.shape, "dtype": value.dtype}
    array = group.create_array(key, **whole, config={"write_empty_chunks": True})
    array[...] = value
    return array


def _features(group: Any, path: Path) -> Features:
    name, size = _attribute(group, "name", path), _attribute(group, "size", path)
    maps = {
        str(_attribute(each, "layer", path)): _values(each, path) for each in _in_order(group, path)
    }
    return Features(maps, (int(size[0]), int(size[1])), str(name))


def _values(array: Any, path: Path) -> np.ndarray:
    lost = getattr(array, "nchunks", 0) - getattr(array, "nchunks_initialized", 0)
    if lost:  # zarr would read it as zeros
        raise FslabError(f"{str(path)!r} lacks {lost} chunks of {array.path!r}; write it again")
    return np.asarray(array[...])


def _in_order(group: Any, path: Path) -> list[Any]:
    return sorted(
        (group[key] for key in group), key=lambda each: int(_attribute(each, "place", path))
    )


def _attribute(node: Any, name: str, path: Path) -> Any:
    if name not in node.attrs:
        raise FslabError(
            f"{str(path)!r}: {node.name!r} has no attribute {name!r}; it was not written by "
            "fslab.exports"
        )
    return node.attrs[name]


def _new_key(name: str, what: str, seen: set[str]) -> str:
    """Return what a group or array is called, which nothing beside it is."""
    check_unicode(name)
    if one_file(name) in seen:
        raise FslabError(
            f"two {what} are called {name!r}, or as good as that where case does not count; give "
            "each its own name: dataclasses.replace(picture, name=...)"
        )
    seen.add(one_file(name))
    return _key(name)


def _key(name: str) -> str:
    """Return a name as that of one group, on every platform and in both formats."""
    key = portable(name).replace("/", "%2F")
    if key == "zarr.json" or key.startswith(("__", ".")):  # zarr's own
        key = f"%{ord(key[0]):02X}{key[1:]}"
    return key or "%"


def _check_library(path: Path) -> None:
    library = "zarr" if path.suffix == _ZARR else "h5py"
    if find_spec(library) is None:
        raise FslabError(
            f"{path.suffix} is written and read by {library}, which is not installed: "
            "pip install 'fslab[arrays]'; .npz needs nothing"
        )


@contextlib.contextmanager
def _refusing(path: Path) -> Iterator[None]:
    """Turn what the disk refuses into one sentence."""
    try:
        yield
    except (OSError, RuntimeError) as error:  # h5py raises both
        number = getattr(error, "errno", None)
        words = os.strerror(number) if number else " ".join(str(error).split())
        raise Unwritable(f"{path} cannot be written ({words})") from error


@contextlib.contextmanager
def _new(path: Path) -> Iterator[Any]:
    """Yield the root of a new file or folder, which takes its name at the end."""
    if path.suffix == _ZARR:
        import zarr

        with folder_aside(path) as aside:
            yield zarr.create_group(store=aside, overwrite=True)
        return
    import h5py

    with file_aside(path) as (_, name):
        root = h5py.File(name, "w", locking=False)  # file_aside has it locked
        try:
            yield root
        except BaseException:
            with contextlib.suppress(OSError, RuntimeError):  # of a disk that is full
                root.close()
            raise
        root.close()


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Yield the root of what is there; FslabError where it is damaged."""
    _check_library(path)
    try:
        with _root(path) as root:
            yield root
    except FslabError:
        raise
    except (OSError, ValueError, KeyError, RuntimeError, TypeError) as error:
        words = " ".join(str(error).split())
        raise FslabError(
            f"{str(path)!r} is no whole {path.suffix} ({words}); write it again"
        ) from error


@contextlib.contextmanager
def _root(path: Path) -> Iterator[Any]:
    if path.suffix == _ZARR:
        import zarr

        yield zarr.open_group(store=path, mode="r")
    else:
        import h5py

        with h5py.File(path, "r") as root:
            yield root
