"""Regions read in one pass over the picture: against the same computed by hand, and refused."""

import numpy as np
import pytest
import torch
from conftest import noise_picture
from text_models import save_metaclip2, save_siglip
from torch.nn.functional import normalize

from fslab.cluster import resize
from fslab.keys import match_key
from fslab.lab import Lab
from fslab.match import Patches, load_matcher, match, read_regions, score_segments
from fslab.match.last_block import earlier
from fslab.records import Features, FslabError, Matching, Picture, Recipe, Segments, Vocabulary

VOCABULARY = Vocabulary(("background", "cat", "dog"))
SIZE = (32, 48)


@pytest.fixture(scope="module")
def matcher(tmp_path_factory):
    """Two blocks, patches of 4 pixels, 4 x 4 of them in the model's own input."""
    return load_matcher(save_metaclip2(tmp_path_factory.mktemp("metaclip2")))


@pytest.fixture
def picture():
    return noise_picture(*SIZE)


def quarters(size=SIZE):
    """Return four segments, the quarters of a picture."""
    rows, columns = np.arange(size[0])[:, None], np.arange(size[1])
    labels = 2 * (rows >= size[0] // 2) + (columns >= size[1] // 2)
    return Segments(labels.astype(np.int32))


def features(size=SIZE, channels=5, seed=0):
    rng = np.random.default_rng(seed)
    return Features({"up": rng.normal(size=(channels, 4, 6)).astype(np.float32)}, size, "given")


def read(matcher, picture, segments, given=None, **settings):
    recipe = Matching(**{"regions": "scoped", "views_up_to": 0, **settings})
    return read_regions(Patches(picture, matcher), segments, recipe, given)


@torch.inference_mode()
def by_hand(matcher, picture, segments, given, sharpness, earlier_weight=0.0):
    """Each cell by itself, from the states that transformers' own tower gives."""
    model, tower = matcher.model, matcher.model.vision_model
    block = tower.encoder.layers[-1]
    rows, columns = picture.size[0] // 8, picture.size[1] // 8  # shorter side: 4 patches
    shown = {"height": rows * 4, "width": columns * 4}
    pixels = matcher.image_processor(
        images=[picture.pixels], size=shown, do_center_crop=False, return_tensors="pt"
    )["pixel_values"]
    states = tower(pixels, interpolate_pos_encoding=True, output_hidden_states=True).hidden_states
    labels = segments.labels[4::8, 4::8].ravel()
    like = resize(given["up"] / np.linalg.norm(given["up"], axis=0), (rows, columns))
    like = torch.from_numpy(like.reshape(len(like), -1).T)
    cells = []
    for place in range(len(labels)):
        own = [other for other in range(len(labels)) if labels[other] == labels[place]]
        cosines = torch.stack([torch.cosine_similarity(like[place], like[o], dim=0) for o in own])
        weights, total = torch.softmax(sharpness * cosines, 0), 0
        for source, share in ((states[-2], 1.0), (states[1], earlier_weight)):
            values = block.self_attn.v_proj(block.layer_norm1(source[0, 1:]))
            mean = sum(w * values[o] for w, o in zip(weights, own, strict=True))
            seen = model.visual_projection(tower.post_layernorm(block.self_attn.out_proj(mean)))
            total = total + share * normalize(seen, dim=0)
        cells.append(normalize(total, dim=0))
    return torch.stack(cells).numpy(), labels


@pytest.mark.parametrize(("sharpness", "weight"), [(4.0, 0.0), (0.0, 0.0), (9.0, 0.7)])
def test_cells_are_means_of_their_own_segment_s_values(matcher, picture, sharpness, weight):
    given = features()
    asked = {"regions_sharpness": sharpness, "regions_earlier": weight}
    found = read(matcher, picture, quarters(), given, **asked)
    wanted, labels = by_hand(matcher, picture, quarters(), given, sharpness, weight)
    for segment, (vectors, shares) in enumerate(found.cells):
        np.testing.assert_allclose(vectors, wanted[labels == segment], atol=2e-5)
        assert (shares == 1).all()
        mean = vectors.mean(0)
        np.testing.assert_allclose(found.vectors[segment], mean / np.linalg.norm(mean), atol=2e-5)
    assert found.vectors.dtype == np.float32
    assert np.abs(found.vectors[0] - found.vectors[3]).max() > 1e-3


@torch.inference_mode()
def test_tokens_are_the_class_token_given_the_region_in_the_last_block(matcher, picture):
    patches, segments = Patches(picture, matcher), quarters()
    found = read(matcher, picture, segments, regions="tokens", regions_sharpness=0.0)
    ((_, _, block),) = patches.windows(1.0)
    tower, last = matcher.model.vision_model, matcher.model.vision_model.encoder.layers[-1]
    state = block._states[-2]
    labels = torch.from_numpy(segments.labels[4::8, 4::8].ravel())
    for segment in range(4):
        mean = last.self_attn.v_proj(last.layer_norm1(state[1:]))[labels == segment].mean(0)
        token = state[0] + last.self_attn.out_proj(mean)
        token = token + last.mlp(last.layer_norm2(token))
        wanted = normalize(matcher.model.visual_projection(tower.post_layernorm(token)), dim=0)
        np.testing.assert_allclose(found.vectors[segment], wanted.numpy(), atol=2e-5)


def test_mask_tokens_join_cells_by_their_weight(matcher, picture):
    plain = read(matcher, picture, quarters(), regions_sharpness=0.0)
    joined = read(matcher, picture, quarters(), regions_sharpness=0.0, regions_token=0.5)
    tokens = Patches(picture, matcher).encode(quarters().masks())
    for segment in range(4):
        sums = plain.cells[segment][0] + 0.5 * tokens[segment]
        wanted = sums / np.linalg.norm(sums, axis=1, keepdims=True)
        np.testing.assert_allclose(joined.cells[segment][0], wanted, atol=2e-5)


def test_segments_that_are_alike_see_each_other(matcher, picture):
    """Two halves of equal features: a scope of both; a third, of others, is left alone."""
    given = np.zeros((2, 4, 6), np.float32)
    given[0, :, :3], given[1, :, 3:] = 1, 1
    given = Features({"up": given}, SIZE)
    apart = read(matcher, picture, quarters(), given, regions_sharpness=0.0)
    merged = read(matcher, picture, quarters(), given, regions_sharpness=0.0, regions_merge=0.2)
    left = [merged.vectors[0], merged.vectors[2]]
    np.testing.assert_allclose(left[0], left[1], atol=1e-6)
    assert np.abs(apart.vectors[0] - apart.vectors[2]).max() > 1e-3
    assert np.abs(merged.vectors[0] - merged.vectors[1]).max() > 1e-3


def test_cells_that_are_as_like_the_rest_are_left_out_of_a_token(matcher, picture):
    """The upper left quarter has a column of cells that look like the right half."""
    given = np.zeros((2, 4, 6), np.float32)
    given[0, :, :3], given[1, :, 3:] = 1, 1
    given[:, :2, 2] = [[0], [1]]
    given = Features({"up": given}, SIZE)
    asked = {"regions": "tokens", "regions_sharpness": 0.0}
    narrow = quarters().labels.copy()
    narrow[:16, 16:24] = 4
    wanted = read(matcher, picture, Segments(narrow), **asked).vectors[0]
    found = read(matcher, picture, quarters(), given, **asked, regions_apart=0.07).vectors[0]
    np.testing.assert_allclose(found, wanted, atol=1e-6)
    kept = read(matcher, picture, quarters(), **asked).vectors[0]
    assert np.abs(kept - wanted).max() > 1e-4
    none = read(matcher, picture, quarters(), given, **asked, regions_apart=5.0).vectors
    np.testing.assert_allclose(none, read(matcher, picture, quarters(), **asked).vectors, atol=1e-6)


@pytest.mark.parametrize("regions", ["scoped", "tokens"])
def test_windows_cover_the_picture_and_one_as_large_is_the_whole(matcher, picture, regions):
    asked = {"regions": regions, "regions_sharpness": 0.0, "regions_scale": 1.5}
    whole = read(matcher, picture, quarters(), **asked)
    same = read(matcher, picture, quarters(), **asked, regions_window=3.0)
    np.testing.assert_array_equal(whole.vectors, same.vectors)
    cut = read(matcher, picture, quarters(), **asked, regions_window=1.0)
    assert np.abs(cut.vectors - whole.vectors).max() > 1e-3
    windows = Patches(picture, matcher).windows(1.5, 1.0)
    seen = np.zeros((6, 9), int)
    for window in windows:
        seen[window.rows, window.columns] += 1
    assert seen.min() >= 1
    assert {(w.rows.start, w.columns.start) for w in windows} == {
        (row, column) for row in (0, 1, 2) for column in (0, 1, 2, 3, 4, 5)
    }


def test_a_pass_is_made_once_for_all_segmentations(matcher, picture):
    passes = []
    hook = matcher.model.vision_model.embeddings.register_forward_hook(
        lambda module, given, found: passes.append(len(found))
    )
    recipe = Matching(
        assignment="vote", regions="tokens", regions_sharpness=0.0, views_up_to=0,
        regions_scale=2.0,
    )  # fmt: skip
    segments = Segments(quarters().labels, (Segments(quarters().labels // 2),))
    match(picture, segments, VOCABULARY, ("cat", "dog"), recipe, matcher)
    hook.remove()
    assert passes == [1]


@pytest.mark.parametrize("size", [(1, 1), (3, 3), (1, 5000), (40, 3), (17, 9)])
@pytest.mark.parametrize("regions", ["scoped", "tokens"])
def test_odd_pictures_are_read(matcher, size, regions):
    rng = np.random.default_rng(0)
    picture = Picture(rng.integers(0, 256, (*size, 3), dtype=np.uint8))
    count = min(5, size[0] * size[1])
    labels = np.arange(size[0] * size[1]) * count // (size[0] * size[1])
    given = Features({"up": rng.normal(size=(3, 2, 2)).astype(np.float32)}, size)
    asked = {"regions_window": 1.0, "regions_scale": 1.5, "regions_merge": 0.1, "regions": regions}
    found = read(matcher, picture, Segments(labels.reshape(size).astype(np.int32)), given, **asked)
    np.testing.assert_allclose(np.linalg.norm(found.vectors, axis=1), 1, rtol=1e-5)


TRUE = {  # blocks, patch, side of the input, cells a side
    "ViT-B/16": (12, 16, 224, 14),
    "ViT-L/14": (24, 14, 224, 16),
    "ViT-L/14 at 336": (24, 14, 336, 24),
}


@pytest.mark.parametrize("name", TRUE)
def test_the_shapes_of_true_clips(name):
    """Their blocks, patches and inputs, with narrow layers and random weights."""
    from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel

    from fslab.match import Matcher

    blocks, patch, side, cells = TRUE[name]
    narrow = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2}
    vision = {"num_hidden_layers": blocks, "patch_size": patch, "image_size": side, **narrow}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        text = {"num_hidden_layers": 1, **narrow}
        model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=8))
    matcher = Matcher(model, None, CLIPImageProcessorPil())
    picture = noise_picture(100, 150)
    assert Patches(picture, matcher).grid(1.5) == (cells * 3 // 2, round(cells * 9 / 4))
    asked = {"regions_scale": 1.5, "regions_window": 1.5, "regions_token": 0.5}
    asked |= {"regions_earlier": 1.0, "regions_merge": 0.2}
    found = read(matcher, picture, quarters((100, 150)), features((100, 150)), **asked)
    assert found.vectors.shape == (4, 8)
    assert np.isfinite(found.vectors).all()


def test_earlier_blocks_are_those_of_twelve_in_proportion():
    states = {blocks: list(range(blocks + 1))[earlier(blocks)] for blocks in (1, 2, 5, 12, 24)}
    assert states[12] == [5, 6, 7, 8, 9]
    assert states[24] == list(range(9, 19))
    assert states[5] == [3, 4]
    assert (states[2], states[1]) == ([1], [1])


def scored(matcher, picture, given=None, **settings):
    recipe = Matching(**{"regions": "scoped", "regions_sharpness": 0.0, **settings})
    asked = picture, quarters(), VOCABULARY, ("cat", "dog"), recipe, matcher
    return score_segments(*asked, features=given)


def test_regions_have_their_weight_beside_views(matcher, picture):
    views = np.log(scored(matcher, picture, regions="none").probabilities)
    alone = np.log(scored(matcher, picture, views_up_to=0).probabilities)
    mixed = np.log(scored(matcher, picture, regions_weight=0.5).probabilities)
    wanted = (views + 0.5 * alone) / 1.5
    np.testing.assert_allclose(
        mixed - mixed[:, :1], wanted - wanted[:, :1], atol=1e-3
    )  # but for what the softmax adds to all texts of a segment


def test_a_segment_takes_what_most_of_its_cells_take(matcher, picture):
    asked = {"views_up_to": 0, "background": ("grass",), "temperature": 40.0}
    found = scored(
        matcher, picture, features(), regions_sharpness=4.0, assignment="majority", **asked
    )
    cells = read(matcher, picture, quarters(), features(), regions_sharpness=4.0).cells
    texts = matcher.encode_texts(["cat", "dog", "grass"])
    for segment, (vectors, shares) in enumerate(cells):
        choices = np.bincount((vectors @ texts.T).argmax(1), shares, 3)
        assert found.assigned[segment] == (1, 2, 0)[int(choices.argmax())]


@pytest.mark.parametrize("assignment", ["argmax", "majority"])
def test_what_no_text_is_probable_enough_for_is_background(matcher, picture, assignment):
    asked = {"views_up_to": 0, "assignment": assignment, "temperature": 1.0}
    assert scored(matcher, picture, **asked).assigned.all()
    assert not scored(matcher, picture, **asked, threshold=0.95).assigned.any()


def test_a_temperature_is_what_cosines_are_multiplied_by(matcher, picture):
    cold, warm = (
        np.log(scored(matcher, picture, views_up_to=0, temperature=t).probabilities)
        for t in (5.0, 10.0)
    )
    np.testing.assert_allclose(np.diff(warm), 2 * np.diff(cold), rtol=1e-3, atol=1e-5)


REFUSED = {
    "regions_earlier is 1.0; it goes with regions='scoped'": {"regions_earlier": 1.0},
    "regions_token is 0.5; it goes with regions='scoped'": {
        "regions": "tokens", "regions_token": 0.5,
    },
    "regions_apart is 0.1; it goes with regions='tokens'": {
        "regions": "scoped", "regions_apart": 0.1,
    },
    "regions_scale is 9.0; it must be at most 4": {"regions_scale": 9.0},
    "regions_scale is 0.0; it must be above 0": {"regions_scale": 0.0},
    "regions_sharpness is -1.0": {"regions_sharpness": -1.0},
    "assignment is 'majority'.*regions is 'tokens'": {
        "assignment": "majority", "regions": "tokens",
    },
    "threshold is 0.2; it goes with assignment='argmax'": {"threshold": 0.2},
    "threshold is 1.0; it must be from 0": {"threshold": 1.0, "assignment": "argmax"},
    "temperature is 0.0; it must be above 0": {"temperature": 0.0},
    "regions is 'all'; it must be one of": {"regions": "all"},
}  # fmt: skip


@pytest.mark.parametrize("message", REFUSED)
def test_settings_that_do_not_go_together_are_refused(message):
    with pytest.raises(FslabError, match=message):
        Recipe().change({f"match.{name}": value for name, value in REFUSED[message].items()})


def test_cells_cannot_be_compared_without_features_or_by_another_picture_s(matcher, picture):
    with pytest.raises(FslabError, match="there are none; give features"):
        read(matcher, picture, quarters())
    with pytest.raises(FslabError, match=r"features are of a picture of \(48, 32\)"):
        read(matcher, picture, quarters(), features((48, 32)))


def test_a_model_without_a_class_token_is_refused(tmp_path, picture):
    siglip = load_matcher(save_siglip(tmp_path))
    with pytest.raises(FslabError, match=r"SigLIP has no class token.*matching\.regions to 'none'"):
        read(siglip, picture, quarters(), features())


def test_keys_name_the_features_only_where_they_are_read(picture):
    def named(given, **settings):
        asked = VOCABULARY, ("cat",), Matching(**settings)
        return match_key("maker", "cpu", "weights", picture, quarters(), asked, given)

    one, other = features(seed=0), features(seed=1)
    assert named(one) == named(other) == named(None)
    assert named(one, regions="scoped") != named(other, regions="scoped")
    even = {"regions": "scoped", "regions_sharpness": 0.0}
    assert named(one, **even) == named(other, **even) != named(one)


def test_a_lab_gives_regions_the_features_that_it_clustered(tiny):
    lab = Lab(tiny)
    recipe = lab.recipe("fslab").change(
        {"match.regions": "scoped", "match.attention": 0.0, "cluster.also": [4]}
    )
    picture, words = noise_picture(64, 96), ("dog", "cat")
    alone = lab.segment(picture, recipe, candidates=words)
    asked = lab.match(
        picture, alone.segments, words, alone.vocabulary, alone.features, **vars(recipe.match)
    )
    np.testing.assert_array_equal(asked.labels, alone.named.labels)
    for batch in (1, 2):
        found = list(lab.segment_many([picture] * 2, recipe, candidates=words, batch=batch))
        for each in found:
            np.testing.assert_array_equal(each.labels.labels, alone.labels.labels)
    with pytest.raises(FslabError, match="there are none; give features"):
        lab.match(picture, alone.segments, words, alone.vocabulary, **vars(recipe.match))
