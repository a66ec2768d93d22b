"""Evaluations in processes of their own, to be stopped at any moment.

Run as a program it loads the package once and then forks a process for each folder that it is
told, so that ten stopped runs do not cost ten starts of torch. It writes each child's number,
and then how it ended.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from fslab.records import Clustering, Recipe

PLAIN = Recipe("plain", cluster=Clustering.of(k=4, normalise="l2", restarts=60))


def run(dataset: str, out: str) -> None:
    """Evaluate with a store of its own, so that nothing is there already."""
    from fslab import datasets
    from fslab.evaluate import evaluate
    from fslab.lab import Lab

    lab = Lab("mini", "rgb", store=f"{out}.store")
    evaluate(lab, datasets.voc(dataset), PLAIN, "oracle", out=out, progress=False)


def serve() -> None:
    """Fork a run for each line "dataset <tab> folder" that comes in."""
    import fslab.backbones
    import fslab.cluster
    import fslab.evaluate  # noqa: F401

    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            try:
                run(*line.rstrip("\n").split("\t"))
                os._exit(0)
            except KeyboardInterrupt:
                os._exit(130)
            except BaseException as error:  # noqa: BLE001 - the parent's test shows it
                print(repr(error), file=sys.stderr, flush=True)
                os._exit(1)
        print(child, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


class Runs:
    """The serving process, as a test sees it."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip

    def start(self, dataset: Path, out: Path) -> int:
        """Start a run and return its process's number."""
        self._process.stdin.write(f"{dataset}\t{out}\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def wait(self) -> int:
        """Return the exit code of the run that was started; minus the signal that ended it."""
        return int(self._process.stdout.readline())

    def close(self) -> None:
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(30)


if __name__ == "__main__":
    serve()
