"""Arrays filed by digest: written aside and renamed, verified when read, shared by processes.

An entry is an ordinary safetensors file whose metadata holds the versions of the libraries that
made it, and a checksum over its key, these, names, types, shapes and bytes: anything can open it,
and nothing altered or misplaced is believed.
"""

from __future__ import annotations

import contextlib
import json
import math
import operator
import os
import struct
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import platformdirs
import xxhash
from fsspec.implementations.local import LocalFileSystem

from fslab.errors import FslabError, FslabWarning
from fslab.files import drop_orphans, write_aside
from fslab.versions import Versions, note, versions_here

FORMAT = "fslab-3"
ENDING = ".safetensors"

_DTYPES = {
    "BOOL": "?", "U8": "u1", "I8": "i1", "I16": "<i2", "I32": "<i4", "I64": "<i8",
    "U16": "<u2", "U32": "<u4", "U64": "<u8", "F16": "<f2", "F32": "<f4", "F64": "<f8",
}  # fmt: skip


_UNREADABLE = (
    struct.error, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError,
)  # fmt: skip
"""What reading a header of any bytes may end in."""


class Damaged(Exception):
    """An entry whose bytes are not what was written."""


class OtherFormat(Damaged):
    """An entry that another version of fslab wrote."""


@dataclass(frozen=True, eq=False)
class Stored:
    """Arrays by name, read-only, and the versions of the libraries that made them."""

    arrays: Mapping[str, np.ndarray]
    versions: Versions


def read_only(array: np.ndarray) -> np.ndarray:
    """Return a view of an array that cannot be written to, as a store gives its arrays."""
    view = np.asarray(array).view()
    view.setflags(write=False)
    return view


@dataclass(frozen=True)
class Usage:
    """What a store holds: entries, and their size in bytes."""

    entries: int
    bytes: int


def default_location() -> str:
    """Return `FSLAB_STORE` if it is set, else the user's cache folder."""
    return os.environ.get("FSLAB_STORE") or platformdirs.user_cache_dir("fslab", appauthor=False)


class Store:
    """Arrays by key, in a folder or under any fsspec url.

    A store is a convenience: one that cannot be written to says so once and keeps nothing,
    an entry that was damaged is reported, dropped and made again by whoever asked for it.
    """

    def __init__(self, location: str | os.PathLike[str] | None = None) -> None:
        self.location = os.fspath(location) if location is not None else default_location()
        try:
            self._files, self._root = fsspec.url_to_fs(self.location)
        except (ValueError, ImportError, OSError) as error:
            raise FslabError(f"the store {self.location!r} cannot be opened: {error}") from error
        self._local = isinstance(self._files, LocalFileSystem)
        self._warned: set[str] = set()
        self._tidied: set[str] = set()

    def __repr__(self) -> str:
        return f"Store({self.location!r})"

    def path(self, key: str) -> str:
        """Return where an entry lies; two digits of the key spread entries over folders."""
        return f"{self._root}/{key[:2]}/{key}{ENDING}"

    def get(self, key: str) -> Mapping[str, np.ndarray] | None:
        """Return an entry's arrays, read-only, or None where it is missing or damaged.

        Its versions are noted, see `fslab.versions.noting`.
        """
        entry = self.entry(key)
        if entry is None:
            return None
        note(entry.versions)
        return entry.arrays

    def entry(self, key: str) -> Stored | None:
        """Return an entry, or None where it is missing or damaged."""
        path = self.path(key)
        try:
            found = read_entry(self._read(path), key)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            self._warn_once(
                "read", f"the store's entry {path} cannot be read ({error}); it is computed again"
            )
            return None
        except OtherFormat:
            return None  # as after an upgrade; whoever asked files it anew
        except Damaged as error:
            warnings.warn(
                f"the store's entry {path} is damaged ({error}); it is computed again",
                FslabWarning,
                stacklevel=2,
            )
            with contextlib.suppress(OSError):
                self._files.rm_file(path)
            return None
        if self._local:
            with contextlib.suppress(OSError):
                os.utime(path)  # the time of last use, by which `prune` chooses
        return found

    def put(self, key: str, arrays: Mapping[str, np.ndarray]) -> None:
        """File arrays under a key; readers see the whole entry or none."""
        path = self.path(key)
        try:
            data = encode(arrays, key)
            if self._local:
                self._tidy(os.path.dirname(path))
                write_aside(path, data, synced=False)  # a torn entry is seen, and made again
            else:
                self._files.pipe_file(path, data)
        except (OSError, MemoryError) as error:
            self._warn_once(
                "write",
                f"the store {self.location} cannot be written ({str(error) or 'memory ran out'}); "
                "results are not kept",
            )

    def usage(self) -> Usage:
        """Count entries and bytes."""
        sizes = [size for _, size, _ in self._entries()]
        return Usage(len(sizes), sum(sizes))

    def prune(self, limit: int) -> Usage:
        """Drop what was used longest ago until at most `limit` bytes are left; return what went.

        Raises FslabError for an entry that may not be removed.
        """
        for folder in Path(self._root).glob("??") if self._local else ():
            drop_orphans(folder)
        entries = sorted(self._entries(), key=lambda entry: entry[2])
        left, dropped, freed = sum(size for _, size, _ in entries), 0, 0
        for path, size, _ in entries:
            if left - freed <= limit:
                break
            try:
                self._files.rm_file(path)
            except FileNotFoundError:
                pass
            except OSError as error:
                raise FslabError(
                    f"the store's entry {path} cannot be removed ({error.strerror or error}); "
                    "give access to its folder"
                ) from error
            dropped, freed = dropped + 1, freed + size
        return Usage(dropped, freed)

    def _read(self, path: str) -> bytes | memoryview:
        if self._local:  # numpy's memory comes in large pages: a tenth less time than `read` alone
            with open(path, "rb") as file:
                data = np.empty(os.fstat(file.fileno()).st_size, np.uint8).data
                size = file.readinto(data)
                return data[:size].toreadonly() if not file.read(1) else b""
        read: bytes = self._files.cat_file(path)
        return read

    def _entries(self) -> list[tuple[str, int, float]]:
        """Return (path, bytes, last use) of every entry."""
        if self._local:
            found = []
            for path in Path(self._root).glob(f"??/[!.]*{ENDING}"):
                with contextlib.suppress(OSError):
                    status = path.stat()
                    found.append((str(path), status.st_size, status.st_mtime))
            return found
        details = (
            self._files.find(self._root, detail=True) if self._files.exists(self._root) else {}
        )
        return [
            (path, int(entry.get("size") or 0), _seconds(entry))
            for path, entry in details.items()
            if path.endswith(ENDING)
        ]

    def _tidy(self, folder: str) -> None:
        """Drop what killed processes left in a folder, at this store's first write into it."""
        if folder not in self._tidied:
            self._tidied.add(folder)
            drop_orphans(folder)

    def _warn_once(self, kind: str, message: str) -> None:
        if kind not in self._warned:
            self._warned.add(kind)
            warnings.warn(message, FslabWarning, stacklevel=3)


