import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fslab.records import FslabError, LabelMap, Picture, Refinement
from fslab.refine import crf, pamr, refine

NAMES = ("background", "cat", "dog")
METHODS = ("crf", "crf-joint", "pamr")
# The released code's widths are for pictures of 500 pixels; these fit the tests' 32.
SMALL = {
    "gaussian_sxy": 2.0,
    "bilateral_sxy": 8.0,
    "bilateral_srgb": 10.0,
    "bilateral_compat": 10.0,
}


def noisy_square(size=32, share=0.15):
    """Return a red square on blue, its true mask, and the mask with a share of pixels flipped."""
    generator = np.random.default_rng(5)
    truth = np.zeros((size, size), np.uint8)
    truth[size // 4 : 3 * size // 4, size // 4 : 3 * size // 4] = 1
    pixels = np.where(truth[..., None] == 1, (200, 40, 40), (40, 60, 180)).astype(np.int64)
    pixels = np.clip(pixels + generator.integers(-6, 7, pixels.shape), 0, 255).astype(np.uint8)
    noisy = np.where(generator.random(truth.shape) < share, 1 - truth, truth).astype(np.uint8)
    return Picture(pixels), truth, LabelMap(noisy, NAMES, {"cat": 0.5})


def iou(one, other):
    return (one & other).sum() / (one | other).sum()


@pytest.mark.parametrize("method", METHODS)
def test_a_noisy_square_is_repaired(method):
    picture, truth, noisy = noisy_square()
    recipe = Refinement.of(method, **({} if method == "pamr" else SMALL))
    found = refine(picture, noisy, recipe)
    assert iou(noisy.labels, truth) < 0.75
    assert iou(found.labels, truth) > 0.95
    assert found.labels.dtype == np.uint8
    assert found.names == NAMES
    assert found.scores == {"cat": 0.5}


def test_none_and_a_single_label_return_the_same_map():
    picture, _, noisy = noisy_square()
    assert refine(picture, noisy, Refinement.of(method="none")) is noisy
    for label in (0, 2):
        flat = LabelMap(np.full(picture.size, label, np.uint8), NAMES)
        for method in METHODS:
            assert refine(picture, flat, Refinement.of(method=method)) is flat


def direct_crf(pixels, indices, count):
    from pydensecrf import densecrf
    from pydensecrf.utils import unary_from_labels

    field = densecrf.DenseCRF2D(pixels.shape[1], pixels.shape[0], count)
    field.setUnaryEnergy(unary_from_labels(indices, count, 0.9, zero_unsure=False))
    field.addPairwiseGaussian(sxy=20, compat=5)
    field.addPairwiseBilateral(sxy=20, srgb=20, rgbim=pixels.copy(), compat=100)
    return np.array(field.inference(10)).reshape(count, *indices.shape)


@pytest.fixture(scope="module")
def patches():
    """Return a picture of three textured colours and labels 0, 2 and 7 that miss their edges."""
    generator = np.random.default_rng(1)
    pixels = np.zeros((60, 90, 3), np.int64)
    pixels[:, 30:60], pixels[:, 60:] = (120, 90, 30), (30, 200, 90)
    pixels = np.clip(pixels + generator.integers(-30, 31, pixels.shape), 0, 255).astype(np.uint8)
    labels = np.zeros((60, 90), np.uint8)
    labels[:, 24:66], labels[10:, 66:] = 2, 7
    return Picture(pixels), LabelMap(labels, tuple("abcdefgh"))


@pytest.mark.reference
def test_the_joint_crf_agrees_with_pydensecrf(patches):
    picture, labels = patches
    present, indices = np.unique(labels.labels, return_inverse=True)
    indices = indices.reshape(labels.size)
    expected = present[direct_crf(picture.pixels, indices, 3).argmax(0)]
    found = refine(picture, labels, Refinement.of(method="crf-joint"))
    assert np.array_equal(found.labels, expected)
    assert np.array_equal(crf(picture, labels, method="crf-joint").labels, expected)
    assert not np.array_equal(found.labels, labels.labels)


@pytest.mark.reference
def test_the_crf_of_each_mask_agrees_with_pydensecrf(patches):
    picture, labels = patches
    claims = {
        label: direct_crf(picture.pixels, (labels.labels == label).astype(int), 2)[1]
        for label in (2, 7)
    }
    expected = np.where(claims[2] >= claims[7], 2, 7)
    expected[np.maximum(claims[2], claims[7]) <= 0.5] = 0
    found = refine(picture, labels, Refinement.of())
    assert np.array_equal(found.labels, expected)
    assert np.array_equal(crf(picture, labels).labels, expected)
    assert set(np.unique(found.labels)) == {0, 2, 7}


def test_crf_settings_reach_the_field_and_unknown_ones_are_refused(patches):
    picture, labels = patches
    quiet = crf(picture, labels, gaussian_compat=0.0, bilateral_compat=0.0)
    assert np.array_equal(quiet.labels, labels.labels)
    same = crf(picture, labels, method="pamr", iterations=2)
    assert np.array_equal(
        same.labels, refine(picture, labels, Refinement.of(method="pamr", iterations=2)).labels
    )
    with pytest.raises(FslabError, match="no setting 'sxy'"):
        crf(picture, labels, sxy=3)


def test_other_labels_are_never_invented(patches):
    picture, labels = patches
    for method in METHODS:
        found = refine(picture, labels, Refinement.of(method=method))
        assert set(np.unique(found.labels)) <= {0, 2, 7}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1), (2, 2), (7, 31), (33, 5)])
