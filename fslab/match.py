"""Name segments with CLIP: views of a segment against texts of the classes."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image

from fslab.backbones.weights import load, load_model, load_tokenizer
from fslab.records import VOID, FslabError, LabelMap, Matching, Picture, Segments, Vocabulary

if TYPE_CHECKING:
    from transformers import CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

_BATCH = 256
"""Most texts or views in one pass, to bound memory: far above the segments of a picture."""

_LONGEST = 8
"""Sides longer than this many times the other are cut before CLIP's processor resizes them."""


class Matcher:
    """CLIP with its tokenizer and PIL image processor; remembers every text it encoded."""

    def __init__(
        self,
        model: CLIPModel,
        tokenizer: CLIPTokenizer,
        image_processor: CLIPImageProcessorPil,
    ) -> None:
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.image_processor = image_processor
        self._texts: dict[str, np.ndarray] = {}

    @property
    def scale(self) -> float:
        """What CLIP multiplies cosines by before its softmax: the learnt inverse temperature."""
        return float(self.model.logit_scale.detach().float().exp())

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        """Return f32 [N, D] of unit length; a text is encoded once in the matcher's life."""
        new = [text for text in dict.fromkeys(texts) if text not in self._texts]
        for start in range(0, len(new), _BATCH):
            batch = new[start : start + _BATCH]
            self._texts.update(zip(batch, self._encode_texts(batch), strict=True))
        return self._rows([self._texts[text] for text in texts])

    @torch.inference_mode()
    def mean_states(self, texts: Sequence[str]) -> np.ndarray:
        """Return each text's mean token state before projection, f32 [N, D], padding included."""
        limit = self.model.config.text_config.max_position_embeddings
        tokens = self.tokenizer(
            list(texts), padding="max_length", truncation=True, max_length=limit,
            return_tensors="pt",
        ).to(self.model.device)  # fmt: skip
        states = self.model.text_model(tokens["input_ids"]).last_hidden_state
        return states.float().mean(1).cpu().numpy()

    def encode_images(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """Return f32 [N, D] of unit length for u8 [H, W, 3] arrays, all in one batch.

        CLIP's processor resizes the shorter side and cuts the middle square out, so what
        lies towards the ends of a picture that is not square is not seen.
        """
        parts = [
            self._encode_images(images[start : start + _BATCH])
            for start in range(0, len(images), _BATCH)
        ]
        return np.concatenate(parts) if parts else self._rows([])

    @torch.inference_mode()
    def _encode_texts(self, texts: list[str]) -> np.ndarray:
        limit = self.model.config.text_config.max_position_embeddings
        tokens = self.tokenizer(
            texts, padding=True, truncation=True, max_length=limit, return_tensors="pt"
        ).to(self.model.device)
        found = self.model.get_text_features(tokens["input_ids"], tokens["attention_mask"])
        return _unit(found.pooler_output.float().cpu().numpy())

    @torch.inference_mode()
    def _encode_images(self, images: Sequence[np.ndarray]) -> np.ndarray:
        given = self.image_processor(
            images=[Image.fromarray(_middle(image)) for image in images], return_tensors="pt"
        )
        pixels = given["pixel_values"].to(self.model.device, self.model.dtype)
        found = self.model.get_image_features(pixels)
        return _unit(found.pooler_output.float().cpu().numpy())

    def _rows(self, vectors: list[np.ndarray]) -> np.ndarray:
        empty = np.empty((0, self.model.config.projection_dim), np.float32)
        return np.stack(vectors) if vectors else empty


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)


def _middle(image: np.ndarray) -> np.ndarray:
    """Cut the far ends off a very long image: CLIP's centre crop drops them in any case.

    Resizing the shorter side of a one-row picture first would take gigabytes.
    """
    rows, columns = image.shape[:2]
    limit = _LONGEST * min(rows, columns)
    top, left = max(0, rows - limit) // 2, max(0, columns - limit) // 2
    return np.ascontiguousarray(image[top : top + limit, left : left + limit])


