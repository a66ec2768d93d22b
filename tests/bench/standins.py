"""Models of true size for the benches, and stand-ins that cost next to nothing in their place.

A stand-in has the true model's inputs, outputs and modules where they are read: the VAE's latents
are the picture's colours and edges, eight pixels a cell; each of the UNet's five layers gives 1,280
channels that mix what lies around a cell by a fixed random network, so k-means meets the structure
of a photograph; BLIP says one sentence, of whose eight nouns some are far enough from their classes
to be dropped; CLIP is tiny behind its true input size.
"""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from PIL import Image
from sklearn.datasets import load_sample_images
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate, pad
from transformers import (
    BertTokenizer,
    BlipConfig,
    BlipForConditionalGeneration,
    BlipImageProcessorPil,
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTokenizer,
)
from true import TEXT, UNET, VAE

import fslab
from fslab.records import Picture

MINI = Path(fslab.__file__).parent / "mini" / "weights"
PAPER = (
    *(f"down_blocks.2.attentions.{n}.transformer_blocks.0.attn2.to_q" for n in (0, 1)),
    *(f"up_blocks.1.attentions.{n}.transformer_blocks.0.attn2.to_q" for n in (0, 1, 2)),
)
SCHEDULE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
SAID = "a picture of a person and a dog on a chair near a car a bottle a horse a cat and a bird"
"""What the captioners say: the stand-in word by word, BLIP some of its nouns over and over."""


@dataclass
class Models:
    """What the released code loads, under the script's names for it."""

    vae: Any
    unet: Any
    text: Any
    tokens: Any
    scheduler: Any
    blip: Any
    blip_tokens: Any
    blip_pixels: Any
    clip: Any
    clip_tokens: Any
    clip_pixels: Any


class Networks:
    """Counts the seconds that pass inside models, by model; one inside another counts once."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._inside = False

    def total(self) -> float:
        """Return the seconds of all models since `clear`."""
        return sum(self.seconds.values())

    def clear(self) -> None:
        """Begin to count anew."""
        self.seconds.clear()

    def watch(self, name: str, owner: Any, *methods: str) -> None:
        """Count an object's methods under a name from now on."""
        for method in methods:
            setattr(owner, method, self._counted(name, getattr(owner, method)))

    def _counted(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*given: Any, **more: Any) -> Any:
            with self._counting(name):
                return call(*given, **more)

        return counted

    @contextmanager
    def _counting(self, name: str) -> Iterator[None]:
        if self._inside:
            yield
            return
        self._inside, start = True, time.perf_counter()
        try:
            yield
        finally:
            self._inside = False
            self.seconds[name] += time.perf_counter() - start


def watched(models: Models) -> Networks:
    """Return a count of the seconds inside models, which begins to count."""
    networks = Networks()
    networks.watch("VAE", models.vae, "encode")
    networks.watch("UNet", models.unet, "forward")
    networks.watch("text encoder", models.text, "forward")
    networks.watch("BLIP", models.blip, "generate")
    networks.watch("CLIP", models.clip, "forward", "get_image_features", "get_text_features")
    return networks


def photographs(count: int, size: tuple[int, int] = (500, 375)) -> list[Picture]:
    """Return photographs of 500 x 375 pixels: parts of the two that scikit-learn ships."""
    found, images = [], load_sample_images().images  # two of 640 x 427 pixels
    for number in range(count):
        image = Image.fromarray(images[number % 2])
        left = 7 * (number // 4) + 64 * (number // 2 % 2)
        part = image.resize(size, Image.Resampling.LANCZOS, (left, 0, left + 569, 427))
        found.append(Picture(np.asarray(part), f"photograph {number}"))
    return found


def write_settings(folder: Path) -> Path:
    """Write the configurations of a Stable Diffusion 1.x and its tokenizer, and no weights."""
    configs = {
        "unet": {"in_channels": 4, "block_out_channels": (320, 640, 1280, 1280), **UNET},
        "vae": {"in_channels": 3, **VAE},
        "text_encoder": TEXT,
    }
    for part, config in configs.items():
        (folder / part).mkdir(parents=True)
        (folder / part / "config.json").write_text(json.dumps(config))
    DDPMScheduler(**SCHEDULE).save_pretrained(folder / "scheduler")
    clip_tokens().save_pretrained(folder / "tokenizer")
    return folder


def clip_tokens() -> CLIPTokenizer:
    """Return a CLIP tokenizer of mini's words that fills up to 77 tokens."""
    tokens = CLIPTokenizer.from_pretrained(MINI / "clip")
    tokens.model_max_length = 77
    return tokens


def blip_tokens() -> BertTokenizer:
    """Return a tokenizer with as many words as BLIP base has, of which a few are spoken."""
    known = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *dict.fromkeys(SAID.split())]
    known += [f"[unused{number}]" for number in range(30523 - len(known))] + ["[DEC]"]
    return BertTokenizer(vocab={word: at for at, word in enumerate(known)})


def stand_ins(channels: int = 1280) -> Models:
    """Return models that cost next to nothing; channels: of each of the UNet's five layers."""
    small = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1,
             "num_attention_heads": 2}  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        unet, text, clip = _Unet(PAPER, channels), _Words(), _clip(small, small)
    return _beside(_Vae(), unet, text, _Blip(blip_tokens()), clip)


