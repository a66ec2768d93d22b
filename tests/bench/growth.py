"""Time and memory as pictures, clusters, sides, threads and batches grow; bf16 against fp32."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import count, cycle, islice
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from contest import Contest, Curve, Setting
from PIL import Image
from threadpoolctl import threadpool_limits
from whole import Ours

from fslab.backbones import pick_layers
from fslab.backbones.latents import prepare
from fslab.datasets import voc
from fslab.evaluate import evaluate
from fslab.lab import Lab
from fslab.records import Picture
from fslab.tap import tap

METHOD = "freeseg-diff"


def benches(setting: Setting) -> Iterator[Curve | Contest]:
    """The recipe on mini, models loaded before, all computed and nothing read from a store."""
    samples = voc("data/minivoc", "val").samples + voc("data/minivoc", "search").samples
    several = 1 if setting.smoke else 8
    pictures = [sample.picture() for sample in samples[:several]]
    ours = Ours(setting.folder)
    what = f"{METHOD} on mini, ms a picture by stage and peak MB"
    sizes = (1, 2) if setting.smoke else (10, 32, 100, 316, 1000)
    yield Curve("growth-pictures", f"{METHOD} on mini, seconds in all by stage and peak MB",
                "pictures", lambda: as_pictures_grow(ours, samples, sizes))  # fmt: skip
    clusters = (2, 3) if setting.smoke else (2, 4, 8, 16, 32)
    yield Curve("growth-clusters", what, "K", lambda: as_clusters_grow(ours, pictures, clusters))
    sides = (64, 96) if setting.smoke else (128, 256, 512, 1024)
    yield Curve("growth-sides", what, "side", lambda: as_sides_grow(ours, pictures[:3], sides))
    yield Curve(
        "growth-threads",
        what,
        "threads",
        lambda: as_threads_grow(ours, pictures, (1,) if setting.smoke else (1, 2)),
        False,
    )
    batches = (1, 2) if setting.smoke else (1, 2, 4, 8, 16, 32)
    yield Curve("growth-batch", "mini, ms a picture, the largest change in the features, other captions",
                "batch", lambda: as_batches_grow(ours.loaded, samples, batches, 1 if setting.smoke else 5), False)  # fmt: skip
    yield half_precision(setting)


def as_pictures_grow(ours: Ours, samples: Sequence[Any], sizes: Sequence[int]) -> list[dict]:
    """Run once over the pictures, the last of them turned to be new, and look at each size."""
    ours.refresh()
    points, turned = [], (n // len(samples) for n in count())
    with peak_memory() as peak:
        for number, sample in enumerate(islice(cycle(samples), max(sizes)), 1):
            picture = sample.picture()
            pixels = np.rot90(picture.pixels, next(turned))
            ours.segment_all([replace(picture, pixels=np.ascontiguousarray(pixels))])
            if number in sizes:
                points.append({"pictures": number, **ours.seconds, "peak MB": peak()})
    return points


def as_clusters_grow(ours: Ours, pictures: list[Picture], sizes: Sequence[int]) -> list[dict]:
    recipe = ours.loaded.recipe(METHOD)
    changed = ((k, recipe.change({"cluster.k": k})) for k in sizes)
    return [{"K": k, **by_stage(ours, pictures, method)} for k, method in changed]


def as_sides_grow(ours: Ours, pictures: list[Picture], sizes: Sequence[int]) -> list[dict]:
    """Enlarge the pictures; the networks' own input stays as it is, as the paper's does."""
    points = []
    for side in sizes:
        images = [Image.fromarray(picture.pixels).resize((side, side)) for picture in pictures]
        larger = [Picture(np.asarray(image)) for image in images]
        points.append({"side": side, **by_stage(ours, larger, METHOD)})
    return points


def as_threads_grow(ours: Ours, pictures: list[Picture], sizes: Sequence[int]) -> list[dict]:
    points, before = [], torch.get_num_threads()
    for threads in sizes:
        torch.set_num_threads(threads)
        with threadpool_limits(threads):
            points.append({"threads": threads, **by_stage(ours, pictures, METHOD)})
    torch.set_num_threads(before)
    return points


@torch.inference_mode()
def as_batches_grow(
    lab: Lab, samples: Sequence[Any], sizes: Sequence[int], calls: int
) -> list[dict]:
    """Pass several pictures at a time through the UNet, to the paper's last layer, CLIP and BLIP."""
    backbone = lab.backbone
    side = backbone.resolution
    pictures = [sample.picture() for sample in samples[: max(sizes)]]
    pixels = torch.cat([prepare(picture, (side, side)) for picture in pictures])
    unet, vae = (backbone.components.load(name, torch.float32) for name in ("unet", "vae"))
    latents = torch.cat([vae.encode(one[None]).latent_dist.mean for one in pixels])
    states, step = backbone.text_states(""), torch.tensor([0])
    paths = [layer.path for layer in pick_layers(backbone.default_layers, backbone.layers())]

    def passes(size: int) -> torch.Tensor:
        found = []
        for batch in latents.split(size):
            with tap(unet, *paths, stop=True) as seen:
                unet(batch, step, states.expand(len(batch), -1, -1))
            found.append(torch.cat(list(seen.values()), -1))
        return torch.cat(found)

    def views(size: int) -> None:
        for start in range(0, len(pictures), size):
            lab.matcher.encode_images([one.pixels for one in pictures[start : start + size]])

    blip = lab.captioner
    given = blip.image_processor(images=[Image.fromarray(one.pixels) for one in pictures],
                                 return_tensors="pt")["pixel_values"]  # fmt: skip

    def captions(size: int) -> list[str]:
        found = []
        for batch in given.split(size):
            tokens = blip.model.generate(batch, max_new_tokens=20, num_beams=1, do_sample=False)
            found += blip.tokenizer.batch_decode(tokens[:, 1:], skip_special_tokens=True)
        return [one.strip() for one in found]

    alone, words, points = passes(1), captions(1), []
    for size in sizes:
        each = {"UNet": passes, "CLIP": views, "BLIP": captions}
        figures = {
            name: timed(partial(call, size), calls) / len(pictures) for name, call in each.items()
        }
        change = float((passes(size) - alone).abs().max())
        other = sum(a != b for a, b in zip(captions(size), words, strict=True))
        points.append({"batch": size, **figures, "change": change, "other captions": other})
    return points


