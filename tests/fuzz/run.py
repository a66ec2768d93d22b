"""Feed damaged files to the readers of pictures, of COCO's json and of the store.

`python tests/fuzz/run.py --what pictures --minutes 10`; a refusal (FslabError), and an entry that
the store discards, are what shall happen; anything else is a crash, kept in out/fuzz with the
seed and the number that make it again: `--seed 3 --first 12345 --inputs 1`.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import random
import resource
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT)]

from fuzz.targets import TARGETS, Target  # noqa: E402 - the path is made above

LONGEST = 20
"""Seconds that one input may take before it counts as a hang."""

MEMORY = 6 * 2**30
"""Bytes of address space: an input that asks for more fails, instead of the machine."""


class Hang(Exception):
    """An input that took too long."""


@dataclass
class Tally:
    """What became of the inputs; crashes: by what was raised and where, the first input of each."""

    inputs: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    crashes: dict[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        ends = ", ".join(f"{count:,} {how}" for how, count in sorted(self.outcomes.items()))
        return f"{self.inputs:,} inputs: {ends or 'none'}; {len(self.crashes)} kinds of crash"


def fuzz(target: Target, seed: int, first: int, inputs: int, seconds: float, kept: Path) -> Tally:
    """Try inputs number `first` on, until so many or the time is over; keep those that crash."""
    tally, until = Tally(), time.monotonic() + seconds
    for number in range(first, first + inputs):
        if time.monotonic() > until:
            break
        tally.inputs += 1
        data = target.make(random.Random(f"{target.name} {seed} {number}"))
        try:
            with _alarm():
                tally.outcomes[target.outcome(data)] += 1
        except Exception as error:  # noqa: BLE001 - to find what is raised is the purpose
            tally.outcomes["crashed"] += 1
            where = traceback.extract_tb(error.__traceback__)[-1]
            kind = f"{type(error).__name__} at {Path(where.filename).name}:{where.lineno}"
            if kind not in tally.crashes:
                tally.crashes[kind] = number
                kept.mkdir(parents=True, exist_ok=True)
                (kept / f"{target.name}-{seed}-{number}").write_bytes(data)
                print(f"input {number}: {kind}: {str(error)[:200]!r}", flush=True)
    return tally


@contextmanager
def _alarm() -> Iterator[None]:
    def ring(number: int, frame: object) -> None:
        raise Hang(f"no answer within {LONGEST} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(LONGEST)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--what", choices=list(TARGETS), required=True)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--inputs", type=int, default=10**9, help="at most so many")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="the first input's number")
    asked = parser.parse_args()
    faulthandler.enable()  # a reader's own code in C may end the process
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    warnings.simplefilter("ignore")  # Pillow's remarks on damaged metadata
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as place:
        target = TARGETS[asked.what](Path(place))
        tally = fuzz(
            target, asked.seed, asked.first, asked.inputs, 60 * asked.minutes, ROOT / "out" / "fuzz"
        )
    minutes = (time.monotonic() - started) / 60
    print(f"{asked.what}: {tally}, {minutes:.1f} minutes, seed {asked.seed}")
    print(json.dumps({"what": asked.what, "inputs": tally.inputs, "crashes": tally.crashes}))
    return bool(tally.crashes)


if __name__ == "__main__":
    sys.exit(main())
