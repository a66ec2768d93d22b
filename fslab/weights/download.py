"""One file of the hub after another, each going on where it stopped, each checked by its digest.

The hub's client begins a file anew where its process was killed, and does not compare what came
with its digest; so files are brought here, through the client's own requests, under the names that
they have in its cache, and the client then links them.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlsplit

from fslab.files import hold
from fslab.records import FslabError
from fslab.weights.hub import cache_folder
from fslab.weights.listing import Listing, RemoteFile, explained

INCOMPLETE = ".incomplete"
"""How the name of a file ends that has not come whole."""

LOCK = ".held"
"""How the name of the file ends that the process which fetches a file holds."""

_SHA256 = 64


def blob_of(listing: Listing, file: RemoteFile) -> Path:
    """Return where a file's bytes lie in the hub's cache: under its digest."""
    return cache_folder() / f"models--{listing.id.replace('/', '--')}" / "blobs" / file.digest


def bytes_here(path: Path) -> int:
    """Return how many bytes of a file that is to be at `path` have come."""
    for place in (path, path.with_name(path.name + INCOMPLETE)):
        if place.is_file():
            return place.stat().st_size
    return 0


def bring_to_cache(listing: Listing, files: Sequence[RemoteFile], bar: Any) -> Path:
    """Bring files into the hub's cache; return their snapshot's folder.

    bar: a progress bar that counts bytes. Raises FslabError as `bring`, and where the revision
    became another while files came.
    """
    from huggingface_hub import hf_hub_download

    for file in files:
        bring(listing, file, blob_of(listing, file), bar)
        with explained(listing.id):
            hf_hub_download(listing.id, file.name, revision=listing.commit)
    with explained(listing.id):  # by its name at last, which the client notes in the cache
        path = Path(hf_hub_download(listing.id, files[0].name, revision=listing.revision))
    home = cache_folder() / f"models--{listing.id.replace('/', '--')}" / "snapshots"
    if path.relative_to(home).parts[0] != listing.commit:
        raise FslabError(
            f"{listing.id} was changed on the hub while it was fetched; run the same command again"
        )
    return home / listing.commit


def bring(listing: Listing, file: RemoteFile, path: Path, bar: Any) -> None:
    """Bring one file to `path`, from where an earlier run stopped; nothing if it is there.

    Raises FslabError where another process brings it, where the hub or the disk refuses (what
    has come is kept), and where the digest is wrong (it is removed).
    """
    if path.is_file():
        return
    part = path.with_name(path.name + INCOMPLETE)
    with explained(listing.id, listing.revision):
        path.parent.mkdir(parents=True, exist_ok=True)
        with hold(path.with_name(path.name + LOCK)):
            with part.open("ab") as handle:
                _append(listing, file, handle, bar)
                os.fsync(handle.fileno())
            if _digest_of(part, file) != file.digest:
                part.unlink()
                raise FslabError(
                    f"{file.name} of {listing.id} came with other bytes than the hub lists (its "
                    "digest is wrong) and was removed; run the same command again"
                )
            part.replace(path)


def _append(listing: Listing, file: RemoteFile, handle: BinaryIO, bar: Any) -> None:
    """Ask for the bytes that a file lacks, and write them behind those that it has."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers

    there = handle.seek(0, os.SEEK_END)
    if there > file.size:
        there = handle.truncate(0)
    if there == file.size:
        return
    url = hf_hub_url(listing.id, file.name, revision=listing.commit)
    place = get_hf_file_metadata(url).location
    same = urlsplit(place).netloc == urlsplit(url).netloc
    headers = build_hf_headers(library_name="fslab", token=None if same else False)
    http_get(
        place, handle, resume_size=there, headers=headers, expected_size=file.size,
        tqdm_class=_counting(bar),
    )  # fmt: skip
    handle.flush()


def _digest_of(path: Path, file: RemoteFile) -> str:
    """Return a file's sha256, or git's digest of a small one, whichever the hub lists."""
    if len(file.digest) != _SHA256:
        return hashlib.sha1(b"blob %d\0" % file.size + path.read_bytes()).hexdigest()
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _counting(bar: Any) -> type:
    """Return a bar for the client to make, which counts on ours."""

    class Counting:
        def __init__(self, **_: Any) -> None: ...

        def __enter__(self) -> Counting:
            return self

        def __exit__(self, *_: object) -> None: ...

        def update(self, count: int) -> None:
            bar.update(count)

    return Counting