def load_matcher(
    folder: str | Path, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32
) -> Matcher:
    """Load CLIP from a local folder in transformers' format: safetensors, no code, no network.

    Raises FslabError where the folder, its weights, tokenizer or processor are not there.
    """
    from transformers import CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

    folder = Path(folder)
    model = load_model(CLIPModel, folder, dtype)
    tokenizer = load_tokenizer(CLIPTokenizer, folder)
    return Matcher(model.to(device), tokenizer, load(CLIPImageProcessorPil, folder))


def views(picture: Picture, segments: Segments, recipe: Matching) -> list[np.ndarray]:
    """Return what CLIP shall see of each segment: one u8 [h, w, 3] a segment, in their order.

    "masked" and "mean" show the whole frame with black or the picture's mean colour around
    the segment; as in the authors' released code CLIP's centre crop then cuts segments that
    lie off the middle of a picture that is not square. The "box" views avoid that: a box is
    grown to a square about its middle, moved inside the picture, and is not square only where
    the picture itself is too narrow. Raises FslabError if the sizes differ.
    """
    _check_size(picture, segments)
    pixels, view = picture.pixels, recipe.view
    mean = np.round(pixels.mean((0, 1))).astype(np.uint8)
    fill = mean if view.startswith("mean") else np.zeros(3, np.uint8)
    found = []
    for mask in segments.masks():
        shown = pixels if view == "box" else np.where(mask[..., None], pixels, fill)
        if view.endswith("box"):
            rows, columns = _box(mask, recipe.margin)
            shown = shown[rows, columns]
        found.append(np.ascontiguousarray(shown))
    return found


