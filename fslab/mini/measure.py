"""Measure the bundled models on mini-VOC: `python -m fslab.mini.measure data/minivoc --split val`.

CLIP names true objects, BLIP names what is there, and cross-attention points at nouns (beside the
same maps of an untrained network). Masks serve here only to ask and to check.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from transformers import (
    BertTokenizer,
    BlipForConditionalGeneration,
    BlipImageProcessorPil,
    CLIPImageProcessorPil,
    CLIPModel,
    CLIPTokenizer,
)

from fslab.datasets import VOC_CLASSES, voc
from fslab.mini.captions import GROUND_WORDS, OBJECT_WORDS, plain_caption
from fslab.mini.train.unet import make_scheduler, make_unet

if TYPE_CHECKING:
    from diffusers.models.attention_processor import Attention

WEIGHTS = Path(__file__).parent / "weights"
PROMPTS = ("a photo of a {}.", "a picture of a {}.", "a {}")
THRESHOLDS = np.arange(0.2, 0.85, 0.05)
TIMESTEP, DRAWS = 300, 4
"""Where cross-attention is read, and over how many draws of noise it is averaged."""

Sample = tuple[np.ndarray, np.ndarray]
"""Pixels u8 [H, W, 3] and mask u8 [H, W]."""


def classes_in(mask: np.ndarray, least: int = 60) -> list[int]:
    """List the VOC ids with at least so many pixels, the largest area first."""
    areas = np.bincount(mask.ravel(), minlength=256)[1:21]
    return [int(one) + 1 for one in np.argsort(-areas) if areas[one] >= least]


def crop(pixels: np.ndarray, inside: np.ndarray) -> Image.Image:
    """Cut a region out on the picture's mean colour, square, with a tenth of margin."""
    mean = pixels.mean((0, 1))
    shown = np.where(inside[..., None], pixels, mean).astype(np.uint8)
    rows, columns = np.nonzero(inside)
    half = 0.6 * max(np.ptp(rows), np.ptp(columns)) + 0.5
    middle = (rows.min() + rows.max()) / 2, (columns.min() + columns.max()) / 2
    pad = inside.shape[0] + inside.shape[1]
    wide = np.stack(
        [np.pad(shown[..., one], pad, constant_values=int(mean[one])) for one in range(3)], 2
    )
    top, left = (round(place - half) + pad for place in middle)
    side = round(2 * half) + 1
    return Image.fromarray(wide[top : top + side, left : left + side])


@torch.no_grad()
def measure_clip(data: list[Sample]) -> dict[str, float]:
    """Return the share of objects that CLIP names rightly among 20 classes and 10 grounds."""
    clip = CLIPModel.from_pretrained(WEIGHTS / "clip", dtype=torch.float32)
    tokenizer = CLIPTokenizer.from_pretrained(WEIGHTS / "clip")
    images = CLIPImageProcessorPil.from_pretrained(WEIGHTS / "clip")
    words = [words[0] for words in (OBJECT_WORDS | GROUND_WORDS).values()]
    texts = [prompt.format(word) for word in words for prompt in PROMPTS]
    tokens = tokenizer(texts, padding=True, return_tensors="pt")
    names = F.normalize(clip.get_text_features(**tokens).pooler_output, dim=-1)
    names = names.view(len(words), len(PROMPTS), -1).mean(1)
    crops, truth = [], []
    for pixels, mask in data:
        for one in classes_in(mask):
            crops.append(crop(pixels, mask == one))
            truth.append(one - 1)
    seen = images(crops, return_tensors="pt").pixel_values
    guess = (clip.get_image_features(seen).pooler_output @ names.T).argmax(1).numpy()
    return {"clip_accuracy": float(np.mean(guess == truth)), "clip_objects": len(truth)}


@torch.no_grad()
def measure_captions(data: list[Sample]) -> dict[str, float]:
    """Return recall and precision of the classes that BLIP's captions name."""
    blip = BlipForConditionalGeneration.from_pretrained(WEIGHTS / "blip", dtype=torch.float32)
    tokenizer = BertTokenizer.from_pretrained(WEIGHTS / "blip")
    images = BlipImageProcessorPil.from_pretrained(WEIGHTS / "blip")
    classes = {
        word: VOC_CLASSES.index(name) for name, words in OBJECT_WORDS.items() for word in words
    }
    right = told = there = 0
    for pixels, mask in data:
        seen = images(Image.fromarray(pixels), return_tensors="pt").pixel_values
        ids = blip.generate(pixel_values=seen, max_new_tokens=28)
        text = tokenizer.decode(ids[0], skip_special_tokens=True)
        named = {classes[word] for word in text.split() if word in classes}
        true = set(classes_in(mask, 1))
        right, told, there = right + len(named & true), told + len(named), there + len(true)
    return {"noun_recall": right / there, "noun_precision": right / max(1, told)}


