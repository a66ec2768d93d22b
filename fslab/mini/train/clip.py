"""CLIP: names single objects, grounds and whole scenes; low resolution first, then full."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Generator, Tensor
from torch.nn import functional as F
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

from fslab.datasets import VOC, VOC_CLASSES
from fslab.mini.captions import GROUND_WORDS, OBJECT_WORDS, PROMPTS, caption
from fslab.mini.grounds import GROUND_NAMES
from fslab.mini.train import augment
from fslab.mini.train.loop import Training
from fslab.mini.train.optim import make_optimizers, set_rate
from fslab.mini.train.pools import SEED, Pool
from fslab.mini.train.tokens import LENGTH, make_clip_tokenizer

IMAGE, PATCH, WIDTH = 64, 8, 160
VISION_TOWER = {
    "hidden_size": WIDTH,
    "intermediate_size": 4 * WIDTH,
    "num_hidden_layers": 5,
    "num_attention_heads": 5,
    "image_size": IMAGE,
    "patch_size": PATCH,
}
"""The shape of CLIP's vision tower, and of BLIP's, which starts from it."""
NOUNS = (*VOC_CLASSES[1:], *GROUND_NAMES)
"""What pictures are labelled with: 20 classes, then 10 grounds."""
GROUND_WEIGHT = 0.15
"""How much a ground counts in a label beside objects."""
STAGES = ((0.4, 32, 224), (0.75, 48, 160), (1.0, 64, 112))
"""Until which share of the time, at which side in pixels, in which batches."""
OFTEN = {"bird": 3.0, "cat": 2.5, "dog": 2.5, "horse": 2.0, "cow": 1.5, "sheep": 1.5}
"""How often single objects of a class are shown beside those of another: animals look alike."""
RATE = 2.5e-3
HOLD = 0.15
"""Share of the time after which the learning rate falls."""


@dataclass(frozen=True, eq=False)
class ClipPools:
    """Where CLIP's training pictures come from."""

    singles: Pool
    grounds: Pool
    scenes: Pool


def make_clip(tokenizer: CLIPTokenizer) -> CLIPModel:
    """Return the untrained model: vision 160 x 5, text 128 x 3, joint space 128."""
    shared = {"hidden_act": "gelu", "projection_dim": 128}
    config = CLIPConfig(
        text_config={
            **shared,
            "vocab_size": len(tokenizer),
            "hidden_size": 128,
            "intermediate_size": 512,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "max_position_embeddings": LENGTH,
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
        },
        vision_config={
            **shared,
            **VISION_TOWER,
        },
        projection_dim=128,
    )
    config._attn_implementation = "eager"  # the fused attention's backward is slow on CPUs
    clip = CLIPModel(config)
    start_positions(clip)
    return clip


@torch.no_grad()
def start_positions(clip: CLIPModel) -> None:
    """Start the vision tower's positions as sines and cosines of row and column."""
    grid, quarter = IMAGE // PATCH, WIDTH // 4
    rates = 1 / 100 ** (torch.arange(quarter) / quarter)
    places = torch.arange(grid)[:, None] * rates[None]
    waves = torch.cat([places.sin(), places.cos()], 1)
    rows = waves[:, None].expand(grid, grid, -1)
    columns = waves[None].expand(grid, grid, -1)
    table = clip.vision_model.embeddings.position_embedding.weight
    table[1:] = 0.3 * torch.cat([rows, columns], -1).reshape(grid * grid, -1)


def spoken(noun: str) -> tuple[str, ...]:
    """Return every way to say a class or ground, those of captions first."""
    if noun in GROUND_WORDS:
        return GROUND_WORDS[noun]
    other = (VOC.spoken.get(noun, noun), *VOC.synonyms.get(noun, ()))
    return tuple(dict.fromkeys((*OBJECT_WORDS[noun], *other)))


