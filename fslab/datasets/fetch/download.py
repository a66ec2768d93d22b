"""A large file over http that goes on where it stopped."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import IO
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from fslab.datasets.fetch.archives import Archive
from fslab.records import FslabError

PART = ".part"
"""How the name of a file that has not come whole ends."""

BAD = ".bad"
"""How the name of a file with a wrong checksum ends: it is kept for whoever wants to look."""

CHUNK = 1 << 18
TIMEOUT = 30.0
PATIENCE = 5
"""Connections in a row that bring not one byte, before the download gives up."""
PAUSE = 1.0
"""Seconds before the first such retry; each further one waits that much longer."""


def download(archive: Archive, path: Path, told: Callable[[int], None]) -> None:
    """Download an archive to `path`; what has come is in PATH.part until its checksum is right.

    told: hears how many bytes are there. A part from an earlier run is continued by a Range
    request, or begun anew where the server does not honour that. Raises FslabError where the
    server refuses, offers another size or stays silent (the part is kept), where the disk is full
    (kept), and where the checksum is wrong (moved aside to PATH.bad).
    """
    part = path.with_name(path.name + PART)
    if part.is_file() and part.stat().st_size > archive.size:
        part.unlink()
    fruitless, furthest = 0, _bytes_in(part)
    while (there := _bytes_in(part)) < archive.size:
        told(there)
        reason = _connect_and_append(archive, part, there, told)
        fruitless = 0 if _bytes_in(part) > furthest else fruitless + 1
        furthest = max(furthest, _bytes_in(part))
        if fruitless == PATIENCE:
            raise FslabError(
                f"the download of {archive.url} stopped at {_bytes_in(part)} of {archive.size} "
                f"bytes ({reason}); run the same command again to go on"
            )
        time.sleep(PAUSE * fruitless)
    verify(archive, part)
    part.replace(path)


def verify(archive: Archive, path: Path) -> None:
    """Compare a file's size and SHA-256; move it aside and raise FslabError if they differ."""
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if (path.stat().st_size, found) == (archive.size, archive.sha256):
        return
    bad = path.with_name(archive.name + BAD)
    size = path.stat().st_size
    path.replace(bad)
    raise FslabError(
        f"{archive.name} has {size} bytes and SHA-256 {found}, not {archive.size} and "
        f"{archive.sha256}; nothing was unpacked, the file is now {str(bad)!r}: remove it and run "
        "the same command again"
    )


def _bytes_in(part: Path) -> int:
    return part.stat().st_size if part.is_file() else 0


def _connect_and_append(
    archive: Archive, part: Path, there: int, told: Callable[[int], None]
) -> str:
    """Ask for what is missing and write what comes; return why it ended."""
    headers = {"Accept-Encoding": "identity", "User-Agent": "fslab"}
    if there:
        headers["Range"] = f"bytes={there}-"
    try:
        with urlopen(Request(archive.url, headers=headers), timeout=TIMEOUT) as answer:
            start = _start_of(answer, archive, there)
            _append(answer, part, start, archive.size, told)
    except HTTPError as error:
        if error.code < 500 and error.code not in (408, 429):
            raise FslabError(f"{archive.url} answers {error.code} {error.reason}") from error
        return f"the server answers {error.code}"
    except (URLError, HTTPException, TimeoutError, ConnectionError) as error:
        return str(getattr(error, "reason", error)) or type(error).__name__
    return "the connection was closed early"


def _start_of(answer: HTTPResponse, archive: Archive, there: int) -> int:
    """Return the byte that the answer begins at; 0 where the server sends the file anew."""
    start, size = 0, answer.headers.get("Content-Length")
    if answer.status == 206:
        given = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", answer.headers.get("Content-Range", ""))
        start, size = (int(given[1]), given[2]) if given else (-1, None)
        if start != there:
            raise HTTPException("the server sent another range than the one asked for")
    if size is not None and int(size) != archive.size:
        raise FslabError(
            f"{archive.url} offers {size} bytes, but the archive that fslab knows has "
            f"{archive.size}; it was changed, so nothing was downloaded"
        )
    return start


def _append(
    answer: HTTPResponse, part: Path, start: int, size: int, told: Callable[[int], None]
) -> None:
    """Write the answer's bytes from `start` on, never past `size`."""
    file = _opened(part, "r+b" if start else "wb")
    with file:
        file.seek(start)
        while start < size and (chunk := answer.read(min(CHUNK, size - start))):
            try:
                file.write(chunk)
                file.flush()
            except OSError as error:
                raise _full(part, size - start, error) from error
            start += len(chunk)
            told(start)


def _opened(part: Path, mode: str) -> IO[bytes]:
    try:
        return part.open(mode)
    except OSError as error:
        raise FslabError(f"{str(part)!r} cannot be written: {error.strerror}") from error


def _full(part: Path, missing: int, error: OSError) -> FslabError:
    return FslabError(
        f"{str(part)!r} cannot be written ({error.strerror or error}); make room for another "
        f"{missing / 1e9:.2f} GB and run the same command again to go on"
    )
