"""CLIP, or another of its kind: pictures and texts as vectors of one space."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fslab.backbones.limits import check_length
from fslab.backbones.weights import load_parts
from fslab.match.families import family_of, matcher_family
from fslab.parts import versioned
from fslab.process import ordinary
from fslab.recent import Recent
from fslab.vectors import unit

_BATCH = 256
"""Most texts or views in one pass, to bound memory: far above the segments of a picture."""

_TEXTS = 64 * 2**20
"""Bytes of texts' vectors that are remembered: 16,000 of 1,024 numbers."""

_LONGEST = 8
"""Sides longer than this many times the other are cut before CLIP's processor resizes them."""


class Matcher:
    """CLIP, or a model in its place, with tokenizer and PIL image processor.

    It remembers the texts that it encoded lately.
    """

    def __init__(self, model: Any, tokenizer: Any, image_processor: Any) -> None:
        self.family = family_of(model.config.model_type)
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.image_processor = image_processor
        self._texts = Recent(_TEXTS)

    @property
    def scale(self) -> float:
        """What CLIP multiplies cosines by before its softmax: the learnt inverse temperature."""
        return float(self.model.logit_scale.detach().float().exp())

    @property
    def bias(self) -> float | None:
        """What SigLIP adds to scaled cosines before its sigmoid; None for what has no sigmoid."""
        learnt = getattr(self.model, "logit_bias", None)
        return None if learnt is None else float(learnt.detach().float())

    @property
    def width(self) -> int:
        """How many numbers a vector has."""
        return self.family.width(self.model)

    @ordinary()
    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        """Return f32 [N, D] of unit length; a text is encoded once while it is remembered."""
        known = {text: self._texts.find(text) for text in texts}
        new = [text for text, vector in known.items() if vector is None]
        for start in range(0, len(new), _BATCH):
            batch = new[start : start + _BATCH]
            for text, vector in zip(batch, self._encode_texts(batch), strict=True):
                known[text] = vector.copy()  # of its own, or it would hold the whole batch
                self._texts.keep(text, known[text])
        return self._rows([known[text] for text in texts])

    @ordinary()
    @torch.inference_mode()
    def mean_states(self, texts: Sequence[str]) -> np.ndarray:
        """Return each text's mean token state before projection, f32 [N, D], padding included."""
        limit = self._limit(texts)
        tokens = self.tokenizer(
            list(texts), padding="max_length", max_length=limit, return_tensors="pt"
        ).to(self.model.device)
        states: Tensor = self.model.text_model(tokens["input_ids"]).last_hidden_state
        return states.float().mean(1).cpu().numpy()

    @ordinary()
    def encode_images(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """Return f32 [N, D] of unit length for u8 [H, W, 3] arrays, all in one batch.

        CLIP's processor resizes the shorter side and cuts the middle square out, so what
        lies towards the ends of a picture that is not square is not seen; SigLIP's squashes it.
        """
        parts = [
            self._encode_images(images[start : start + _BATCH])
            for start in range(0, len(images), _BATCH)
        ]
        return np.concatenate(parts) if parts else self._rows([])

    @torch.inference_mode()
    def _encode_texts(self, texts: list[str]) -> np.ndarray:
        tokens = self.family.tokens(self.tokenizer, texts, self._limit(texts))
        found = self.model.get_text_features(*(each.to(self.model.device) for each in tokens))
        return unit(found.pooler_output.float().cpu().numpy())

    @torch.inference_mode()
    def _encode_images(self, images: Sequence[np.ndarray]) -> np.ndarray:
        shown = [middle(image) if self.family.crops else image for image in images]
        given = self.image_processor(images=list(map(Image.fromarray, shown)), return_tensors="pt")
        pixels = given["pixel_values"].to(self.model.device, self.model.dtype)
        found = self.model.get_image_features(pixels)
        return unit(found.pooler_output.float().cpu().numpy())

    def _limit(self, texts: Sequence[str]) -> int:
        """Return how many tokens CLIP reads; FslabError for a text that has more."""
        limit: int = self.model.config.text_config.max_position_embeddings
        check_length(self.tokenizer, texts, limit, self.family.name)
        return limit

    def _rows(self, vectors: list[np.ndarray]) -> np.ndarray:
        empty = np.empty((0, self.width), np.float32)
        return np.stack(vectors) if vectors else empty


def middle(image: np.ndarray) -> np.ndarray:
    """Cut the far ends off a very long image: CLIP's centre crop drops them in any case.

    Resizing the shorter side of a one-row picture first would take gigabytes.
    """
    rows, columns = image.shape[:2]
    limit = _LONGEST * min(rows, columns)
    top, left = max(0, rows - limit) // 2, max(0, columns - limit) // 2
    return np.ascontiguousarray(image[top : top + limit, left : left + limit])


@versioned(1)
def load_matcher(
    folder: str | Path, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32
) -> Matcher:
    """Load CLIP, or a model in its place, from a local folder in transformers' format.

    Safetensors, no code, no network. Raises FslabError where the folder, its weights, tokenizer
    or processor are not there, and for a model of no known family.
    """
    return Matcher(*load_parts(matcher_family(Path(folder)).classes(), folder, device, dtype))
