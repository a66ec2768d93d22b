"""Attention to words as features: the paper's last stage."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fslab import Lab
from fslab.backbones import open_backbone, word_keys, word_maps
from fslab.backbones.attention import word_columns
from fslab.backbones.components import Components
from fslab.captions import noun_runs
from fslab.lab.words import compounds_by_word, sentence_of
from fslab.records import Extraction, FslabError, Matching, Vocabulary

PATH = "down_blocks.1.attentions.0.transformer_blocks.0.attn2"
QUERY = f"{PATH}.to_q"
TWO = Vocabulary(("background", "dog", "cat"))


@pytest.mark.parametrize("kind", ["sd1", "sdxl"])
def test_maps_are_what_diffusers_scores_before_its_softmax(diffusion_folders, picture, kind):
    """The keys of one prompt's own word tokens, against the queries that the layer makes."""
    backbone = open_backbone(diffusion_folders[kind])
    attention = backbone.module(PATH)
    inputs = []
    hook = attention.register_forward_pre_hook(
        lambda module, given, named: inputs.append(given[0]), with_kwargs=True
    )
    settings = Extraction(layers=(QUERY,), timesteps=(40,))
    query = backbone.run(picture, (64, 64), {40: [QUERY]}, settings)[QUERY, 40].numpy()
    hook.remove()
    found = word_maps(query, word_keys(backbone, QUERY, ["dog", "cat"]).numpy())
    states = [backbone.text_states(f"a photo of a {word}")[:, 5:6] for word in ("dog", "cat")]
    with torch.no_grad():
        q = attention.head_to_batch_dim(attention.to_q(inputs[0]))
        k = attention.head_to_batch_dim(attention.to_k(torch.cat(states, 1)))
        scores = torch.einsum("hid,hjd->hji", q, k) * attention.scale
    expected = scores.reshape(-1, *query.shape[1:]).numpy()
    assert found.shape == (2 * attention.heads, *query.shape[1:])
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    assert np.abs(found[0] - found[1]).max() > 1e-4  # two words are two maps


def test_a_word_of_several_tokens_is_their_mean(diffusion_folders):
    backbone = open_backbone(diffusion_folders["sd1"])
    whole = word_keys(backbone, QUERY, ["grass cat"]).numpy()
    states = backbone.text_states("a photo of a grass cat")[0, 5:7].mean(0)
    attention = backbone.module(PATH)
    with torch.no_grad():
        expected = (attention.to_k(states) * attention.scale).reshape(attention.heads, 1, -1)
    np.testing.assert_allclose(whole, expected.numpy(), rtol=1e-5, atol=1e-7)


def test_a_method_joins_the_maps_of_its_candidates(tiny, picture):
    lab = Lab(tiny)
    recipe = lab.recipe().change({"extract.attention": "candidates"})
    plain = lab.segment(picture, candidates=["dog", "cat"]).features
    result = lab.segment(picture, recipe, TWO, candidates=["cat"])
    queries = [key for key in plain if key.endswith("attn2.to_q")]
    added = [key.removesuffix("to_q") + "words" for key in queries]
    assert list(result.features) == [*plain, *added]
    wanted = recipe.extract
    by_hand = lab.extract(
        picture, wanted.layers, wanted.timesteps, squash=True, posterior="sample", words=["cat"]
    )
    for key in added:
        np.testing.assert_array_equal(result.features[key], by_hand[key])
    heads = lab.backbone.module(queries[0].removesuffix(".to_q")).heads
    whole = lab.segment(picture, recipe.change({"extract.attention": "vocabulary"}), TWO, ["cat"])
    both = whole.features[added[0]].reshape(heads, 2, *plain[queries[0]].shape[1:])
    np.testing.assert_allclose(both[:, 1], result.features[added[0]], rtol=1e-5, atol=1e-7)
    assert recipe.digest != lab.recipe().digest


def test_words_are_said_as_the_vocabulary_says_them(tiny, picture):
    lab = Lab(tiny)
    said = Vocabulary(("background", "doggrass"), {"doggrass": "grass"})
    recipe = lab.recipe().change({"extract.attention": "vocabulary"})
    assert_same = np.testing.assert_array_equal
    one = lab.segment(picture, recipe, said, ["doggrass"]).features
    other = lab.segment(picture, recipe, Vocabulary(("background", "grass")), ["grass"]).features
    for key in one:
        assert_same(one[key], other[key])


def test_each_timestep_has_maps_of_its_own(tiny, picture):
    found = Lab(tiny).extract(picture, QUERY, (0, 300), words=["dog"])
    assert list(found) == [
        f"{PATH}.{end}" for end in ("to_q@0", "to_q@300", "words@0", "words@300")
    ]
    assert list(found.at(300)) == [QUERY, f"{PATH}.words"]
    assert np.abs(found[f"{PATH}.words@0"] - found[f"{PATH}.words@300"]).max() > 1e-4