def half_precision(setting: Setting) -> Contest:
    """Time features in bf16 against fp32, and say what becomes of the labels and the score."""
    size = 1 if setting.smoke else 30
    data = voc("data/minivoc", "val").limit(size)
    pictures = [sample.picture() for sample in data]
    ways, labels = (
        {"fp32": Ours(setting.folder / "fp32"), "bf16": Ours(setting.folder / "bf16")},
        {},
    )
    recipe = ways["fp32"].loaded.recipe(METHOD)
    recipes = {name: recipe.change({"extract.precision": name}) for name in ways}

    def run(name: str) -> float:
        ways[name].refresh()
        labels[name] = ways[name].segment_all(pictures, recipes[name])
        return ways[name].seconds["extract"]

    def notes() -> dict[str, Any]:
        pairs = [(a != b).mean() for a, b in zip(labels["fp32"], labels["bf16"], strict=True)]
        scores = {
            name: evaluate(ways[name].lab, data, recipes[name], progress=False).score.miou
            for name in ways
        }
        return {
            "pixels with another label": float(np.mean(pairs)),
            "pictures with another label": sum(bool(pair) for pair in pairs),
            "mini-VOC mIoU": scores,
        }

    return Contest(
        "precision-bf16", f"features in bf16, {METHOD} on mini, {size} pictures", "fp32",
        lambda: run("bf16"), lambda: run("fp32"), None, "of its time",
        seconds_of=lambda call: call(), notes=notes,
    )  # fmt: skip


def by_stage(ours: Ours, pictures: list[Picture], method: Any) -> dict[str, float]:
    """Return the milliseconds a picture of each stage, the median picture's, and peak MB."""
    stages = defaultdict(list)
    ours.refresh()
    ours.segment_all(pictures[:1], method)
    ours.refresh()
    with peak_memory() as peak:
        for picture in pictures:
            for stage, seconds in ours.lab.segment(picture, method).seconds.items():
                stages[stage].append(1000 * seconds)
        return {**{stage: median(each) for stage, each in stages.items()}, "peak MB": peak()}


def timed(call: Callable[[], Any], calls: int) -> float:
    """Return the milliseconds of the median of so many calls."""
    found = []
    for _ in range(calls):
        start = time.perf_counter()
        call()
        found.append(1000 * (time.perf_counter() - start))
    return median(found)


@contextmanager
def peak_memory() -> Iterator[Callable[[], float]]:
    """Give what asks for the megabytes that this process held at its highest since the start."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")

    def peak() -> float:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1000

    yield peak
