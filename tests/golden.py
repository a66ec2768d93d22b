"""What each versioned maker of fslab gives for an easy input, and what it gave when it got its version.

    python tests/golden.py --write

writes golden.json anew for makers whose version was raised, and for new ones. A maker whose results
changed and whose version did not is refused: keys of the store would not tell the two apart.
Numbers are compared with a tolerance, as processors and libraries differ in the last bits; labels
are those of inputs on which no pixel is near a border between two.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from conftest import CELL_METHODS, clustering_by

import fslab
from fslab.backbones import (
    Diffusion,
    Handmade,
    Rgb,
    concept_maps,
    from_module,
    word_attentions,
    word_keys,
    word_readings,
)
from fslab.backbones.module import OwnNetwork
from fslab.backbones.vision import VisionTransformer
from fslab.captions import candidates, load_captioner
from fslab.cluster import cluster, edges
from fslab.datasets import VOC
from fslab.keys import default_of
from fslab.lab import Lab
from fslab.lab.words import evidence_asked
from fslab.match import (
    Patches,
    consistency,
    load_matcher,
    name_segments,
    read_regions,
    region_keys,
    score_segments,
    spread_beliefs,
    walk_beliefs,
)
from fslab.parts import Registry, identity
from fslab.records import (
    Captioning,
    Clustering,
    Extraction,
    Features,
    KMeans,
    LabelMap,
    Matching,
    Picture,
    Reading,
    Refinement,
    Regions,
    Segments,
    clustering,
    refinement,
)
from fslab.refine import refine, walk
from fslab.score import score_image
from fslab.tune import contours, divergence, silhouette, stability
from fslab.weights.digests import file_digest

FILE = Path(__file__).with_name("golden.json")
TOLERANCE = 2e-3
"""Of the largest number of an array: far above rounding, far below what a change of code does."""

Outputs = dict[str, Any]
CASES: dict[Callable[..., Any], tuple[Any, Callable[[Path], Outputs]]] = {}
"""By maker: the record, or the methods with records, whose defaults it reads, and what it gives."""


def case(maker: Callable[..., Any], record: Any = None) -> Callable[[Any], Any]:
    def take(run: Callable[[Path], Outputs]) -> Callable[[Path], Outputs]:
        CASES[maker] = record, run
        return run

    return take


def picture() -> Picture:
    """Return a red square on green, with a blue edge: no two colours are near each other."""
    pixels = np.zeros((64, 64, 3), np.uint8)
    pixels[:] = 30, 160, 40
    pixels[16:48, 16:48] = 200, 30, 30
    pixels[:, 56:] = 20, 40, 180
    return Picture(pixels, "golden")


def truth() -> np.ndarray:
    found = np.zeros((64, 64), np.uint8)
    found[16:48, 16:48], found[:, 56:] = 2, 7
    return found


def features(shape: tuple[int, int] = (8, 8)) -> Features:
    """Return cells of three kinds, as the picture has them, with a little of its place in each."""
    h, w = shape
    kinds = truth()[:: 64 // h, :: 64 // w]
    rows, columns = np.mgrid[:h, :w] / 100
    maps = np.stack([kinds == 0, kinds == 2, kinds == 7, rows, columns]).astype(np.float32)
    return Features({"up": maps}, (64, 64), "golden")


@cache
def lab() -> Lab:
    return Lab("mini", device="cpu", precision="fp32")


def some(array: Any) -> np.ndarray:
    """Return at most 256 numbers of an array, evenly spaced."""
    flat = np.asarray(array, np.float64).ravel()
    return flat[:: max(1, len(flat) // 256)][:256]


@case(Diffusion, Extraction)
def _diffusion(folder: Path) -> Outputs:
    backbone = lab().backbone
    settings = Extraction(timesteps=(300,), precision="fp32")
    layers = ["mid_block", "up_blocks.1"]
    size = backbone.input_size(picture(), settings)
    maps = backbone.run(picture(), size, {300: layers}, settings)
    return {
        "latent": some(backbone.latent(picture(), size, settings)),
        "texts": some(backbone.embed_texts(["a dog"])),
        **{path: some(value) for (path, _), value in maps.items()},
    }


@case(VisionTransformer, Extraction)
def _vision(folder: Path) -> Outputs:
    from models import save_vision

    place = save_vision(folder, "vit")
    _write_waves(place)
    backbone = VisionTransformer(place)
    path = backbone.default_layers[0]
    maps = backbone.run(picture(), (64, 64), {0: [path]}, Extraction(precision="fp32"))
    return {"last": some(maps[path, 0])}


@case(OwnNetwork)
def _own_network(folder: Path) -> Outputs:
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 8, 8))
    with torch.no_grad():
        for tensor in net.parameters():
            tensor.copy_(torch.cos(torch.arange(tensor.numel())).reshape(tensor.shape))
    backbone = from_module(net, _scaled, resolution=64, multiple=8, name="golden")
    maps = backbone.run(picture(), (64, 64), {0: ["0"]}, Extraction(precision="fp32"))
    return {"last": some(maps["0", 0])}


def _scaled(pixels: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(pixels / np.float32(255)).permute(2, 0, 1)


def _write_waves(folder: Path) -> None:
    """Write weights that no library's way of drawing numbers decides."""
    from safetensors.torch import load_file, save_file

    for path in sorted(folder.rglob("*.safetensors")):
        waves = {
            name: 0.1 * torch.cos(torch.arange(value.numel()) * 0.7).reshape(value.shape)
            for name, value in load_file(path).items()
        }
        save_file(waves, path, metadata={"format": "pt"})