def test_maps_come_from_the_store_without_a_model(tiny, picture, monkeypatch):
    first = Lab(tiny).extract(picture, QUERY, 50, words=["dog"])

    def unwanted(self, name, dtype):
        raise AssertionError(f"{name} was loaded")

    monkeypatch.setattr(Components, "load", unwanted)
    again = Lab(tiny).extract(picture, QUERY, 50, words=["dog"])
    np.testing.assert_array_equal(first[f"{PATH}.words"], again[f"{PATH}.words"])
    with pytest.raises(AssertionError, match="was loaded"):
        Lab(tiny).extract(picture, QUERY, 50, words=["cat"])


def test_without_candidates_nothing_joins(tiny, picture):
    lab = Lab(tiny)
    recipe = lab.recipe().change({"extract.attention": "candidates"})
    features = lab.segment(picture, recipe, candidates=[]).features
    assert not [key for key in features if key.endswith("words")]


def test_the_class_agnostic_half_takes_the_vocabulary_and_not_the_caption(tiny, picture):
    lab = Lab(tiny)
    recipe = lab.recipe().change({"extract.attention": "vocabulary"})
    alone = lab.segments(picture, recipe, TWO)
    whole = lab.segment(picture, recipe, TWO, ["dog"]).segments
    np.testing.assert_array_equal(alone.labels, whole.labels)
    with pytest.raises(FslabError, match=r"attention of .* depends on the caption; run the whole"):
        lab.segments(picture, recipe.change({"extract.attention": "candidates"}))


def test_refusals_are_sentences(tiny, picture):
    attentive = Lab(tiny).recipe().change({"extract.attention": "vocabulary"})
    with pytest.raises(FslabError, match="rgb reads no text, so it has no attention to words"):
        Lab(tiny, backbone="rgb").segment(picture, attentive, candidates=["dog"])
    with pytest.raises(FslabError, match=r"end in attn2\.to_q\); the layers are mid_block"):
        Lab(tiny).extract(picture, "mid_block", words=["dog"])
    for given in ({"words": "dog"}, {"attention": "candidates"}):
        with pytest.raises(FslabError, match="attention to words needs a list of them"):
            Lab(tiny).extract(picture, **given)
    with pytest.raises(
        FslabError, match=r"extraction.attention is 'all'; it must be one of 'none'"
    ):
        Extraction(attention="all")


class Letters:
    """A backbone whose tokens are single letters."""

    def token_spans(self, prompt):
        return [(0, 0), *((place, place + 1) for place in range(len(prompt))), (0, 0)]


def said_at(prompt, word, beside=()):
    """Where in the prompt a word's tokens begin."""
    compounds = compounds_by_word(prompt, [word])[word]
    columns = word_columns(Letters(), prompt, word, [*beside, *compounds], noun_runs(prompt))
    assert len(columns) == len(word)
    return columns[0] - 1


@pytest.mark.parametrize(
    "words",
    [
        *(["hot dog", "dog"], ["dog", "hot dog"], ["wine glass", "bear", "teddy bear", "glass"]),
        *(["salt and a pepper", "salt"], ["pepper", "salt and a pepper", "salt"]),
        *(["photo"], ["a"], ["car", "Photo of a car", "photo"], ["of"], ["and", "tv"]),
    ],
)
def test_each_listed_word_has_a_place_of_its_own(words):
    prompt = sentence_of(words)
    starts = [len(sentence_of(words[:count])) for count in range(1, len(words) + 1)]
    found = [said_at(prompt, word, words) for word in words]
    assert found == [end - len(word) for end, word in zip(starts, words, strict=True)]


def test_in_a_prompt_of_ones_own_a_word_is_not_a_part_of_another():
    prompt = "a hot dog beside a dog"
    assert said_at(prompt, "hot dog", ["hot dog", "dog"]) == 2
    assert said_at(prompt, "dog", ["hot dog", "dog"]) == 19
    with pytest.raises(FslabError, match="'dog' only as a part of 'hot dog'"):
        said_at("a hot dog on a mat", "dog", ["dog", "hot dog"])


@pytest.mark.parametrize(
    ("prompt", "word", "start"),
    [
        ("a hot dog and a dog", "dog", 16), ("a Hot-dog, a dog", "dog", 13),
        ("two wine glasses and glasses", "glasses", 21), ("my teddy bear hugs a bear", "bear", 21),
        ("a motor bike by a bike", "bike", 18), ("a dog house and a dog", "dog", 18),
        ("a dining table", "table", 9), ("a remote control", "remote", 2), ("a white dog", "dog", 8),
        ("a dog house", "dog", 2),
    ],
)  # fmt: skip
def test_a_word_asked_for_alone_is_no_part_of_a_compound(prompt, word, start):
    assert said_at(prompt, word) == start


