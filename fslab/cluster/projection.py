"""Many channels as two: cells of a feature map as points in a plane."""

from __future__ import annotations

import warnings
from typing import Literal, get_args

import numpy as np

from fslab.cluster.joining import spanned
from fslab.records import FslabError, check_numbers

Projection = Literal["PCA", "UMAP"]


def project(cells: np.ndarray, how: Projection) -> np.ndarray:
    """Return f32 [N, 2] for cells f32 [N, C]: the two main components, or UMAP.

    PCA keeps distances as far as two directions can; along each, the cell that lies farthest out is
    on the positive side. UMAP (McInnes et al. 2018) keeps neighbours, and says nothing by its
    distances; three cells or fewer, which lie in a plane already, are laid out by PCA.
    Raises FslabError for numbers that are not finite, and where umap-learn cannot be imported.
    """
    check_numbers(cells, "cells")
    if cells.ndim != 2:
        raise FslabError(f"cells are {cells.dtype} {list(cells.shape)}; they must be f32 [N, C]")
    if how not in get_args(Projection):
        raise FslabError(
            f"a projection is {how!r}; it must be one of {', '.join(get_args(Projection))}"
        )
    if cells.shape[1] > len(cells):
        cells = spanned(cells.T).T
    if how == "UMAP" and len(cells) > 3:
        return _umap(cells)
    centred = (cells - cells.mean(0)).astype(np.float64)
    main = centred @ np.linalg.eigh(centred.T @ centred)[1][:, ::-1][:, :2]
    main *= np.where(main[np.abs(main).argmax(0), range(main.shape[1])] < 0, -1, 1)
    plane = np.zeros((len(cells), 2), np.float32)
    plane[:, : main.shape[1]] = main
    return plane


def _umap(cells: np.ndarray) -> np.ndarray:
    try:
        from umap import UMAP  # compiles for half a minute at its first use
    except (ImportError, AttributeError, RuntimeError, OSError) as error:
        # not there, of another numpy, or without a folder for what numba compiles
        raise FslabError(
            f"UMAP needs umap-learn, whose import failed ({type(error).__name__}: {error}); "
            "`pip install 'fslab[lab]'` brings it; or take 'PCA'"
        ) from error
    near = min(15, len(cells) - 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # few cells, and one thread by the seed
        reduced = UMAP(n_neighbors=near, random_state=0, n_jobs=1).fit_transform(cells)
    return np.asarray(reduced)
