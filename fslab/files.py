"""Files that are either whole or not there, and files that one process holds."""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from fslab.records import FslabError

ASIDE = ".aside"
"""How the name of a file that is still being written ends."""

ORPHAN_AGE = 3600.0
"""Seconds after which a file aside counts as left behind, where the file system has no locks."""


class Held(FslabError):
    """A file that another process holds; `holder` is that process's number as text."""

    def __init__(self, path: str | os.PathLike[str], holder: str) -> None:
        super().__init__(f"{path} is held by process {holder}; let it end")
        self.holder = holder


def write_aside(path: str | os.PathLike[str], data: bytes, lasting: bool = True) -> None:
    """Write a file under another name in its folder and rename it; make the folder if needed.

    Whoever reads sees the old file, or the new one whole. On failure nothing is left behind, and
    what a killed process leaves `drop_orphans` knows. lasting: see it to the disk before the
    rename, so that a power cut does not leave an empty file under the name.
    """
    folder = Path(path).parent
    folder.mkdir(parents=True, exist_ok=True)
    handle, aside = _new_aside(folder)
    try:
        with os.fdopen(handle, "wb", buffering=0) as file:
            os.fchmod(handle, 0o666 & ~_umask())  # mkstemp's files are for their owner alone
            write_all(file, data)
            if lasting:
                os.fsync(handle)
            os.replace(aside, path)  # before the lock goes: nobody takes it for left behind
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(aside)
        raise


def write_all(file: io.FileIO, data: bytes) -> None:
    """Write all bytes to an unbuffered file; OSError where there is no room for them.

    A buffer would try again what the disk refused when the file is closed.
    """
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) :]


def drop_orphans(folder: str | os.PathLike[str]) -> None:
    """Remove the files of a folder that killed processes were writing; no clock is asked.

    Whoever writes a file aside has it locked, and the system lets go of it however a process
    ends. What may not be removed stays.
    """
    for path in Path(folder).glob(f"*{ASIDE}"):
        with contextlib.suppress(OSError):
            handle = os.open(path, os.O_RDWR)
            try:
                if _is_left_behind(handle):
                    os.unlink(path)
            finally:
                os.close(handle)


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
                _sign(handle, path)
                return handle
        except BlockingIOError as error:
            holder = os.pread(handle, 20, 0).decode(errors="replace") or "another"
            os.close(handle)
            raise Held(path, holder) from error
        except OSError:
            os.close(handle)
            raise
        os.close(handle)


def _sign(handle: int, path: Path) -> None:
    """Put our number in a file that we hold; a full disk leaves no file."""
    try:
        os.truncate(handle, 0)
        os.pwrite(handle, str(os.getpid()).encode(), 0)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(path)
        raise


def _new_aside(folder: Path) -> tuple[int, str]:
    """Return a new file, open and locked, and its path."""
    while True:
        handle, aside = tempfile.mkstemp(prefix=".", suffix=ASIDE, dir=folder)
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        if os.fstat(handle).st_nlink:  # nobody took it for left behind before it was locked
            return handle, aside
        os.close(handle)


def _is_left_behind(handle: int) -> bool:
    """Tell whether nobody writes an open file aside; where it can be locked, it then is."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return abs(time.time() - os.fstat(handle).st_mtime) > ORPHAN_AGE
    return True


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
