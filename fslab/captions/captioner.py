"""A picture's caption, from BLIP."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image

from fslab.backbones.weights import load_parts

if TYPE_CHECKING:
    from transformers import BertTokenizer, BlipForConditionalGeneration, BlipImageProcessorPil


class Captioner:
    """BLIP with its tokenizer and PIL image processor; holds no state besides them."""

    def __init__(
        self,
        model: BlipForConditionalGeneration,
        tokenizer: BertTokenizer,
        image_processor: BlipImageProcessorPil,
    ) -> None:
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.image_processor = image_processor

    @torch.inference_mode()
    def caption(self, pixels: np.ndarray, max_new_tokens: int = 20, beams: int = 1) -> str:
        """Describe pixels, u8 [H, W, 3], in one sentence; the same pixels give the same words."""
        given = self.image_processor(images=[Image.fromarray(pixels)], return_tensors="pt")
        tokens = self.model.generate(
            given["pixel_values"].to(self.model.device, self.model.dtype),
            max_new_tokens=max_new_tokens,
            num_beams=beams,
            do_sample=False,
        )
        # The first token is the prompt's own start, which not every tokenizer knows as special.
        return self.tokenizer.decode(tokens[0, 1:], skip_special_tokens=True).strip()


def load_captioner(
    folder: str | Path, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32
) -> Captioner:
    """Load BLIP from a local folder in transformers' format: safetensors, no code, no network.

    Raises FslabError where the folder, its weights, tokenizer or processor are not there.
    """
    from transformers import BertTokenizer, BlipForConditionalGeneration, BlipImageProcessorPil

    kinds = BlipForConditionalGeneration, BertTokenizer, BlipImageProcessorPil
    return Captioner(*load_parts(kinds, folder, device, dtype))