@case(Rgb)
def _rgb(folder: Path) -> Outputs:
    return _described(Rgb())


@case(Handmade)
def _handmade(folder: Path) -> Outputs:
    return _described(Handmade())


def _described(backbone: Rgb | Handmade) -> Outputs:
    maps = backbone.run(picture(), (64, 64), {0: list(backbone.channels)}, Extraction())
    return {path: some(value) for (path, _), value in maps.items()}


@case(word_attentions, Extraction)
def _attention(folder: Path) -> Outputs:
    asked = Extraction(
        layers=("*attn2.to_q",), timesteps=(300,), prompt="a photo of a dog", precision="fp32"
    )
    (maps,) = word_attentions(lab().backbone, [(picture(), ["dog"], asked)], (64, 64))
    return {"dog": some(maps)}


@case(word_readings, Reading)
def _readings(folder: Path) -> Outputs:
    prompt = "a photo of a dog and a sky"
    asked = Extraction(layers=("*attn2.to_q",), timesteps=(300,), prompt=prompt, precision="fp32")
    whole = Reading(("sky",), "words", "agreement", "likeness", 1.0, True, 2)
    found = {}
    for name, reading in {"usual": Reading(("sky",)), "whole": whole}.items():
        (maps,) = word_readings(lab().backbone, [(picture(), ["dog"], asked, reading)], (64, 64))
        found[name] = some(maps)
    return found


@case(concept_maps, Extraction)
def _concepts(folder: Path) -> Outputs:
    import transformers_tiny

    from fslab.backbones import open_backbone

    place = transformers_tiny.save(folder / "sd3", "sd3")
    _write_waves(place)
    asked = Extraction(
        layers=("*to_text",), timesteps=(300,), prompt="a photo of a dog", precision="fp32"
    )
    maps = concept_maps(open_backbone(place), picture(), (64, 64), ["dog", "cat"], asked)
    return {"concepts": some(maps)}


@case(word_keys)
def _word_keys(folder: Path) -> Outputs:
    backbone = lab().backbone
    path = next(each.path for each in backbone.layers() if each.path.endswith("attn2.to_q"))
    return {"dog": some(word_keys(backbone, path, ["dog"], "fp32"))}