@pytest.mark.parametrize(
    ("prompt", "word", "compound"),
    [("a hot dog on a mat", "dog", "hot dog"), ("Teddy bears", "bears", "Teddy bears"),
     ("a traffic-light", "light", "traffic-light")],
)  # fmt: skip
def test_a_word_that_only_a_compound_holds_is_refused(prompt, word, compound):
    with pytest.raises(FslabError, match=f"'{word}' only as a part of '{compound}'"):
        said_at(prompt, word)


@pytest.mark.parametrize("prompt", ["", " ", "nothing"])
def test_a_prompt_that_is_given_is_the_one_that_is_read(tiny, picture, prompt):
    """An empty one was "a photo of" the words instead."""
    with pytest.raises(FslabError, match="does not hold the word 'dog'"):
        Lab(tiny).attention(picture, ["dog"], prompt)


def test_a_word_beyond_the_limit_is_refused_with_the_prompt(tiny, picture):
    with pytest.raises(FslabError, match=r"beyond the \d+ tokens of 'very very .* shorten"):
        Lab(tiny).attention(picture, ["dog"], "very " * 300 + "dog")


def test_the_lab_takes_the_word_that_stands_free(tiny, picture):
    lab = Lab(tiny)
    alone = lab.attention(picture, ["dog"], "a hot dog and a dog")["dog"]
    both = lab.attention(picture, ["hot dog", "dog"], "a hot dog and a dog")
    np.testing.assert_array_equal(alone, both["dog"])
    assert np.abs(alone - both["hot dog"]).max() > 1e-4
    with pytest.raises(FslabError, match="'dog' only as a part of 'hot dog'"):
        lab.attention(picture, ["dog"], "there is a hot dog")


def test_a_prompt_over_the_text_encoders_limit_is_refused(diffusion_folders):
    backbone = open_backbone(diffusion_folders["sd1"])
    assert backbone.text_states(" ".join(["dog"] * 14)).shape[1] == 16
    with pytest.raises(FslabError, match=r"'dog dog .*' has 17 tokens, .* reads 16; shorten it"):
        backbone.text_states(" ".join(["dog"] * 15))


def test_a_text_over_clips_limit_is_refused_in_every_role(tiny):
    matcher = Lab(tiny).matcher
    matcher.encode_texts([" ".join(["dog"] * 126)])
    for read in (matcher.encode_texts, matcher.mean_states):
        with pytest.raises(FslabError, match=r"'dog dog .*' has 129 tokens, and CLIP reads 128"):
            read(["cat", " ".join(["dog"] * 127)])


def test_bytes_that_are_no_text_are_refused_in_every_role(tiny, picture, diffusion_folders):
    lab, words = Lab(tiny), "a \udcff dog"
    reads = (
        lambda: lab.matcher.encode_texts([words]),
        lambda: open_backbone(diffusion_folders["sd1"]).text_states(words),
        lambda: lab.captioner.caption(picture.pixels, prompt=words),
        lambda: lab.attention(picture, [words]),
    )
    for read in reads:
        with pytest.raises(FslabError, match="holds bytes that are not UTF-8"):
            read()


@pytest.mark.parametrize("words", [[3], None, "dog", [" "], ["dog", ""]])
def test_words_that_are_none_are_refused(tiny, picture, words):
    lab = Lab(tiny)
    with pytest.raises(FslabError, match=r"words (are|hold)"):
        lab.attention(picture, words)
    with pytest.raises(FslabError, match=r"words (are|hold)"):
        lab.extract(picture, QUERY, 50, words=words)


def test_a_word_asked_for_twice_is_asked_once(tiny, picture):
    once, twice = (Lab(tiny).attention(picture, words) for words in (["dog"], ["dog", "dog"]))
    np.testing.assert_array_equal(once["dog"], twice["dog"])
    with pytest.raises(FslabError, match="prompt is 3; it must be a text"):
        Lab(tiny).attention(picture, ["dog"], 3)


@pytest.mark.parametrize(
    "template", ["", "a photo", "{} {}", "{0}", "{!r}", "{{}}", "{name} {}", "{}{"]
)
def test_a_template_of_other_braces_is_refused(template):
    with pytest.raises(FslabError, match="and no other braces"):
        Matching(templates=("{}", template))


def test_a_blank_background_word_is_refused():
    with pytest.raises(FslabError, match="a blank word says nothing"):
        Matching(background=("wall", " "))
