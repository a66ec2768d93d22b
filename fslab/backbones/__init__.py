"""One interface over diffusion models, vision transformers and hand-made descriptors."""

from fslab.backbones.attention import word_attention, word_attentions
from fslab.backbones.base import (
    UNET_BLOCKS,
    Backbone,
    Layer,
    TextBackbone,
    pick_layers,
    written_for_unet,
)
from fslab.backbones.baselines import Handmade, Rgb
from fslab.backbones.concepts import concept_maps
from fslab.backbones.diffusion import Diffusion
from fslab.backbones.evidence import word_readings
from fslab.backbones.module import from_module
from fslab.backbones.open import open_backbone
from fslab.backbones.vision import VisionTransformer
from fslab.backbones.weights import locate
from fslab.backbones.words import word_keys, word_maps

__all__ = [
    "UNET_BLOCKS",
    "Backbone",
    "Diffusion",
    "Handmade",
    "Layer",
    "Rgb",
    "TextBackbone",
    "VisionTransformer",
    "concept_maps",
    "from_module",
    "locate",
    "open_backbone",
    "pick_layers",
    "word_attention",
    "word_attentions",
    "word_keys",
    "word_maps",
    "word_readings",
    "written_for_unet",
]
