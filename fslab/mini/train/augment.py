"""Changes to batches of pictures: places, shapes, colours, and the views of a region.

Everything is drawn from one torch generator, and done for the whole batch at once.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Generator, Tensor
from torch.nn import functional as F

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
"""CLIP's mean and standard deviation of RGB in 0..1."""
BLURRED = 0.3
"""Share of pictures that `blur` changes."""


def as_batch(pixels: np.ndarray) -> Tensor:
    """Turn u8 [B, H, W, C] of a pool into f32 [B, C, H, W] in 0..1."""
    return torch.from_numpy(np.array(pixels)).permute(0, 3, 1, 2).float() / 255


def _each(count: int, rng: Generator) -> Tensor:
    """Draw a number in 0..1 for each picture: f32 [count, 1, 1, 1]."""
    return torch.rand(count, 1, 1, 1, generator=rng)


def normalise(batch: Tensor) -> Tensor:
    """Turn RGB f32 [B, 3, h, w] in 0..1 into what CLIP's and BLIP's towers read."""
    mean, std = (torch.tensor(one).view(1, 3, 1, 1) for one in (MEAN, STD))
    return (batch - mean) / std


def smooth_noise(shape: tuple[int, int, int], cells: int, rng: Generator) -> Tensor:
    """Return smooth noise f32 [B, 1, h, w] in 0..1 with `cells` grains across."""
    count, height, width = shape
    grid = torch.rand(count, 1, cells, cells, generator=rng)
    return F.interpolate(grid, (height, width), mode="bilinear", align_corners=True)


def warp(batch: Tensor, side: int, rng: Generator, strength: float = 1.0) -> Tensor:
    """Shift, scale, turn, mirror and bend pictures [B, C, h, w] while resizing them to `side`."""
    count = len(batch)
    angle = (torch.rand(count, generator=rng) - 0.5) * 0.6 * strength
    zoom = torch.exp((torch.rand(count, 2, generator=rng) - 0.5) * 0.5 * strength)
    shift = (torch.rand(count, 2, generator=rng) - 0.5) * 0.35 * strength
    mirror = torch.where(torch.rand(count, generator=rng) < 0.5, -1.0, 1.0)
    cosine, sine = angle.cos(), angle.sin()
    rows = torch.stack(
        [
            torch.stack([zoom[:, 0] * cosine * mirror, -zoom[:, 0] * sine, shift[:, 0]], 1),
            torch.stack([zoom[:, 1] * sine * mirror, zoom[:, 1] * cosine, shift[:, 1]], 1),
        ],
        1,
    )
    grid = F.affine_grid(rows, [count, 1, side, side], align_corners=False)
    bend = torch.rand(count, 2, 4, 4, generator=rng) - 0.5
    bend = F.interpolate(bend, (side, side), mode="bicubic", align_corners=True)
    grid = grid + 0.22 * strength * bend.permute(0, 2, 3, 1)
    return F.grid_sample(batch, grid, padding_mode="reflection", align_corners=False)


def recolour(batch: Tensor, rng: Generator, strength: float = 1.0) -> Tensor:
    """Change colours [B, 3, h, w]: mix and swap channels, grey some, shift light and contrast."""
    count = len(batch)
    matrix = torch.eye(3) + (torch.rand(count, 3, 3, generator=rng) - 0.5) * 0.35 * strength
    swapped = torch.eye(3)[torch.argsort(torch.rand(count, 3, generator=rng), 1)]
    swap = torch.rand(count, 1, 1, generator=rng) < 0.2 * strength
    matrix = torch.where(swap, swapped, matrix)
    grey = torch.rand(count, 1, 1, generator=rng) < 0.1 * strength
    matrix = torch.where(grey, torch.full((3, 3), 1 / 3), matrix)
    contrast = 0.7 + 0.6 * _each(count, rng)
    light = (_each(count, rng) - 0.5) * 0.3
    mixed = torch.einsum("bij,bjhw->bihw", matrix, batch)
    return ((mixed - 0.5) * contrast + 0.5 + light).clamp(0, 1)


