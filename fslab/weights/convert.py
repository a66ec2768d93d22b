"""Pickles to safetensors, once, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from fslab.records import FslabError

PROGRAM = Path(__file__).with_name("unpickle.py")
KEPT = ("PATH", "HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "TMPDIR")
"""What the process keeps of the environment: no token, and nothing that steers Python."""


def convert(pickles: Sequence[Path], target: Path, named: str) -> None:
    """Write the tensors of pickles to a safetensors file.

    Read in another process, isolated from this one's environment, which makes tensors and no
    other objects. named: the model, for messages. Raises FslabError where the pickles hold more,
    or are damaged, or the process was ended; then there is no target.
    """
    command = [sys.executable, "-I", str(PROGRAM), str(target), *map(str, pickles)]
    environment = {name: os.environ[name] for name in KEPT if name in os.environ}
    environment |= {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=environment, cwd=target.parent,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    if done.returncode == 0:
        return
    target.unlink(missing_ok=True)
    lines = done.stderr.strip().splitlines()
    reason = lines[-1] if lines else "it said nothing"
    if done.returncode < 0:
        reason = f"its process was ended by signal {-done.returncode}: out of memory or of limits"
    raise FslabError(
        f"the pickle {', '.join(path.name for path in pickles)} of {named} was not converted, and "
        f"is not kept, for it is damaged or holds more than tensors ({reason}); take a model with "
        "safetensors"
    )
