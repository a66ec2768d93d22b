"""Whole methods as named recipes."""

from __future__ import annotations

import difflib

from fslab.records import (
    Captioning,
    Clustering,
    Extraction,
    FslabError,
    Matching,
    Recipe,
    Refinement,
)

FREESEG_DIFF = Recipe(
    "freeseg-diff",
    Extraction(timesteps=(0,), squash=True, posterior="sample"),
    Clustering("kmeans", k=4, grid=32, upsample="nearest"),
    Captioning("closed", "embedding"),
    Matching("masked", compete="vocabulary", assignment="one-per-class"),
    Refinement("crf"),
)
"""FreeSeg-Diff (Corradini et al. 2024), as its released code runs it.

Features: the preset's cross-attention queries, empty prompt, t = 0 with noise still added,
the picture squashed; each layer resized bilinearly to 32 x 32, joined, not normalised.
Segments: k-means, K = 4, labels repeated to the picture's size. Candidates: BLIP's caption,
its nouns, each the nearest class by correlation of mean text embeddings. Names: region on
black, bare class names, softmax over the whole vocabulary, one segment a class. Edges: one
dense CRF a mask.

Where it differs, and why:
- k-means is seeded, so that a result can be had twice.
- The UNet stops after the last layer that is read; the features are the same.
- Nouns come from TextBlob's tagger, which needs no download; tagger="spacy" is the code's.
- Classes are said with spaces ("tv monitor"): the data set's own spelling is no word.
- On mini the layers are the 12 x 12 ones of 96 px; the 6 x 6 ones, the literal translation of
  a quarter of the latent's side, are 36 cells for a picture.
- The rule that also takes adjectives as their head noun is left out; it adds no noun.
- A caption's texts and a vocabulary are encoded once, not once a cluster; the same numbers.
- Where two refined masks claim a pixel, the more probable one has it; the code's order of
  painting is an accident of its cluster numbers.
"""

GROUNDS = (
    "sky", "grass", "sea", "road", "sand", "snow", "wall", "wood", "carpet", "forest",
)  # fmt: skip
"""Words that mean background: what pictures have behind their things."""

FSLAB = Recipe(
    "fslab",
    Extraction(layers=("up_blocks.1.attentions.*.attn2.to_q",), timesteps=(50,)),
    Clustering("kmeans", k=6, normalise="l2"),
    Captioning("closed", "name"),
    Matching(
        "mean",
        synonyms=True,
        background=GROUNDS,
        compete="candidates",
        assignment="argmax",
    ),
    Refinement(
        "crf-joint",
        gaussian_sxy=3.0,
        gaussian_compat=3.0,
        bilateral_srgb=10.0,
        bilateral_compat=10.0,
    ),
)
"""A simple recipe of our own: what each stage of the paper suggests, and nothing more.

Features: cross-attention queries of the decoder at t = 50, unit length. Segments: k-means, K = 6,
features interpolated before pixels choose. Candidates: classes that the caption names, by name or
synonym. Names: the region on the picture's mean colour; classes compete with words for grounds,
which mean background (as in SCLIP, Wang et al. 2024); segments may share a class. Edges: one joint
dense CRF over the labels present. Settings were chosen on mini-VOC's
search split; docs/method.md has the figures.
"""

METHODS = {recipe.name: recipe for recipe in (FREESEG_DIFF, FSLAB)}


CLUSTERINGS = ("kmeans", "agglomerative")


def clustering_recipe(method: str) -> Recipe:
    """Return a class-agnostic recipe: cells of unit length, pixels by interpolated features.

    The picture keeps its aspect, and nothing is captioned or named.
    """
    if method not in CLUSTERINGS:
        raise FslabError(f"there is no clustering {method!r}; there is {', '.join(CLUSTERINGS)}")
    return Recipe(method, cluster=Clustering(method, k=6, normalise="l2"))


def find_recipe(method: str | Recipe) -> Recipe:
    """Return a recipe as it is, or a method's by name; FslabError offers the nearest names."""
    if isinstance(method, Recipe):
        return method
    if method not in METHODS:
        near = difflib.get_close_matches(method, METHODS, n=2)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        raise FslabError(
            f"there is no method {method!r}; the methods are {', '.join(METHODS)}{hint}"
        )
    return METHODS[method]
