"""Files that are either whole or not there."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

ASIDE = ".aside"
"""How the name of a file that is still being written ends."""


def write_aside(path: str | os.PathLike[str], data: bytes) -> None:
    """Write a file under another name in its folder and rename it; make the folder if needed.

    Whoever reads sees the old file, or the new one whole. On failure nothing is left behind.
    """
    folder = Path(path).parent
    folder.mkdir(parents=True, exist_ok=True)
    handle, aside = tempfile.mkstemp(prefix=".", suffix=ASIDE, dir=folder)
    try:
        os.fchmod(handle, 0o666 & ~_umask())  # mkstemp's files are for their owner alone
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.replace(aside, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(aside)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
