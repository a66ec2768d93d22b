"""Beliefs spread over like colours: one linear system, by conjugate gradients.

Own code, from the description of PEARL (CVPR 2026). The system is that of Grady's random walker
with a prior (Random Walks for Image Segmentation, PAMI 2006).
"""

from __future__ import annotations

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import cg
from torch import from_numpy
from torch.nn.functional import interpolate

from fslab.parts import versioned

_LEAST = 1e-12
"""What a sum or a mean is at least before anything is divided by it."""


@versioned(1)
def walk(
    pixels: np.ndarray,
    beliefs: np.ndarray,
    *,
    grid: int = 80,
    sharpness: float = 5.0,
    trust: float = 1.0,
    iterations: int = 25,
) -> np.ndarray:
    """Return beliefs f32 [L, H, W] spread over pixels u8 [H, W, 3] of like colour, sums 1.

    On a grid of `grid` cells on the longer side, or of the pixels where they are fewer, cells
    beside each other pull with exp(-sharpness x difference of colour / mean difference), and a
    cell's own belief with `trust` times the square of its strongest. The minimum of all is where
    conjugate gradients go from the beliefs in at most so many iterations. Beliefs between the
    grid's cells are interpolated.
    """
    size = pixels.shape[:2]
    scale = min(1.0, grid / max(size))
    shape = max(round(size[0] * scale), 1), max(round(size[1] * scale), 1)
    colours = _resized(pixels.transpose(2, 0, 1), shape, "area").reshape(3, -1).T
    own = _resized(beliefs, shape, "area").reshape(len(beliefs), -1)
    edges = _edges(colours, shape, sharpness)
    weights = trust * own.max(0) ** 2
    system = (sparse.diags(np.asarray(edges.sum(1)).ravel() + weights) - edges).tocsr()
    found = np.stack([cg(system, weights * one, x0=one, maxiter=iterations)[0] for one in own])
    found = np.clip(found, 0, 1)
    found /= np.maximum(found.sum(0), _LEAST)
    return _resized(found.reshape(-1, *shape), size, "bilinear")


def _edges(colours: np.ndarray, shape: tuple[int, int], sharpness: float) -> sparse.csr_matrix:
    """Return how cells beside each other pull, symmetric [cells, cells]."""
    places = np.arange(shape[0] * shape[1]).reshape(shape)
    one = np.concatenate([places[:, :-1].ravel(), places[:-1].ravel()])
    other = np.concatenate([places[:, 1:].ravel(), places[1:].ravel()])
    apart = np.linalg.norm(colours[one] - colours[other], axis=1)
    pull = np.exp(-sharpness * apart / max(float(apart.mean()) if len(apart) else 0.0, _LEAST))
    edges = sparse.coo_matrix((pull, (one, other)), shape=(places.size, places.size)).tocsr()
    return edges + edges.T


def _resized(maps: np.ndarray, shape: tuple[int, int], mode: str) -> np.ndarray:
    given = from_numpy(np.ascontiguousarray(maps, dtype=np.float32))[None]
    corners = False if mode == "bilinear" else None
    found: np.ndarray = interpolate(given, shape, mode=mode, align_corners=corners)[0].numpy()
    return found
