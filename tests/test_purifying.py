"""Candidates that are dropped where their place does not agree with where its cells look."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import noise_picture

from fslab.lab import METHODS, Lab
from fslab.match import consistency
from fslab.records import Captioning, FslabError

PURIFIED = {"caption.purify_layers": ("*attn1.probs",), "caption.words": "all"}


def two_halves():
    """Return self-attention f32 [4, 6, 4, 6] of cells that look at their own half alone."""
    half = (np.arange(24) % 6 >= 3).astype(int)
    looks = (half[:, None] == half[None]) + 1e-6
    return (looks / looks.sum(1, keepdims=True)).reshape(4, 6, 4, 6).astype(np.float32)


def test_a_map_that_is_its_half_agrees_and_scattered_cells_do_not():
    whole, scattered = np.zeros((2, 4, 6), np.float32)
    whole[:, 3:] = 1
    scattered[[0, 3], [0, 5]] = 1
    maps = np.stack([whole, scattered])
    agreement = consistency(maps, two_halves())
    assert agreement[0] == pytest.approx(0.5)
    # its box is all, where both halves get the same, and what is nowhere less is 0
    assert agreement[1] == pytest.approx(0)


def test_the_agreement_by_hand():
    """Two cells that look at each other and themselves alike: T squared is 1/2 everywhere."""
    looks = np.full((1, 2, 1, 2), 0.5, np.float32)
    (flat,) = consistency(np.array([[[0.8, 0.8]]], np.float32), looks)
    assert flat == 0  # nothing of a constant is left from 0 to 1
    looks = np.array([[0.9, 0.1], [0.1, 0.9]], np.float32).reshape(1, 2, 1, 2)
    (found,) = consistency(np.array([[[0.8, 0.4]]], np.float32), looks)
    assert found == pytest.approx(0.8 / (1.2 + 1.0), rel=1e-5)


def test_candidates_are_dropped_alone_and_in_batches(tiny):
    lab, pictures = Lab(tiny), [noise_picture(64, 64, seed=seed) for seed in range(3)]
    recipe = METHODS["freeseg-diff"].change({**PURIFIED, "refine.method": "none"})
    every = lab.caption(pictures[0], method=recipe.caption).candidates
    assert len(every) == 20
    agreements = sorted(
        share for share in np.linspace(0, 0.5, 21)
        if 0 < len(lab.caption(pictures[0], method=recipe.change({"caption.purify": share}).caption)
               .candidates) < 20
    )  # fmt: skip
    assert agreements, "no threshold parts the classes"
    recipe = recipe.change({"caption.purify": agreements[0]})
    alone = [lab.segment(each, recipe).caption.candidates for each in pictures]
    assert all(set(found) < set(every) for found in alone[:1])
    together = Lab(tiny).segment_many(pictures, recipe, batch=3)
    assert [each.caption.candidates for each in together] == alone


def test_a_picture_smaller_than_the_cells_is_purified(tiny):
    asked = Captioning("all", purify=0.01, purify_layers=("*attn1.probs",))
    assert len(Lab(tiny).caption(noise_picture(5, 3), method=asked).candidates) <= 20


def test_what_cannot_be_purified_is_refused(tiny, picture):
    for wrong, said in (
        ({"purify": 1.5}, "purify is 1.5"),
        ({"purify_timestep": 1000}, "timestep"),
    ):
        with pytest.raises(FslabError, match=said):
            Captioning(**wrong)
    with pytest.raises(FslabError, match=r"rgb shows no self-attention.*captioning.purify"):
        Lab(tiny, "rgb").caption(picture, words="all", purify=0.1)
