"""Where files lie: a path as it is, or an fsspec url that answers like one."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import fsspec
from fsspec.implementations.local import LocalFileSystem

from fslab.records import FslabError

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

_CHAIN = "::"
"""What lies left of it is inside what lies right of it: zip://VOC2012::s3://bucket/voc.zip."""


@dataclass(frozen=True)
class Url:
    """A file or folder behind an fsspec url, with as much of a `Path` as data sets need.

    It is nothing but its text, so it pickles, and another process opens it for itself. Whatever
    is asked of it raises FslabError, in one sentence, where the url cannot be opened at all.
    """

    url: str

    def __str__(self) -> str:
        return self.url

    def __truediv__(self, part: str) -> Url:
        head, chain, rest = self.url.partition(_CHAIN)
        before = head if head.endswith("://") else f"{head.rstrip('/')}/"
        return Url(f"{before}{part}{chain}{rest}")

    @property
    def name(self) -> str:
        """The last part; of a whole archive, the archive's."""
        head, _, rest = self.url.partition(_CHAIN)
        inside = head.partition("://")[2].strip("/")
        return (inside or rest.strip("/")).rpartition("/")[2]

    @property
    def stem(self) -> str:
        """The last part without its ending."""
        return Path(self.name).stem

    @property
    def suffix(self) -> str:
        """The ending of the last part, with its dot."""
        return Path(self.name).suffix

    @property
    def parent(self) -> Url:
        """The folder that it lies in."""
        head, chain, rest = self.url.partition(_CHAIN)
        protocol, mark, inside = head.partition("://")
        return Url(f"{protocol}{mark}{inside.rstrip('/').rpartition('/')[0]}{chain}{rest}")

    def absolute(self) -> Url:
        """Return it as it is: a url means the same in any working folder."""
        return self

    resolve = absolute

    def exists(self) -> bool:
        """Whether there is a file or a folder."""
        return self._kind() is not None

    def is_dir(self) -> bool:
        """Whether there is a folder."""
        return self._kind() == "directory"

    def is_file(self) -> bool:
        """Whether there is a file."""
        return self._kind() == "file"

    def iterdir(self) -> Iterator[Url]:
        """Yield what a folder holds, in no order."""
        with _refusing(self.url):
            files, inside = _opened(self.url)
            found = files.ls(inside, detail=False)
        yield from (self / name.rstrip("/").rpartition("/")[2] for name in found)

    def read_bytes(self) -> bytes:
        """Return a file's content."""
        with _refusing(self.url):
            files, inside = _opened(self.url)
            data: bytes = files.cat_file(inside)
        return data

    def _kind(self) -> str | None:
        with _refusing(self.url):
            files, inside = _opened(self.url)
            try:
                kind: str = files.info(inside)["type"]
            except (FileNotFoundError, NotADirectoryError):
                return None
        return kind


Place = Path | Url


def place(given: str | os.PathLike[str] | Url) -> Place:
    """Return a path for a path, and for a url on this machine; a `Url` for any other.

    Raises FslabError for a url that no installed fsspec file system opens.
    """
    if isinstance(given, (Path, Url)):
        return given
    text = os.fspath(given)
    if "://" not in text:
        return Path(text)
    with _refusing(text):
        files, inside = _opened(text)
    return Path(inside) if isinstance(files, LocalFileSystem) else Url(text)


def entries(folder: Place) -> list[Place]:
    """Return what a folder holds, by name."""
    held: Iterable[Place] = folder.iterdir()
    return sorted(held, key=lambda path: path.name)


def is_file(path: Place) -> bool:
    """Whether there is a file; of a name that no file system takes, there is none."""
    return path.is_file() if isinstance(path, Url) else os.path.isfile(path)


def local(given: str | os.PathLike[str]) -> Path:
    """Return the path of a folder for results, which are appended to and locked.

    Object stores can do neither, so FslabError is raised for a url of anything but this machine.
    """
    found = place(given)
    if isinstance(found, Url):
        raise FslabError(
            f"{found.url!r} is not a folder of this machine, where results are appended and "
            "locked; give a local folder, and copy it when the run is done"
        )
    return found


def _opened(url: str) -> tuple[AbstractFileSystem, str]:
    """Return a file system, which fsspec keeps for the process, and the path inside it."""
    found: tuple[AbstractFileSystem, str] = fsspec.url_to_fs(url)
    return found


@contextmanager
def _refusing(url: str) -> Iterator[None]:
    """Say in one sentence why a url cannot be opened or read."""
    try:
        yield
    except FileNotFoundError as error:
        raise FslabError(f"{url!r} does not exist; check the url") from error
    except (OSError, ValueError, ImportError, zipfile.BadZipFile) as error:
        words = " ".join(str(error).split()) or type(error).__name__
        raise FslabError(f"{url!r} cannot be read: {words}") from error
