"""One pass of Stable Diffusion 3.5 medium in its true size: random weights in bf16 on the CPU.

Run: python tests/bench/true_transformer.py FOLDER --write, which writes the model in the hub's
layout (6.4 GB with --without-t5, 15.9 GB with the T5), and then without --write, which passes a
picture and prints seconds and the most memory that was held. Values mean nothing.
"""

from __future__ import annotations

import argparse
import gc
import json
import resource
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel
from transformer_sizes import BIG_CLIP, LARGE_CLIP, NETWORKS, T5, VAE
from transformers import CLIPTextConfig, CLIPTextModelWithProjection, T5Config, T5EncoderModel

sys.path.insert(0, str(Path(__file__).parents[1]))

from transformers_tiny import clip, t5

from fslab import Lab, Picture

MIDDLE, LAST = (f"transformer_blocks.{block}.attn.to_q.input" for block in (12, 23))


def write(folder: Path, with_t5: bool) -> None:
    """Write a folder whose networks have the true sizes; one network at a time is held."""
    words = clip()["tokenizer"]
    words.model_max_length = 77
    ids = {"eos_token_id": words.eos_token_id, "bos_token_id": words.bos_token_id}
    parts: dict[str, Callable[[], Any]] = {
        "transformer": lambda: SD3Transformer2DModel(**NETWORKS["sd35-medium"][1]),
        "vae": lambda: AutoencoderKL(**VAE, scaling_factor=1.5305, shift_factor=0.0609),
        "text_encoder": lambda: CLIPTextModelWithProjection(CLIPTextConfig(**LARGE_CLIP, **ids)),
        "text_encoder_2": lambda: CLIPTextModelWithProjection(CLIPTextConfig(**BIG_CLIP, **ids)),
    }
    index = {"_class_name": "StableDiffusion3Pipeline", "tokenizer_3": [None, None]}
    index["text_encoder_3"] = [None, None]
    if with_t5:
        settings = T5Config(**T5, is_encoder_decoder=False, use_cache=False)
        parts["text_encoder_3"] = lambda: T5EncoderModel(settings)
        t5()["tokenizer"].save_pretrained(folder / "tokenizer_3")
        for name in ("text_encoder_3", "tokenizer_3"):
            index[name] = ["transformers", "T5"]
    for name, make in parts.items():
        if not (folder / name).is_dir():
            drawn(make).save_pretrained(folder / name)
            gc.collect()
    for name in ("tokenizer", "tokenizer_2"):
        words.save_pretrained(folder / name)
    FlowMatchEulerDiscreteScheduler(shift=3.0).save_pretrained(folder / "scheduler")
    (folder / "model_index.json").write_text(json.dumps(index))


def drawn(make: Callable[[], Any]) -> Any:
    """Return a network in bf16 with small random weights, drawn where they will stay."""
    with torch.device("meta"):
        net = make().to(torch.bfloat16)
    net = net.to_empty(device="cpu")
    torch.manual_seed(0)
    with torch.no_grad():
        for name, value in [*net.named_parameters(), *net.named_buffers()]:
            if value.is_floating_point():
                value.normal_(0, 0.02)
                value.add_(name.endswith("norm.weight") or "norm_" in name)
            elif "position" in name:
                value.copy_(torch.arange(value.numel()).reshape(value.shape))
    return net


def main() -> None:
    """Write the folder, or pass a picture and print seconds and memory."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--without-t5", action="store_true")
    parser.add_argument("--write", action="store_true", help="write the folder and end")
    parser.add_argument("--resolution", type=int, default=1024)
    asked = parser.parse_args()
    if asked.write:
        write(asked.folder, not asked.without_t5)
        return
    lab = Lab(asked.folder, store=mkdtemp(prefix="fslab-bench-"), precision="bf16")
    side = asked.resolution
    pixels = np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
    extract = partial(lab.extract, Picture(pixels), resolution=side, prompt="a photo of a dog")
    found = timed("listing", lab.layers)
    print(f"{len(found)} layers")
    timed("first pass to the middle block, all parts loaded", partial(extract, MIDDLE))
    timed("pass to the middle block", partial(extract, MIDDLE, seed=1))
    timed("pass to the last block", partial(extract, LAST, seed=2))


def timed(what: str, call: Callable[[], Any]) -> Any:
    """Call, print how long it took and the most that the process has held since it began."""
    start = time.perf_counter()
    found = call()
    seconds = time.perf_counter() - start
    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{what}: {seconds:.1f} s, at most {held:.1f} GiB", flush=True)
    return found


if __name__ == "__main__":
    main()
