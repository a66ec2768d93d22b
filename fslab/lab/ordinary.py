"""Settings of the whole process, as they are where nobody has changed them, while a lab works."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import numpy as np

from fslab.records import FslabError


@contextmanager
def ordinary() -> Iterator[None]:
    """Work with torch's and numpy's own settings inside, and put back what was set outside.

    What would change features, labels or keys of the store, or end a stage: torch's default
    type and device, autocast, the precision of products of matrices, numbers near zero flushed
    to it, and numpy's errors raised. The number of threads is left as it is: it moves features
    in their last bits.
    """
    import torch

    with ExitStack() as back:
        back.enter_context(np.errstate(divide="warn", over="warn", under="ignore", invalid="warn"))
        if (dtype := torch.get_default_dtype()) != torch.float32:
            torch.set_default_dtype(torch.float32)
            back.callback(torch.set_default_dtype, dtype)
        if torch.get_default_device().type != "cpu":
            back.enter_context(torch.device("cpu"))
        for kind in ("cpu", "cuda", "mps"):
            if torch.is_autocast_enabled(kind):
                back.enter_context(torch.autocast(kind, enabled=False))
        if (precision := torch.get_float32_matmul_precision()) != "highest":
            torch.set_float32_matmul_precision("highest")
            back.callback(torch.set_float32_matmul_precision, precision)
        if _flushes():
            torch.set_flush_denormal(False)
            back.callback(torch.set_flush_denormal, True)
        yield


def checked_device(given: object) -> str:
    """Return a device as text, or "cuda", "mps" or "cpu" for None; FslabError where it is not."""
    import torch

    there = {"cpu": 1, "cuda": torch.cuda.device_count() if torch.cuda.is_available() else 0}
    there["mps"] = int(torch.backends.mps.is_available())
    if given is None:
        return next(kind for kind in ("cuda", "mps", "cpu") if there[kind])
    name = str(given)
    kind, _, number = name.partition(":")
    index = number or "0"
    if not (kind in there and index.isdecimal() and int(index) < there[kind]):
        found = [f"{kind}:{each}" for kind in ("cuda", "mps") for each in range(there[kind])]
        known = ", ".join(["cpu", *found])
        raise FslabError(f"device is {given!r}, which is not on this machine; there is {known}")
    return name


def _flushes() -> bool:
    """Tell whether this thread takes numbers near zero for zero: torch can set that, not say it."""
    return not np.float64(5e-324) * np.float64(1.0) > 0
