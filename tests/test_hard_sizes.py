"""Of pictures of any size and shape, and for any K: every stage keeps its promises."""

from __future__ import annotations

import sys
from functools import cache
from unittest.mock import patch

import numpy as np
import pytest
from conftest import clustering_by, noise_picture
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fslab.cluster import cluster
from fslab.cluster.joining import join
from fslab.extract import extract
from fslab.lab import Lab
from fslab.match import load_matcher, match, score_segments
from fslab.records import (
    VOID,
    Clustering,
    Extraction,
    Features,
    FslabError,
    LabelMap,
    Matching,
    Picture,
    Refinement,
    Segments,
    Vocabulary,
)
from fslab.refine import refine
from fslab.score import ImageScore, score_image, summarise_all
from fslab.store import Store

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning:numpy")

ALWAYS = {
    "derandomize": True, "deadline": None, "database": None,
    "suppress_health_check": [HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
}  # fmt: skip
NAMES = ("background", "dog", "cat", "grass")

SIDES = st.integers(1, 70)
SIZES = st.one_of(
    st.tuples(SIDES, SIDES),
    st.tuples(st.just(1), st.integers(1, 2000)),
    st.tuples(st.integers(1, 2000), st.just(1)),
)
"""Heights and widths: small ones of every aspect, and single rows and columns."""

SMALL_SIZES = st.one_of(
    st.tuples(SIDES, SIDES), st.sampled_from([(1, 1), (1, 300), (300, 1), (2, 90)])
)


@cache
def _matcher(folder):
    return load_matcher(folder)


@st.composite
def segments_of(draw, size, most=7):
    """Draw segments of a size, each id from 0 in use."""
    chance = np.random.default_rng(draw(st.integers(0, 99)))
    count = min(draw(st.integers(1, most)), size[0] * size[1])
    flat = chance.integers(0, count, size[0] * size[1])
    flat[chance.permutation(flat.size)[:count]] = np.arange(count)
    return Segments(flat.reshape(size).astype(np.int32))


@st.composite
def features_of(draw, size):
    """Draw one to three maps, of strides of their own; constant, zero and huge ones too."""
    chance = np.random.default_rng(draw(st.integers(0, 99)))
    maps = {}
    for number in range(draw(st.integers(1, 3))):
        grid = draw(st.tuples(st.integers(1, 9), st.integers(1, 9)))
        values = chance.standard_normal((draw(st.integers(1, 6)), *grid)).astype(np.float32)
        maps[f"layer{number}"] = values * draw(st.sampled_from([1.0, 1.0, 0.0, 1e4]))
    return Features({key: value.astype(np.float32) for key, value in maps.items()}, size)


def check_segments(found: Segments, size: tuple[int, int]) -> None:
    assert found.labels.dtype == np.int32
    assert found.labels.shape == size
    assert np.unique(found.labels).tolist() == list(range(found.count))


def check_labels(found: LabelMap, size: tuple[int, int], names: tuple[str, ...]) -> None:
    assert found.labels.dtype == np.uint8
    assert found.labels.shape == size
    assert found.labels.max() < len(names)
    assert found.names == names
    assert set(found.scores) <= set(names)
    assert all(0 <= score <= 1 for score in found.scores.values())
    assert sum(found.shares().values()) == pytest.approx(1)


@settings(max_examples=12, **ALWAYS)
@given(size=SIZES, squash=st.booleans(), resolution=st.sampled_from([None, 32, 64]))
def test_features_of_any_picture_are_numbers_on_the_networks_grid(
    tiny, tmp_path, size, squash, resolution
):
    lab = Lab(tiny, store=Store(tmp_path / "store"))
    given = Extraction(
        layers=("up_blocks.0*",), timesteps=(20,), squash=squash, resolution=resolution
    )
    seen = lab.backbone.input_size(noise_picture(*size), given)
    assert all(side % lab.backbone.multiple == 0 and side > 0 for side in seen)
    features = extract(noise_picture(*size), given, lab.backbone, lab.store)
    strides = {layer.path: layer.stride for layer in lab.layers()}
    assert features.size == size
    for path, value in features.items():
        assert value.dtype == np.float32
        assert value.shape[1:] == tuple(side // strides[path] for side in seen)
        assert np.isfinite(value).all()


@settings(max_examples=90, **ALWAYS)
@given(data=st.data(), size=SIZES, k=st.integers(1, 12))
def test_clusters_cover_the_picture(data, size, k):
    features = data.draw(features_of(size))
    given = clustering_by(
        data.draw(st.sampled_from(["kmeans", "agglomerative", "spectral", "ncut"])),
        k=k, restarts=1,
        normalise=data.draw(st.sampled_from(["none", "l2"])),
        upsample=data.draw(st.sampled_from(["features", "nearest"])),
        position=data.draw(st.sampled_from([0.0, 0.5])),
        grid=data.draw(st.sampled_from([None, 1, 5])),
    )  # fmt: skip
    if given.method != "ncut" and k > join(features, given)[0].size:
        with pytest.raises(FslabError, match=f"K is {k}"):
            cluster(features, given)
        return
    found = cluster(features, given)
    check_segments(found, size)
    assert given.method == "ncut" or found.count <= k


@settings(max_examples=25, **ALWAYS)
@given(data=st.data(), size=SIZES, grid=st.tuples(st.integers(1, 6), st.integers(1, 6)))
def test_merged_attention_covers_the_picture(data, size, grid):
    chance = np.random.default_rng(data.draw(st.integers(0, 99)))
    cells = grid[0] * grid[1]
    looks = chance.random((cells, *grid), np.float32) ** 4
    features = Features({"attn1.probs": looks / looks.sum(0)}, size)
    given = Clustering.of(
        method="merge", anchors=data.draw(st.integers(1, 8)), rounds=data.draw(st.integers(1, 4)),
        threshold=data.draw(st.sampled_from([0.01, 0.5, 5.0])),
        upsample=data.draw(st.sampled_from(["features", "nearest"])),
    )  # fmt: skip
    found = cluster(features, given)
    check_segments(found, size)
    assert found.count <= given.anchors**2


@settings(max_examples=35, **ALWAYS)
@given(data=st.data(), size=SMALL_SIZES)
def test_names_come_from_the_vocabulary(clip, data, size):
    picture, segments = noise_picture(*size), data.draw(segments_of(size))
    words = data.draw(st.integers(1, len(NAMES) - 1))
    vocabulary = Vocabulary(NAMES[: words + 1])
    candidates = data.draw(st.lists(st.sampled_from(vocabulary.classes), unique=True))
    given = Matching(
        view=data.draw(st.sampled_from(["masked", "box", "mean", "masked-box", "mean-box"])),
        margin=data.draw(st.sampled_from([0.0, 0.3, 4.0])),
        background=data.draw(st.sampled_from([(), ("sky", "grass")])),
        compete=data.draw(st.sampled_from(["vocabulary", "candidates"])),
        assignment=data.draw(st.sampled_from(["one-per-class", "argmax", "vote"])),
    )  # fmt: skip
    found = match(picture, segments, vocabulary, candidates, given, _matcher(clip))
    check_labels(found, size, vocabulary.names)
    present = {vocabulary.names[label] for label in np.unique(found.labels)}
    assert present <= {vocabulary.names[0], *candidates}
    for belief in found.beliefs.values():
        assert belief.shape == size
        assert np.isfinite(belief).all()
    if candidates:
        scored = score_segments(picture, segments, vocabulary, candidates, given, _matcher(clip))
        assert scored.probabilities.shape == (segments.count, len(scored.texts))
        np.testing.assert_allclose(scored.probabilities.sum(1), 1, atol=1e-4)


SHARPEN = sys.modules["fslab.refine.sharpen"]
DENSE_CRF = SHARPEN.dense_crf


def checked_crf(*given):
    found = DENSE_CRF(*given)
    np.testing.assert_allclose(found.sum(0), 1, atol=1e-3)  # which no NaN does
    return found


@settings(max_examples=45, **ALWAYS)
@given(data=st.data(), size=SMALL_SIZES, flat=st.booleans())
def test_refinement_adds_no_label_and_keeps_the_size(data, size, flat):
    picture = Picture(np.full((*size, 3), 7, np.uint8)) if flat else noise_picture(*size)
    labels = data.draw(segments_of(size, 4)).labels.astype(np.uint8)
    beliefs = {}
    if data.draw(st.booleans()):
        chance = np.random.default_rng(0).random((4, *size), np.float32)
        beliefs = dict(enumerate(chance * data.draw(st.sampled_from([0.0, 1.0]))))
    before = LabelMap(labels, NAMES, {"dog": 0.5}, beliefs)
    method = data.draw(st.sampled_from(["none", "crf", "crf-joint", "pamr"]))
    steps = {} if method == "none" else {"iterations": data.draw(st.integers(1, 5))}
    given = Refinement.of(method, **steps)
    with patch.object(SHARPEN, "dense_crf", checked_crf):
        after = refine(picture, before, given)
    check_labels(after, size, NAMES)
    allowed = {0, *np.unique(labels).tolist(), *beliefs}
    assert set(np.unique(after.labels).tolist()) <= allowed


@settings(max_examples=60, **ALWAYS)
@given(data=st.data(), size=SIZES)
def test_every_pixel_that_counts_is_counted_once(data, size):
    chance = np.random.default_rng(data.draw(st.integers(0, 99)))
    shares = data.draw(st.sampled_from([(0.25,) * 4, (1, 0, 0, 0), (0, 0, 0, 1)]))
    truth = chance.choice(4, size, p=shares).astype(np.uint8)
    void = data.draw(st.sampled_from([0.0, 0.3, 1.0]))
    truth[chance.random(size) < void] = VOID
    guess = chance.integers(0, 4, size).astype(np.uint8)
    segments = data.draw(segments_of(size))
    found = score_image(truth, NAMES, guess, segments)
    counted = int((truth != VOID).sum())
    for confusion in (found.named, found.oracle, found.hungarian):
        assert confusion.counts.sum() == counted
        assert (confusion.counts >= 0).all()
        known = confusion.iou[np.isfinite(confusion.iou)]
        assert ((known >= 0) & (known <= 1)).all()
    assert all(0 <= overlap <= 1 for _, overlap in found.overlaps)
    assert np.trace(found.oracle.counts) >= np.trace(found.hungarian.counts)
    again = ImageScore.from_dict(found.to_dict(), NAMES)
    assert again.to_dict() == found.to_dict()
    if counted:
        assert all(0 <= score.figure <= 1 for score in summarise_all([found], 5).values())


@settings(max_examples=8, **ALWAYS)
@given(
    size=st.one_of(
        st.tuples(SIDES, SIDES), st.sampled_from([(1, 1), (1, 5000), (5000, 1), (3, 200)])
    ),
    method=st.sampled_from(["freeseg-diff", "fslab"]),
    k=st.integers(1, 6),
)
def test_whole_methods_take_pictures_of_any_size(tiny, tmp_path, size, method, k):
    lab = Lab(tiny, store=Store(tmp_path / "store"))
    vocabulary = Vocabulary(NAMES)
    recipe = lab.recipe(method).change(
        {"cluster.k": k, "cluster.restarts": 1, "caption.words": "all"}
    )
    found = lab.segment(noise_picture(*size), recipe, vocabulary)
    check_segments(found.segments, size)
    check_labels(found.named, size, NAMES)
    check_labels(found.labels, size, NAMES)
