"""What this machine has: versions, devices, weights, store."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

from fslab import __version__
from fslab.backbones import locate
from fslab.lab import PRESETS, Preset
from fslab.records import FslabError
from fslab.store import Store

PACKAGES = (
    "torch", "diffusers", "transformers", "scikit-learn", "pydensecrf2", "textblob", "plotly",
    "jupyterlab", "ipywidgets", "umap-learn", "spacy", "dask",
)  # fmt: skip


def report() -> str:
    """Return the report as text."""
    lines = [f"fslab {__version__}, Python {platform.python_version()}, {platform.platform()}"]
    lines += [f"  {name:<13} {_version(name)}" for name in PACKAGES]
    lines += ["devices", f"  {', '.join(_devices())}", "weights"]
    lines += [f"  {preset.name:<6} {_weights(preset)}" for preset in PRESETS.values()]
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

    found = [f"cpu ({torch.get_num_threads()} threads)"]
    found += [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    return [*found, "mps"] if torch.backends.mps.is_available() else found


def _weights(preset: Preset) -> str:
    missing = []
    for source in (preset.diffusion, preset.captioner, preset.clip):
        try:
            locate(source)
        except FslabError:
            missing.append(source)
    return f"not here: {', '.join(missing)}" if missing else f"here, {preset.gigabytes} GB"