def noun_prompts(rng: np.random.Generator) -> list[str]:
    """Say each noun once, each in a random sentence and word."""
    prompts = []
    for noun in NOUNS:
        words = spoken(noun)
        word = words[0] if rng.random() < 0.4 else words[int(rng.integers(len(words)))]
        prompts.append(PROMPTS[int(rng.integers(len(PROMPTS)))].format(word))
    return prompts


def encode_text(clip: CLIPModel, tokenizer: CLIPTokenizer, texts: list[str]) -> Tensor:
    """Return unit text features, f32 [B, C]."""
    tokens = tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
    return F.normalize(clip.get_text_features(**tokens).pooler_output.float(), dim=-1)


def encode_pictures(clip: CLIPModel, pictures: Tensor) -> Tensor:
    """Return unit picture features, f32 [B, C], of RGB [B, 3, h, w] in 0..1."""
    with torch.autocast("cpu", torch.bfloat16):
        features = clip.get_image_features(
            augment.normalise(pictures), interpolate_pos_encoding=pictures.shape[-1] != IMAGE
        )
    return F.normalize(features.pooler_output.float(), dim=-1)


def train_clip(out: Path, pools: ClipPools, seconds: float) -> tuple[CLIPModel, CLIPTokenizer]:
    """Train for so many seconds in all; resumes from `out`."""
    torch.manual_seed(SEED)
    tokenizer = make_clip_tokenizer()
    clip = make_clip(tokenizer)
    optimizers = make_optimizers(clip, RATE, RATE / 2, 0.05)
    run = Training(out, {"clip": clip}, optimizers, seconds)
    for step, share in run.steps():
        set_rate(optimizers, rate(step, share))
        batch = _batch(np.random.default_rng([SEED, 5, step]), pools, share)
        losses = _step(clip, tokenizer, optimizers, batch, share)
        run.count(len(batch.pictures), **losses)
    run.finish()
    return clip.eval(), tokenizer


def rate(step: int, share: float) -> float:
    """Return the learning rate's factor: 80 steps of warm-up, then a cosine from `HOLD` on."""
    fall = 0.5 + 0.5 * math.cos(math.pi * max(0.0, share - HOLD) / (1 - HOLD))
    return min(1.0, (step + 1) / 80) * max(fall, 0.005)


@dataclass(frozen=True, eq=False)
class _Batch:
    """Pictures [B, 3, h, w], the share of each noun [B, 30], captions and noun prompts."""

    pictures: Tensor
    labels: Tensor
    captions: list[str]
    prompts: list[str]


def _batch(rng: np.random.Generator, pools: ClipPools, share: float) -> _Batch:
    side, size = next((side, size) for until, side, size in STAGES if share <= until)
    scene_share = 0.0 if share < 0.15 else 0.12 if share < 0.5 else 0.25
    scenes, grounds = round(size * scene_share), round(size * 0.14)
    torch_rng = Generator().manual_seed(int(rng.integers(2**62)))
    parts = [
        _singles(rng, torch_rng, pools.singles, size - scenes - grounds, side),
        _grounds(rng, torch_rng, pools.grounds, grounds, side),
    ]
    if scenes:
        parts.append(_scenes(rng, torch_rng, pools.scenes, scenes, side))
    pictures = torch.cat([part[0] for part in parts])
    pictures = augment.erase(pictures, torch_rng)
    labels = torch.cat([part[1] for part in parts])
    captions = [text for part in parts for text in part[2]]
    return _Batch(pictures, labels, captions, noun_prompts(rng))


_Part = tuple[Tensor, Tensor, list[str]]


