"""Devices by what a person calls them."""

from __future__ import annotations

from fslab.records import FslabError


def checked_device(given: object) -> str:
    """Return a device as text, or "cuda", "mps" or "cpu" for None; FslabError where it is not."""
    import torch

    there = {"cpu": 1, "cuda": torch.cuda.device_count() if torch.cuda.is_available() else 0}
    there["mps"] = int(torch.backends.mps.is_available())
    if given is None:
        return next(kind for kind in ("cuda", "mps", "cpu") if there[kind])
    name = "cpu" if str(given) == "cpu:0" else str(given)
    kind, colon, number = name.partition(":")
    index = number if colon else "0"
    if not (kind in there and index.isdecimal() and int(index) < there[kind]):
        found = [f"{kind}:{each}" for kind in ("cuda", "mps") for each in range(there[kind])]
        known = ", ".join(["cpu", *found])
        raise FslabError(f"device is {given!r}, which is not on this machine; there is {known}")
    return name


def on_processors(device: str) -> bool:
    """Tell whether a device is this machine's processors."""
    return device.partition(":")[0] == "cpu"
