"""Published settings of features for correspondence, by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fslab.records import Extraction, FslabError

if TYPE_CHECKING:
    from fslab.backbones import Backbone, Layer

DIFT = Extraction(
    layers=("up_blocks.1",),
    timesteps=(261,),
    draws=8,
    resolution=768,
    squash=True,
    posterior="sample",
)
"""DIFT's settings for semantic correspondence (Tang et al., NeurIPS 2023).

As the released code's `extract_dift.py` and `eval_spair.py` have them for Stable Diffusion 2.1
(github.com/Tsingularity/dift): t = 261, what the second of the decoder's blocks gives
(up_ft_index = 1: a 48 x 48 map of 1,280 channels), eight draws of noise averaged, the picture
squashed to 768 x 768. The prompt is the code's "a photo of a ..." with the object's name where it
is known; give it as prompt=.

Where it differs: Pillow's Lanczos filter resizes the picture, the code takes Pillow's bicubic one;
the VAE's posterior is sampled once a picture, the code samples it anew for each draw of noise.
"""

EXTRACTIONS = {"dift": DIFT}
"""Published settings by name."""

_CHANNELS, _STRIDE = 1280, 16
"""Of the block that DIFT reads, in Stable Diffusion 1.x and 2.x."""


def published(name: str, backbone: Backbone, layers: tuple[Layer, ...]) -> Extraction:
    """Return published settings by name for a backbone with such layers.

    Raises FslabError for an unknown name, and for a network of another shape than the settings
    were published for: its layer of the same name is another thing.
    """
    if name not in EXTRACTIONS:
        raise FslabError(f"there are no settings {name!r}; there are {', '.join(EXTRACTIONS)}")
    found = EXTRACTIONS[name]
    path = found.layers[0]
    shapes = {layer.path: (layer.channels, layer.stride) for layer in layers}
    if backbone.timestep is None or shapes.get(path) != (_CHANNELS, _STRIDE):
        has = shapes.get(path)
        there = f"has {has[0]} channels at {has[1]} pixels a cell" if has else "is not there"
        raise FslabError(
            f"the settings {name!r} read {path} as Stable Diffusion 1.x and 2.x have it, "
            f"{_CHANNELS:,} channels at {_STRIDE} pixels a cell; in {backbone.name} it {there}, so "
            "give layers and a timestep in their place"
        )
    return found
