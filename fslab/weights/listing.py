"""What the hub holds of a model: files, sizes, digests, licence; asked through its own client."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from fslab.records import FslabError
from fslab.weights.hub import own_folder
from fslab.weights.parts import DIFFUSERS, Part, files_needed, kind_of, parts_of
from fslab.weights.sources import Source


@dataclass(frozen=True)
class RemoteFile:
    """A file of the hub: its size in bytes, and its sha256, or of a small file git's digest."""

    name: str
    size: int
    digest: str


@dataclass(frozen=True)
class Listing:
    """A repository at one commit; licence as the hub has it, "" where it says none."""

    id: str
    revision: str
    commit: str
    licence: str
    files: Mapping[str, RemoteFile]


@dataclass(frozen=True)
class Plan:
    """What is fetched of a model: files as they are, and pickles that are converted.

    pickles: by the part's folder, each with the name of the safetensors that comes of them.
    """

    source: Source
    listing: Listing
    kind: str
    files: tuple[RemoteFile, ...]
    pickles: Mapping[str, tuple[RemoteFile, ...]]

    @property
    def all_files(self) -> tuple[RemoteFile, ...]:
        """The files and the pickles, the smallest first."""
        every = [*self.files, *(file for several in self.pickles.values() for file in several)]
        return tuple(sorted(every, key=lambda file: (file.size, file.name)))


class NotOnHub(FslabError):
    """A model, or a revision of it, that the hub does not have."""


def plan_for(source: Source, precision: str) -> Plan:
    """Return what is to be fetched of a model.

    The revision that the source names goes before main, and a revision with safetensors for all
    parts before one with pickles; of mirrors the first that the hub has. Raises FslabError as
    `explained` does, and where the repository lacks a part.
    """
    first, *mirrors = source.ids
    try:
        return _best_plan(source, first, precision)
    except NotOnHub:
        for name in mirrors:
            with suppress(NotOnHub):
                return _best_plan(source, name, precision)
        raise


def _best_plan(source: Source, name: str, precision: str) -> Plan:
    revisions = [source.revision or "main"] if source.pinned else [source.revision, "main"]
    best: Plan | None = None
    refused: list[FslabError] = []
    for revision in dict.fromkeys(each for each in revisions if each):
        try:
            plan = _plan(source, list_files(name, revision), precision)
        except FslabError as error:
            refused.append(error)
            continue
        if not plan.pickles:
            return plan
        best = plan
    if best is None:
        raise refused[-1]
    return best


def _plan(source: Source, listing: Listing, precision: str) -> Plan:
    names = listing.files.keys()
    kind = kind_of(names) if source.what == "backbone" else source.what
    needed = files_needed(names, kind, precision)
    pickles, lacking = {}, []
    for part in parts_of(kind, names):
        lacking += _small_files_lacking(part, names)
        if part.stem and not any(_is_weight_of(part, name) for name in needed):
            found = _pickles_of(part, names, precision)
            if found:
                pickles[part.folder] = tuple(listing.files[name] for name in found)
            else:
                lacking.append(part.path(f"{part.stem}.safetensors"))
    if lacking:
        raise FslabError(
            f"{listing.id} is not a {_SPOKEN[kind]} that fslab reads: it has no "
            f"{', '.join(lacking[:3])}; give the id of another"
        )
    return Plan(source, listing, kind, tuple(listing.files[name] for name in needed), pickles)


_SPOKEN = {
    "diffusion": "diffusion model in diffusers format", "captioner": "captioner",
    "clip": "CLIP", "vision": "vision transformer",
}  # fmt: skip


def _small_files_lacking(part: Part, names: Collection[str]) -> list[str]:
    lacking = [part.path(name) for name in part.needs if part.path(name) not in names]
    sets = [[part.path(name) for name in files] for files in part.one_of]
    if sets and not any(set(files) <= set(names) for files in sets):
        lacking.append(" or ".join(" with ".join(files) for files in sets))
    return lacking


