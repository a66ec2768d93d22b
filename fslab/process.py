"""The process while a stage works: its settings as nobody has changed them, and its memory."""

from __future__ import annotations

import errno
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial, wraps
from typing import Any, ParamSpec, TypeVar

import numpy as np

from fslab.overtaking import waiting
from fslab.records import Features, FslabError, OutOfMemory, Picture

Given = ParamSpec("Given")
Found = TypeVar("Found")
Setting = tuple[Callable[[], Any], Callable[[Any], None], Any]

_OF_MEMORY = re.compile(
    r"std::bad_alloc|\bbad allocation$|_ALLOC_FAILED\b"
    r"|\b(CUDA|HIP|XPU|MPS)\b.{0,20} out of memory\b"
    r"|(can't allocate|not enough) memory: you tried|\(Cannot allocate memory\)"
    r"|^can't start new thread$"
)
"""What errors of torch and of threads say where memory ran out, on processors and on GPUs."""

_PRECISIONS = ("", "mkldnn", "cudnn", "mkldnn.matmul", "mkldnn.conv", "mkldnn.rnn", "cuda.matmul")
"""Of torch's backends, the wider before what takes its precision from them."""

_SWITCHES: dict[str, dict[str, bool | str]] = {
    "mkldnn": {"enabled": True},
    "cudnn": {"enabled": True, "benchmark": False},
    "cudnn.conv": {"fp32_precision": "tf32"},
    "cudnn.rnn": {"fp32_precision": "tf32"},
    "cuda.matmul": {
        "allow_fp16_reduced_precision_reduction": True,
        "allow_bf16_reduced_precision_reduction": True,
        "allow_fp16_accumulation": False,
    },
}
"""Of torch's backends: switches that choose between kernels or their precision, as torch has
them."""

_ATTENTION = ("flash", "mem_efficient", "math", "cudnn")
"""Kernels of scaled dot product attention, all of them torch's choice."""


def stage(work: Callable[Given, Found]) -> Callable[Given, Found]:
    """Decorate what computes something of a picture, or of its features: in `ordinary` settings.

    Memory that runs out is a refusal by the picture's name.
    """

    @wraps(work)
    def run(*given: Given.args, **named: Given.kwargs) -> Found:
        kinds = (Picture, Features)
        names = [each.name for each in (*given, *named.values()) if isinstance(each, kinds)]
        with ordinary(), memory_refused(names[0] if names else work.__name__):
            return work(*given, **named)

    return run


@contextmanager
def ordinary() -> Iterator[None]:
    """Work with torch's and numpy's own settings inside, and put back what was set outside.

    What would change features, labels or keys of the store, or end a stage: torch's default
    type and device, autocast, the precision of products and convolutions, attention's kernels,
    numbers near zero flushed to it, and numpy's errors raised. Of what all threads share, the
    first that works puts it in order, and the last puts it back. The number of threads is left as
    it is: it moves features in their last bits. Passes that explorers do ahead give way to what is
    done inside.
    Raises FslabError where torch gives no plain numbers, and where hooks watch every module.
    """
    import torch

    with ExitStack() as back:
        back.enter_context(waiting.counted())
        back.enter_context(np.errstate(divide="warn", over="warn", under="ignore", invalid="warn"))
        back.enter_context(_shared)
        if torch.get_default_device().type != "cpu":
            back.enter_context(torch.device("cpu"))
        for kind in ("cpu", "cuda", "mps"):
            if torch.is_autocast_enabled(kind):
                back.enter_context(torch.autocast(kind, enabled=False))
        if _flushes():
            torch.set_flush_denormal(False)
            back.callback(torch.set_flush_denormal, True)
        _check_plain(torch.ones(1))
        yield


@contextmanager
def memory_refused(name: str) -> Iterator[None]:
    """Turn memory that runs out inside into a refusal of the picture of that name."""
    try:
        yield
    except (MemoryError, RuntimeError, OSError) as error:
        if not is_of_memory(error):
            raise
        words = " ".join(str(error).split()) or "the system gave no more"
        raise OutOfMemory(
            f"{name}: memory ran out ({words[:200]}); "
            "make the picture smaller, or run it where there is more"
        ) from error


def is_of_memory(error: Exception) -> bool:
    """Tell memory that ran out from other errors: torch says so in words only, by device."""
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, MemoryError) or bool(_OF_MEMORY.search(str(error)))


class _Shared:
    """Torch's settings that all threads of the process share, in order while any thread works."""

    def __init__(self) -> None:
        self._lock, self._working, self._back = threading.Lock(), 0, ExitStack()

    def __enter__(self) -> None:
        with self._lock:
            if not self._working:
                with ExitStack() as back:
                    for get, put, usual in _settings():
                        if (found := get()) != usual:
                            put(usual)
                            back.callback(put, found)
                    self._back = back.pop_all()
            self._working += 1

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._working -= 1
            if not self._working:
                self._back.close()


_shared = _Shared()


def _settings() -> Iterator[Setting]:
    """Yield how each shared setting is read, how it is set, and what it is in torch itself."""
    import torch

    yield torch.get_default_dtype, torch.set_default_dtype, torch.float32
    backends = torch.backends
    if hasattr(backends, "fp32_precision"):  # torch 2.9; the older way raises where both are used
        for path in _PRECISIONS:
            yield _attribute(backends, path, "fp32_precision", "none")
    else:
        precision = torch.get_float32_matmul_precision, torch.set_float32_matmul_precision
        yield *precision, "highest"
        yield _attribute(backends, "cudnn", "allow_tf32", True)
    for path, switches in _SWITCHES.items():
        for name, usual in switches.items():
            if hasattr(_owner(backends, path), name):
                yield _attribute(backends, path, name, usual)
    cuda = backends.cuda
    for kind in _ATTENTION:
        yield getattr(cuda, f"{kind}_sdp_enabled"), getattr(cuda, f"enable_{kind}_sdp"), True
    yield backends.mha.get_fastpath_enabled, backends.mha.set_fastpath_enabled, True


def _attribute(backends: Any, path: str, name: str, usual: Any) -> Setting:
    owner = _owner(backends, path)
    return partial(getattr, owner, name), partial(setattr, owner, name), usual


def _owner(backends: Any, path: str) -> Any:
    for part in filter(None, path.split(".")):
        backends = getattr(backends, part, None)
    return backends


def _check_plain(one: Any) -> None:
    """Refuse to work where torch gives other tensors than asked for, or every module is hooked."""
    import torch
    from torch.nn.modules import module

    plain = type(one) is torch.Tensor and one.dtype == torch.float32 and one.device.type == "cpu"
    if not plain or torch._C._len_torch_dispatch_stack():
        raise FslabError(
            f"torch.ones(1) is a {type(one).__name__}, {one.dtype} on {one.device}, within a mode "
            "of torch that changes what it computes (FakeTensorMode, FlopCounterMode): leave it "
            "first"
        )
    hooks = [*module._global_forward_hooks.values(), *module._global_forward_pre_hooks.values()]
    if hooks:
        raise FslabError(
            f"{getattr(hooks[0], '__qualname__', hooks[0])} is hooked on every module of torch and "
            "may change what they give; remove it, and hook the modules that it is for"
        )


def _flushes() -> bool:
    """Tell whether this thread takes numbers near zero for zero: torch can set that, not say it."""
    return not np.float64(5e-324) * np.float64(1.0) > 0
