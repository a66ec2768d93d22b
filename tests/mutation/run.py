"""Do the tests notice? Put small faults into a copy of the package and run a package's own tests.

python tests/mutation/run.py score --sample 60 --out out/mutation-score.json

The copy lies in a temporary folder; the working tree is only read. A mutant runs in a forked
process, so PyTorch is imported once. One that outlasts three times the sound run counts as killed.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from mutants import Mutant, mutants

ROOT = Path(__file__).resolve().parents[2]
TESTS = {
    "backbones": ("test_backbones*", "test_family", "test_latents", "test_numbers"),
    "captions": ("test_captions", "test_words_written"),
    "cluster": ("test_cluster*", "test_faults_by_hand"),
    "datasets": ("test_datasets*", "test_fetch", "test_hard_pictures*"),
    "evaluate": ("test_evaluate*", "test_ablate", "test_versions"),
    "extract": ("test_lab", "test_latents", "test_batches"),
    "files": ("test_files", "test_platforms", "test_hard_store"),
    "lab": ("test_lab*", "test_recent", "test_words", "test_faults_by_hand"),
    "match": ("test_match*", "test_vote"),
    "process": ("test_memory_runs_out", "test_global_state"),
    "records": ("test_records*", "test_own_parts", "test_own_stages", "test_lab"),
    "room": ("test_room", "test_cluster_survives", "test_refine_survives"),
    "score": ("test_score", "test_score_boundary", "test_score_intervals", "test_score_cli"),
    "store": ("test_store*", "test_hard_store*"),
}
"""The tests of a room, where they are not simply those that are called like it."""
HEAVY = (
    "torch",
    "scipy.ndimage",
    "sklearn.metrics",
    "torchmetrics.classification",
    "hypothesis",
    "fsspec",
    "PIL.Image",
    "pytest",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("package", help="a room of fslab: a folder or a module")
    parser.add_argument("--sample", type=int, default=60, help="mutants drawn; 0 for all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="a JSON file for the outcome of each")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mutation-") as folder:
        result = measure(asked.package, asked.sample, asked.seed, Path(folder))
    if asked.out:
        asked.out.parent.mkdir(parents=True, exist_ok=True)
        asked.out.write_text(json.dumps(result, indent=1) + "\n")


def measure(package: str, sample: int, seed: int, folder: Path) -> dict:
    """Run a seeded sample of a package's mutants and print each survivor."""
    prepare(folder)
    files = modules(folder / "fslab", package)
    if not files:
        sys.exit(f"fslab has no room {package!r}")
    every = [(path, each) for path in files for each in mutants(path.read_text())]
    drawn = random.Random(seed).sample(every, sample) if 0 < sample < len(every) else every
    started = time.monotonic()
    if run(tests(package), folder, 600) != "survived":
        sys.exit(f"the tests of {package} fail without any fault")
    limit = 10 + 3 * (time.monotonic() - started)
    print(f"{package}: {len(drawn)} of {len(every)} mutants, seed {seed}; {limit:.0f} s each")
    outcomes = []
    for path, mutant in drawn:
        outcome = try_one(path, mutant, tests(package), folder, limit)
        where = f"{path.relative_to(folder)}:{mutant.line}"
        outcomes.append({"where": where, "fault": mutant.fault, "outcome": outcome})
        if outcome == "survived":
            print(f"survived  {where}  {mutant.fault}", flush=True)
    counts = Counter(each["outcome"] for each in outcomes)
    share = 1 - counts["survived"] / len(outcomes)
    print(f"{package}: {dict(counts)}, {100 * share:.1f} % killed")
    return {"package": package, "seed": seed, "of": len(every), **counts, "mutants": outcomes}


def prepare(folder: Path) -> None:
    """Copy the package and let this process, and those that tests start, import the copy."""
    weights = ROOT / "fslab" / "mini" / "weights"

    def ignored(inside: str, names: list[str]) -> set[str]:
        return {"__pycache__"} | {name for name in names if Path(inside, name) == weights}

    shutil.copytree(ROOT / "fslab", folder / "fslab", ignore=ignored)
    (folder / "fslab" / "mini" / "weights").symlink_to(weights)
    sys.dont_write_bytecode = True
    os.environ |= {
        "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1", "HF_HUB_OFFLINE": "1",
    }  # fmt: skip
    os.chdir(folder)
    sys.path.insert(0, str(folder))
    for name in HEAVY:
        __import__(name)


def modules(package: Path, name: str) -> list[Path]:
    """Return the files of a room of the package, a folder or a module."""
    if (package / name).is_dir():
        return sorted((package / name).rglob("*.py"))
    return [package / f"{name}.py"] if (package / f"{name}.py").exists() else []


def tests(package: str) -> list[str]:
    stems = TESTS.get(package, (f"test_{package}*",))
    found = [str(path) for stem in stems for path in sorted((ROOT / "tests").glob(f"{stem}.py"))]
    return found or sys.exit(f"no test is called like {package!r}; name its tests in TESTS")


def try_one(path: Path, mutant: Mutant, files: list[str], folder: Path, limit: float) -> str:
    sound = path.read_text()
    path.write_text(mutant.source)
    try:
        return run(files, folder, limit)
    finally:
        path.write_text(sound)


def run(files: list[str], folder: Path, limit: float) -> str:
    """Run tests in a forked process group: "killed", "survived" or "too long"."""
    child = os.fork()
    if child == 0:
        os.setsid()
        os._exit(_inside(files, folder))
    ends = time.monotonic() + limit
    while time.monotonic() < ends:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return "survived" if os.waitstatus_to_exitcode(status) == 0 else "killed"
        time.sleep(0.05)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return "too long"


def _inside(files: list[str], folder: Path) -> int:
    import pytest

    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(nowhere, stream)
    settings = [
        "-c",
        str(ROOT / "pyproject.toml"),
        "--rootdir",
        str(ROOT),
        "-p",
        "no:cacheprovider",
    ]
    own = ["--basetemp", str(folder / "tests"), "--hypothesis-seed", "0"]
    code = pytest.main(["-x", "-q", *settings, *own, *files])
    here = sys.modules.get("fslab")
    if here is not None and not str(here.__file__).startswith(str(folder)):
        return 0  # not the copy: nothing was measured, and a survivor says so
    return int(code)


if __name__ == "__main__":
    main()