def _is_weight_of(part: Part, name: str) -> bool:
    return name.startswith(part.path(part.stem)) and name.endswith(".safetensors")


def _pickles_of(part: Part, names: Collection[str], precision: str) -> list[str]:
    """Return a part's pickles: one file, or shards; of half precision first where asked for."""
    stem = part.path(DIFFUSERS if part.stem == DIFFUSERS else "pytorch_model")
    for variant in (".fp16", "") if precision == "fp16" else ("", ".fp16"):
        if f"{stem}{variant}.bin" in names:
            return [f"{stem}{variant}.bin"]
        shard = re.compile(re.escape(f"{stem}{variant}") + r"-\d{5}-of-\d{5}\.bin")
        shards = sorted(name for name in names if shard.fullmatch(name))
        if shards:
            return shards
    return []


def list_files(name: str, revision: str = "main") -> Listing:
    """Return a repository's files at a revision; FslabError as `explained`."""
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import RepoFile

    api = HfApi(library_name="fslab")
    with explained(name, revision):
        about = api.model_info(name, revision=revision)
        tree = api.list_repo_tree(name, recursive=True, revision=about.sha)
        files = {
            entry.path: RemoteFile(
                entry.path, entry.size, entry.lfs.sha256 if entry.lfs else entry.blob_id
            )
            for entry in tree
            if isinstance(entry, RepoFile)
        }
    licences = [tag[8:] for tag in about.tags or () if tag.startswith("license:")]
    return Listing(name, revision, str(about.sha), ", ".join(licences), files)


@contextmanager
def explained(name: str, revision: str = "main") -> Iterator[None]:
    """Turn what the hub's client raises into one sentence with what to do."""
    from huggingface_hub import errors

    again = "run the same command again to go on"
    try:
        yield
    except errors.GatedRepoError as error:
        raise FslabError(
            f"{name} is behind a gate: accept its terms on its page of the hub, log in with "
            "`hf auth login` (or set HF_TOKEN), and run the same command again"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise NotOnHub(
            f"the hub has no model {name}, or it is private: check the name, or log in with "
            "`hf auth login` (or set HF_TOKEN)"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise NotOnHub(f"the hub has no revision {revision} of {name}; give another") from error
    except errors.HFValidationError as error:
        raise FslabError(f"{name!r} is not an id of the hub; it must be like ORG/NAME") from error
    except errors.OfflineModeIsEnabled as error:
        raise FslabError(
            f"{name} cannot be fetched while HF_HUB_OFFLINE is set; unset it and {again}"
        ) from error
    except errors.HfHubHTTPError as error:
        raise FslabError(f"{_answer(name, error)}; {again}") from error
    except errors.HTTPError as error:  # of the http library that the client itself uses
        raise FslabError(
            f"{name} cannot be fetched: the hub was not reached, or went silent "
            f"({_first_line(error)}); check the network, and {again}"
        ) from error
    except OSError as error:
        raise FslabError(_said_of_disk(name, error, again)) from error


def _answer(name: str, error: OSError) -> str:
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status in (401, 403):
        return (
            f"the hub does not let this token read {name} (it answers {status}): log in with "
            "`hf auth login`, or set HF_TOKEN"
        )
    if status == 429:
        return f"the hub answers 429 for {name}, too many requests; wait some minutes"
    reason = f"it answers {status}" if status else _first_line(error)
    return f"the hub could not give {name} ({reason})"


def _said_of_disk(name: str, error: OSError, again: str) -> str:
    if error.errno is None:
        return f"{name} did not come whole ({_first_line(error)}); {again}"
    place = error.filename or os.environ.get("HF_HOME") or "the hub's cache"
    own = Path(os.path.abspath(place)).is_relative_to(os.path.abspath(own_folder()))
    return (
        f"{place} cannot be written ({error.strerror}); make room or give access there, or name "
        f"another place by {'FSLAB_WEIGHTS' if own else 'HF_HOME'}, and {again}"
    )


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