@case(load_captioner, Captioning)
def _caption(folder: Path) -> Outputs:
    pixels = fslab.read(fslab.checkout("data/minivoc/JPEGImages/val_0000.png")).pixels
    asked = {"max_new_tokens": 20, "beams": 1, "prompt": "", "min_length": 0, "max_length": None}
    return {"caption": lab().captioner.caption(pixels, **asked)}


@case(candidates, Captioning)
def _candidates(folder: Path) -> Outputs:
    text = "two dogs and a tv monitor near some grass"
    by_name, _ = candidates(text, VOC, Captioning(mapping="name"))
    opened, vocabulary = candidates(text, VOC, Captioning(words="open"))
    return {
        "nouns": list(by_name.nouns), "by name": list(by_name.candidates),
        "open": list(opened.candidates), "names": list(vocabulary.names[21:]),
    }  # fmt: skip


@case(load_matcher)
def _matcher(folder: Path) -> Outputs:
    matcher = lab().matcher
    return {
        "images": some(matcher.encode_images([picture().pixels])),
        "texts": some(matcher.encode_texts(["a dog", "a car"])),
        "states": some(matcher.mean_states(["a dog"])),
        "scale": some([matcher.scale]),
    }


def _segments() -> Segments:
    return Segments(np.unique(truth(), return_inverse=True)[1].reshape(64, 64).astype(np.int32))


@case(score_segments, Matching)
def _scores(folder: Path) -> Outputs:
    found = score_segments(
        picture(), _segments(), VOC, ["dog", "bird", "car"], Matching(), lab().matcher
    )
    return {"probabilities": some(found.probabilities), "assigned": found.assigned.tolist()}


@case(read_regions, Regions)
def _regions(folder: Path) -> Outputs:
    patches = Patches(picture(), lab().matcher)
    scoped = Matching(
        regions="scoped", regions_earlier=1.0, regions_token=0.5, regions_merge=0.2,
        regions_scale=1.5, regions_window=1.0,
    )  # fmt: skip
    tokens = Matching(regions="tokens", regions_apart=0.07, regions_scale=2.0)
    return {
        one.regions: some(read_regions(patches, _segments(), one, features()).vectors)
        for one in (scoped, tokens)
    }


@case(region_keys)
def _region_keys(folder: Path) -> Outputs:
    return {"keys": some(region_keys(features(), _segments()))}


@case(evidence_asked, Matching)
def _evidence(folder: Path) -> Outputs:
    rule = Matching(attention=2.0, assignment="vote")
    read = Extraction(resolution=48, squash=True, precision="fp32")
    ((words, how),) = evidence_asked(["dog", "cat", "dog"], rule, lab().backbone, read)
    return {"words": words, **how}


@case(name_segments, Matching)
def _names(folder: Path) -> Outputs:
    from fslab.match import Match

    def score(one: Segments) -> Match:
        probabilities = np.array([[0.1, 0.9], [0.8, 0.2], [0.2, 0.8]], np.float32)
        return Match(probabilities, ("dog", "sky"), np.array([0, 12, 0]), 1)

    rule = Matching(assignment="vote")
    found = name_segments(picture(), _segments(), VOC, ["dog"], rule, score, lambda: {})
    return {
        "labels": found.labels[::8, ::8].tolist(), "scores": some(list(found.scores.values())),
        "beliefs": some(list(found.beliefs.values())),
    }  # fmt: skip


@case(spread_beliefs, Matching)
def _spread(folder: Path) -> Outputs:
    cells = features()["up"].reshape(5, -1).T
    alike = np.exp(-((cells[:, None] - cells[None]) ** 2).sum(-1) * 8)
    looks = (alike / alike.sum(1, keepdims=True)).astype(np.float32).reshape(64, 8, 8)
    dog = np.where(truth() == 2, 0.8, 0.3).astype(np.float32)
    dog[20:30, 20:30] = 0.4
    labels = (12 * (dog > 0.5)).astype(np.uint8)
    given = LabelMap(labels, VOC.names, {"dog": 0.8}, {0: 1 - dog, 12: dog})
    settings = Matching(assignment="vote", spread_layers=("attn1.probs",))
    found = spread_beliefs(given, Features({"attn1.probs": looks}, (64, 64)), settings)
    return {"beliefs": some(found.beliefs[12])}