def erase(batch: Tensor, rng: Generator, share: float = 0.25) -> Tensor:
    """Fill a rectangle of some pictures with one colour."""
    count, _, height, width = batch.shape
    centre, half = (
        torch.rand(count, 2, generator=rng),
        0.08 + 0.17 * torch.rand(count, 2, generator=rng),
    )
    rows = (torch.linspace(0, 1, height)[None] - centre[:, :1]).abs() < half[:, :1]
    columns = (torch.linspace(0, 1, width)[None] - centre[:, 1:]).abs() < half[:, 1:]
    hit = torch.rand(count, 1, 1, generator=rng) < share
    covered = (rows[:, :, None] & columns[:, None, :] & hit)[:, None]
    return torch.where(covered, torch.rand(count, 3, 1, 1, generator=rng), batch)


def blur(batch: Tensor, rng: Generator) -> Tensor:
    """Halve the resolution of some pictures, as small regions lose theirs."""
    small = F.interpolate(F.avg_pool2d(batch, 2), batch.shape[-2:], mode="bilinear")
    return torch.where(_each(len(batch), rng) < BLURRED, small, batch)


def stylise(batch: Tensor, rng: Generator, share: float = 0.25) -> Tensor:
    """Redraw some pictures [B, 3, h, w]: outlined in dark or light, in few tones, in another gamma.

    The designs of one class differ in just this, and there are only a handful of them.
    """
    count = len(batch)
    across = batch.diff(dim=3, append=batch[..., -1:])
    down = batch.diff(dim=2, append=batch[:, :, -1:])
    edges = (across.square() + down.square()).mean(1, keepdim=True).sqrt()
    ink = (_each(count, rng) - 0.6) * 5
    batch = torch.where(_each(count, rng) < share, (batch + ink * edges).clamp(0, 1), batch)
    tones = 2 + 4 * _each(count, rng)
    batch = torch.where(_each(count, rng) < share, (batch * tones).round() / tones, batch)
    gamma = torch.exp((torch.rand(count, 3, 1, 1, generator=rng) - 0.5) * 1.6)
    drawn = torch.where(_each(count, rng) < share, batch.clamp(1e-3, 1) ** gamma, batch)
    return drawn.clamp(0, 1)


def holes(inside: Tensor, rng: Generator, share: float = 0.3) -> Tensor:
    """Take another one's shape, moved, out of some shapes [B, 1, h, w], as what stands before does.

    A shape that would lose more than half of itself is left whole.
    """
    other = warp(inside.roll(1, 0), inside.shape[-1], rng, 3.0)
    left = inside * (other < 0.5)
    enough = left.mean((1, 2, 3)) > 0.5 * inside.mean((1, 2, 3))
    taken = enough & (torch.rand(len(inside), generator=rng) < share)
    return torch.where(taken[:, None, None, None], left, inside)


def region_views(picture: Tensor, inside: Tensor, rng: Generator, share: float = 0.55) -> Tensor:
    """Show some pictures as regions are shown: cut out, the rest black, mean or one colour.

    Three in ten cuts follow the shape, the others are as ragged as clusters are.

    picture: [B, 3, h, w] in 0..1; inside: [B, 1, h, w] in 0..1, about 1 on what is to be named.
    """
    count, _, height, width = picture.shape
    ragged = smooth_noise((count, height, width), 6, rng) - 0.5
    margin = (_each(count, rng) - 0.45) * 0.7
    wide = F.avg_pool2d(inside, 9, 1, 4)
    exact = _each(count, rng) < 0.3
    kept = torch.where(exact, inside > 0.5, (wide + 0.9 * ragged + margin) > 0.5).float()
    mean = picture.mean((2, 3), keepdim=True)
    choice = _each(count, rng)
    fill = torch.where(choice < 0.5, torch.zeros_like(mean), mean)
    fill = torch.where(choice > 0.85, _each(count, rng).expand_as(mean), fill)
    shown = picture * kept + fill * (1 - kept)
    chosen = _each(count, rng) < share
    big_enough = kept.mean((2, 3), keepdim=True) > 0.08
    return torch.where(chosen & big_enough, shown, picture)
