"""Measure each promise of speed as a ratio within one run, and write the figures as JSON.

`python tests/bench/run.py --out out/bench.json`; `--smoke` runs every bench once on a tiny size,
whose figures mean nothing; `--large` adds Stable Diffusion 1.x in its true configuration.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fslab.files import write_aside

ROOT = Path(__file__).parents[2]

BENCHES = {
    "confusion": "counting",
    "crf": "edges",
    "ncut": "cuts",
    "store": "keeping",
    "whole": "whole",
    "import": "importing",
    "early-stop": "large",
}
LARGE = ("early-stop",)
PACKAGES = (
    "fslab", "numpy", "scipy", "scikit-learn", "torch", "torchmetrics", "diffusers",
    "transformers", "pydensecrf2", "xxhash", "safetensors",
)  # fmt: skip


def main(given: list[str] | None = None) -> None:
    """Run what the command line asks for; a miss is reported, a wrong result fails."""
    asked = read_arguments(given)
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.chdir(ROOT)
    report = {"smoke": asked.smoke, "machine": machine(), "versions": versions(), "lines": []}
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="fslab-bench-") as folder:
        for name in chosen(asked):
            for line in measured(name, Path(folder), asked.smoke):
                print(sentence(line), flush=True)
                report["lines"].append(line)
                write_aside(asked.out, (json.dumps(report, indent=1) + "\n").encode())


def read_arguments(given: list[str] | None) -> argparse.Namespace:
    """Read the command line; paths are made absolute before the folder changes."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--smoke", action="store_true", help="once, on tiny sizes")
    parser.add_argument("--large", action="store_true", help="also SD 1.x in its true size")
    parser.add_argument("--only", choices=BENCHES, help="one bench")
    parser.add_argument("--out", type=Path, default=ROOT / "out" / "bench.json")
    asked = parser.parse_args(given)
    asked.out = asked.out.absolute()
    return asked


def chosen(asked: argparse.Namespace) -> list[str]:
    """Return the benches to run: smoke runs all, since its sizes are tiny."""
    if asked.only:
        return [asked.only]
    return [name for name in BENCHES if asked.smoke or asked.large or name not in LARGE]


def measured(name: str, folder: Path, smoke: bool) -> Iterator[dict[str, Any]]:
    """Yield a bench's lines."""
    from contest import Setting

    place = folder / name
    place.mkdir()
    benches: Callable = import_module(BENCHES[name]).benches
    for contest in benches(Setting(place, smoke)):
        yield contest.run(smoke)


def sentence(line: dict[str, Any]) -> str:
    """Say one line's figures."""

    verdict = {True: "met", False: "missed", None: "no target"}[line["met"]]
    target = f"{line['bound']} {line['target']:g}: {verdict}" if line["target"] else verdict
    figures = f"{line['median']:.3g} ({line['minimum']:.3g} to {line['maximum']:.3g})"
    return f"{line['name']}: {figures} {line['figure']} against {line['against']}; {target}"


def machine() -> dict[str, Any]:
    """Return what the figures depend on."""
    import torch

    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "torch threads": torch.get_num_threads(),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS"),
        "CUDA": torch.cuda.is_available(),
        "load average": os.getloadavg(),
        "system": platform.platform(),
    }


def processor() -> str:
    """Return the processor's name, as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def versions() -> dict[str, str]:
    """Return Python's version and those of the packages that are timed."""
    return {"Python": platform.python_version(), **{name: version(name) for name in PACKAGES}}


if __name__ == "__main__":
    main(sys.argv[1:])
