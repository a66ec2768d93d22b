"""Attention of several grids of cells together: what each weighs, and maps that it spreads.

Own code, from the description of FA-Seg (2026).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, interpolate

from fslab.records import FslabError

_LEAST = 1e-12
"""What a sum is at least before anything is divided by it."""

Grid = tuple[int, int]
"""Rows and columns of cells."""


def shares_of_grids(
    grids: Sequence[Grid], weights: Sequence[float], what: str = "grids"
) -> list[float]:
    """Return what each layer weighs, sums 1, by its grid; layers of one share its weight.

    weights: of the grids that there are, the coarsest first; a network with fewer has the first
    of them. what: the setting, for errors. Raises FslabError for more grids than weights, and
    where no layer has a weight.
    """
    sizes = sorted({rows * columns for rows, columns in grids})
    if len(sizes) > len(weights):
        raise FslabError(
            f"{what} has {len(weights)} weights, and the layers have {len(sizes)} grids, of "
            f"{', '.join(map(str, sizes))} cells; give a weight for each, the coarsest first"
        )
    places = [sizes.index(rows * columns) for rows, columns in grids]
    shares = [weights[place] / places.count(place) for place in places]
    total = sum(shares)
    if total <= 0:
        raise FslabError(
            f"{what} is {list(weights)}, which leaves nothing of the layers' {len(sizes)} grids; "
            "give one of them a weight above 0"
        )
    return [share / total for share in shares]


def spread_over_grids(
    maps: Tensor, attentions: Sequence[tuple[Tensor, Grid]], shares: Sequence[float], times: int
) -> Tensor:
    """Return maps f32 [N, h, w] multiplied so many times by self-attention of several grids.

    attentions: where cells look, f32 [cells, cells] each, and its grid; shares: what each weighs.
    A map is averaged on a coarser grid, multiplied there and brought back bilinearly, which is what
    the sum of the matrices on the finest grid does, without its memory.
    """
    grid = maps.shape[1], maps.shape[2]
    for _ in range(times):
        total = torch.zeros_like(maps)
        for (looks, own), share in zip(attentions, shares, strict=True):
            if not share:
                continue
            cells = adaptive_avg_pool2d(maps, own).flatten(1).T
            rows = looks.sum(1, keepdim=True).clamp(min=_LEAST)
            moved = ((looks @ cells) / rows).T.reshape(len(maps), *own)
            total += share * interpolate(moved[None], grid, mode="bilinear", align_corners=False)[0]
        maps = total
    return maps
