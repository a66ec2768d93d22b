"""Where weights lie: in a folder, in the hub's cache, or in fslab's own folder; nothing is fetched.

A snapshot of the cache is judged by the parts that are needed, not by whether it holds its whole
repository: fslab, diffusers and `hf download --include` all fetch a part of it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import platformdirs

from fslab.records import FslabError
from fslab.weights.parts import Fault, missing_parts, patterns
from fslab.weights.sources import SPOKEN, Source, command_for, is_hub_id
from fslab.weights.trust import read_config

NOTE = "SOURCE.json"
"""What `fslab fetch` notes beside weights that it converted: id, revision, commit, digest."""


@dataclass(frozen=True)
class Place:
    """A folder in which a model lies, or may lie: its id, its commit, and what is wrong with it.

    commit: the snapshot's, "" outside the hub's cache.
    """

    id: str
    folder: Path
    commit: str = ""
    faults: tuple[Fault, ...] = ()


def own_folder() -> Path:
    """Return `FSLAB_WEIGHTS` if it is set, else a folder of the user's data.

    A model's folder in it is called ORG--NAME and holds SOURCE.json.
    """
    given = os.environ.get("FSLAB_WEIGHTS")
    place = given or platformdirs.user_data_dir("fslab", appauthor=False)
    return Path(place).expanduser() / ("" if given else "weights")


def cache_folder() -> Path:
    """Return the hub's cache, where its client looks: HF_HUB_CACHE, or `hub` within HF_HOME."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE).expanduser()


def find(source: Source, without: Collection[str] = ()) -> Path:
    """Return the folder of a model of which every needed part is there and whole.

    without: parts whose weights are not asked for. Raises FslabError where there is none; it says
    what is missing, and how to get it.
    """
    place = place_of(source, without)
    if place is not None and not place.faults:
        return place.folder
    command = command_for(source)
    advice = f"`{command}` fetches it" if command else advice_on(source)
    raise FslabError(f"{said_of(source, place)}; {advice}; the preset mini needs none")


def place_of(source: Source, without: Collection[str] = ()) -> Place | None:
    """Return where a model lies whole, else where least is wrong with it; None if it is nowhere.

    Places are asked in this order: the revision that the source names, main, other revisions, then
    snapshots without a name, the newest first; fslab's own folder; the same of each mirror. One
    place gives all parts, or none. Nothing is raised for what lies there.
    """
    best = None
    for place in _places(source):
        sizes = _listed_sizes(place)
        found = replace(place, faults=missing_parts(place.folder, source.what, without, sizes))
        if not found.faults:
            return found
        if best is None or len(found.faults) < len(best.faults):
            best = found
    return best


def said_of(source: Source, place: Place | None) -> str:
    """Return what is wrong with a model, in a clause that names it, its kind and its size."""
    size = f", {source.gigabytes} GB" if source.gigabytes else ""
    named = f"{source.id} ({SPOKEN[source.what]}{size})"
    if place is None:
        if not is_hub_id(source.id):
            return f"{source.id!r} is not a folder of weights or an id of the hub"
        if not source.gigabytes:
            named = f"the {SPOKEN[source.what]} {source.id}"
            return f"{named} is not a folder, and not in the hub's cache on this machine"
        revision = f" in the revision {source.revision}" if source.pinned else ""
        return f"{named} is not on this machine{revision}"
    reasons = list(dict.fromkeys(fault.said for fault in place.faults))
    more = f" and {len(reasons) - 4} more" if len(reasons) > 4 else ""
    return f"{named} is not whole in {place.folder}: {', '.join(reasons[:4])}{more}"


def advice_on(source: Source) -> str:
    """Return how a model that no preset fetches is had: by the hub's own command, or as it came."""
    if source.is_of_hub:
        return f"`{by_hand(source)}` fetches {source.id}"
    if Path(source.id).expanduser().is_dir():
        return "bring what is wrong or missing again from where the folder came from"
    names = {"diffusion": "a preset, ", "backbone": "rgb, handmade, random, "}.get(source.what, "")
    return f"give {names}a folder in diffusers or transformers format, or an id of the hub"


