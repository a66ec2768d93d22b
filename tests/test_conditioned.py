"""Features of a pass that the caption conditions, and the mean with the mirror image's."""

import numpy as np
import pytest
from conftest import noise_picture

from fslab import Lab
from fslab.datasets import VOC
from fslab.extract import mean_with_mirrored, mirror_of
from fslab.lab.words import conditioned
from fslab.records import Caption, Extraction, Features, FslabError, Picture

QUERY = "up_blocks.0.attentions.0.transformer_blocks.0.attn2.to_q"
PROBS = "up_blocks.0.attentions.0.transformer_blocks.0.attn1.probs"
PLAIN = {"cluster.k": 2, "refine.method": "none"}


@pytest.fixture(scope="module")
def lab(tiny):
    return Lab(tiny)


@pytest.fixture
def small():
    return noise_picture(32, 48)


def mirrored(pixels):
    return Picture(np.ascontiguousarray(pixels[:, ::-1]))


def test_maps_are_the_mean_of_both_pictures(lab, small):
    layers = [QUERY, PROBS]
    found = lab.extract(small, layers, 50, mirrored=True)
    given, other = (lab.extract(each, layers, 50) for each in (small, mirrored(small.pixels)))
    wanted = (given[QUERY] + other[QUERY][:, :, ::-1]) / 2
    np.testing.assert_allclose(found[QUERY], wanted, atol=1e-6)
    _, rows, columns = found[PROBS].shape
    for row, column, seen in ((0, 0, 3), (1, 2, columns + 1), (rows - 1, columns - 1, 0)):
        there, turned = divmod(seen, columns)
        of_other = other[PROBS][there * columns + columns - 1 - turned, row, columns - 1 - column]
        mean = (given[PROBS][seen, row, column] + of_other) / 2
        assert found[PROBS][seen, row, column] == pytest.approx(mean, abs=1e-6)
    assert np.abs(found[QUERY] - given[QUERY]).max() > 1e-3


def test_the_mirror_image_s_maps_come_from_the_store_too(lab, small, monkeypatch):
    first = lab.extract(small, [QUERY], 50, mirrored=True)
    monkeypatch.setattr(lab.backbone, "run", None)
    again = lab.extract(small, [QUERY], 50, mirrored=True)
    turned = lab.extract(mirror_of(small), [QUERY], 50, mirrored=True)
    assert np.array_equal(first[QUERY], again[QUERY])
    np.testing.assert_allclose(turned[QUERY], first[QUERY][:, :, ::-1], atol=1e-6)


def test_words_are_looked_for_in_both_pictures(lab, small):
    words, how = ["dog", "cat"], {"layers": [QUERY], "timesteps": 50}
    found = lab.attention(small, words, **how, mirrored=True)
    given, other = (lab.attention(each, words, **how) for each in (small, mirror_of(small)))
    for word in words:
        wanted = (given[word] + other[word][:, ::-1]) / 2
        np.testing.assert_allclose(found[word], wanted, atol=1e-6)


def test_the_pass_has_the_prompt_that_was_found(lab, small):
    plain = lab.recipe().change({**PLAIN, "extract.layers": [QUERY]})
    told = plain.change({"extract.prompted": "candidates"})
    found = lab.segment(small, told, candidates=["dog", "cat"]).features
    how = {"squash": True, "resize": "bilinear", "posterior": "sample"}
    said = lab.extract(small, [QUERY], 0, prompt="a photo of a dog and a cat", **how)
    assert np.array_equal(found[QUERY], said[QUERY])
    without = lab.segment(small, plain, candidates=["dog", "cat"]).features
    assert np.abs(without[QUERY] - found[QUERY]).max() > 1e-6


@pytest.mark.parametrize(
    ("text", "candidates", "prompt"),
    [
        ("a dog on grass", ("dog",), "a dog on grass"),
        ("a puppy on grass", ("dog", "cat"), "a puppy on grass, a photo of a dog and a cat"),
        ("a hotdog", ("dog",), "a hotdog, a photo of a dog"),
        ("", ("dog", "cat"), "a photo of a dog and a cat"),
        ("", (), ""),
    ],
)
def test_the_candidates_stand_behind_the_caption(text, candidates, prompt):
    lab = Lab("mini")
    settings = Extraction(prompted="caption")
    found = conditioned(settings, Caption(text, (), candidates), VOC, lab.backbone)
    assert found == Extraction(prompt=prompt)


def test_what_the_encoder_does_not_read_is_left_out():
    lab = Lab("mini")
    caption = Caption("a dog and " * 40, (), VOC.classes)
    found = conditioned(Extraction(prompted="caption"), caption, VOC, lab.backbone)
    assert found.prompt.startswith("a dog and a dog")
    assert lab.backbone.text_states(found.prompt).isfinite().all()
    words = conditioned(Extraction(prompted="candidates"), caption, VOC, lab.backbone).prompt
    assert words.startswith("a photo of a aeroplane and")
    assert max(end for _, end in lab.backbone.token_spans(words)) == len(words)
    assert words.count(" and ") < len(VOC.classes) - 1


@pytest.mark.parametrize("method", ["fslab", "dslo", "fa-seg"])
def test_several_pictures_at_once_are_as_each_alone(lab, small, method):
    changes = {
        "extract.mirrored": True,
        "extract.prompted": "candidates",
        "extract.layers": [QUERY],
        "refine.method": "none",
    }
    changes |= {"cluster.k": 3, "cluster.also": (), "match.attention_layers": [QUERY]}
    changes |= {"match.spread_layers": [PROBS]} if method == "dslo" else {}
    recipe = lab.recipe(method).change(changes)
    pictures = [small, noise_picture(32, 48, seed=3)]
    together = lab.segment_many(pictures, recipe, candidates=["dog", "cat"], batch=2)
    for picture, found in zip(pictures, together, strict=True):
        alone = lab.segment(picture, recipe, candidates=["dog", "cat"])
        np.testing.assert_allclose(found.features[QUERY], alone.features[QUERY], atol=1e-4)
        for label, belief in alone.named.beliefs.items():
            np.testing.assert_allclose(found.named.beliefs[label], belief, atol=1e-3)


def test_what_cannot_be_is_refused(lab, small):
    caption = {"extract.prompted": "caption"}
    with pytest.raises(FslabError, match="rgb reads no text, so no caption can condition its pass"):
        Lab("mini", "rgb").segment(small, lab.recipe("fslab").change(caption))
    with pytest.raises(FslabError, match=r"prompted is 'caption'.*run lab\.segment"):
        lab.extract(small, [QUERY], 50, prompted="caption")
    with pytest.raises(FslabError, match="the prompt of freeseg-diff depends on the caption"):
        lab.segments(small, lab.recipe().change(caption))
    with pytest.raises(FslabError, match=r"prompt is 'a dog' and prompted 'caption'"):
        Extraction(prompt="a dog", prompted="caption")
    joined = Features({"a.probs": np.ones((7, 2, 2))}, (8, 8))
    with pytest.raises(FslabError, match=r"'a\.probs' has 7 channels for 2 x 2 cells"):
        mean_with_mirrored(joined, joined)
