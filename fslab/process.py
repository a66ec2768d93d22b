"""The process while a stage works: its settings as nobody has changed them, and its memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import numpy as np

from fslab.overtaking import waiting
from fslab.records import OutOfMemory

_OF_MEMORY = ("out of memory", "allocate memory", "not enough memory", "bad_alloc", "alloc_failed")
"""What torch's errors say where memory ran out, on processors and on GPUs."""


@contextmanager
def ordinary() -> Iterator[None]:
    """Work with torch's and numpy's own settings inside, and put back what was set outside.

    What would change features, labels or keys of the store, or end a stage: torch's default
    type and device, autocast, the precision of products of matrices, numbers near zero flushed
    to it, and numpy's errors raised. The number of threads is left as it is: it moves features
    in their last bits. Passes that explorers do ahead give way to what is done inside.
    """
    import torch

    with ExitStack() as back:
        back.enter_context(waiting.counted())
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


@contextmanager
def memory_refused(name: str) -> Iterator[None]:
    """Turn memory that runs out inside into a refusal of the picture of that name."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not _is_of_memory(error):
            raise
        words = " ".join(str(error).split()) or "the system gave no more"
        raise OutOfMemory(
            f"{name}: memory ran out ({words[:200]}); "
            "make the picture smaller, or run it where there is more"
        ) from error


def _flushes() -> bool:
    """Tell whether this thread takes numbers near zero for zero: torch can set that, not say it."""
    return not np.float64(5e-324) * np.float64(1.0) > 0


def _is_of_memory(error: Exception) -> bool:
    """Tell memory that ran out from other errors: torch says so in words only, by device."""
    words = str(error).lower()
    return isinstance(error, MemoryError) or any(each in words for each in _OF_MEMORY)