def test_any_size_keeps_its_size_and_inputs_stay(method, size):
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (*size, 3), dtype=np.uint8)
    labels = generator.integers(0, 3, size).astype(np.uint8)
    before = pixels.copy(), labels.copy()
    found = refine(Picture(pixels), LabelMap(labels, NAMES), Refinement.of(method=method))
    assert found.labels.shape == size
    assert np.array_equal(pixels, before[0])
    assert np.array_equal(labels, before[1])


def test_read_only_and_strided_pictures_work(patches):
    picture, labels = patches
    flipped = Picture(picture.pixels[:, ::-1])
    flipped.pixels.flags.writeable = False
    for method in METHODS:
        found = refine(flipped, labels, Refinement.of(method=method, iterations=1))
        assert found.size == picture.size


def test_sizes_that_differ_are_refused():
    picture, _, _ = noisy_square()
    with pytest.raises(FslabError, match=r"picture is \(32, 32\) and its label map is \(3, 4\)"):
        refine(picture, LabelMap(np.zeros((3, 4), np.uint8), NAMES), Refinement.of())


def slow_pamr(pixels, masks, iterations, dilations):
    """Follow the formula pixel by pixel in float64."""
    height, width = pixels.shape[:2]
    colours = pixels.astype(np.float64)

    def around(row, column, own):
        return [
            (min(max(row + y * step, 0), height - 1), min(max(column + x * step, 0), width - 1))
            for step in dilations
            for y in (-1, 0, 1)
            for x in (-1, 0, 1)
            if own or x or y
        ]

    weights = {}
    for row, column in np.ndindex(height, width):
        every = np.array([colours[place] for place in around(row, column, True)])
        near = np.array([colours[place] for place in around(row, column, False)])
        spread = 1e-8 + 0.1 * every.std(0, ddof=1)
        energy = -(np.abs(near - colours[row, column]) / spread).mean(1)
        weights[row, column] = np.exp(energy - energy.max()) / np.exp(energy - energy.max()).sum()
    soft = masks.astype(np.float64)
    for _ in range(iterations):
        new = np.empty_like(soft)
        for place in np.ndindex(height, width):
            values = np.stack([soft[:, y, x] for y, x in around(*place, False)])
            new[:, place[0], place[1]] = weights[place] @ values
        soft = new
    return soft


@pytest.mark.parametrize("dilations", [(1,), (1, 2, 4), (1, 2, 4, 8, 12, 24)])
def test_pamr_agrees_with_the_formula(dilations):
    generator = np.random.default_rng(4)
    pixels = generator.integers(0, 256, (6, 9, 3), dtype=np.uint8)
    masks = generator.random((2, 6, 9)).astype(np.float32)
    found = pamr(pixels, masks, 3, dilations)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, slow_pamr(pixels, masks, 3, dilations), atol=2e-5)


def test_pamr_on_one_colour_is_the_plain_mean_of_the_neighbours():
    masks = np.zeros((1, 5, 5), np.float32)
    masks[0, 2, 2] = 1
    found = pamr(np.full((5, 5, 3), 90, np.uint8), masks, 1, (1,))
    expected = np.zeros((5, 5))
    expected[1:4, 1:4] = 1 / 8
    expected[2, 2] = 0
    np.testing.assert_allclose(found[0], expected, atol=1e-7)


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 2**31))
def test_pamr_keeps_masks_that_sum_to_one(height, width, seed):
    generator = np.random.default_rng(seed)
    pixels = generator.integers(0, 256, (height, width, 3), dtype=np.uint8)
    masks = np.eye(3, dtype=np.float32)[generator.integers(0, 3, (height, width))]
    found = pamr(pixels, masks.transpose(2, 0, 1), 4)
    np.testing.assert_allclose(found.sum(0), 1, atol=1e-4)
    assert found.min() >= 0


def test_pamr_refuses_dilations_that_are_none():
    with pytest.raises(FslabError, match="dilations are"):
        pamr(np.zeros((2, 2, 3), np.uint8), np.zeros((1, 2, 2), np.float32), 1, (0,))
