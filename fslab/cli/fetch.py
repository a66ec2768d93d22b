"""The real data sets, by name."""

from __future__ import annotations

from pathlib import Path

from fslab.datasets.fetch import SETS, fetch
from fslab.records import FslabError


def fetch_set(name: str, folder: Path) -> None:
    """Say what is about to be downloaded, and bring it.

    Raises FslabError for a name that is no set, and as `fslab.datasets.fetch.fetch` does.
    """
    if name not in SETS:
        raise FslabError(f"there is no data set {name!r} to fetch; there is {' and '.join(SETS)}")
    for archive in SETS[name]:
        place = folder / archive.brings
        if place.exists():
            print(f"{place} is there already; it is left as it is")
        else:
            print(f"{archive.url}: {archive.size / 1e9:.2f} GB to download, for {place}")
    for place in fetch(SETS[name], folder):
        print(f"{place}: here, its archive's SHA-256 was right")