def _box(mask: np.ndarray, margin: float) -> tuple[slice, slice]:
    """Return the rows and columns of the square around a mask, margin on each of its sides."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    side = max(rows[-1] - rows[0], columns[-1] - columns[0]) + 1
    side += 2 * round(margin * side)
    return _span(rows, side, mask.shape[0]), _span(columns, side, mask.shape[1])


def _span(used: np.ndarray, side: int, limit: int) -> slice:
    """Return `side` places about the middle of those used, moved to lie within the limit."""
    side = min(side, limit)
    start = (used[0] + used[-1] + 1 - side) // 2
    start = int(np.clip(start, 0, limit - side))
    return slice(start, start + side)


def _check_size(picture: Picture, segments: Segments) -> None:
    if picture.size != segments.size:
        raise FslabError(
            f"{picture.name} is {picture.size} and its segments are {segments.size}; "
            "both have the height and width of one picture"
        )


def _check_count(vocabulary: Vocabulary) -> None:
    if len(vocabulary.classes) > VOID - 1:
        raise FslabError(
            f"the vocabulary holds {len(vocabulary.classes)} classes; a label map holds "
            f"{VOID - 1} beside the background"
        )


@dataclass(frozen=True, eq=False)
class Match:
    """How segments met texts, for looking at: the matrix and what was made of it.

    probabilities: f32 [K, T], a softmax over the T texts for each of the K segments, before
    candidates are enforced. texts: class names, then background words. assigned: int64 [K],
    each segment's index in the vocabulary's names; 0 is the background.
    """

    probabilities: np.ndarray
    texts: tuple[str, ...]
    assigned: np.ndarray


def text_scores(
    images: np.ndarray,
    columns: Sequence[Sequence[str]],
    templates: Sequence[str],
    matcher: Matcher,
) -> np.ndarray:
    """Return f32 [K, T]: for each image vector, f32 [K, D], a softmax over T columns of texts.

    A text is the mean of its templates' unit vectors, made unit length again (Radford et al.,
    2021); a column that holds several texts, a class and its synonyms, scores as its best one.
    """
    if not columns:
        return np.empty((len(images), 0), np.float32)
    texts = [text for column in columns for text in column]
    prompts = [template.replace("{}", text) for text in texts for template in templates]
    vectors = matcher.encode_texts(prompts).reshape(len(texts), len(templates), -1)
    logits = matcher.scale * images @ _unit(vectors.mean(1)).T
    starts = np.cumsum([0, *map(len, columns[:-1])])
    best = np.maximum.reduceat(logits, starts, axis=1).astype(np.float64)
    exponents = np.exp(best - best.max(1, keepdims=True))
    return (exponents / exponents.sum(1, keepdims=True)).astype(np.float32)


def score_segments(
    picture: Picture,
    segments: Segments,
    vocabulary: Vocabulary,
    candidates: Sequence[str],
    recipe: Matching,
    matcher: Matcher,
) -> Match:
    """Score every segment against the texts, and assign classes as the recipe says.

    A background word that names a class of the vocabulary ("bed", "grass" in an open one) is
    left out: it is a class there. Raises FslabError for a candidate that the vocabulary lacks,
    for sizes that differ, and for more than 254 classes.
    """
    _check_count(vocabulary)
    allowed = _resolve(candidates, vocabulary)
    everything = recipe.compete == "vocabulary"
    names = [name for name in vocabulary.classes if everything or name in allowed]
    words = [word for word in dict.fromkeys(recipe.background) if vocabulary.find(word) is None]
    columns = [vocabulary.texts(name, recipe.synonyms) for name in names]
    columns += [(word,) for word in words]
    images = matcher.encode_images(views(picture, segments, recipe))
    probabilities = text_scores(images, columns, recipe.templates, matcher)
    chosen = _assign(probabilities, [name in allowed for name in names], recipe.assignment)
    place = {name: index for index, name in enumerate(vocabulary.names)}
    meanings = np.array([*(place[name] for name in names), *(0 for _ in words), 0], np.int64)
    return Match(probabilities, (*names, *words), meanings[chosen])


def _assign(probabilities: np.ndarray, allowed: Sequence[bool], how: str) -> np.ndarray:
    """Return each segment's column, int64 [K]; -1 where nothing is left above 0.

    The columns begin with the classes, which `allowed` speaks of; background words follow and
    are always allowed, for any number of segments. Of equals the first wins.
    """
    if probabilities.shape[1] == 0:
        return np.full(len(probabilities), -1, np.int64)
    left = probabilities.copy()
    classes = len(allowed)
    left[:, :classes] *= np.asarray(allowed, dtype=left.dtype)
    if how == "one-per-class" and classes:
        best = left[:, :classes].argmax(0)
        kept = np.arange(len(left))[:, None] == best[None]
        left[:, :classes] *= kept
    return np.where(left.max(1) > 0, left.argmax(1), -1)


def _resolve(candidates: Sequence[str], vocabulary: Vocabulary) -> set[str]:
    """Return the candidates' class names; each may be given as it is said or by a synonym."""
    found = set()
    for given in candidates:
        name = given if given in vocabulary.classes else vocabulary.find(given)
        if name is None:
            near = difflib.get_close_matches(given, vocabulary.classes, n=3, cutoff=0.5)
            hint = f"; near it are {', '.join(near)}" if near else ""
            raise FslabError(f"candidate {given!r} is no class of the vocabulary{hint}")
        found.add(name)
    return found


def paint(segments: Segments, match: Match, vocabulary: Vocabulary) -> LabelMap:
    """Give every segment's pixels its class; a class scores as its best segment."""
    labels = match.assigned.astype(np.uint8)[segments.labels]
    scores: dict[str, float] = {}
    for index in np.unique(match.assigned[match.assigned > 0]):
        name = vocabulary.names[index]
        column = match.probabilities[match.assigned == index, match.texts.index(name)]
        scores[name] = float(column.max())
    return LabelMap(labels, vocabulary.names, scores)


def match(
    picture: Picture,
    segments: Segments,
    vocabulary: Vocabulary,
    candidates: Sequence[str],
    recipe: Matching,
    matcher: Matcher,
) -> LabelMap:
    """Name segments among the candidates; what no candidate takes is background.

    "one-per-class" is the authors' rule: the other classes' probabilities count as zero, each
    class keeps only its best segment, each segment takes the best that is left to it, and a
    segment left with nothing is background. "argmax" lets several segments share a class.
    Background words compete in both and mean background. Without candidates all is
    background, and CLIP is not asked. Errors are those of `score_segments`.
    """
    if not candidates:
        _check_size(picture, segments)
        _check_count(vocabulary)
        return LabelMap(np.zeros(segments.size, np.uint8), vocabulary.names)
    found = score_segments(picture, segments, vocabulary, candidates, recipe, matcher)
    return paint(segments, found, vocabulary)
