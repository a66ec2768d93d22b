import numpy as np
import pytest
import torch
from PIL import Image
from text_models import save_metaclip2

from fslab.match import Patches, load_matcher, match, score_segments, text_scores, views
from fslab.records import FslabError, Matching, Picture, Segments, Vocabulary

VOCABULARY = Vocabulary(("background", "cat", "dog"))


@pytest.fixture
def matcher(clip):
    return load_matcher(clip)


def noise(size, seed=0):
    return Picture(np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8))


def blocks(count, size):
    """Return segments 0..count-1: runs of pixels that end within a row."""
    labels = np.arange(size[0] * size[1]) * count // (size[0] * size[1])
    return Segments(labels.reshape(size).astype(np.int32))


def passes(matcher):
    """Count the pictures of every pass through the vision tower."""
    counts = []
    matcher.model.vision_model.embeddings.register_forward_hook(
        lambda module, given, found: counts.append(len(found))
    )
    return counts


@pytest.mark.parametrize("side", [64, 24, 7])
def test_a_region_that_is_the_whole_square_picture_gets_clips_own_vector(matcher, side):
    picture = noise((side, side))
    found = Patches(picture, matcher).encode([np.ones(picture.size, bool)])
    np.testing.assert_allclose(found, matcher.encode_images([picture.pixels]), atol=2e-6)


@torch.inference_mode()
def joined(matcher, picture, masks):
    """The same by transformers' own encoder: all tokens in one sequence, under one mask."""
    model, vision = matcher.model, matcher.model.config.vision_config
    side, patch = vision.image_size, vision.patch_size
    rows, columns = picture.size
    height = round(side / patch * rows / min(picture.size)) * patch
    width = round(side / patch * columns / min(picture.size)) * patch
    image = Image.fromarray(picture.pixels).resize((width, height), Image.Resampling.BICUBIC)
    processor = matcher.image_processor
    pixels = np.asarray(image, np.float64) / 255
    pixels = (pixels - processor.image_mean) / processor.image_std
    pixels = torch.from_numpy(pixels).permute(2, 0, 1)[None].float()
    tower = model.vision_model
    states = tower.pre_layrnorm(tower.embeddings(pixels, interpolate_pos_encoding=True))
    known = states.shape[1]
    states = torch.cat([states, states[:, :1].expand(1, len(masks), -1)], 1)
    allowed = torch.zeros(states.shape[1], states.shape[1])
    allowed[:known, :known] = 1
    cut = [np.array_split(mask, height // patch, 0) for mask in masks]
    shares = [
        [[part.mean() for part in np.array_split(band, width // patch, 1)] for band in one]
        for one in cut
    ]
    allowed[known:, 1:known] = torch.tensor(shares).flatten(1)
    allowed[known:, known:].fill_diagonal_(1)
    bias = allowed.log()[None, None]
    states = tower.encoder(inputs_embeds=states, attention_mask=bias).last_hidden_state
    found = model.visual_projection(tower.post_layernorm(states[0, known:]))
    return torch.nn.functional.normalize(found, dim=-1).numpy()


@pytest.fixture(scope="module")
def metaclip2(tmp_path_factory):
    return save_metaclip2(tmp_path_factory.mktemp("metaclip2"))


@pytest.mark.parametrize("family", ["clip", "metaclip2"])
@pytest.mark.parametrize("size", [(32, 32), (32, 64), (96, 32)])
def test_regions_equal_one_sequence_under_an_attention_mask(request, family, size):
    matcher = load_matcher(request.getfixturevalue(family))
    picture, segments = noise(size), blocks(3, size)
    masks = segments.masks()
    found = Patches(picture, matcher).encode(masks)
    assert found.dtype == np.float32
    assert found.shape == (3, 8)
    np.testing.assert_allclose(found, joined(matcher, picture, masks), atol=2e-6)
    assert np.abs(found[0] - found[2]).max() > 1e-3


def test_regions_do_not_see_each_other(matcher):
    picture, segments = noise((32, 48)), blocks(4, (32, 48))
    patches = Patches(picture, matcher)
    masks = segments.masks()
    together = patches.encode(masks)
    alone = np.concatenate([patches.encode([mask]) for mask in masks[::-1]])[::-1]
    np.testing.assert_allclose(together, alone, atol=1e-6)
    assert patches.encode([]).shape == (0, 8)


def scored(matcher, picture, segments, **settings):
    recipe = Matching(background=("grass",), **settings)
    return score_segments(picture, segments, VOCABULARY, ("cat",), recipe, matcher).probabilities


def test_views_and_tokens_have_an_equal_say(matcher):
    picture, segments = noise((32, 40)), blocks(3, (32, 40))
    columns = [("cat",), ("dog",), ("grass",)]
    seen = matcher.encode_images(views(picture, segments, Matching()))
    of_views = text_scores(seen, columns, ("{}",), matcher)
    read = Patches(picture, matcher).encode(segments.masks())
    of_tokens = text_scores(read, columns, ("{}",), matcher)
    mean = np.sqrt(of_views * of_tokens)
    mean /= mean.sum(1, keepdims=True)
    np.testing.assert_allclose(scored(matcher, picture, segments), of_views, atol=1e-6)
    np.testing.assert_allclose(scored(matcher, picture, segments, tokens=True), mean, atol=1e-6)
    many = scored(matcher, picture, segments, tokens=True, views_up_to=2)
    np.testing.assert_allclose(many, of_tokens, atol=1e-6)
    assert np.abs(of_views - of_tokens).max() > 1e-4


def test_tokens_of_all_voters_cost_one_pass(matcher):
    picture, few, many = noise((32, 40)), blocks(2, (32, 40)), blocks(7, (32, 40))
    segments = Segments(few.labels, (many, blocks(5, (32, 40))))
    counts = passes(matcher)
    recipe = Matching(assignment="vote", tokens=True, views_up_to=2)
    match(picture, segments, VOCABULARY, ("cat", "dog"), recipe, matcher)
    assert sorted(counts) == [1, 2]


@pytest.mark.parametrize("size", [(1, 1), (3, 3), (1, 5000), (40, 3), (17, 9)])
def test_odd_pictures_are_read(matcher, size):
    segments = blocks(min(5, size[0] * size[1]), size)
    found = Patches(noise(size), matcher).encode(segments.masks())
    assert np.isfinite(found).all()
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=1e-5)


def test_half_precision_gives_float32(clip, matcher):
    picture, masks = noise((32, 40)), blocks(3, (32, 40)).masks()
    found = Patches(picture, load_matcher(clip, dtype=torch.bfloat16)).encode(masks)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, Patches(picture, matcher).encode(masks), atol=0.05)


def test_masks_of_another_picture_are_refused(matcher):
    patches = Patches(noise((32, 40)), matcher)
    for mask in (np.ones((40, 32), bool), np.ones((1, 32, 40), bool)):
        with pytest.raises(FslabError, match=r"a mask is \(.+\); those of .* are \(32, 40\)"):
            patches.encode([mask])


def test_a_number_of_views_below_zero_is_refused():
    with pytest.raises(FslabError, match="views_up_to is -1"):
        Matching(views_up_to=-1)