class _Watch:
    """Attention computed plainly, keeping cross-attention's probabilities by layer."""

    def __init__(self, kept: list[Tensor]) -> None:
        self.kept = kept

    def __call__(
        self,
        attention: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        **unused: object,
    ) -> Tensor:
        read = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        query, key, value = (
            attention.head_to_batch_dim(part)
            for part in (attention.to_q(hidden_states), attention.to_k(read), attention.to_v(read))
        )
        shares = attention.get_attention_scores(query, key)
        if encoder_hidden_states is not None:
            self.kept.append(shares.mean(0))
        given: Tensor = attention.to_out[0](attention.batch_to_head_dim(shares @ value))
        return given


@torch.no_grad()
def measure_attention(data: list[Sample], trained: bool) -> dict[str, float]:
    """Return how often a noun's map peaks inside its object, and its IoU at the best threshold.

    Maps are those of the layers with the finest cross-attention, each scaled to a peak of one.
    """
    pipe = StableDiffusionPipeline.from_pretrained(
        WEIGHTS / "stable-diffusion", torch_dtype=torch.float32, safety_checker=None
    )
    if not trained:
        torch.manual_seed(0)
        pipe.unet = make_unet()
    hits, overlaps = [], []
    for pixels, mask in data:
        found = classes_in(mask)
        for one, heat in zip(found, noun_maps(pipe, pixels, found), strict=True):
            counted = mask != 255
            peak = np.unravel_index(np.argmax(np.where(counted, heat, -1)), heat.shape)
            hits.append(mask[peak] == one)
            overlaps.append([_overlap(heat > cut, mask == one, counted) for cut in THRESHOLDS])
    name = "attention" if trained else "random_attention"
    best = np.mean(overlaps, axis=0)
    return {
        f"{name}_pointing": float(np.mean(hits)),
        f"{name}_iou": float(best.max()),
        f"{name}_threshold": float(THRESHOLDS[best.argmax()]),
    }


def noun_maps(
    pipe: StableDiffusionPipeline, pixels: np.ndarray, classes: list[int]
) -> list[np.ndarray]:
    """Return one map f32 [H, W] in 0..1 for each class, named together in one caption."""
    text = plain_caption([VOC_CLASSES[one] for one in classes])
    tokens = pipe.tokenizer(text, padding="max_length", return_tensors="pt").input_ids
    features = pipe.text_encoder(tokens).last_hidden_state
    kept: list[Tensor] = []
    pipe.unet.set_attn_processor(dict.fromkeys(pipe.unet.attn_processors, _Watch(kept)))
    clean = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 127.5 - 1
    latents = pipe.vae.encode(clean).latent_dist.mean * pipe.vae.config.scaling_factor
    share = make_scheduler().alphas_cumprod[TIMESTEP]
    rng = torch.Generator().manual_seed(0)
    for _ in range(DRAWS):
        noise = torch.randn(latents.shape, generator=rng)
        pipe.unet(share.sqrt() * latents + (1 - share).sqrt() * noise, TIMESTEP, features)
    finest = max(len(one) for one in kept)
    layers = [one for one in kept if len(one) == finest]
    height, width = (side // 8 for side in pixels.shape[:2])
    maps = []
    for one in classes:
        place = _last_token(pipe.tokenizer, tokens[0].tolist(), OBJECT_WORDS[VOC_CLASSES[one]][0])
        heat = torch.zeros(())
        for layer in layers:
            heat = heat + layer[:, place] / layer[:, place].max()
        heat = heat.view(1, 1, height, width)
        heat = F.interpolate(heat, pixels.shape[:2], mode="bicubic")[0, 0]
        heat = heat - heat.min()
        maps.append((heat / heat.max()).numpy())
    return maps


def _last_token(tokenizer: CLIPTokenizer, ids: list[int], word: str) -> int:
    """Return the place of a word's last token in a caption."""
    wanted = tokenizer(word, add_special_tokens=False).input_ids
    starts = range(len(ids) - len(wanted) + 1)
    return next(at for at in starts if ids[at : at + len(wanted)] == wanted) + len(wanted) - 1


def _overlap(guess: np.ndarray, truth: np.ndarray, counted: np.ndarray) -> float:
    union = ((guess | truth) & counted).sum()
    return float((guess & truth & counted).sum() / max(1, union))


MEASURES: dict[str, Callable[[list[Sample]], dict[str, float]]] = {
    "clip": measure_clip,
    "captions": measure_captions,
    "attention": lambda data: measure_attention(data, True),
    "random": lambda data: measure_attention(data, False),
}


def main() -> None:
    """Command line: a VOC-layout folder of the drawn world and a split; prints JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--split", default="val")
    parser.add_argument("--limit", type=int, help="the first N pictures only")
    parser.add_argument("--only", choices=MEASURES, action="append")
    arguments = parser.parse_args()
    samples = voc(arguments.folder, arguments.split).samples[: arguments.limit]
    read = ((sample.picture().pixels, sample.truth()) for sample in samples)
    data = [(pixels, truth) for pixels, truth in read if truth is not None]
    figures: dict[str, float] = {"scenes": len(data)}
    for name in arguments.only or MEASURES:
        figures |= MEASURES[name](data)
    print(json.dumps({name: round(value, 4) for name, value in figures.items()}))


if __name__ == "__main__":
    main()
