"""What this machine has: versions, devices, weights, store."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

from fslab import __version__
from fslab.lab import PRESETS, Preset
from fslab.lab.needs import Need, needs_of
from fslab.store import Store
from fslab.weights import Place, command_for, name_of, place_of, size_of
from fslab.weights.sources import SPOKEN

PACKAGES = (
    "torch", "diffusers", "transformers", "scikit-learn", "numba", "pydensecrf2", "textblob",
    "lemminflect", "plotly", "jupyterlab", "ipywidgets", "anywidget", "umap-learn", "voila",
    "spacy", "dask",
)  # fmt: skip


def report() -> str:
    """Return the report as text."""
    lines = [f"fslab {__version__}, Python {platform.python_version()}, {platform.platform()}"]
    lines += [f"  {name:<13} {_version(name)}" for name in PACKAGES]
    lines += ["devices", f"  {', '.join(_devices())}", "weights"]
    lines += [line for preset in PRESETS.values() for line in _weights(preset)]
    store = Store()
    usage = store.usage()
    lines += ["store", f"  {store.location}: {usage.entries} entries, {usage.bytes / 1e6:.1f} MB"]
    return "\n".join(lines)


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _devices() -> list[str]:
    import torch

    from fslab.backbones.precision import DTYPES, cpu_computes_in

    fast = ", ".join(name for name in DTYPES if cpu_computes_in(name))
    found = [f"cpu ({torch.get_num_threads()} threads; arithmetic of {fast})"]
    found += [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    return [*found, "mps"] if torch.backends.mps.is_available() else found


def _weights(preset: Preset) -> list[str]:
    """Return a line that says whether a preset can be opened, and one for each model that is there.

    Each part of each model is looked at; sizes are those of the files on this machine.
    """
    needs = list(needs_of(preset).values())
    places = [place_of(need.source) for need in needs]
    command = command_for(needs[0].source, preset.name)
    mends = f"`{command}`" if command else "installing fslab again"
    if not any(places):
        return [f"  {preset.name:<6} not here; {mends} fetches {preset.gigabytes} GB"]
    whole = all(place and not place.faults for place in places)
    state = "here, all parts" if whole else f"cannot be opened; {mends} mends it"
    lines = [_model(need, place) for need, place in zip(needs, places, strict=True)]
    return [f"  {preset.name:<6} {state}", *lines]


def _model(need: Need, place: Place | None) -> str:
    source = need.source
    if place is None:
        return f"    {SPOKEN[source.what]}: {source.id} is not here, {source.gigabytes} GB"
    size = size_of(place.folder, source.what) / 1e9
    commit = f" at {place.commit[:12]}" if place.commit else ""
    reasons = list(dict.fromkeys(fault.said for fault in place.faults))
    state = f"not whole: {', '.join(reasons)}" if reasons else "whole"
    name = place.id if source.is_of_hub else name_of(place.folder)
    return f"    {SPOKEN[source.what]}: {name}{commit}, {size:.3f} GB on disk, {state}"
