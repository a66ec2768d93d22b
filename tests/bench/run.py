"""Measure each promise of speed as a ratio within one run, and write the figures as JSON.

`python tests/bench/run.py --out out/bench.json`; `--smoke` runs each bench once on a tiny size,
whose figures mean nothing; `--large` adds Stable Diffusion 1.x in its true configuration;
`--tables out/bench.json` puts a report's figures into docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from fslab.files import write_aside

ROOT = Path(__file__).parents[2]

BENCHES = {
    "confusion": "counting",
    "crf": "edges",
    "basis": "basis",
    "ncut": "cuts",
    "store": "keeping",
    "whole": "whole",
    "import": "importing",
    "workers": "working",
    "overlap": "overlap",
    "growth": "growth",
    "early-stop": "large",
    "arithmetic": "arithmetic",
    "memory": "memory",
    "timers": "timers",
    "opening": "opening",
    "sized": "sized",
}
LARGE = ("early-stop", "arithmetic", "memory", "timers", "opening", "sized")
REFERENCE = dict.fromkeys(("crf", "whole", "timers", "sized"), "pydensecrf")
"""What benches measure against that is not built everywhere; without it they are left out."""
BEGINS, ENDS = "<!-- figures begin -->", "<!-- figures end -->"
PACKAGES = (
    "fslab", "numpy", "scipy", "scikit-learn", "torch", "torchmetrics", "diffusers",
    "transformers", "numba", "pydensecrf2", "xxhash", "safetensors",
)  # fmt: skip


def main(given: list[str] | None = None) -> None:
    """Run what the command line asks for; a miss is reported, a wrong result fails."""
    asked = read_arguments(given)
    if asked.tables:
        fill(ROOT / "docs" / "benchmarks.md", json.loads(asked.tables.read_text(encoding="utf-8")))
        return
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.chdir(ROOT)
    report = {"smoke": asked.smoke, "machine": machine(), "versions": versions()}
    report |= {"lines": [], "curves": []}
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="fslab-bench-") as folder:
        for name in chosen(asked):
            for line in measured(name, Path(folder), asked.smoke):
                print(sentence(line), flush=True)
                report["curves" if "points" in line else "lines"].append(line)
                write_aside(asked.out, (json.dumps(report, indent=1) + "\n").encode())


def read_arguments(given: list[str] | None) -> argparse.Namespace:
    """Read the command line; paths are made absolute before the folder changes."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--smoke", action="store_true", help="once, on tiny sizes")
    parser.add_argument("--large", action="store_true", help="also SD 1.x in its true size")
    parser.add_argument("--only", choices=BENCHES, help="one bench")
    parser.add_argument("--out", type=Path, default=ROOT / "out" / "bench.json")
    parser.add_argument("--tables", type=Path, help="put a report into docs/benchmarks.md, no more")
    asked = parser.parse_args(given)
    asked.out = asked.out.absolute()
    return asked


def chosen(asked: argparse.Namespace) -> list[str]:
    """Return the benches to run."""
    if asked.only:
        return [asked.only]
    names = [name for name in BENCHES if asked.large or name not in LARGE]
    lacking = {name: what for name, what in REFERENCE.items() if not find_spec(what)}
    for name, what in lacking.items():
        print(f"{name} is left out: {what} is not installed", flush=True)
    return [name for name in names if name not in lacking]


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
    if "points" in line:
        return "\n".join([f"{line['name']}: {line['what']}", *curve_rows(line)])
    verdict = {True: "met", False: "missed", None: "no target"}[line["met"]]
    target = f"{line['bound']} {line['target']:g}: {verdict}" if line["target"] else verdict
    figures = f"{line['median']:.3g} ({line['minimum']:.3g} to {line['maximum']:.3g})"
    return f"{line['name']}: {figures} {line['figure']} against {line['against']}; {target}"


def fill(page: Path, report: dict[str, Any]) -> None:
    """Put a report's figures between the two marks of a page; what is around them stays."""
    before, _, rest = page.read_text(encoding="utf-8").partition(BEGINS)
    _, ends, after = rest.partition(ENDS)
    assert ends, f"{page} has no place for the figures: {BEGINS} ... {ENDS}"
    text = f"{before}{BEGINS}\n\n{tables(report)}\n\n{ENDS}{after}"
    write_aside(page, text.encode())


def tables(report: dict[str, Any]) -> str:
    """Return where a report was measured, its lines, their notes and its curves, as Markdown."""
    head = ("what", "against", "ratio", "median", "min to max", "rounds", "target")
    parts = [measured_on(report), "", row_of(head), row_of(["---"] * len(head))]
    parts += [*map(table_row, report["lines"]), ""]
    parts += [
        f"- {line['what']}: {notes_of(line['notes'])}" for line in report["lines"] if line["notes"]
    ]
    for curve in report["curves"]:
        parts += ["", f"**{curve['what']}**", "", *curve_rows(curve)]
    return "\n".join(parts)


def measured_on(report: dict[str, Any]) -> str:
    """Say on what machine, how busy, and with which versions."""
    machine, packages = report["machine"], report["versions"]
    named = ", ".join(f"{name} {number}" for name, number in packages.items())
    return (
        f"**Measured on** {machine['processor']}, {machine['cores']} cores, torch threads "
        f"{machine['torch threads']}, load average {machine['load average'][0]:.1f} at the "
        f"start. {named}."
    )


def notes_of(notes: Any) -> str:
    """Write a line's notes in one row."""
    if isinstance(notes, dict):
        return "; ".join(f"{name} {notes_of(value)}" for name, value in notes.items())
    if isinstance(notes, list):
        return ", ".join(map(notes_of, notes))
    return f"{notes:.3g}" if isinstance(notes, float) else str(notes)


def table_row(line: dict[str, Any]) -> str:
    """Return a line of the first table; a target that was missed stands out."""
    target = "none"
    if line["target"] is not None:
        sign = ">=" if line["bound"] == "at least" else "<="
        target = f"{sign} {line['target']:g}, {'met' if line['met'] else '**missed**'}"
    bounds = f"{line['minimum']:.3g} to {line['maximum']:.3g}"
    cells = (line["what"], line["against"], line["figure"], f"{line['median']:.3g}", bounds)
    return row_of([*cells, str(line["rounds"]), target])


def curve_rows(curve: dict[str, Any]) -> list[str]:
    """Return a curve's points, a row each, and the slopes below where they were fitted."""
    names = list(curve["points"][0])
    rows = [[f"{point[name]:.3g}" for name in names] for point in curve["points"]]
    if curve["slopes"]:
        slopes = (curve["slopes"].get(name) for name in names[1:])
        rows.append(["slope", *("" if each is None else f"{each:.2f}" for each in slopes)])
    return [row_of(names), row_of(["---"] * len(names)), *map(row_of, rows)]


def row_of(cells: Sequence[str]) -> str:
    """Return a row of a Markdown table."""
    return f"| {' | '.join(cells)} |"


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
    return {"Python": platform.python_version(), **{name: version_of(name) for name in PACKAGES}}


def version_of(package: str) -> str:
    """Return a package's version, or that it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


if __name__ == "__main__":
    main(sys.argv[1:])
