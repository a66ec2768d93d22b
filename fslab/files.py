"""Files that are either whole or not there, and files that one process holds."""

from __future__ import annotations

import contextlib
import csv
import io
import os
import re
import shutil
import tempfile
import time
import unicodedata
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from fslab.records import FslabError, Unwritable

with warnings.catch_warnings():  # a Python without fcntl is what `hold` is prepared for
    warnings.simplefilter("ignore", UserWarning)
    from filelock import SoftFileLock, Timeout, lock_descriptor

ASIDE = ".aside"
"""How the name of a file that is still being written ends."""

ORPHAN_AGE = 3600.0
"""Seconds after which a file aside counts as left behind, where locks cannot tell."""

WINDOWS = os.name == "nt"
"""Where an open file is neither renamed nor removed, and a file that someone reads not replaced."""

_PAUSES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.4)
"""Seconds between attempts to replace a file that others may be reading, on Windows."""


_DEVICES = frozenset(
    (
        *("CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"),
        *(
            f"{port}{number}"
            for port in ("COM", "LPT")
            for number in "0123456789\u00b9\u00b2\u00b3"
        ),
    )
)
"""What no file may be called on Windows, whatever its ending (Win32, "Naming Files")."""

_UNWRITABLE = re.compile(r'[\x00-\x1f<>:"\\|?*]|[ .]+$')
"""Signs that no name may hold there, or end in."""


class Held(FslabError):
    """A file that another process holds; `holder` is that process's number as text."""

    def __init__(self, path: str | os.PathLike[str], holder: str) -> None:
        super().__init__(f"{path} is held by process {holder}; let it end")
        self.holder = holder


def write_aside(path: str | os.PathLike[str], data: bytes, synced: bool = True) -> None:
    """Write a file under another name in its folder and rename it; make the folder if needed.

    Whoever reads sees the old file, or the new one whole. On failure nothing is left behind, and
    what a killed process leaves `drop_orphans` knows. synced: see it to the disk before the
    rename, so that a power cut does not leave an empty file under the name.
    """
    with file_aside(path, synced) as (file, _):
        file.write(data)


@contextlib.contextmanager
def file_aside(
    path: str | os.PathLike[str], synced: bool = True
) -> Iterator[tuple[WholeWrites, str]]:
    """Yield an open file and its path, which takes its name at the end, as `write_aside` does."""
    folder = Path(path).parent
    folder.mkdir(parents=True, exist_ok=True)
    handle, aside = _new_aside(folder)
    try:
        with WholeWrites(handle, "wb") as file:
            os.chmod(aside, 0o666 & ~_umask())  # mkstemp's files are for their owner alone
            yield file, aside
            if synced:
                os.fsync(handle)
            if not WINDOWS:  # before the lock goes: nobody takes it for left behind
                os.replace(aside, path)
        if WINDOWS:
            _replace_patiently(aside, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(aside)
        raise


@contextlib.contextmanager
def folder_aside(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a new folder that takes its name, which nothing has yet, at the end.

    On failure nothing is left behind.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=".", suffix=ASIDE, dir=path.parent))
    try:
        os.chmod(aside, 0o777 & ~_umask())
        yield aside
        os.rename(aside, path)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise


class WholeWrites(io.FileIO):
    """An unbuffered file whose `write` is `write_all`."""

    def write(self, data: Any, /) -> int:
        """Write bytes and return their number."""
        write_all(self, data)
        return memoryview(data).nbytes


def write_all(file: io.FileIO, data: Any) -> None:
    """Write all bytes to an unbuffered file; OSError where there is no room for them.

    A buffer would try again what the disk refused when the file is closed.
    """
    rest = memoryview(data).cast("B")
    while rest:
        rest = rest[io.FileIO.write(file, rest) :]


def drop_orphans(folder: str | os.PathLike[str]) -> None:
    """Remove the files of a folder that killed processes were writing; no clock is asked.

    Whoever writes a file aside has it locked, and the system lets go of it however a process
    ends. Where there are no locks, and on Windows, where a file is closed before it is renamed,
    the file's age tells. What may not be removed stays.
    """
    for path in Path(folder).glob(f"*{ASIDE}"):
        with contextlib.suppress(OSError):
            if WINDOWS:
                if _is_old(os.stat(path)):
                    os.unlink(path)
                continue
            handle = os.open(path, os.O_RDWR)
            try:
                if _is_left_behind(handle):
                    os.unlink(path)
            finally:
                os.close(handle)


def portable(name: str) -> str:
    """Return a name, or a path with slashes, as it can be written on every platform.

    Signs that Windows takes in no name become %XX, their number, and so does the first letter of a
    device's name: "a:b" is written as "a%3Ab", "aux" as "%61ux", on Linux too.
    """
    return "/".join(map(_portable, name.split("/")))


