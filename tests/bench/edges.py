"""Dense CRFs over this package's own lattice against pydensecrf's, which both hold to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from contest import Contest, Setting
from pydensecrf.densecrf import DenseCRF2D
from pydensecrf.utils import unary_from_labels
from sklearn.datasets import load_sample_image

from fslab.datasets import VOC
from fslab.lab.recipes import FREESEG_DIFF, FSLAB
from fslab.records import LabelMap, Picture, Refinement
from fslab.refine import refine


def benches(setting: Setting) -> Iterator[Contest]:
    """Four masks of a picture on one thread and on two, and one joint CRF by both recipes."""
    size = (60, 80) if setting.smoke else (375, 500)
    picture, labels = photograph(size), discs(size, 4)
    words = f"{size[1]} x {size[0]}"
    masks, joint = FREESEG_DIFF.refine, Refinement.of("crf-joint")
    assert_alike(refine(picture, labels, masks).labels, each_by_pydensecrf(picture, labels, masks))
    for threads, target in ((1, 5.0), (2, 8.0)):
        yield Contest(
            f"crf-4-masks-{threads}",
            f"dense CRFs of 4 masks, {words}, {threads} thread{'s' * (threads > 1)}",
            "4 calls of pydensecrf",
            on_threads(threads, lambda: refine(picture, labels, masks)),
            lambda: each_by_pydensecrf(picture, labels, masks),
            target=target,
            each=3,
        )
    for name, recipe in (("freeseg-diff", joint), ("fslab", FSLAB.refine)):
        assert_alike(
            refine(picture, labels, recipe).labels, by_pydensecrf(picture, labels, recipe).argmax(0)
        )
        yield Contest(
            f"crf-joint-{name}",
            f"dense CRF, joint, {words}, 4 classes and the background, as {name} has it, 1 thread",
            "a call of pydensecrf",
            on_threads(1, lambda recipe=recipe: refine(picture, labels, recipe)),
            lambda recipe=recipe: by_pydensecrf(picture, labels, recipe),
            target=3.0,
            each=3,
        )


def each_by_pydensecrf(picture: Picture, labels: LabelMap, recipe: Refinement) -> np.ndarray:
    """Return labels [H, W] of a two-label CRF for each class, as the released code runs them."""
    claims = np.stack(
        [
            by_pydensecrf(picture, LabelMap(labels.labels == label, VOC.names), recipe)[1]
            for label in np.unique(labels.labels)[1:]
        ]
    )
    return np.where(claims.max(0) > 0.5, claims.argmax(0) + 1, 0)


def by_pydensecrf(picture: Picture, labels: LabelMap, recipe: Refinement) -> np.ndarray:
    """Return probabilities f32 [L, H, W] of labels 0 to L - 1."""
    indices = labels.labels.astype(int)
    count = int(indices.max()) + 1
    field = DenseCRF2D(picture.size[1], picture.size[0], count)
    field.setUnaryEnergy(unary_from_labels(indices, count, recipe.certainty, zero_unsure=False))
    field.addPairwiseGaussian(sxy=recipe.gaussian_sxy, compat=recipe.gaussian_compat)
    field.addPairwiseBilateral(
        sxy=recipe.bilateral_sxy, srgb=recipe.bilateral_srgb, compat=recipe.bilateral_compat,
        rgbim=picture.pixels,
    )  # fmt: skip
    return np.array(field.inference(recipe.iterations), np.float32).reshape(count, *picture.size)


def assert_alike(ours: np.ndarray, theirs: np.ndarray) -> None:
    """Fail unless at least 99.9 % of the labels are the same."""
    assert np.mean(ours == theirs) >= 0.999, f"{np.mean(ours != theirs):.2%} of labels differ"


def on_threads(threads: int, call: Callable[[], object]) -> Callable[[], object]:
    """Return the call as it is on so many of torch's threads, which is put back afterwards."""

    @contextmanager
    def limited() -> Iterator[None]:
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            yield
        finally:
            torch.set_num_threads(before)

    return limited()(call)


def photograph(size: tuple[int, int]) -> Picture:
    """Return the middle of scikit-learn's photograph of a temple: real colours."""
    pixels = load_sample_image("china.jpg")
    top, left = ((have - want) // 2 for have, want in zip(pixels.shape, size, strict=False))
    return Picture(np.array(pixels[top : top + size[0], left : left + size[1]], order="C"))


def discs(size: tuple[int, int], classes: int) -> LabelMap:
    """Return discs side by side, each of another class, on a background."""
    height, width = size
    down, right = np.mgrid[:height, :width]
    labels = np.zeros(size, np.uint8)
    for number in range(classes):
        middle = (number + 0.5) * width / classes
        labels[np.hypot(down - height / 2, right - middle) < 0.4 * width / classes] = number + 1
    return LabelMap(labels, VOC.names)
