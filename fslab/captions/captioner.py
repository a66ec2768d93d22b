"""A picture's caption, from BLIP or a model in its place."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fslab.backbones.limits import check_length
from fslab.backbones.weights import load_parts
from fslab.process import ordinary
from fslab.records import FslabError


class Captioner:
    """BLIP with its tokenizer and PIL image processor; holds no state besides them.

    Other families are its subclasses, which say what differs. name: what messages call it.
    classes: its model, tokenizer and image processor in transformers. trained_prompt: what the
    captions begin with that it was trained on, None where the lab's preset says so.
    """

    name: ClassVar[str] = "the captioner"
    classes: ClassVar[tuple[str, str, str]] = (
        "BlipForConditionalGeneration", "BertTokenizer", "BlipImageProcessorPil",
    )  # fmt: skip
    trained_prompt: ClassVar[str | None] = None

    def __init__(self, model: Any, tokenizer: Any, image_processor: Any) -> None:
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.image_processor = image_processor

    @classmethod
    def kinds(cls) -> tuple[Any, Any, Any]:
        """Return the classes of the model, its tokenizer and its image processor."""
        import transformers

        model, tokenizer, processor = (getattr(transformers, name) for name in cls.classes)
        return model, tokenizer, processor

    @classmethod
    def load(cls, folder: Path, device: str | torch.device, dtype: torch.dtype) -> Self:
        """Load the family's parts from a folder, as `load_captioner` does."""
        return cls(*load_parts(cls.kinds(), folder, device, dtype))

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
        tokens = self._generate(
            images, prompt, min_length, max_length, max_new_tokens,
            {"num_beams": beams, "do_sample": False},
        )  # fmt: skip
        sentences = self.tokenizer.batch_decode(tokens, skip_special_tokens=True)
        return [sentence.strip() for sentence in sentences]

    def _generate(
        self,
        images: list[Image.Image],
        prompt: str,
        least: int,
        most: int | None,
        new: int,
        how: dict[str, Any],
    ) -> Tensor:
        """Return the tokens of sentences, int64 [B, N], without the prompt's."""
        given = self.image_processor(images=images, return_tensors="pt")
        start = self._start(prompt)
        self._check_lengths(start.shape[1], least, most, new)
        bound = {"max_new_tokens": new} if most is None else {"max_length": most}
        tokens: Tensor = self.model.generate(
            given["pixel_values"].to(self.model.device, self.model.dtype),
            input_ids=start.repeat(len(images), 1).to(self.model.device),
            min_length=least,
            **bound,
            **how,
        )
        return tokens[:, start.shape[1] - 1 :]

    def _start(self, prompt: str) -> Tensor:
        """Return the prompt's tokens, int64 [1, N], between a start and an end token.

        BLIP puts its own start token in the first one's place and cuts the end token off.
        """
        check_length(self.tokenizer, [prompt], self._limit, self.name)
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
                f"captioning.max_length is {most}; for this captioner it must be a whole number "
                f"from {start}, its prompt and one token more, to {limit}"
            )
        if most is None and start - 1 + new > limit:
            raise FslabError(
                f"captioning.max_new_tokens is {new}; for this captioner it must be at most "
                f"{limit - start + 1}, for it holds {limit} tokens, the prompt's {start - 1} among "
                "them"
            )
        whole = most if most is not None else start - 1 + new
        if least > whole:
            raise FslabError(
                f"captioning.min_length is {least}; a caption has at most {whole} tokens here"
            )