def _portable(part: str) -> str:
    part = _UNWRITABLE.sub(lambda found: "".join(map(_by_number, found[0])), part)
    if part.partition(".")[0].rstrip().upper() in _DEVICES:
        return _by_number(part[0]) + part[1:]
    return part


def _by_number(sign: str) -> str:
    return f"%{ord(sign):02X}"


def one_file(name: str) -> str:
    """Return what names have in common that are one file where case does not count."""
    return unicodedata.normalize("NFC", portable(name)).casefold()


def write_or_refuse(path: str | os.PathLike[str], data: bytes) -> None:
    """Write a file as `write_aside` does; what the disk refuses is one sentence, Unwritable."""
    try:
        write_aside(path, data)
    except OSError as error:
        raise Unwritable(f"{path} cannot be written ({error.strerror or error})") from error


def csv_of(rows: Sequence[dict[str, Any]]) -> bytes:
    """Return rows, the first of which names the columns, as CSV."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


@contextlib.contextmanager
def hold(path: str | os.PathLike[str]) -> Iterator[None]:
    """Hold a file that no other process then holds; it has our number in it, and goes at the end.

    The system lets go of it however a process ends. Where it has no such locks, a file that is
    there is the lock (filelock's SoftFileLock), and one whose process is gone counts for nothing.
    Raises Held where another process has it, and OSError where it cannot be made.
    """
    path = Path(path)
    with _held(path) if _has_locks(path.parent) else _held_softly(path):
        yield


def _replace_patiently(aside: str, path: str | os.PathLike[str]) -> None:
    """Put a file in another's place, once nobody reads that."""
    for pause in _PAUSES:
        try:
            os.replace(aside, path)
            return
        except PermissionError:
            time.sleep(pause)
    os.replace(aside, path)


def _has_locks(folder: Path) -> bool:
    """Return whether a folder's files can be locked: asked of one without a name."""
    with tempfile.TemporaryFile(dir=folder) as file:
        try:
            return _lock(file.fileno())
        except _NoLocks:
            return False


@contextlib.contextmanager
def _held(path: Path) -> Iterator[None]:
    handle = _locked(path)
    try:
        yield
    finally:
        _let_go(handle, path)


@contextlib.contextmanager
def _held_softly(path: Path) -> Iterator[None]:
    lock = SoftFileLock(path, timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise Held(path, str(lock.pid or "another")) from error
    try:
        yield
    finally:
        lock.release()


def _locked(path: Path) -> int:
    """Return an open file that only this process has locked.

    A file that its holder removed between our opening and our locking it is not the folder's
    any more, so the lock is taken again.
    """
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            if not _lock(handle):
                raise Held(path, _signed(handle) or "another")
            if path.exists() and os.path.samestat(os.fstat(handle), path.stat()):
                _sign(handle, path)
                return handle
        except (OSError, Held):
            os.close(handle)
            raise
        os.close(handle)


class _NoLocks(OSError):
    """The file system, or this Python, has no locks."""


def _lock(handle: int) -> bool:
    """Lock an open file; False where another process has it locked."""
    try:
        return lock_descriptor(handle, blocking=False)
    except OSError as error:
        raise _NoLocks from error


def _signed(handle: int) -> str:
    """Return the number that the holder of a file has put there."""
    os.lseek(handle, 1, os.SEEK_SET)
    return os.read(handle, 20).decode(errors="replace").strip()


def _sign(handle: int, path: Path) -> None:
    """Put our number in a file that we hold, behind the byte that Windows lets nobody else read;
    a full disk leaves no file."""
    try:
        os.ftruncate(handle, 0)
        os.lseek(handle, 0, os.SEEK_SET)
        os.write(handle, f"\n{os.getpid()}\n".encode())
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(path)
        raise


def _let_go(handle: int, path: Path) -> None:
    """Remove a file that we hold and close it; Windows removes no file that is open."""
    if WINDOWS:
        os.close(handle)
    with contextlib.suppress(OSError):
        os.unlink(path)
    if not WINDOWS:
        os.close(handle)


def _new_aside(folder: Path) -> tuple[int, str]:
    """Return a new file, open and locked, and its path."""
    while True:
        handle, aside = tempfile.mkstemp(prefix=".", suffix=ASIDE, dir=folder)
        with contextlib.suppress(OSError):  # a file system without locks
            lock_descriptor(handle, poll_interval=0.001)  # until who tidies has looked at it
        if os.fstat(handle).st_nlink:  # nobody took it for left behind before it was locked
            return handle, aside
        os.close(handle)


def _is_left_behind(handle: int) -> bool:
    """Tell whether nobody writes an open file aside; where it can be locked, it then is."""
    try:
        return _lock(handle)
    except _NoLocks:
        return _is_old(os.fstat(handle))


def _is_old(status: os.stat_result) -> bool:
    return abs(time.time() - status.st_mtime) > ORPHAN_AGE


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
