"""The models that can take CLIP's place, by the model_type of their configuration."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from fslab.match import class_token, last_block, pooling_head
from fslab.match.last_block import LastBlock
from fslab.parts import Part, Registry
from fslab.records import FslabError
from fslab.weights.trust import read_config


class Family:
    """What differs between models that put pictures and texts into one space.

    name: what messages call it. model, tokenizer, image_processor: its classes in transformers.
    crops: its image processor cuts the middle square out, and does not squash the whole frame.
    """

    name: str
    model: str
    tokenizer: str
    image_processor: str
    crops = False

    def classes(self) -> tuple[Any, Any, Any]:
        """Return the classes of the model, its tokenizer and its image processor."""
        import transformers

        model, tokenizer, processor = (
            getattr(transformers, name)
            for name in (self.model, self.tokenizer, self.image_processor)
        )
        return model, tokenizer, processor

    def check(self, folder: Path) -> None:
        """Refuse a folder of this model_type that cannot be used, before it is loaded."""

    def width(self, model: Any) -> int:
        """Return how many numbers a picture's or a text's vector has."""
        raise NotImplementedError

    def tokens(self, tokenizer: Any, texts: Sequence[str], limit: int) -> tuple[Tensor, ...]:
        """Return what the model's `get_text_features` is given: tokens, and which of them count.

        limit: the most tokens that it reads.
        """
        given = tokenizer(list(texts), padding=True, return_tensors="pt")
        return given["input_ids"], given["attention_mask"]

    def read(self, model: Any, pixels: Tensor) -> list[Any]:
        """Make one pass over pictures, [B, 3, H, W]; return of each what `encode` needs.

        Raises FslabError where the architecture has no mask tokens.
        """
        raise FslabError(
            f"{self.name} has no mask tokens to read regions by; set matching.tokens to False"
        )

    def encode(self, model: Any, read: Any, covered: Tensor) -> Tensor:
        """Return the vectors, [N, D], of regions of a picture that was read.

        covered: which share of each patch a region covers, f32 [N, P].
        """
        raise NotImplementedError

    def last_blocks(self, model: Any, pixels: Tensor) -> list[LastBlock]:
        """Make one pass over pictures, [B, 3, H, W]; return what regions are read from.

        Raises FslabError where the architecture has no class token.
        """
        raise FslabError(
            f"{self.name} has no class token, beside whose last block regions are read; set "
            "matching.regions to 'none', or take a CLIP"
        )


class Clip(Family):
    """CLIP (Radford et al. 2021): a class token, texts as long as they are."""

    name = "CLIP"
    model = "CLIPModel"
    tokenizer = "CLIPTokenizer"
    image_processor = "CLIPImageProcessorPil"
    crops = True

    def width(self, model: Any) -> int:
        """Return how many numbers a picture's or a text's vector has."""
        width: int = model.config.projection_dim
        return width

    def read(self, model: Any, pixels: Tensor) -> list[Any]:
        """Return of each picture its class token, and each layer's keys and values of patches."""
        return class_token.read(model, pixels)

    def encode(self, model: Any, read: Any, covered: Tensor) -> Tensor:
        """Return the vectors, [N, D], of mask class tokens."""
        return class_token.encode(model, read, covered)

    def last_blocks(self, model: Any, pixels: Tensor) -> list[LastBlock]:
        """Return of each picture its pass up to the last block."""
        return last_block.read(model, pixels)


class MetaClip2(Clip):
    """MetaCLIP 2 (Chuang et al. 2025): CLIP's network, with the words of XLM-V."""

    name = "MetaCLIP 2"
    model = "MetaClip2Model"
    tokenizer = "AutoTokenizer"


class Siglip(Family):
    """SigLIP 2 of fixed resolution (Tschannen et al. 2025), whose model_type is SigLIP's.

    Its texts are lower-cased and filled up to their longest length, and the filling is read, as
    it was trained; it has no class token, and its pooling head reads the patches.
    """

    name = "SigLIP"
    model = "SiglipModel"
    tokenizer = "Siglip2Tokenizer"  # the checkpoints name Gemma's, which keeps capitals
    image_processor = "SiglipImageProcessorPil"

    def check(self, folder: Path) -> None:
        """Refuse the first SigLIP's words, and a network without its pooling head."""
        words = folder / "tokenizer_config.json"
        if words.is_file() and read_config(folder, words.name).get("tokenizer_class") == _FIRST:
            raise FslabError(
                f"{folder} holds the first SigLIP, whose words fslab cannot read; take a SigLIP 2 "
                "of fixed resolution, such as google/siglip2-base-patch16-224"
            )
        if not read_config(folder).get("vision_config", {}).get("vision_use_head", True):
            raise FslabError(f"{folder} has no pooling head, so it gives a picture no vector")

    def width(self, model: Any) -> int:
        """Return how many numbers a picture's or a text's vector has."""
        width: int = model.text_model.head.out_features
        return width

    def tokens(self, tokenizer: Any, texts: Sequence[str], limit: int) -> tuple[Tensor, ...]:
        """Return the tokens alone: SigLIP reads what fills a text up, so there is no mask."""
        given = tokenizer(list(texts), padding="max_length", max_length=limit, return_tensors="pt")
        return (given["input_ids"],)

    def read(self, model: Any, pixels: Tensor) -> list[Any]:
        """Return of each picture its patches, as the pooling head is given them."""
        return pooling_head.read(model, pixels)

    def encode(self, model: Any, read: Any, covered: Tensor) -> Tensor:
        """Return what the pooling head makes of regions, [N, D]."""
        return pooling_head.encode(model, read, covered)


_FIRST = "SiglipTokenizer"

MATCHERS: Registry[Part] = Registry("model in CLIP's place", Part, "fslab.matchers")
"""Classes of families by model_type; another's is added by `MATCHERS.add(MODEL_TYPE, CLASS)`."""

MATCHERS.add("clip", Clip)
MATCHERS.add("metaclip_2", MetaClip2)
MATCHERS.add("siglip", Siglip)

_REFUSED = {
    "siglip2": "a SigLIP 2 of any resolution (NaFlex); take one of fixed resolution, such as "
    "google/siglip2-base-patch16-224",
}


def family_of(model_type: str) -> Family:
    """Return the family of a model_type; FslabError where none is known."""
    family: Family = MATCHERS.find(model_type).function()
    return family


def matcher_family(folder: Path) -> Family:
    """Return the family of the model in a folder; FslabError for one that cannot be used."""
    given = str(read_config(folder).get("model_type"))
    if given in _REFUSED:
        raise FslabError(f"{folder} holds {_REFUSED[given]}")
    if given not in MATCHERS:
        raise FslabError(
            f"{folder} holds a {given!r} model; in CLIP's place fslab reads {', '.join(MATCHERS)}"
        )
    family = family_of(given)
    family.check(folder)
    return family