@case(edges)
def _edges(folder: Path) -> Outputs:
    cells = features()["up"].reshape(5, -1).T
    alike = np.exp(-((cells[:, None] - cells[None]) ** 2).sum(-1) * 8)
    looks = (alike / alike.sum(1, keepdims=True)).astype(np.float32).T.reshape(64, 8, 8)
    return {"edges": some(edges(Features({"attn1.probs": looks}, (64, 64))))}


@case(walk_beliefs, Matching)
def _walked_beliefs(folder: Path) -> Outputs:
    dog = np.where(truth() == 2, 0.8, 0.3).astype(np.float32)
    labels = (12 * (dog > 0.5)).astype(np.uint8)
    given = LabelMap(labels, VOC.names, {"dog": 0.8}, {0: 1 - dog, 12: dog})
    settings = Matching(assignment="vote", spread_trust=0.05)
    return {"beliefs": some(walk_beliefs(picture(), given, settings).beliefs[12])}


@case(consistency)
def _consistent(folder: Path) -> Outputs:
    cells = features()["up"].reshape(5, -1).T
    alike = np.exp(-((cells[:, None] - cells[None]) ** 2).sum(-1) * 8)
    looks = (alike / alike.sum(1, keepdims=True)).astype(np.float32).reshape(8, 8, 8, 8)
    kinds = truth()[::8, ::8]
    maps = np.stack([np.where(kinds == kind, 0.8, 0.1) for kind in (2, 7)]).astype(np.float32)
    return {"agreement": some(consistency(maps, looks))}


@case(cluster, clustering)
def _clusters(folder: Path) -> Outputs:
    given, cells = features(), features()["up"].reshape(5, -1).T
    alike = np.exp(-((cells[:, None] - cells[None]) ** 2).sum(-1) * 8)
    attention = (alike / alike.sum(1, keepdims=True)).astype(np.float32).reshape(64, 8, 8)
    found = {
        method: cluster(given, clustering_by(method, k=3)).labels[4::8, 4::8]
        for method in CELL_METHODS
    }
    merged = Features({"attn1.probs": attention}, (64, 64), "golden")
    found["merge"] = cluster(merged, Clustering.of("merge")).labels[4::8, 4::8]
    chosen = Clustering.of(k=5, k_is="silhouette")
    found["silhouette"] = cluster(given, chosen).labels[4::8, 4::8]
    return {name: _numbered(labels) for name, labels in found.items()}


def _numbered(labels: np.ndarray) -> list[Any]:
    """Return labels numbered as they come, row by row: which number a cluster has says nothing."""
    seen: dict[int, int] = {}
    return [[seen.setdefault(int(each), len(seen)) for each in row] for row in labels]


@case(refine, refinement)
def _refined(folder: Path) -> Outputs:
    given = np.zeros((64, 64), np.uint8)
    given[12:44, 20:52], given[:, 52:] = 2, 7  # beside the edges
    labels = LabelMap(given, VOC.names)
    methods = ("crf", "crf-joint", "pamr")
    return {
        method: refine(picture(), labels, Refinement.of(method)).labels[::4, ::4].tolist()
        for method in methods
    }


@case(walk)
def _walked(folder: Path) -> Outputs:
    belief = np.full((64, 64), 0.2, np.float32)
    belief[12:44, 20:52] = 0.9
    return {"beliefs": some(walk(picture().pixels, np.stack([1 - belief, belief]), grid=32)[1])}


@case(score_image)
def _score(folder: Path) -> Outputs:
    guess = np.roll(truth(), 3, 0)
    return score_image(truth(), VOC.names, guess, _segments()).to_dict()


