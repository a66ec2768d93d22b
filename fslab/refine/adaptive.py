"""Pixel-adaptive mask refinement: masks spread over pixels of like colour."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from fslab.records import FslabError

_AROUND = [(row, column) for row in (-1, 0, 1) for column in (-1, 0, 1)]


@torch.inference_mode()
def pamr(
    pixels: np.ndarray,
    masks: np.ndarray,
    iterations: int = 10,
    dilations: Sequence[int] = (1, 2, 4, 8, 12, 24),
    device: str = "cpu",
) -> np.ndarray:
    """Return soft masks, f32 [K, H, W], spread over pixels of like colour; computed on a device.

    Pixel-adaptive mask refinement (Araslanov and Roth, CVPR 2020): each step replaces a pixel
    by the mean of its eight neighbours at every dilation, weighted by the softmax of
    -|colour difference| / (0.1 standard deviation), averaged over the three channels, where
    the deviation is that of the neighbours and the pixel itself. The picture's rim repeats.
    """
    if not dilations or min(dilations) < 1:
        raise FslabError(f"dilations are {dilations!r}; they must be whole numbers from 1 up")
    height, width = pixels.shape[:2]
    # A neighbour beyond the rim is the rim's own pixel, so reaching past the picture is no gain.
    reach = min(max(dilations), max(height, width))
    steps = [min(step, reach) for step in dilations]
    colours = torch.from_numpy(pixels.astype(np.float32)).to(device).permute(2, 0, 1)
    weights = _affinities(colours, steps)
    soft = torch.from_numpy(np.ascontiguousarray(masks, dtype=np.float32)).to(device)
    for _ in range(iterations):
        around = _neighbours(soft, steps)
        soft = sum(weight * near for weight, near in zip(weights, around, strict=True))
    return soft.cpu().numpy()


def _affinities(colours: Tensor, steps: Sequence[int]) -> Tensor:
    """Return weights f32 [8 x steps, H, W] that sum to 1 at each pixel; colours are [3, H, W]."""
    count = 9 * len(steps)
    mean = sum(_neighbours(colours, steps, centre=True)) / count
    squares = torch.zeros(())
    for near in _neighbours(colours, steps, centre=True):
        squares = squares + (near - mean) ** 2
    spread = 1e-8 + 0.1 * (squares / (count - 1)).sqrt()
    closeness = [-((near - colours).abs() / spread).mean(0) for near in _neighbours(colours, steps)]
    return torch.stack(closeness).softmax(0)


def _neighbours(maps: Tensor, steps: Sequence[int], centre: bool = False) -> Iterator[Tensor]:
    """Yield [C, H, W] maps moved by each step in eight directions; views of one padded copy."""
    height, width = maps.shape[-2:]
    rim = max(steps)
    padded = torch.nn.functional.pad(maps[None], (rim,) * 4, mode="replicate")[0]
    for step in steps:
        for row, column in _AROUND:
            if row or column or centre:
                top, left = rim + row * step, rim + column * step
                yield padded[:, top : top + height, left : left + width]
