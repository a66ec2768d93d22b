"""Archives from outside: every name, kind and size is looked at before the first byte is written.

Only ordinary files and folders are made, by their names alone: no owner, mode, time or link of
an archive reaches the disk, which is stricter than tarfile's own "data" filter.
"""

from __future__ import annotations

import contextlib
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, cast

from fslab.records import FslabError

GROWTH = 20
"""How many times an archive's own size its content may be; COCO's json files take 3 to 4."""
MEMBERS = 500_000
CHUNK = 1 << 20

_BROKEN = (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError)


@dataclass(frozen=True)
class Member:
    """A file in an archive: its name, its declared size in bytes, and how to read it."""

    name: str
    size: int
    open: Callable[[], IO[bytes]]


def unpack(path: Path, folder: Path, told: Callable[[int], None]) -> None:
    """Unpack a .tar or .zip into a folder that is not there yet; told: bytes written so far.

    Raises FslabError for names that are absolute or climb out, links, devices, a name that comes
    twice, encryption, damage, and more content than GROWTH times the archive: all but damage
    before anything is written. Raises it for a full disk too. What was written is then removed.
    """
    with _refusing(path), _members(path) as members:
        _check(path, members)
        try:
            _write(members, folder, told)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise


@contextlib.contextmanager
def _refusing(path: Path) -> Iterator[None]:
    """Turn what a damaged archive or a full disk raises into one sentence."""
    try:
        yield
    except _BROKEN as error:
        raise FslabError(
            f"{str(path)!r} is damaged ({error}); remove it and get it again"
        ) from error
    except OSError as error:
        raise FslabError(
            f"{str(path)!r} cannot be unpacked ({error.strerror or error}); what was unpacked was "
            "removed, the archive is kept: make room and run the same command again"
        ) from error


@contextlib.contextmanager
def _members(path: Path) -> Iterator[list[Member]]:
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            yield [_zip_member(archive, info) for info in archive.infolist() if not info.is_dir()]
    else:
        with tarfile.open(path, "r:") as archive:
            yield [_tar_member(archive, info) for info in archive if not info.isdir()]


def _tar_member(archive: tarfile.TarFile, info: tarfile.TarInfo) -> Member:
    if not info.isreg() or info.issparse():
        raise FslabError(f"{archive.name!r} holds {info.name!r}, {_kind(info)}; not unpacked")
    return Member(info.name, info.size, lambda: cast("IO[bytes]", archive.extractfile(info)))


def _kind(info: tarfile.TarInfo) -> str:
    if info.issym() or info.islnk():
        return f"a link to {info.linkname!r}"
    return "a sparse file" if info.isreg() else "not an ordinary file"


def _zip_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Member:
    kind = info.external_attr >> 16 & 0o170000  # the Unix mode's file type, 0 where not given
    if kind not in (0, 0o100000):
        raise FslabError(
            f"{archive.filename!r} holds {info.filename!r}, which is not an ordinary file; "
            "not unpacked"
        )
    if info.flag_bits & 1:
        raise FslabError(f"{archive.filename!r} holds {info.filename!r} encrypted; not unpacked")
    return Member(info.filename, info.file_size, lambda: archive.open(info))


def _check(path: Path, members: list[Member]) -> None:
    """Look at all names and sizes."""
    seen: set[PurePosixPath] = set()
    for member in members:
        pure = PurePosixPath(member.name)
        climbs = pure.is_absolute() or ".." in pure.parts or not pure.parts
        if climbs or any(sign in member.name for sign in "\\:\0"):
            raise FslabError(
                f"{str(path)!r} holds {member.name!r}, which would lie outside; not unpacked"
            )
        if pure in seen:
            raise FslabError(f"{str(path)!r} holds {member.name!r} twice; not unpacked")
        seen.add(pure)
    limit, total = GROWTH * path.stat().st_size, sum(member.size for member in members)
    if total > limit or len(members) > MEMBERS:
        raise FslabError(
            f"{str(path)!r} would become {len(members)} files of {total} bytes; the limits are "
            f"{MEMBERS} files and {limit} bytes ({GROWTH} times the archive); not unpacked"
        )


def _write(members: list[Member], folder: Path, told: Callable[[int], None]) -> None:
    folder.mkdir(parents=True)
    total = 0
    for member in members:
        target = folder / PurePosixPath(member.name)
        target.parent.mkdir(parents=True, exist_ok=True)
        left = member.size
        with member.open() as source, target.open("xb") as file:
            while chunk := source.read(CHUNK):
                left -= len(chunk)
                if left < 0:
                    break
                file.write(chunk)
                total += len(chunk)
                told(total)
        if left:
            raise tarfile.ReadError(f"{member.name!r} is not as long as it says")
