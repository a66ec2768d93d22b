"""Stable Diffusion 1.x in its true configuration with random weights: run with -m slow."""

import json
import subprocess
import sys

import pytest
import torch
from true_models import save_diffusion

from fslab.records import Extraction

RUN = """
import json, resource, sys, time
import numpy as np
from fslab.lab import Lab
from fslab.records import Picture
folder, store, precision = sys.argv[1:]
picture = Picture(np.random.default_rng(0).integers(0, 256, (375, 500, 3), dtype=np.uint8))
lab = Lab(folder, store=store)
start = time.perf_counter()
features = lab.extract(picture, timesteps=0, squash=True, precision=precision)
loaded = time.perf_counter()
lab.extract(picture, timesteps=1, squash=True, precision=precision)
again = time.perf_counter()
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
print(json.dumps({
    "shapes": {path: value.shape for path, value in features.items()},
    "with_loading_s": loaded - start, "pass_s": again - loaded, "peak_gib": peak,
}))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_diffusion(tmp_path_factory.mktemp("sd1"))


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_papers_five_layers_in_one_early_stopped_pass(folder, tmp_path, precision):
    command = [sys.executable, "-c", RUN, str(folder), str(tmp_path), precision]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    print(precision, {key: round(value, 2) for key, value in found.items() if key != "shapes"})
    attention = "transformer_blocks.0.attn2.to_q"
    paths = [f"down_blocks.2.attentions.{number}.{attention}" for number in (0, 1)]
    paths += [f"up_blocks.1.attentions.{number}.{attention}" for number in (0, 1, 2)]
    assert found["shapes"] == {path: [1280, 16, 16] for path in paths}


@pytest.mark.slow
def test_the_up_blocks_after_the_last_layer_never_run(folder):
    from conftest import noise_picture

    from fslab.lab import Lab

    backbone = Lab(folder).backbone
    unet, fired = backbone.components.load("unet", torch.bfloat16), set()
    for path in ("up_blocks.1", "up_blocks.2", "up_blocks.3", "conv_out"):
        unet.get_submodule(path).register_forward_hook(lambda *_, path=path: fired.add(path))
    wanted = {0: backbone.default_layers}
    backbone.run(noise_picture(512, 512), (512, 512), wanted, Extraction(precision="bf16"))
    assert fired == set()
