"""The captioners that can take BLIP's place, by the model_type of their configuration."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any, cast

import torch
from PIL import Image
from torch import Tensor

from fslab.backbones.limits import check_length
from fslab.captions.captioner import Captioner
from fslab.parts import Part, Registry, versioned
from fslab.records import FslabError
from fslab.weights.trust import read_config

_LONGEST_OF_T5 = 512
"""Tokens; T5 counts no positions, and was trained on so many."""


class _Asked(Captioner):
    """A captioner that is given pictures and words together, by its processor in transformers."""

    def _generate(
        self,
        images: list[Image.Image],
        prompt: str,
        least: int,
        most: int | None,
        new: int,
        how: dict[str, Any],
    ) -> Tensor:
        given = self._given(images, prompt)
        start = self._before(given)
        self._check_lengths(start + 1, least, most, new)
        bound = {
            "max_new_tokens": new if most is None else most - start,
            "min_new_tokens": max(0, least - start),
        }
        pixels = given.pop("pixel_values").to(self.model.device, self.model.dtype)
        words = {name: value.to(self.model.device) for name, value in given.items()}
        tokens: Tensor = self.model.generate(pixel_values=pixels, **words, **bound, **how)
        return tokens[:, self._repeated(given) :]

    def _given(self, images: list[Image.Image], prompt: str) -> dict[str, Any]:
        """Return what the model's `generate` is given."""
        raise NotImplementedError

    def _before(self, given: dict[str, Any]) -> int:
        """Return how many tokens of a sentence are there before it: start token and prompt."""
        return 1

    def _repeated(self, given: dict[str, Any]) -> int:
        """Return how many of the tokens that come back were given."""
        return 0


class Blip2(_Asked):
    """BLIP-2 (Li et al. 2023), with OPT or T5; T5 reads a prompt and goes on from it."""

    name = "BLIP-2"
    classes = (
        "Blip2ForConditionalGeneration", "TokenizersBackend", "BlipImageProcessorPil",
    )  # fmt: skip
    # transformers reads tokenizer.json as it is for these checkpoints, but knows them by their ids
    trained_prompt = "a photo of"

    def _given(self, images: list[Image.Image], prompt: str) -> dict[str, Any]:
        check_length(self.tokenizer, [prompt], self._limit, self.name)
        text = [prompt] * len(images) if prompt else None
        given = self._processor(images=images, text=text, return_tensors="pt")
        return {name: given[name] for name in _READ if name in given}

    @cached_property
    def _processor(self) -> Any:
        from transformers import Blip2Processor

        queries = self._queries
        return Blip2Processor(self.image_processor, self.tokenizer, num_query_tokens=queries)

    @property
    def _queries(self) -> int:
        queries: int = self.model.config.num_query_tokens
        return queries

    @property
    def _limit(self) -> int:
        config = self.model.config.text_config
        if config.is_encoder_decoder:
            return _LONGEST_OF_T5
        positions: int = config.max_position_embeddings
        return positions - self._queries

    def _before(self, given: dict[str, Any]) -> int:
        if "input_ids" not in given:
            return 1
        words: int = given["input_ids"].shape[1]
        return words - self._queries

    def _repeated(self, given: dict[str, Any]) -> int:
        if self.model.config.text_config.is_encoder_decoder:
            return 0
        return self._before(given) + self._queries


class Florence2(_Asked):
    """Florence-2 (Xiao et al. 2024), asked for a caption; it takes a task and no beginning."""

    name = "Florence-2"
    classes = ("Florence2ForConditionalGeneration", "AutoTokenizer", "CLIPImageProcessorPil")
    trained_prompt = ""

    def _given(self, images: list[Image.Image], prompt: str) -> dict[str, Any]:
        if prompt:
            raise FslabError(
                f"{self.name} cannot begin a caption with {prompt!r}: it takes a task; leave the "
                "prompt out, or take BLIP or BLIP-2"
            )
        given = self._processor(
            images=images, text=["<CAPTION>"] * len(images), return_tensors="pt"
        )
        return {name: given[name] for name in _READ}

    @cached_property
    def _processor(self) -> Any:
        from transformers import Florence2Processor

        return Florence2Processor(self.image_processor, self.tokenizer)


_READ = ("pixel_values", "input_ids", "attention_mask")

CAPTIONERS: Registry[Part] = Registry("captioner", Part, "fslab.captioners")
"""Classes of families by model_type; another's is added by `CAPTIONERS.add(MODEL_TYPE, CLASS)`."""

CAPTIONERS.add("blip", Captioner)
CAPTIONERS.add("blip-2", Blip2)
CAPTIONERS.add("florence2", Florence2)


def captioner_family(folder: Path) -> type[Captioner]:
    """Return the family of the model in a folder; FslabError for one that is not known."""
    given = str(read_config(folder).get("model_type"))
    if given not in CAPTIONERS:
        raise FslabError(
            f"{folder} holds a {given!r} model; in BLIP's place fslab reads {', '.join(CAPTIONERS)}"
        )
    return cast("type[Captioner]", CAPTIONERS.find(given).function)


@versioned(1)
def load_captioner(
    folder: str | Path, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32
) -> Captioner:
    """Load BLIP, or a model in its place, from a local folder in transformers' format.

    Safetensors, no code, no network. Raises FslabError where the folder, its weights, tokenizer
    or processor are not there, and for a model of no known family.
    """
    return captioner_family(Path(folder)).load(Path(folder), device, dtype)