def _seconds(entry: Mapping[str, Any]) -> float:
    """Return a remote entry's time of change in seconds, 0 where the file system keeps none."""
    stamp = entry.get("mtime") or entry.get("LastModified") or entry.get("created") or 0.0
    return stamp.timestamp() if hasattr(stamp, "timestamp") else float(stamp)


def _checksum(key: str, made: str, arrays: Mapping[str, np.ndarray]) -> str:
    state = xxhash.xxh3_128(f"{key}|{made}|".encode())
    for name in sorted(arrays):
        array = arrays[name]
        state.update(f"{name}|{array.dtype.str}|{array.shape}|".encode())
        state.update(array.reshape(-1).view(np.uint8).data if array.size else b"")
    return state.hexdigest()


def encode(arrays: Mapping[str, np.ndarray], key: str = "") -> bytes:
    """Return a safetensors file whose metadata carries versions and the checksum of an entry.

    The versions are this process's, and those noted of what was read before.
    """
    from safetensors.numpy import save

    solid, made = {name: _solid(array) for name, array in arrays.items()}, _said(versions_here())
    metadata = {"format": FORMAT, "versions": made, "checksum": _checksum(key, made, solid)}
    return save(solid, metadata=metadata)


def decode(data: bytes | memoryview, key: str = "") -> Mapping[str, np.ndarray]:
    """Return the arrays of `encode`, as `read_entry` does."""
    return read_entry(data, key).arrays


class Unkept(Store):
    """A store that has nothing and keeps nothing, for what no key can name."""

    def entry(self, key: str) -> Stored | None:
        """Return None."""
        return None

    def put(self, key: str, arrays: Mapping[str, np.ndarray]) -> None:
        """Keep nothing."""


def read_entry(data: bytes | memoryview, key: str = "") -> Stored:
    """Return what `encode` filed, arrays as read-only views of `data`.

    Raises Damaged if anything differs, the key included, and OtherFormat for an entry of another
    version, of which nothing is read.
    """
    try:
        (length,) = struct.unpack_from("<Q", data)
        header = json.loads(bytes(data[8 : 8 + length]))
        metadata = header.pop("__metadata__")
        written_as, checksum = metadata["format"], metadata["checksum"]
        if written_as != FORMAT:
            raise OtherFormat(f"of the format {written_as!r}, not {FORMAT!r}")
        made = metadata["versions"]
        arrays = {name: _view(data, 8 + length, entry) for name, entry in header.items()}
        right = _checksum(key, made, arrays)
        found = Stored(arrays, dict(json.loads(made)))
    except _UNREADABLE as error:
        raise Damaged(f"not a whole entry: {type(error).__name__}") from error
    if checksum != right:
        raise Damaged("its checksum does not fit its bytes")
    return found


def _said(versions: Versions) -> str:
    return json.dumps(versions, sort_keys=True)


def _solid(array: np.ndarray) -> np.ndarray:
    """Return an array as it lies in the file: row by row, the lowest byte first."""
    array = np.asarray(array, order="C")
    return array.astype(array.dtype.newbyteorder("<"), copy=False)


def _view(data: bytes | memoryview, start: int, entry: Mapping[str, Any]) -> np.ndarray:
    shape = tuple(map(operator.index, entry["shape"]))  # a text times a number is a long text
    first, _ = entry["data_offsets"]
    dtype, count = _DTYPES[entry["dtype"]], math.prod(shape)
    return np.frombuffer(data, dtype, count, start + first).reshape(shape)
