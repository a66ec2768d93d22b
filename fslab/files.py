"""Files that are either whole or not there, and files that one process holds."""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from fslab.records import FslabError

ASIDE = ".aside"
"""How the name of a file that is still being written ends."""


class Held(FslabError):
    """A file that another process holds; `holder` is that process's number as text."""

    def __init__(self, path: str | os.PathLike[str], holder: str) -> None:
        super().__init__(f"{path} is held by process {holder}; let it end")
        self.holder = holder


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


def write_or_refuse(path: str | os.PathLike[str], data: bytes) -> None:
    """Write a file as `write_aside` does; what the disk refuses is one sentence, an FslabError."""
    try:
        write_aside(path, data)
    except OSError as error:
        raise FslabError(f"{path} cannot be written ({error.strerror or error})") from error


@contextlib.contextmanager
def hold(path: str | os.PathLike[str]) -> Iterator[None]:
    """Hold a file that no other process then holds; it has our number in it, and goes at the end.

    The system lets go of it however a process ends. Raises Held where another process has it,
    and OSError where it cannot be made.
    """
    handle = _locked(Path(path))
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            os.unlink(path)
        os.close(handle)


def _locked(path: Path) -> int:
    """Return an open file that only this process has locked.

    A file that its holder removed between our opening and our locking it is not the folder's
    any more, so the lock is taken again.
    """
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if path.exists() and os.path.samestat(os.fstat(handle), path.stat()):
                os.truncate(handle, 0)
                os.pwrite(handle, str(os.getpid()).encode(), 0)
                return handle
        except BlockingIOError as error:
            holder = os.pread(handle, 20, 0).decode(errors="replace") or "another"
            os.close(handle)
            raise Held(path, holder) from error
        except OSError:
            os.close(handle)
            raise
        os.close(handle)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
