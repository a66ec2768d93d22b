"""Processor time and peak memory of recipes at Stable Diffusion 1.5's true size, one picture each.

    python tests/bench/recipe_sizes.py freeseg-diff corrclip-sd fa-seg

Weights are random, so labels mean nothing, and time does not depend on them but in clusterings.
CLIP is a ViT-B/16, the picture 500 x 375, its candidates are given, and the store is empty. Each
recipe has a process of its own, whose highest resident memory it is.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

CANDIDATES = ("dog", "cat", "sofa")


def main() -> None:
    """Save the models, measure each recipe in a process of its own and print a line of it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("recipes", nargs="+")
    parser.add_argument("--models", type=Path, help="a folder of models that were saved before")
    parser.add_argument("--alone", action="store_true", help="measure here, in this process")
    asked = parser.parse_args()
    if asked.alone:
        print(json.dumps(measured(asked.models, *asked.recipes)))
        return
    with tempfile.TemporaryDirectory(prefix="fslab-sizes-") as folder:
        models = save(asked.models or Path(folder) / "models")
        for recipe in asked.recipes:
            command = [sys.executable, __file__, recipe, "--alone", "--models", os.fspath(models)]
            store = {"FSLAB_STORE": os.path.join(folder, recipe)}
            done = subprocess.run(
                command, capture_output=True, text=True, check=False, env={**os.environ, **store}
            )
            assert done.returncode == 0, done.stderr
            print(recipe, done.stdout.splitlines()[-1], flush=True)


def save(folder: Path) -> Path:
    """Save Stable Diffusion 1.5 and CLIP ViT-B/16 in their true configurations."""
    import true_models

    if not folder.exists():
        true_models.save_diffusion(folder, "sd1")
        true_models.save_matcher(folder / "clip", patch_size=16)
    return folder


def measured(models: Path, recipe: str) -> dict[str, object]:
    """Return seconds of the processor by stage, and the highest resident memory in GiB."""
    from fslab.lab import Lab
    from fslab.records import Picture

    pixels = np.random.default_rng(0).integers(0, 256, (375, 500, 3), np.uint8)
    lab = Lab(models, captioner=None)
    begun: list[tuple[str, float]] = []
    result = lab.segment(
        Picture(pixels), recipe, candidates=CANDIDATES,
        on_stage=lambda name: begun.append((name, time.process_time())),
    )  # fmt: skip
    assert result.labels.size == (375, 500)
    begun.append(("", time.process_time()))
    seconds = {name: round(after - start, 1) for (name, start), (_, after) in pairwise(begun)}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {"seconds": seconds, "peak GiB": round(peak, 2)}


if __name__ == "__main__":
    main()