def by_hand(source: Source) -> str:
    """Return the hub's own command that fetches a model's files and no others."""
    revision = f" --revision {source.revision}" if source.revision else ""
    kind = "vision" if source.what == "backbone" else source.what
    includes = "".join(
        f' --include "{one}"' for one in patterns(kind, source.variant, source.network)
    )
    return f"hf download {source.id}{revision}{includes}"


def name_of(folder: Path) -> str:
    """Return what tables call a folder of weights: a snapshot's or a converted model's hub id."""
    for place in (Path(os.path.abspath(folder)), folder.resolve()):
        repository = place.parent.parent.name
        if place.parent.name == "snapshots" and repository.startswith("models--"):
            return repository.removeprefix("models--").replace("--", "/")
    return note_of(folder).get("id") or folder.resolve().name


def note_of(folder: Path) -> dict[str, Any]:
    """Return what `fslab fetch` noted beside weights that it converted; {} where there is none."""
    try:
        note = read_config(folder, NOTE)
    except FslabError:
        return {}
    return {key: value for key, value in note.items() if isinstance(value, str)}


def _places(source: Source) -> Iterator[Place]:
    folder = Path(source.id).expanduser()
    if folder.is_dir():
        yield Place(source.id, folder)
        return
    for name in source.ids:
        if not is_hub_id(name):
            continue
        repository = cache_folder() / f"models--{name.replace('/', '--')}"
        for commit in _commits(repository, source):
            yield Place(name, repository / "snapshots" / commit, commit)
        own = own_folder() / name.replace("/", "--")
        if own.is_dir() and not source.pinned:
            yield Place(name, own)


def _commits(repository: Path, source: Source) -> list[str]:
    """Return a repository's snapshots in the cache, the first that should be taken first."""
    there = _snapshots(repository / "snapshots")
    refs = _refs(repository / "refs")
    if source.pinned:
        asked = source.revision or ""
        wanted = [refs.get(asked, asked)]
        wanted += [commit for commit in there if len(asked) > 6 and commit.startswith(asked)]
    else:
        wanted = [refs.get(source.revision or "main", ""), refs.get("main", "")]
        wanted += [*refs.values(), *there]
    return [commit for commit in dict.fromkeys(wanted) if commit in there]


def _snapshots(folder: Path) -> list[str]:
    """Return the names of a repository's snapshots, the newest first."""
    dated = []
    for path in _listing(folder):
        try:
            if path.is_dir():
                dated.append((-path.stat().st_mtime, path.name))
        except OSError:
            continue  # a snapshot that goes while we look is not there
    return [name for _, name in sorted(dated)]


def _refs(folder: Path) -> dict[str, str]:
    """Return the commits that a repository's revisions name, as they are written."""
    found = {}
    for path in sorted(folder.rglob("*")) if folder.is_dir() else ():
        try:
            if path.is_file():
                commit = path.read_text(encoding="ascii").strip()
                found[path.relative_to(folder).as_posix()] = commit
        except (OSError, UnicodeDecodeError):
            continue
    return found


def _listing(folder: Path) -> Sequence[Path]:
    try:
        return list(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return ()
    except OSError as error:
        raise FslabError(f"{folder} cannot be read: {error.strerror}; give access to it") from error


def _listed_sizes(place: Place) -> dict[str, int]:
    """Return the sizes of a repository's files, as its client listed them beside the snapshot.

    Older clients leave no listing, and one that cannot be read is as none: headers and JSON still
    show what is cut.
    """
    if not place.commit:
        return {}
    try:
        path = place.folder.parent.parent / "trees" / f"{place.commit}.json"
        files = json.loads(path.read_text(encoding="utf-8"))["files"]
        sizes = {name: entry["size"] for name, entry in files.items()}
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return {}
    return {name: size for name, size in sizes.items() if isinstance(size, int)}
