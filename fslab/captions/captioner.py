"""A picture's caption, from BLIP."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fslab.backbones.limits import check_length
from fslab.backbones.weights import load_parts
from fslab.process import ordinary
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

    def caption(self, pixels: np.ndarray, *given: Any, **settings: Any) -> str:
        """Describe pixels, u8 [H, W, 3], in one sentence, as `captions` does."""
        return self.captions([pixels], *given, **settings)[0]

    @ordinary()
    @torch.inference_mode()
    def captions(
        self,
        pictures: Sequence[np.ndarray],
        max_new_tokens: int = 20,
        beams: int = 1,
        prompt: str = "",
        min_length: int = 0,
        max_length: int | None = None,
    ) -> list[str]:
        """Describe pictures, u8 [H, W, 3] each, in one sentence each and in one pass.

        The same pixels give the same words; in a pass of several, but for ties in the last bits.

        prompt: how the sentence must begin; it is not returned. min_length, max_length: tokens
        of the whole sequence, the start token and the prompt counted; max_length takes the place
        of max_new_tokens. Raises FslabError where prompt or length is more than the decoder can
        hold, and where min_length is more than a caption may have.
        """
        images = [Image.fromarray(pixels) for pixels in pictures]
        given = self.image_processor(images=images, return_tensors="pt")
        start = self._start(prompt)
        self._check_lengths(start.shape[1], min_length, max_length, max_new_tokens)
        bound = (
            {"max_new_tokens": max_new_tokens} if max_length is None else {"max_length": max_length}
        )
        tokens = self.model.generate(
            given["pixel_values"].to(self.model.device, self.model.dtype),
            input_ids=start.repeat(len(images), 1).to(self.model.device),
            num_beams=beams,
            do_sample=False,
            min_length=min_length,
            **bound,
        )
        said = tokens[:, start.shape[1] - 1 :]
        sentences = self.tokenizer.batch_decode(said, skip_special_tokens=True)
        return [sentence.strip() for sentence in sentences]

    def _start(self, prompt: str) -> Tensor:
        """Return the prompt's tokens, int64 [1, N], between a start and an end token.

        BLIP puts its own start token in the first one's place and cuts the end token off.
        """
        check_length(self.tokenizer, [prompt], self._limit, "the captioner")
        tokens: Tensor = self.tokenizer(prompt, return_tensors="pt").input_ids
        return tokens

    @property
    def _limit(self) -> int:
        """How many tokens the decoder holds."""
        limit: int = self.model.config.text_config.max_position_embeddings
        return limit

    def _check_lengths(self, start: int, least: int, most: int | None, new: int) -> None:
        """Refuse lengths that no caption can have; start: the prompt's tokens and one more."""
        limit = self._limit
        if most is not None and not start <= most <= limit:
            raise FslabError(
                f"captioning.max_length is {most}; for this captioner it is a whole number "
                f"from {start}, its prompt and one token more, to {limit}"
            )
        if most is None and start - 1 + new > limit:
            raise FslabError(
                f"captioning.max_new_tokens is {new}; for this captioner it is at most "
                f"{limit - start + 1}, for it holds {limit} tokens, the prompt's {start - 1} among "
                "them"
            )
        whole = most if most is not None else start - 1 + new
        if least > whole:
            raise FslabError(
                f"captioning.min_length is {least}; a caption has at most {whole} tokens here"
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
