"""From an archive's address to a folder that is either whole or not there."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from tqdm.auto import tqdm

from fslab.datasets.fetch.archives import Archive
from fslab.datasets.fetch.download import download, verify
from fslab.datasets.fetch.unpack import unpack
from fslab.files import Held, hold
from fslab.records import FslabError

LOCK = ".fetch.lock"


def fetch(
    archives: Sequence[Archive], folder: str | os.PathLike[str], progress: bool = True
) -> list[Path]:
    """Download, check and unpack archives into a folder; return the folders that were made.

    What is there already is left alone. An archive that someone put into the folder is checked
    and used instead of a download; one that was unpacked is removed. Stopped at any moment, the
    next call goes on with what has come. Raises FslabError as `download` and `unpack` do, and
    where another fetch is at work in the folder.
    """
    folder = Path(folder)
    wanted = [archive for archive in archives if not (folder / archive.brings).exists()]
    if not wanted:
        return []
    with _alone(folder):
        return [_place(archive, folder, progress) for archive in wanted]


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the folder's lock."""
    with contextlib.ExitStack() as held:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            held.enter_context(hold(folder / LOCK))
        except Held as error:
            raise FslabError(f"another fetch is at work in {str(folder)!r}; let it end") from error
        except OSError as error:
            raise FslabError(f"{str(folder)!r} cannot be written: {error.strerror}") from error
        yield


def _place(archive: Archive, folder: Path, progress: bool) -> Path:
    """Bring one archive's folder."""
    path, aside = folder / archive.name, folder / f".{archive.name}.unpacking"
    shutil.rmtree(aside, ignore_errors=True)
    if path.is_file():
        verify(archive, path)
    else:
        with _bar(f"downloading {archive.name}", archive.size, progress) as bar:
            download(archive, path, lambda there: bar.update(there - bar.n))
    with _bar(f"unpacking {archive.name}", None, progress) as bar:
        unpack(path, aside, lambda written: bar.update(written - bar.n))
    brought, target = aside / archive.brings, folder / archive.brings
    try:
        if not brought.is_dir():
            raise FslabError(f"{archive.name} holds no {archive.brings!r}; nothing was unpacked")
        target.parent.mkdir(parents=True, exist_ok=True)
        brought.rename(target)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    path.unlink()
    return target


def _bar(words: str, total: int | None, progress: bool) -> tqdm:
    return tqdm(desc=words, total=total, unit="B", unit_scale=True, disable=not progress)
