"""What names the content of a file of weights, read once at most."""

from __future__ import annotations

import hashlib
import os
import re
import time
from pathlib import Path

import numpy as np

from fslab.keys import file_key
from fslab.parts import versioned
from fslab.records import FslabError
from fslab.store import Store

SMALL = 1 << 20
"""Bytes up to which a file is read sooner than the store is asked for its digest."""

SETTLED = 2.0
"""Seconds since a file's last change after which its time tells later changes from it."""

_SHA256 = re.compile(r"[0-9a-f]{64}")


@versioned(1)
def file_digest(path: Path, store: Store | None = None) -> str:
    """Return a file's sha256 as 64 hexadecimal digits.

    In a hub's cache a large file's name is its digest already. Elsewhere the file is read, and the
    digest is kept in the store by path, size and times of change. Raises FslabError where it cannot
    be read.
    """
    try:
        real = Path(os.path.realpath(path))
        if _is_blob(real):
            return real.name
        status = real.stat()
        if store is None or status.st_size <= SMALL:
            return _read_digest(real)
        stamp = [status.st_size, status.st_mtime_ns, status.st_ctime_ns]
        key = file_key(file_digest, str(real), stamp)
        entry = store.get(key)
        if entry is None:
            entry = {"sha256": np.frombuffer(bytes.fromhex(_read_digest(real)), np.uint8)}
            if abs(time.time() - max(status.st_mtime, status.st_ctime)) > SETTLED:
                store.put(key, entry)
        return entry["sha256"].tobytes().hex()
    except OSError as error:
        raise FslabError(f"{path} cannot be read: {error.strerror or error}") from error


def _is_blob(real: Path) -> bool:
    """Tell whether a file lies in a hub's cache under its own sha256."""
    home = real.parent.parent
    return (
        bool(_SHA256.fullmatch(real.name))
        and real.parent.name == "blobs"
        and home.name.startswith("models--")
        and real.is_file()
    )


def _read_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
