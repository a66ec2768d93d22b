"""Layers side by side: one vector for each cell of a picture."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import interpolate

from fslab.records import CellClustering, Clustering, Features, FslabError
from fslab.records.base import LARGEST
from fslab.vectors import unit


def join(features: Features, settings: CellClustering) -> np.ndarray:
    """Return all layers side by side on one grid: f32 [C, h, w].

    The grid is that of the finest layer, or `settings.grid` cells on its longer side; maps
    are resized to it bilinearly. With normalise="l2" each cell of each layer gets unit
    length first; `settings.position` adds the cell's row and column.
    """
    return _side_by_side(_maps(features, settings), features.name, settings)


def coordinates(features: Features, settings: CellClustering) -> np.ndarray:
    """Return the cells of `join` in as few coordinates as they span: f32 [C or fewer, h, w].

    Distances and inner products of cells, and of means of cells, are those of `join` to rounding.
    Layers of one grid that have more channels than cells are written, before they are enlarged,
    in an orthonormal basis of what their cells span; enlarging is linear. Others stay as they are.
    """
    maps = _maps(features, settings)
    groups = list(_by_grid(maps).values())
    if any(map(_is_wide, groups)):
        maps = [
            each for group in groups for each in (_spanned(group) if _is_wide(group) else group)
        ]
    return _side_by_side(maps, features.name, settings)


def shape_of(features: Features, settings: CellClustering) -> tuple[int, int, int]:
    """Return the shape of what `coordinates` returns, without making it."""
    groups = _by_grid(features.values())
    channels = sum(min(sum(map(len, group)), h * w) for (h, w), group in groups.items())
    return channels + 2 * bool(settings.position), *common_grid(list(groups), settings.grid)


def grid_of(features: Features, settings: Clustering) -> tuple[int, int]:
    """Return the common grid of the layers: rows and columns of cells."""
    return common_grid([value.shape[1:] for value in features.values()], settings.grid)


def spanned(cells: np.ndarray) -> np.ndarray:
    """Return cells f32 [C, N] of more channels than cells in coordinates of their span, f32 [N, N].

    R of their QR factors, whose columns have the distances and the inner products of the cells. It
    is computed in f64, without a tolerance; each coordinate's sign makes R's diagonal positive,
    and cells that are equal stay so. Another number of threads may move last bits.
    """
    cells = np.ascontiguousarray(cells)
    factor: NDArray[np.float64]
    factor = torch.linalg.qr(torch.tensor(cells, dtype=torch.float64), mode="r").R.numpy()
    factor *= np.where(factor.diagonal() < 0, -1, 1)[:, None]
    first: dict[bytes, int] = {}
    same = [first.setdefault(cell.tobytes(), place) for place, cell in enumerate(cells.T)]
    return factor[:, same].astype(np.float32)


def _spanned(group: Sequence[np.ndarray]) -> list[np.ndarray]:
    joined = np.concatenate(group)
    return [spanned(joined.reshape(len(joined), -1)).reshape(-1, *joined.shape[1:])]


def _by_grid(maps: Iterable[np.ndarray]) -> dict[tuple[int, int], list[np.ndarray]]:
    groups: dict[tuple[int, int], list[np.ndarray]] = {}
    for value in maps:
        groups.setdefault(value.shape[1:], []).append(value)
    return groups


def _is_wide(group: Sequence[np.ndarray]) -> bool:
    return sum(map(len, group)) > int(group[0][0].size)


def _maps(features: Features, settings: CellClustering) -> list[np.ndarray]:
    scaled = settings.normalise == "l2"
    return [unit_length(value) if scaled else value for value in features.values()]


def _side_by_side(maps: Sequence[np.ndarray], name: str, settings: CellClustering) -> np.ndarray:
    size = common_grid([value.shape[1:] for value in maps], settings.grid)
    joined = np.concatenate([resize(value, size) for value in maps])
    if not settings.position:
        return joined
    weight = settings.position * float(np.sqrt(joined.var(axis=(1, 2)).sum()))
    if not weight <= LARGEST:
        raise FslabError(
            f"{name}: clustering.position is {settings.position!r}, which makes rows and columns "
            f"of these features {weight:.3g}; numbers are at most {LARGEST:.0e}: take a smaller one"
        )
    return np.concatenate([joined, weight * position(size)])


def position(size: tuple[int, int]) -> np.ndarray:
    """Return each cell's row and column, f32 [2, h, w], of one standard deviation together."""
    rows, columns = np.mgrid[: size[0], : size[1]].astype(np.float32)
    longer = max(size)
    centred = np.stack([(rows - rows.mean()) / longer, (columns - columns.mean()) / longer])
    return centred / max(float(np.sqrt(centred.var(axis=(1, 2)).sum())), 1e-6)


def unit_length(value: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return a map [C, h, w] with every cell's channels scaled to length 1."""
    return unit(value, axis=0, least=1e-8)


def resize(value: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return a map [C, h, w] bilinearly resized to `size`, as f32; unchanged if it fits."""
    if value.shape[1:] == size:
        return value.astype(np.float32, copy=False)
    source = torch.from_numpy(np.array(value, dtype=np.float32))[None]
    return interpolate(source, size, mode="bilinear", align_corners=False)[0].numpy()


def common_grid(shapes: Sequence[tuple[int, int]], longer: int | None) -> tuple[int, int]:
    """Return the grid of the finest map, or one of `longer` cells on its longer side."""
    h, w = max(shapes, key=lambda shape: shape[0] * shape[1])
    if longer is None:
        return h, w
    scale = longer / max(h, w)
    return max(round(h * scale), 1), max(round(w * scale), 1)
