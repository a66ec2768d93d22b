"""A picture's caption, from BLIP."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fslab.backbones.weights import load_parts
from fslab.records import FslabError

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
    def caption(
        self,
        pixels: np.ndarray,
        max_new_tokens: int = 20,
        beams: int = 1,
        prompt: str = "",
        min_length: int = 0,
        max_length: int | None = None,
    ) -> str:
        """Describe pixels, u8 [H, W, 3], in one sentence; the same pixels give the same words.

        prompt: how the sentence must begin; it is not returned. min_length, max_length: tokens
        of the whole sequence, the start token and the prompt counted; max_length takes the place
        of max_new_tokens. Raises FslabError where a length is more than the decoder can hold.
        """
        given = self.image_processor(images=[Image.fromarray(pixels)], return_tensors="pt")
        start = self._start(prompt)
        if max_length is not None:
            self._check_length(max_length, start.shape[1])
        bound = {"max_new_tokens": max_new_tokens} if max_length is None else {}
        tokens = self.model.generate(
            given["pixel_values"].to(self.model.device, self.model.dtype),
            input_ids=start.to(self.model.device),
            num_beams=beams,
            do_sample=False,
            min_length=min_length,
            **(bound or {"max_length": max_length}),
        )
        said = tokens[0, start.shape[1] - 1 :]
        return self.tokenizer.decode(said, skip_special_tokens=True).strip()

    def _start(self, prompt: str) -> Tensor:
        """Return the prompt's tokens, int64 [1, N], between a start and an end token.

        BLIP puts its own start token in the first one's place and cuts the end token off.
        """
        return self.tokenizer(prompt, return_tensors="pt").input_ids

    def _check_length(self, max_length: int, start: int) -> None:
        limit = self.model.config.text_config.max_position_embeddings
        if not start <= max_length <= limit:
            raise FslabError(
                f"captioning.max_length is {max_length}; for this captioner it is a whole number "
                f"from {start}, its prompt and one token more, to {limit}"
            )


def load_captioner(
    folder: str | Path, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32
) -> Captioner:
    """Load BLIP from a local folder in transformers' format: safetensors, no code, no network.

    Raises FslabError where the folder, its weights, tokenizer or processor are not there.
    """
    from transformers import BertTokenizer, BlipForConditionalGeneration, BlipImageProcessorPil

    kinds = BlipForConditionalGeneration, BertTokenizer, BlipImageProcessorPil
    return Captioner(*load_parts(kinds, folder, device, dtype))
