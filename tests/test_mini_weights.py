"""The bundled models: they open with diffusers and transformers alone, and fit in the wheel."""

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image
from transformers import (
    AutoTokenizer,
    BertTokenizer,
    BlipForConditionalGeneration,
    BlipImageProcessorPil,
    CLIPImageProcessorPil,
    CLIPModel,
    CLIPTokenizer,
)

import fslab.mini

MINI = Path(fslab.mini.__file__).parent
WEIGHTS = MINI / "weights"
PIPELINE = WEIGHTS / "stable-diffusion"


def test_weights_are_small_half_precision_and_without_pickles():
    files = [path for path in WEIGHTS.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 25e6
    assert {path.suffix for path in files} == {".json", ".safetensors"}
    sprites = sum(path.stat().st_size for path in (MINI / "sprites").iterdir())
    assert sprites < 4e6


@pytest.fixture(scope="module")
def pipeline():
    pipe = StableDiffusionPipeline.from_pretrained(
        PIPELINE, safety_checker=None, requires_safety_checker=False, local_files_only=True
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def test_stable_diffusion_draws(pipeline):
    rng = torch.Generator().manual_seed(0)
    made = pipeline("a photo of a dog on grass", num_inference_steps=2, generator=rng)
    pixels = np.asarray(made.images[0])
    assert pixels.shape == (96, 96, 3)
    assert pixels.std() > 5


def test_the_end_of_a_text_has_the_highest_id(pipeline):
    for tokenizer in (pipeline.tokenizer, CLIPTokenizer.from_pretrained(WEIGHTS / "clip")):
        assert tokenizer.eos_token_id == len(tokenizer) - 1
        assert tokenizer.model_max_length == 32
        ids = tokenizer("a photo of a potted plant").input_ids
        assert len(ids) == 8
        assert tokenizer.decode(ids[1:-1]).strip() == "a photo of a potted plant"


def test_clip_reads_pictures_and_texts():
    clip = CLIPModel.from_pretrained(WEIGHTS / "clip", dtype=torch.float32)
    tokenizer = CLIPTokenizer.from_pretrained(WEIGHTS / "clip")
    images = CLIPImageProcessorPil.from_pretrained(WEIGHTS / "clip")
    picture = Image.new("RGB", (80, 64), "green")
    texts = tokenizer(["a dog", "a cat"], padding=True, return_tensors="pt")
    with torch.no_grad():
        out = clip(**texts, **images(picture, return_tensors="pt"))
    assert out.logits_per_image.shape == (1, 2)


def test_blip_captions():
    blip = BlipForConditionalGeneration.from_pretrained(WEIGHTS / "blip", dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(WEIGHTS / "blip")
    assert isinstance(tokenizer, BertTokenizer)
    images = BlipImageProcessorPil.from_pretrained(WEIGHTS / "blip")
    pixels = images(Image.new("RGB", (96, 96), "green"), return_tensors="pt").pixel_values
    ids = blip.generate(pixel_values=pixels, max_new_tokens=20)
    text = tokenizer.decode(ids[0], skip_special_tokens=True)
    assert text.startswith("a photo of")


def test_the_model_card_shows_what_the_models_draw():
    card = (MINI / "README.md").read_text()
    shown = [part.split(")")[0] for part in card.split("](") if ".png" in part]
    assert len(shown) >= 4
    assert all((MINI / picture).is_file() for picture in shown)
