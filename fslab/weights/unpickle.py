"""A program of its own, the only one that opens a pickle: pickles in, safetensors out.

`python -I unpickle.py TARGET PICKLE...` reads with PyTorch's reader of tensors alone, which makes
no other objects, under limits of memory, time and size; once the libraries are there it may start
no process, reach no network and write no file but TARGET. It imports nothing of fslab.
"""

from __future__ import annotations

import os
import sys
import zipfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from safetensors.torch import save_file

SAFE_SINCE = (2, 6)
"""PyTorch's first release whose reader of tensors alone has no known way around it."""

FORBIDDEN = ("socket.", "subprocess.", "os.exec", "os.fork", "os.posix_spawn", "os.spawn")
FORBIDDEN += ("os.system", "os.remove", "os.rename", "os.rmdir", "os.symlink", "os.link")
FORBIDDEN += ("os.chmod", "os.chown", "shutil.", "ctypes.")


def main(target: str, pickles: Sequence[str]) -> None:
    """Write all tensors of the pickles to one file; any exception ends the process."""
    version = tuple(int(part) for part in torch.__version__.split(".")[:2])
    if version < SAFE_SINCE:
        raise RuntimeError(f"PyTorch {torch.__version__} does not read pickles safely; 2.6 does")
    _limit(sum(os.path.getsize(path) for path in pickles))
    sys.addaudithook(_guard(target))
    tensors: dict[str, torch.Tensor] = {}
    for path in pickles:
        tensors |= _tensors_of(path)
    save_file(_apart(tensors), target, {"format": "pt"})


def _limit(size: int) -> None:
    """Limit this process: 4 GiB beside four times the pickles, and one file of twice their size."""
    if os.name == "nt":
        return  # which has no such limits
    import resource

    limits = {
        resource.RLIMIT_DATA: 4 * size + (4 << 30),
        resource.RLIMIT_FSIZE: 2 * size + (64 << 20),
        resource.RLIMIT_CPU: 3600,
        resource.RLIMIT_CORE: 0,
    }
    for kind, most in limits.items():
        hard = resource.getrlimit(kind)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (most, most))


def _guard(target: str) -> Callable[[str, tuple[Any, ...]], None]:
    """Return a hook that ends what a reader of tensors has no business with."""

    def look(event: str, arguments: tuple[Any, ...]) -> None:
        writes = event == "open" and _writes(*arguments[1:3]) and arguments[0] != target
        if writes or event.startswith(FORBIDDEN):
            raise PermissionError(f"it tried what no reader of tensors does: {event}")

    return look


def _writes(mode: object, flags: object) -> bool:
    by_mode = isinstance(mode, str) and any(letter in mode for letter in "wax+")
    return by_mode or bool(isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR))


def _tensors_of(path: str) -> dict[str, torch.Tensor]:
    mapped = zipfile.is_zipfile(path)
    data = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    if isinstance(data, Mapping) and isinstance(data.get("state_dict"), Mapping):
        data = data["state_dict"]
    if not isinstance(data, Mapping) or not data:
        raise ValueError("it holds no table of tensors by name")
    other = [name for name, value in data.items() if not isinstance(value, torch.Tensor)]
    if other or not all(isinstance(name, str) for name in data):
        raise ValueError(f"it holds more than tensors by name: {str(other[:1])[:80]}")
    return dict(data)


def _apart(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return tensors that share no memory: one that has several names is written once for each."""
    seen: set[int] = set()
    apart = {}
    for name, value in tensors.items():
        place = value.untyped_storage().data_ptr()
        apart[name] = value.clone() if place in seen else value
        whole = value.untyped_storage().nbytes() == value.numel() * value.element_size()
        if not whole or not apart[name].is_contiguous():
            apart[name] = value.clone(memory_format=torch.contiguous_format)
        seen.add(place)
    return apart


def _say(kind: type[BaseException], error: BaseException, _: object) -> None:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    print(f"{kind.__name__}: {' '.join(lines)[:300]}", file=sys.stderr)


if __name__ == "__main__":
    sys.excepthook = _say
    main(sys.argv[1], sys.argv[2:])