def true_models() -> Models:
    """Return SD 1.x, BLIP base and CLIP ViT-B/32 in true configurations, weights random, fp32."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        vae, unet = AutoencoderKL(**VAE), UNet2DConditionModel(**UNET)
        return _beside(vae.eval(), unet.eval(), _text(TEXT), _blip(blip_tokens()), _clip({}, {}))


def _beside(vae: Any, unet: Any, text: Any, blip: Any, clip: Any) -> Models:
    scheduler = DDPMScheduler(**SCHEDULE)
    processor = BlipImageProcessorPil(size={"height": 384, "width": 384})
    return Models(
        vae, unet, text, clip_tokens(), scheduler, blip, blip_tokens(), processor, clip,
        clip_tokens(), CLIPImageProcessorPil(),
    )  # fmt: skip


def _ends() -> dict[str, int]:
    tokens = clip_tokens()
    return {"bos_token_id": tokens.bos_token_id, "eos_token_id": tokens.eos_token_id}


def _text(config: dict[str, Any]) -> CLIPTextModel:
    return CLIPTextModel(CLIPTextConfig(**config, **_ends())).eval()


def _clip(text: dict[str, Any], vision: dict[str, Any]) -> CLIPModel:
    width = {"projection_dim": text["hidden_size"]} if text else {}
    return CLIPModel(
        CLIPConfig(text_config={**text, **_ends()}, vision_config=vision, **width)
    ).eval()


def _blip(tokens: BertTokenizer) -> BlipForConditionalGeneration:
    """Return BLIP base, biased to say some of SAID's words and to end as soon as it may."""
    text = {"num_attention_heads": 12, "bos_token_id": 30523, "sep_token_id": 3, "eos_token_id": 3}
    model = BlipForConditionalGeneration(
        BlipConfig(text_config=text, vision_config={"image_size": 384})
    )
    spoken = tokens.convert_tokens_to_ids(["person", "horse", "car", "dog"])
    with torch.no_grad():
        bias = model.text_decoder.cls.predictions.bias
        bias[spoken] += 50
        bias[tokens.sep_token_id] += 51
    return model.eval()


class _Vae(nn.Module):
    """Latents that are the picture's mean colours and edges over eight pixels."""

    def __init__(self) -> None:
        super().__init__()
        blocks = VAE["block_out_channels"]
        self.config = SimpleNamespace(scaling_factor=0.18215, block_out_channels=blocks)

    def encode(self, pixels: Tensor) -> Any:
        edges = pixels.mean(1, keepdim=True)
        edges = (edges - avg_pool2d(edges, 3, 1, 1)).abs() * 8
        mean = 4 * avg_pool2d(torch.cat([pixels, edges], 1), 8)
        return SimpleNamespace(latent_dist=SimpleNamespace(mean=mean, std=mean.new_tensor(0.01)))


class _Mix(nn.Module):
    def __init__(self, width: int, channels: int) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(width, 256), nn.Linear(256, channels)

    def forward(self, cells: Tensor) -> Tensor:
        return self.outer(torch.tanh(3 * self.inner(cells)))


class _Unet(nn.Module):
    """Modules under the layers' own paths, each mixing what lies around a cell."""

    REACH = (1, 3, 5, 9)

    def __init__(self, paths: Sequence[str], channels: int) -> None:
        super().__init__()
        self.config, self.paths = SimpleNamespace(sample_size=UNET["sample_size"]), paths
        for path in paths:
            place, *names = self, *path.split(".")
            for name in names[:-1]:
                if name not in dict(place.named_children()):
                    place.add_module(name, nn.Module())
                place = place.get_submodule(name)
            place.add_module(names[-1], _Mix(4 * len(self.REACH), channels))

    def forward(self, sample: Tensor, step: Tensor, states: Tensor, **more: Any) -> None:
        cells = interpolate(sample, scale_factor=0.25, mode="area")
        around = [
            avg_pool2d(pad(cells, [reach // 2] * 4, mode="replicate"), reach, 1)
            for reach in self.REACH
        ]
        tokens = torch.cat(around, 1).flatten(2).transpose(1, 2)
        for path in self.paths:
            self.get_submodule(path)(tokens)


class _Words(nn.Module):
    """Text states that are the tokens' own, so that words are like themselves."""

    def __init__(self) -> None:
        super().__init__()
        self.states = nn.Embedding(49408, 32)

    def forward(self, ids: Tensor, attention_mask: Tensor | None = None) -> tuple[Tensor]:
        return (self.states(ids),)


class _Blip:
    """A captioner that says one sentence."""

    device, dtype = torch.device("cpu"), torch.float32

    def __init__(self, tokens: BertTokenizer) -> None:
        self.config = SimpleNamespace(text_config=SimpleNamespace(max_position_embeddings=512))
        self._said = tokens(SAID, return_tensors="pt").input_ids
        self._said[0, 0] = tokens.convert_tokens_to_ids("[DEC]")

    def eval(self) -> _Blip:
        return self

    def generate(self, pixels: Tensor, **more: Any) -> Tensor:
        return self._said
