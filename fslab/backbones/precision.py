"""In what numbers models compute: the lab's choice, and what it costs on a CPU."""

from __future__ import annotations

import warnings
from functools import cache

import torch

from fslab.errors import FslabWarning

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}

ARITHMETIC = {
    "fp16": ("avx512_fp16", "amx_fp16", "fp16_arith"),
    "bf16": ("avx512_bf16", "amx_bf16", "bf16"),
}
"""What PyTorch calls the instructions of CPUs, x86 and Arm, that compute in half precision."""


class SlowPrecision(FslabWarning):
    """Said once of a precision that this machine's CPU has no arithmetic for."""


def dtype_of(precision: str, device: torch.device | str) -> torch.dtype:
    """Return a precision's type, and warn once where this CPU would be slow in it."""
    if torch.device(device).type == "cpu":
        _warn_if_slow(precision)
    return DTYPES[precision]


def cpu_computes_in(precision: str) -> bool:
    """Return whether this CPU has arithmetic of a precision; True where PyTorch cannot tell."""
    capabilities = getattr(torch.cpu, "get_capabilities", None)
    if precision == "fp32" or capabilities is None:
        return True
    found = capabilities()
    return any(found.get(name, False) for name in ARITHMETIC[precision])


@cache
def _warn_if_slow(precision: str) -> None:
    if not cpu_computes_in(precision):
        warnings.warn(
            f"this CPU has no {precision} arithmetic: {precision} halves the memory of weights and "
            "takes many times longer than fp32 (--precision fp32)",
            SlowPrecision,
            stacklevel=3,
        )
