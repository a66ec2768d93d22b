"""Dense CRFs of a picture, by either engine, within bounds that are known before."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from fslab.datasets import PictureLike, read
from fslab.process import memory_refused, stage
from fslab.records import DenseCrf, FslabError, OutOfMemory, Picture, check_numbers
from fslab.records.base import described
from fslab.refine import reference
from fslab.refine.reach import MOST_STEPS, Term, holds, reach
from fslab.room import available

_LARGEST = float(np.finfo(np.float32).max)


@stage
def dense_crf(picture: PictureLike, unary: np.ndarray, recipe: DenseCrf) -> np.ndarray:
    """Return f32 [L, H, W], the probabilities of labels 0..L-1 after mean-field inference.

    unary: energies f32 [L, H x W]. Raises FslabError for other arrays, for widths so small, or
    weights so large, that the numbers leave their range, and OutOfMemory, which is one, where there
    is not enough.
    """
    picture = read(picture)
    _check_unary(picture, unary)
    terms = _terms(picture, recipe)
    if len(unary) == 1:
        return np.ones((1, *picture.size), np.float32)
    if recipe.engine == "pydensecrf":
        return _finite(picture, reference.infer(picture, unary, recipe), recipe)
    odds = (unary[:1] - unary[1:]).reshape(-1, *picture.size)
    found = _infer(picture, odds, terms, recipe, together=True)
    with_first = np.concatenate([np.zeros_like(found[:1]), found])
    shares = np.exp(with_first - with_first.max(0))
    normal: NDArray[np.float32] = shares / shares.sum(0)
    return normal


def mask_crfs(picture: Picture, masks: np.ndarray, recipe: DenseCrf) -> np.ndarray:
    """Return f32 [K, H, W], each mask's probability after a CRF of its own; errors as `dense_crf`.

    masks: bool [K, H, W], each right with the recipe's certainty.
    """
    terms = _terms(picture, recipe)
    if recipe.engine == "pydensecrf":
        return np.stack(
            [
                dense_crf(picture, label_energy(mask.astype(int), recipe), recipe)[1]
                for mask in masks
            ]
        )
    sure = np.float32(np.log(recipe.certainty / (1 - recipe.certainty)))
    found = _infer(picture, np.where(masks, sure, -sure), terms, recipe, together=False)
    less: NDArray[np.float32] = np.exp(-np.abs(found))
    return np.where(found >= 0, 1, less) / (1 + less)


def label_energy(indices: np.ndarray, recipe: DenseCrf) -> np.ndarray:
    """Return each label's energy at each pixel, f32 [L, pixels], of labels that may be wrong.

    indices: whole numbers [H, W] up to L - 1. What certainty leaves is shared by all others.
    """
    count = int(indices.max()) + 1
    others = (1 - recipe.certainty) / max(count - 1, 1)
    energy = np.full((count, indices.size), -np.log(others), np.float32)
    energy[indices.ravel(), np.arange(indices.size)] = -np.log(recipe.certainty)
    return energy


def _infer(
    picture: Picture, odds: np.ndarray, terms: tuple[Term, Term], recipe: DenseCrf, together: bool
) -> np.ndarray:
    """Return log odds [C, H, W] after inference by this package's own lattice."""
    from numba import config

    from fslab.refine import field, filtering

    if config.DISABLE_JIT:  # type: ignore[attr-defined]  # set by its name at import
        raise FslabError("NUMBA_DISABLE_JIT is set; the CRF's lattice runs as compiled code only")
    if odds[0].size * filtering.CORNERS >= 2**32:
        raise FslabError(
            f"{picture.name}: {_size(picture)} pixels are more than the CRF can count; make the "
            "picture smaller, or take refinement.method 'pamr'"
        )

    def spend(size: int) -> None:
        free = available()
        if free is not None and size > free:
            raise OutOfMemory(
                f"{picture.name}: memory ran out in the CRF of {_size(picture)} pixels and "
                f"{len(odds) + together} {'labels' if together else 'masks'}, which takes "
                f"{size / 1e6:.0f} MB more, and {free / 1e6:.0f} MB are free; make the picture "
                "smaller, or run it where there is more"
            )

    try:
        with memory_refused(picture.name):
            found = field.infer(
                picture.pixels, odds, terms, recipe.iterations, together,
                torch.get_num_threads(), spend,
            )  # fmt: skip
    except OSError as error:  # of numba, which keeps what it compiled
        raise FslabError(
            f"{picture.name}: the CRF's compiled code could not be kept on the disk "
            f"({error.strerror or error}); make room there, or name another folder in the "
            "environment's NUMBA_CACHE_DIR"
        ) from error
    return _finite(picture, found, recipe)


def _check_unary(picture: Picture, unary: np.ndarray) -> None:
    """Refuse energies that are not numbers, or not one for each label at each pixel."""
    what = f"{picture.name}: unary"
    check_numbers(unary, what)
    pixels = picture.size[0] * picture.size[1]
    if unary.ndim != 2 or unary.shape[1] != pixels:
        raise FslabError(
            f"{what} is {described(unary)}; it must be [labels, {pixels}] for {_size(picture)} "
            "pixels"
        )


def _terms(picture: Picture, recipe: DenseCrf) -> tuple[Term, Term]:
    """Return the recipe's terms; refuse widths too small for the lattice, and weights too large."""
    if max(abs(recipe.gaussian_compat), abs(recipe.bilateral_compat)) > _LARGEST:
        raise _out_of_range(picture, recipe)
    near, far, colour = recipe.gaussian_sxy, recipe.bilateral_sxy, recipe.bilateral_srgb
    bilateral = Term((far, far, colour, colour, colour), recipe.bilateral_compat)
    gaussian = Term((near, near), recipe.gaussian_compat)
    words = f"bilateral_sxy is {far!r} and bilateral_srgb {colour!r}", f"gaussian_sxy is {near!r}"
    for term, said in zip((bilateral, gaussian), words, strict=True):
        if not holds(term, picture.pixels):
            raise FslabError(
                f"{picture.name}: refinement.{said}, which is too small for a picture of "
                f"{_size(picture)} pixels: the CRF's lattice would have "
                f"{reach(term, picture.pixels):.3g} steps and has up to {MOST_STEPS}; "
                "take larger ones"
            )
    return bilateral, gaussian


def _finite(picture: Picture, found: np.ndarray, recipe: DenseCrf) -> np.ndarray:
    if not np.isfinite(found).all():
        raise _out_of_range(picture, recipe)
    return found


def _out_of_range(picture: Picture, recipe: DenseCrf) -> FslabError:
    return FslabError(
        f"{picture.name}: the CRF's numbers left their range; refinement.gaussian_compat is "
        f"{recipe.gaussian_compat!r} and bilateral_compat {recipe.bilateral_compat!r}: take "
        "smaller ones"
    )


def _size(picture: Picture) -> str:
    return f"{picture.size[0]} x {picture.size[1]}"
