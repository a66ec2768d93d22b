"""What the same recipe gives again: twice, in batches, with other threads, over Dask.

`python tests/reproducibility.py --pictures 30` prints the README's table. Each run is a process and
a store of its own, so that nothing is compared with itself.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from fslab import datasets
from fslab.evaluate import evaluate
from fslab.evaluate.workers import connected
from fslab.lab import Lab

BATCH = 8
DATA = Path(__file__).parents[1] / "data" / "minivoc"


@dataclass(frozen=True)
class Distance:
    """How far two runs are apart over the same pictures.

    absolute: the largest difference of a feature; relative: the largest of any map, over that
    map's largest value. pixels: the share of pixels with another label; pictures: how many have
    one such pixel at least.
    """

    absolute: float
    relative: float
    pixels: float
    pictures: int

    @property
    def identical(self) -> bool:
        """Whether no bit differs that a label or a feature has."""
        return not (self.absolute or self.pixels)


def measure(count: int, method: str) -> dict[str, Distance | bool]:
    """Run the method in every way and compare each with the plain run."""
    with tempfile.TemporaryDirectory() as folder:
        ways = {
            "again": {"threads": 1},
            f"in batches of {BATCH}": {"threads": 1, "batched": True},
            "2 threads instead of 1": {"threads": 2},
        }
        plain = _run(Path(folder) / "plain", count, method, threads=1)
        found: dict[str, Distance | bool] = {
            way: compare(plain, _run(Path(folder) / f"{place}", count, method, **how))
            for place, (way, how) in enumerate(ways.items())
        }
        found["Dask, 2 workers"] = dask_is_serial(Path(folder), count, method)
    return found


def compare(one: Path, other: Path) -> Distance:
    """Compare the pictures that two runs wrote into folders."""
    absolute, relative, changed, pixels, pictures = 0.0, 0.0, 0, 0, 0
    for path in sorted(one.glob("*.npz")):
        with np.load(path) as a, np.load(other / path.name) as b:
            if set(a) != set(b):
                raise SystemExit(f"{path.name}: the runs have other layers")
            for name in set(a) - {"labels"}:
                gap = float(np.abs(a[name] - b[name]).max())
                absolute = max(absolute, gap)
                relative = max(relative, gap / float(np.abs(a[name]).max()))
            other_labels = int((a["labels"] != b["labels"]).sum())
        changed, pixels = changed + other_labels, pixels + a_size(path)
        pictures += other_labels > 0
    return Distance(absolute, relative, changed / pixels, pictures)


def a_size(path: Path) -> int:
    """Return how many pixels a picture has that a run wrote."""
    with np.load(path) as entry:
        return entry["labels"].size


def dask_is_serial(folder: Path, count: int, method: str) -> bool:
    """Tell whether two workers write the bytes of the serial run into results and report."""
    data, cores = _data(count), max(1, (os.cpu_count() or 1) // 2)
    torch.set_num_threads(cores)
    with threadpool_limits(cores):
        lab = Lab("mini", store=folder / "serial.store")
        evaluate(lab, data, method, out=folder / "serial", progress=False)
    with connected(workers=2) as client:
        lab = Lab("mini", store=folder / "dask.store")
        evaluate(lab, data, method, out=folder / "dask", progress=False, client=client)
    return all(
        (folder / "serial" / name).read_bytes() == (folder / "dask" / name).read_bytes()
        for name in ("results.jsonl", "report.json")
    )


def write_run(out: Path, count: int, method: str, batched: bool) -> None:
    """Write each picture's features and labels into a folder."""
    out.mkdir(parents=True)
    lab = Lab("mini", store=out / "store")
    pictures = (sample.picture() for sample in _data(count))
    batch = BATCH if batched else 1
    for result in lab.segment_many(pictures, method, batch=batch, processes=0):
        maps = {name: np.asarray(value) for name, value in result.features.items()}
        np.savez(out / f"{result.picture.name}.npz", labels=result.labels.labels, **maps)


def _data(count: int) -> datasets.Dataset:
    return datasets.load(DATA).limit(count)


def _run(out: Path, count: int, method: str, threads: int, batched: bool = False) -> Path:
    """Run `write_run` in a fresh process with so many threads."""
    words = ["--write", str(out), "--pictures", str(count), "--method", method]
    limits = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"))
    subprocess.run(
        [sys.executable, __file__, *words, *["--batched"] * batched],
        env={**os.environ, **dict.fromkeys(limits, str(threads))}, check=True,
    )  # fmt: skip
    return out


def as_table(found: dict[str, Distance | bool], count: int, method: str) -> str:
    """Return the README's rows."""
    head = ["the same recipe", "features, absolute", "relative", "pixels", "pictures"]
    rows = []
    for way, gap in found.items():
        if isinstance(gap, bool):
            rows.append([way, "results and report identical" if gap else "DIFFERENT", "", "", ""])
        elif gap.identical:
            rows.append([way, "identical", "identical", "0", f"0 of {count}"])
        else:
            rows.append([
                way, f"{gap.absolute:.1e}", f"{gap.relative:.1e}", f"{100 * gap.pixels:.4f} %",
                f"{gap.pictures} of {count}",
            ])  # fmt: skip
    lines = [f"{method} on mini-VOC val, {count} pictures, fp32, against the run with 1 thread"]
    return "\n".join(
        [*lines, "", *(f"| {' | '.join(row)} |" for row in [head, ["---"] * 5, *rows])]
    )


def main() -> int:
    """Measure and print; 1 where what must be identical is not."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=30)
    parser.add_argument("--method", default="fslab")
    parser.add_argument("--json", action="store_true", help="the figures as JSON")
    parser.add_argument("--write", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--batched", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.write:
        write_run(options.write, options.pictures, options.method, options.batched)
        return 0
    found = measure(options.pictures, options.method)
    if options.json:
        print(json.dumps({way: vars(gap) if isinstance(gap, Distance) else gap
                          for way, gap in found.items()}))  # fmt: skip
    else:
        print(as_table(found, options.pictures, options.method))
    return 0 if found["again"].identical and found["Dask, 2 workers"] else 1


if __name__ == "__main__":
    sys.exit(main())