def choose_singles(rng: np.random.Generator, count: int, size: int) -> np.ndarray:
    """Draw `size` rows, int64, of a pool of `count` single objects: its classes stand in turn."""
    often = np.array([OFTEN.get(name, 1.0) for name in VOC_CLASSES[1:]])
    rounds = rng.integers(0, -(-count // len(often)), size)
    turns = rng.choice(len(often), size, p=often / often.sum())
    return np.sort((rounds * len(often) + turns) % count)


def _singles(
    rng: np.random.Generator, torch_rng: Generator, pool: Pool, size: int, side: int
) -> _Part:
    chosen = choose_singles(rng, len(pool["pixels"]), size)
    batch = augment.as_batch(pool["pixels"][chosen])
    batch = augment.warp(batch, side, torch_rng)
    pictures = augment.stylise(augment.blur(batch[:, :3], torch_rng), torch_rng)
    pictures = augment.recolour(pictures, torch_rng)
    pictures = augment.region_views(pictures, augment.holes(batch[:, 3:], torch_rng), torch_rng)
    classes = pool["classes"][chosen].astype(np.int64)
    labels = F.one_hot(torch.from_numpy(classes - 1), len(NOUNS)).float()
    return pictures, labels, [caption(rng, [VOC_CLASSES[one]], (), (), 0) for one in classes]


def _grounds(
    rng: np.random.Generator, torch_rng: Generator, pool: Pool, size: int, side: int
) -> _Part:
    chosen = np.sort(rng.integers(0, len(pool["pixels"]), size))
    batch = augment.as_batch(pool["pixels"][chosen])
    pictures = augment.blur(augment.warp(batch, side, torch_rng), torch_rng)
    part = (augment.smooth_noise((size, side, side), 4, torch_rng) > 0.42).float()
    pictures = augment.recolour(pictures, torch_rng, 0.2)  # colour is much of what a ground is
    pictures = augment.region_views(pictures, part, torch_rng)
    grounds = torch.from_numpy(pool["grounds"][chosen].astype(np.int64))
    labels = F.one_hot(grounds + 20, len(NOUNS)).float()
    return pictures, labels, [f"a photo of {GROUND_NAMES[int(one)]}" for one in grounds]


def _scenes(
    rng: np.random.Generator, torch_rng: Generator, pool: Pool, size: int, side: int
) -> _Part:
    chosen = np.sort(rng.integers(0, len(pool["pixels"]), size))
    batch = augment.as_batch(pool["pixels"][chosen])
    pictures = augment.warp(F.interpolate(batch, (64, 64), mode="area"), side, torch_rng, 0.4)
    pictures = augment.recolour(pictures, torch_rng, 0.5)
    labels, captions = torch.zeros(size, len(NOUNS)), []
    for row, index in enumerate(chosen):
        objects = [int(one) for one in pool["objects"][index] if one]
        grounds = [int(one) - 1 for one in pool["grounds"][index] if one]
        labels[row, [one - 1 for one in objects]] = 1
        labels[row, [one + 20 for one in grounds]] = GROUND_WEIGHT
        names = [VOC_CLASSES[one] for one in objects]
        captions.append(caption(rng, names, [GROUND_NAMES[one] for one in grounds], (), 0.3))
    return pictures, labels / labels.sum(1, keepdim=True), captions


def _step(
    clip: CLIPModel,
    tokenizer: CLIPTokenizer,
    optimizers: list[torch.optim.Optimizer],
    batch: _Batch,
    share: float,
) -> dict[str, float]:
    """Take one step on the noun loss, from half-way on also on CLIP's own contrastive loss."""
    features = encode_pictures(clip, batch.pictures)
    scale = clip.logit_scale.exp().clamp(max=100)
    logits = scale * features @ encode_text(clip, tokenizer, batch.prompts).T
    loss = nouns = -(batch.labels * logits.log_softmax(1)).sum(1).mean()
    if share > 0.5:
        likeness = scale * features @ encode_text(clip, tokenizer, batch.captions).T
        own = torch.arange(len(likeness))
        pairs = F.cross_entropy(likeness, own) + F.cross_entropy(likeness.T, own)
        loss = nouns + 0.05 * pairs
    for optimizer in optimizers:
        optimizer.zero_grad(set_to_none=True)
    loss.backward()
    for optimizer in optimizers:
        optimizer.step()
    hits = logits.argmax(1) == batch.labels.argmax(1)
    return {"loss": loss.item(), "nouns": nouns.item(), "hits": hits.float().mean().item()}
