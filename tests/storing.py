"""Stores in processes of their own: killed, unprivileged, short of disk, eight at a time.

Run as a program it does what its first argument names in the folder that its second names, and
prints one JSON object. It imports no models, so its children are forked in a millisecond.
"""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from fslab.files import drop_orphans
from fslab.records import FslabError
from fslab.store import Store

KEYS = [f"{number:02d}" * 16 for number in range(3)]
NUMBERS = 400_000


def array(number: int) -> np.ndarray:
    """Return what is filed under a key: as large as a feature map, its number throughout."""
    return np.full(NUMBERS, number, np.float32)


def child(work: Callable[[], None]) -> int:
    """Fork a process that does the work and ends with 0, or 1 where it raised."""
    number = os.fork()
    if number == 0:
        try:
            warnings.simplefilter("error")
            work()
            os._exit(0)
        except BaseException as error:  # noqa: BLE001 - the parent's test shows it
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(1)
    return number


def ended(process: int) -> int:
    """Return how a process ended."""
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def asides(root: Path) -> int:
    """Count the files that are still being written, or never will be."""
    return len(list(root.glob("??/*.aside")))


def write_for_ever(root: Path) -> None:
    """Put the same keys again and again."""
    store = Store(root)
    while True:
        for number, key in enumerate(KEYS):
            store.put(key, {"a": array(number)})


def check(root: Path) -> int:
    """Read all keys; return how many are there. Any damage is an error."""
    warnings.simplefilter("error")
    found = [Store(root).get(key) for key in KEYS]
    for number, entry in enumerate(found):
        assert entry is None or np.array_equal(entry["a"], array(number))
    return sum(entry is not None for entry in found)


def killed(root: Path) -> dict[str, Any]:
    """Kill a writer at 40 random moments, half of them within a write; each time a new store tidies."""
    chance, orphans, left = random.Random(0), 0, 0
    for turn in range(40):
        writer = child(lambda: write_for_ever(root))
        time.sleep(chance.uniform(0.002, 0.04))
        patience = time.monotonic() + 5
        while turn % 2 and not asides(root) and time.monotonic() < patience:
            pass
        os.kill(writer, signal.SIGKILL)
        assert ended(writer) == -signal.SIGKILL
        orphans += asides(root)
        check(root)
        store = Store(root)
        for number, key in enumerate(KEYS):
            store.put(key, {"a": array(number)})
        left += asides(root)
    return {"killed": 40, "orphans": orphans, "left": left, "there": check(root)}


def eight(root: Path) -> dict[str, Any]:
    """Let eight processes write and read one key while a ninth looks for orphans."""

    def write(own: int) -> None:
        store = Store(root)
        for _ in range(25):
            store.put(KEYS[0], {"a": np.full(NUMBERS // 8, own, np.float32)})
            found = store.get(KEYS[0])["a"]
            assert found.shape == (NUMBERS // 8,)
            assert (found == found[0]).all()
            assert found[0] in range(8)

    def tidy() -> None:
        while True:
            drop_orphans(root / KEYS[0][:2])

    tidying = child(tidy)
    codes = [ended(process) for process in [child(lambda own=own: write(own)) for own in range(8)]]
    os.kill(tidying, signal.SIGKILL)
    ended(tidying)
    return {"codes": codes, "left": asides(root), "entries": Store(root).usage().entries}


def said(work: Callable[[], Any]) -> list[str]:
    """Return the warnings of some work, and an FslabError as one more."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        try:
            work()
        except FslabError as error:
            return [*(str(each.message) for each in found), f"refused: {error}"]
    return [str(each.message) for each in found]


def unprivileged(root: Path) -> dict[str, Any]:
    """Use a store that may be read and not written, then one that may not be read."""
    store = Store(root)
    store.put(KEYS[0], {"a": array(0)})
    closed = root / KEYS[1][:2]
    store.put(KEYS[1], {"a": array(1)})
    (root / KEYS[0][:2] / ".killed.aside").write_bytes(b"half")
    for folder in (root, root / KEYS[0][:2]):
        folder.chmod(0o555)
    Path(store.path(KEYS[1])).chmod(0)
    closed.chmod(0o555)
    if os.getuid() == 0:
        os.setuid(65534)
    mine = Store(root)
    return {
        "there": bool((mine.get(KEYS[0])["a"] == 0).all()),
        "put": said(lambda: (mine.put(KEYS[0], {"a": array(0)}), mine.put(KEYS[2], {}))),
        "get": said(lambda: mine.get(KEYS[1])),
        "prune": said(lambda: mine.prune(0)),
        "usage": mine.usage().entries,
    }


def limited(root: Path) -> dict[str, Any]:
    """Write more than this process may: the system refuses in the middle of the file."""
    store = Store(root)
    store.put(KEYS[0], {"a": array(0)[:1000]})
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    warned = said(lambda: [store.put(key, {"a": array(1)}) for key in KEYS])
    kept = np.array_equal(store.get(KEYS[0])["a"], array(0)[:1000])
    return {"warned": warned, "left": asides(root), "kept": kept}


def run(work: Callable[[Path], dict[str, Any]], root: Path) -> dict[str, Any]:
    """Do one of these in a process of its own, and return what it printed."""
    done = subprocess.run(
        [sys.executable, __file__, work.__name__, str(root)], capture_output=True, text=True,
        timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


if __name__ == "__main__":
    print(json.dumps(globals()[sys.argv[1]](Path(sys.argv[2]))))
