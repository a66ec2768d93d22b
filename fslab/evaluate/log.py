"""A run's results on disk: appended as they come, so that a run killed at any moment goes on."""

from __future__ import annotations

import contextlib
import json
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any

import xxhash

from fslab.datasets import Sample, local
from fslab.errors import FslabWarning
from fslab.evaluate.job import ImageResult, Job, read_sample
from fslab.files import Held, drop_orphans, hold, write_all, write_aside
from fslab.records import FslabError
from fslab.versions import differing, merged, versions

RESULTS = "results.jsonl"
SECONDS = "seconds.jsonl"
"""Times are not part of a result: they differ from run to run, so they have a file of their own."""

LOCK = ".running"

_CHECK = "check"
"""The entry of each line that says whether the others are what was written."""


class Log:
    """Results by key in a file of JSON lines, held by one process at a time.

    Open it with `with`. Each line is on the disk before the next picture is reported, and the
    line that a kill cut short is dropped when the file is opened again. A line that the disk
    altered is dropped too, with a warning, and its picture is scored again. `settle` brings the
    lines in an order that does not depend on what was interrupted.
    Results that other versions of the libraries made are kept, and a warning says of which.
    Raises FslabError where another process has the folder, it cannot be written, or it has results
    of before 0.2, which do not say what made them.
    """

    def __init__(self, folder: str | os.PathLike[str], names: Sequence[str]) -> None:
        self.folder, self._names = local(folder), tuple(names)
        self._lines: dict[str, dict[str, Any]] = {}
        self._seconds: dict[str, dict[str, float]] = {}
        self._by_name: set[str] = set()
        self._held = contextlib.ExitStack()
        self._made = False

    def __enter__(self) -> Log:
        if self.folder.exists() and not self.folder.is_dir():
            raise FslabError(f"{self.folder} is a file; give a folder for the results")
        try:
            with self._writing():
                self._made = not self.folder.exists()
                self.folder.mkdir(parents=True, exist_ok=True)
                self._hold()
                drop_orphans(self.folder)
                times = self._read(SECONDS, "key", "seconds")
                self._seconds = {line["key"]: line["seconds"] for line in times}
                lines = self._read(RESULTS, "key", "name", "score")
                self._lines = {line["key"]: line for line in lines}
                self._look_at_versions()
        except BaseException:
            self._release()
            raise
        self._by_name = {line["name"] for line in self._lines.values()}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._release()

    def _look_at_versions(self) -> None:
        """Refuse results that do not say what made them, and speak of those made otherwise."""
        path = self.folder / RESULTS
        if any("versions" not in line for line in self._lines.values()):
            raise FslabError(
                f"{path} holds results of an fslab before 0.2, which do not say what made them; "
                "give another folder, or remove the file"
            )
        others = [line["versions"] for line in self._lines.values() if differing(line["versions"])]
        if others:
            here = versions()
            said = ", ".join(
                f"{package} {made} (here {here.get(package, 'unknown')})"
                for package, made in differing(merged(*others)).items()
            )
            warnings.warn(
                f"{path}: {len(others)} of {len(self._lines)} results were made by other versions: "
                f"{said}; they are kept, and what is missing is made by those here",
                FslabWarning,
                stacklevel=4,
            )

    def get(self, key: str) -> ImageResult | None:
        """Return a picture's result if it was computed before."""
        if key not in self._lines:
            return None
        return ImageResult.from_dict(self._lines[key], self._names, self._seconds.get(key))

    def done(self, job: Job, sample: Sample) -> ImageResult | None:
        """Return a picture's result if the log has it for this job, picture and truth.

        The files are read only where the log knows the name at all, and what cannot be read
        is not done.
        """
        if sample.name not in self._by_name:
            return None
        try:
            return self.get(job.key(sample.name, *read_sample(sample)))
        except (FslabError, MemoryError):
            return None

    def append(self, result: ImageResult) -> None:
        """Add a result and see it to the disk."""
        line = result.to_dict()
        with self._writing():
            self._add(SECONDS, {"key": result.key, "seconds": dict(result.seconds)})
            self._add(RESULTS, line)
        self._lines[result.key] = line
        self._seconds[result.key] = dict(result.seconds)
        self._by_name.add(result.name)

    def settle(self) -> None:
        """Bring both files in the order of pictures' names, one line a result."""
        ordered = sorted(self._lines.values(), key=lambda line: (line["name"], line["key"]))
        times = [
            {"key": line["key"], "seconds": self._seconds[line["key"]]}
            for line in ordered
            if line["key"] in self._seconds
        ]
        self.write(RESULTS, b"".join(map(_encoded, ordered)))
        self.write(SECONDS, b"".join(map(_encoded, times)))

    def write(self, name: str, data: bytes) -> None:
        """Write a file of the folder, whole or not at all."""
        with self._writing():
            write_aside(self.folder / name, data)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Turn what the disk refuses into one sentence."""
        try:
            yield
        except OSError as error:
            raise FslabError(
                f"{self.folder} cannot be written ({error.strerror or error}); what was finished "
                "is kept: make room or give access, and run it again"
            ) from error

    def _add(self, name: str, line: Mapping[str, Any]) -> None:
        with (self.folder / name).open("ab", buffering=0) as file:
            before = file.tell()
            try:
                write_all(file, _encoded(line))
                os.fsync(file.fileno())
            except OSError:
                with contextlib.suppress(OSError):
                    os.truncate(file.fileno(), before)
                raise

    def _read(self, name: str, *wanted: str) -> Iterator[dict[str, Any]]:
        path = self.folder / name
        if not path.is_file():
            return
        data = path.read_bytes()
        whole = data[: data.rfind(b"\n") + 1]
        if len(whole) < len(data):
            write_aside(path, whole)
        entries = [_decoded(line, {*wanted}) for line in whole.split(b"\n")[:-1]]
        damaged = [number for number, entry in enumerate(entries, 1) if entry is None]
        if entries and len(damaged) == len(entries):
            raise FslabError(f"{path}: no line is a result; remove the file")
        if damaged:
            warnings.warn(
                f"{path}: line {damaged[0]} is damaged ({len(damaged)} of {len(entries)} lines); "
                "what it held is made again",
                FslabWarning,
                stacklevel=2,
            )
        yield from filter(None, entries)

    def _hold(self) -> None:
        """Have the folder for this process alone."""
        try:
            self._held.enter_context(hold(self.folder / LOCK))
        except Held as error:
            raise FslabError(
                f"{self.folder} is in use by a running evaluation (process {error.holder}); "
                "let it finish, or give another folder"
            ) from error

    def _release(self) -> None:
        """Let go of the folder, and leave nothing where nothing was done."""
        self._held.close()
        if self._made:
            with contextlib.suppress(OSError):
                self.folder.rmdir()


def _encoded(line: Mapping[str, Any]) -> bytes:
    return json.dumps({**line, _CHECK: _check(line)}).encode() + b"\n"


def _decoded(line: bytes, wanted: set[str]) -> dict[str, Any] | None:
    """Return what a line holds, or None where that is not what was written."""
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    if not isinstance(entry, dict) or not wanted <= entry.keys():
        return None
    return entry if entry.pop(_CHECK, None) == _check(entry) else None


def _check(line: Mapping[str, Any]) -> str:
    return xxhash.xxh3_64_hexdigest(json.dumps(line).encode())
