"""How much memory there is still to be had, and the refusal of what would take more."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from fslab.records import OutOfMemory

_GROUPS = Path("/sys/fs/cgroup")
_UNLIMITED = 1 << 60
"""What control groups of the first version say where there is no limit, and anything above."""


def available() -> int | None:
    """Return the bytes that this process may still take, or None where the system does not say.

    The least of what the machine has free, of the process's own limit (ulimit -v) and of the
    limits of its control groups, which containers have: each is asked where it can be.
    """
    return min([*_of_machine(), *_of_process(), *_of_groups()], default=None)


def check_room(needed: int, what: str, advice: str) -> None:
    """Refuse what would take more bytes than are free, before it takes any: OutOfMemory."""
    free = available()
    if free is not None and needed > free:
        raise OutOfMemory(
            f"{what} takes up to {spoken(needed)} of memory, and {spoken(free)} are free; {advice}"
        )


def spoken(count: int) -> str:
    """Say a number of bytes."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def _of_machine() -> Iterator[int]:
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                yield 1024 * int(line.split()[1])


def _of_process() -> Iterator[int]:
    with contextlib.suppress(ImportError, OSError, ValueError, IndexError):
        import resource

        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        if limit != resource.RLIM_INFINITY:
            pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
            yield max(limit - pages * resource.getpagesize(), 0)


def _of_groups() -> Iterator[int]:
    """Yield what is left of each limit, of both versions of control groups."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines():
            _, kinds, path = line.split(":", 2)
            inside = path.strip("/")
            if not kinds:
                yield from _left(_GROUPS, inside, "memory.max", "memory.current")
            elif "memory" in kinds.split(","):
                names = "memory.limit_in_bytes", "memory.usage_in_bytes"
                yield from _left(_GROUPS / "memory", inside, *names)


def _left(root: Path, inside: str, most: str, used: str) -> Iterator[int]:
    """Yield limit less use of a group and of those that it lies in; inside a container the path
    may be another's, and the root is its own."""
    folder = root / inside
    for each in (folder, *folder.parents):
        with contextlib.suppress(OSError, ValueError):
            limit = int((each / most).read_text(encoding="ascii"))
            if limit < _UNLIMITED:
                yield max(limit - int((each / used).read_text(encoding="ascii")) + _cache(each), 0)
        if each == root:
            return


def _cache(folder: Path) -> int:
    """Return the bytes of files that a group's memory holds and can let go of."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in (folder / "memory.stat").read_text(encoding="ascii").splitlines():
            name, _, value = line.partition(" ")
            if name in ("inactive_file", "total_inactive_file"):
                return int(value)
    return 0
