"""Data sets by name, and models of the hub."""

from __future__ import annotations

from pathlib import Path

from fslab.datasets.fetch import SETS, fetch
from fslab.records import FslabError


def fetch_named(
    name: str, folder: Path | None, captioner: str | None, clip: str | None, precision: str | None
) -> None:
    """Bring a data set into a folder, or a preset's models into the hub's cache.

    Raises FslabError where an option belongs to the other kind, and as `fetch_set` and
    `fslab.fetch` do.
    """
    if name not in SETS and folder is None:
        from fslab.lab.fetch import fetch as fetch_models

        given = {"captioner": captioner, "clip": clip, "precision": precision}
        fetch_models(name, **{key: value for key, value in given.items() if value is not None})
        return
    if folder is None:
        raise FslabError(f"fetch {name} needs a folder to put it, such as data")
    if name in SETS and (captioner or clip or precision):
        raise FslabError(f"--captioner, --clip and --precision belong to models; {name} is not one")
    fetch_set(name, folder)


def fetch_set(name: str, folder: Path) -> None:
    """Say what is about to be downloaded, and bring it.

    Raises FslabError for a name that is not a set, and as `fslab.datasets.fetch.fetch` does.
    """
    if name not in SETS:
        raise FslabError(
            f"there is no data set {name!r} to fetch into {folder}; there is {' and '.join(SETS)}, "
            "and models of the hub come without a folder, into its cache"
        )
    for archive in SETS[name]:
        place = folder / archive.brings
        if place.exists():
            print(f"{place} is there already; it is left as it is")
        else:
            print(f"{archive.url}: {archive.size / 1e9:.2f} GB to download, for {place}")
    for place in fetch(SETS[name], folder):
        print(f"{place}: here, its archive's SHA-256 was right")