@case(silhouette)
def _silhouette(folder: Path) -> Outputs:
    return {"value": silhouette(features(), _segments(), KMeans(normalise="l2"))}


@case(stability)
def _stability(folder: Path) -> Outputs:
    turned = Segments(np.ascontiguousarray(_segments().labels[:, ::-1]))
    return {"value": stability(_segments(), (_segments(), turned))}


@case(contours)
def _contours(folder: Path) -> Outputs:
    return {"value": contours(picture(), _segments())}


@case(divergence)
def _divergence(folder: Path) -> Outputs:
    alike = np.exp(-np.abs(np.subtract.outer(np.arange(16), np.arange(16))))
    first, second = (alike**power for power in (1.0, 0.5))
    maps = [(each / each.sum(0)).astype(np.float32).reshape(16, 4, 4) for each in (first, second)]
    both = [Features({"attn1.probs": each}, (64, 64), "golden") for each in maps]
    return {"value": divergence((both[0], both[1]))}


@case(file_digest)
def _file(folder: Path) -> Outputs:
    path = folder / "file"
    path.write_bytes(b"golden")
    return {"sha256": file_digest(path)}


def defaults(record: Any) -> dict[str, Any]:
    """Return a record's defaults, or those of each method's."""
    if isinstance(record, Registry):
        parts = record.items()
        return {name: defaults(part.settings) for name, part in parts if part.version is not None}
    return {} if record is None else {each.name: repr(default_of(each)) for each in fields(record)}


def found(maker: Callable[..., Any], folder: Path) -> dict[str, Any]:
    """Return what is filed of a maker."""
    record, run = CASES[maker]
    outputs = {
        name: np.round(value, 6).tolist() if isinstance(value, np.ndarray) else value
        for name, value in run(folder).items()
    }
    return json.loads(
        json.dumps({"by": identity(maker), "defaults": defaults(record), "outputs": outputs})
    )


def differs(now: dict[str, Any], then: dict[str, Any]) -> list[str]:
    """Return what is not as it was: outputs by name, and defaults that there were."""
    changed = _other_defaults(then["defaults"], now["defaults"])
    outputs = then["outputs"], now["outputs"]
    return changed + [name for name in {**outputs[0], **outputs[1]} if not _alike(*outputs, name)]


def _other_defaults(then: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Return defaults that are not as they were; settings and methods that came are none."""
    found = []
    for name, value in then.items():
        if isinstance(value, dict):
            found += [f"{name}.{each}" for each in _other_defaults(value, now.get(name, {}))]
        elif now.get(name) != value:
            found.append(name)
    return found


def _alike(then: Outputs, now: Outputs, name: str) -> bool:
    if name not in then or name not in now:
        return False
    one, other = then[name], now[name]
    if not (isinstance(one, list) and one and isinstance(one[0], float)):
        return one == other
    if not isinstance(other, list) or len(one) != len(other):
        return False
    scale = max(map(abs, one)) or 1.0
    return bool(np.allclose(one, other, rtol=0, atol=TOLERANCE * scale))


def write(folder: Path) -> None:
    """Write what makers of new versions give, and refuse those that kept theirs and changed."""
    known = json.loads(FILE.read_text()) if FILE.exists() else {}
    filed = {}
    for maker in CASES:
        now = found(maker, folder)
        name, _, _ = now["by"].rpartition("@")
        then = known.get(name)
        if then and then["by"] == now["by"] and differs(now, then):
            raise SystemExit(f"{now['by']} gives other {differs(now, then)}: raise its version")
        filed[name] = then if then and then["by"] == now["by"] else now
    FILE.write_text(
        json.dumps(filed, indent=None, separators=(",", ":")).replace('},"fslab', '},\n"fslab')
        + "\n"
    )


if __name__ == "__main__":
    import tempfile

    if sys.argv[1:] != ["--write"]:
        raise SystemExit(__doc__)
    with tempfile.TemporaryDirectory() as place:
        write(Path(place))
