"""The recipe freeseg-diff against the released code's decisions, each on data worked out apart."""

from pathlib import Path

import numpy as np
import pytest
import torch
from bench.authors import Script, cut
from conftest import noise_picture
from PIL import Image

import fslab
from fslab.backbones import pick_layers
from fslab.backbones.latents import prepare
from fslab.captions import candidates, closest_classes, load_captioner, tagging
from fslab.cluster.pixels import nearest
from fslab.datasets import VOC
from fslab.lab import Lab
from fslab.lab.presets import PRESETS
from fslab.lab.recipes import DIFFCUT, DIFFSEG, FREESEG_DIFF, FSLAB
from fslab.records import Captioning, FslabError, Vocabulary

WEIGHTS = Path(fslab.__file__).parent / "mini" / "weights"
VOCABULARY = Vocabulary(
    ("background", "boat", "dog", "tvmonitor"), spoken={"tvmonitor": "tv monitor"}
)


@pytest.fixture(scope="module")
def captioner():
    return load_captioner(WEIGHTS / "blip")


@pytest.fixture(scope="module")
def pictures():
    folder = Path("data/minivoc/JPEGImages")
    return [fslab.read(folder / f"val_000{number}.png").pixels for number in (0, 2, 8)]


def test_captions_begin_with_the_prompt_and_lose_it(captioner, pictures):
    """Lengths count the start and the prompt: [DEC] a photo of, then 6 tokens, then the end."""
    for pixels in pictures:
        given = captioner.image_processor(images=[Image.fromarray(pixels)], return_tensors="pt")
        start = captioner.tokenizer("a photo of ", return_tensors="pt").input_ids
        tokens = captioner.model.generate(
            **given, input_ids=start, num_beams=3, min_length=10, max_length=30, do_sample=False
        )[0]
        whole = captioner.tokenizer.decode(tokens[1:], skip_special_tokens=True)
        found = captioner.caption(pixels, 20, 3, "a photo of ", 10, 30)
        assert whole[: len("a photo of ")] == "a photo of "
        assert found == whole[len("a photo of ") :]
        assert len(captioner.tokenizer.tokenize(found)) >= 10 - 4
        assert len(captioner.tokenizer.tokenize(found)) <= 30 - 4


def test_a_caption_ends_at_its_longest(captioner, pictures):
    cut = captioner.caption(pictures[0], 20, 3, "a photo of ", 7, 7)
    assert len(captioner.tokenizer.tokenize(cut)) == 7 - 4


def test_lengths_beyond_the_decoder_are_refused(captioner, pictures):
    with pytest.raises(FslabError, match=r"max_length is 33; .* from 5, .* to 32"):
        captioner.caption(pictures[0], max_length=33, prompt="a photo of ")
    with pytest.raises(FslabError, match=r"max_length is 4; .* from 5"):
        captioner.caption(pictures[0], max_length=4, prompt="a photo of ")
    with pytest.raises(FslabError, match=r"max_new_tokens is 29; .* at most 28, for it holds 32"):
        captioner.caption(pictures[0], 29, prompt="a photo of ")
    with pytest.raises(FslabError, match=r"min_length is 25; a caption has at most 24 tokens"):
        captioner.caption(pictures[0], 20, prompt="a photo of ", min_length=25)
    with pytest.raises(FslabError, match=r"'dog dog .*' has 42 tokens, and the captioner reads 32"):
        captioner.caption(pictures[0], prompt=" ".join(["dog"] * 40))
    captioner.caption(pictures[0], 28, prompt="a photo of ", min_length=10)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"min_length": -1}, "min_length is -1; .* from 0 up"),
        ({"min_length": 9, "max_length": 8}, "min_length is 9 and max_length 8"),
        ({"max_length": 0}, "max_length is 0"),
        ({"adjectives": True}, "'textblob' has none; set tagger='spacy'"),
        ({"nouns": "plural"}, "'distinct', 'written'"),
        ({"encoder": "bert"}, "'preset', 'diffusion', 'clip'"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings, said):
    with pytest.raises(FslabError, match=said):
        Captioning(**settings)


def test_the_prompt_is_the_captioners_own():
    assert PRESETS["mini"].prompt == "a photo of "
    assert PRESETS["sd14"].prompt == PRESETS["sd21"].prompt == "a picture of "


def test_who_compares_nouns_with_classes():
    by_clip = {name for name, preset in PRESETS.items() if preset.words == "clip"}
    transformers = {name for name in PRESETS if name.startswith(("sd3", "flux", "pixart", "sana"))}
    assert by_clip == {"mini", *transformers}


def test_the_recipe_has_every_decision_and_others_keep_theirs():
    caption = FREESEG_DIFF.caption
    assert (caption.prompted, caption.beams) == (True, 3)
    assert (caption.min_length, caption.max_length) == (10, 30)
    assert (caption.nouns, caption.compounds, caption.encoder) == ("written", "words", "preset")
    assert FREESEG_DIFF.extract.resize == "bilinear"
    for recipe in (FSLAB, DIFFCUT, DIFFSEG):
        assert recipe.extract.resize == "lanczos"
        assert (recipe.caption.prompted, recipe.caption.beams) == (False, 1)
        assert (recipe.caption.min_length, recipe.caption.max_length) == (0, None)


def test_a_noun_that_is_said_twice_counts_twice_in_the_threshold():
    """By hand, least distances: dog 0, boat 0, far 0.9. Mean 0.3 of three; 0.18 of five.

    A noun at 0.25 stays beside dog, boat and far (mean 0.2875), and goes where dog is said twice
    (mean 0.23).
    """
    axes = {"dog": (1, 0, 0, 0), "boat": (0, 1, 0, 0), "tv": (0, 0, 1, 0), "monitor": (0, 0, 1, 0)}

    def embed(texts):
        return np.stack([_with_mean(axes[text.removeprefix("A photo of ")]) for text in texts])

    axes |= {"near": _apart(0.25), "far": _apart(0.9)}
    once = closest_classes(("dog", "boat", "near", "far"), VOCABULARY, embed, "words")
    assert once == ("dog", "boat")  # near's own class is dog's, so it shows in the count only
    axes["near"] = _apart(0.25, first=2)
    once = closest_classes(("dog", "boat", "near", "far"), VOCABULARY, embed, "words")
    twice = closest_classes(("dog", "dog", "boat", "near", "far"), VOCABULARY, embed, "words")
    assert once == ("dog", "boat", "tvmonitor")
    assert twice == ("dog", "boat")


def _apart(distance, first=0):
    """Return what is at this correlation distance from an axis, and farther from the others."""
    row = np.zeros(4)
    row[first], row[3] = 1 - distance, np.sqrt(1 - (1 - distance) ** 2)
    return row


def _with_mean(row):
    """Return a row whose mirror image follows it: its mean is 0, and r is the cosine."""
    return np.concatenate([row, -np.asarray(row)]).astype(np.float32)


def test_a_class_of_several_words_is_the_mean_over_its_words():
    """ "tv" is at 45 degrees from the mean of "tv" and "monitor", and at 90 from the phrase."""
    axes = {"A photo of tv": 0, "A photo of monitor": 1, "A photo of tv monitor": 2}
    axes |= {"A photo of dog": 3, "A photo of boat": 4, "tv": 0}
    asked = []

    def embed(texts):
        asked.extend(texts)
        return np.stack([_with_mean(np.eye(5)[axes[text]]) for text in texts])

    assert closest_classes(("tv",), VOCABULARY, embed, "words") == ("tvmonitor",)
    assert {"A photo of tv", "A photo of monitor"} < set(asked)
    assert "A photo of tv monitor" not in asked
    assert closest_classes(("tv",), VOCABULARY, embed, "phrase") == ("boat",)  # all are at 1


def test_written_nouns_stay_as_they_are_and_as_often():
    text = "two dogs and a dog on the dogs"
    found, _ = candidates(text, VOCABULARY, Captioning(nouns="written"), _by_letters)
    assert found.nouns == ("dogs", "dog", "dogs")
    found, _ = candidates(text, VOCABULARY, Captioning(), _by_letters)
    assert found.nouns == ("dog",)


def _by_letters(texts):
    return np.array([[text.count(letter) for letter in "abcdefgo"] for text in texts], np.float32)


def test_adjectives_count_as_the_word_that_they_belong_to(monkeypatch):
    """As spaCy parses "a white dog; the train is blue": white -> dog, blue -> is."""
    text = "a white dog the train is blue"
    nouns = [(2, "dog", "dog"), (4, "train", "train")]
    heads = [(1, "white", "dog"), (6, "blue", "is")]
    monkeypatch.setattr(tagging, "_spacy_nouns", lambda _: nouns)
    monkeypatch.setattr(tagging, "_spacy_adjectives", lambda _: heads)
    recipe = Captioning(tagger="spacy", adjectives=True, nouns="written")
    found, _ = candidates(text, VOCABULARY, recipe, _by_letters)
    assert found.nouns == ("dog", "dog", "train", "is")
    recipe = Captioning("open", tagger="spacy", adjectives=True)
    found, vocabulary = candidates(text, VOCABULARY, recipe)
    assert found.candidates == ("white dog", "dog", "train", "blue is")
    assert vocabulary.names[-3:] == ("white dog", "train", "blue is")


def test_adjectives_as_spacy_parses_them():
    spacy = pytest.importorskip("spacy")
    if not spacy.util.is_package("en_core_web_sm"):
        pytest.skip("en_core_web_sm is not installed")
    tagging._spacy_model.cache_clear()
    assert tagging._spacy_adjectives("a white dog") == [(1, "white", "dog")]


@pytest.mark.parametrize(
    ("size", "late"),
    [
        # OpenCV 5.0.0, cv2.resize of 32 cells with INTER_NEAREST: these pixels, each the first of
        # a cell by whole numbers, still have the cell before. At 96, 120 and 500 there is none.
        (96, []), (98, [49]), (120, []), (196, [49, 98, 147]), (206, [103]), (374, [187]),
        (428, [107, 214, 321]), (478, [239]), (500, []), (506, [253]),
    ],
)  # fmt: skip
def test_labels_are_repeated_as_opencv_repeats_them(size, late):
    labels = np.arange(32)[:, None].repeat(2, 1)
    expected = np.arange(size) * 32 // size
    expected[late] -= 1
    assert np.array_equal(nearest(labels, (size, 7))[:, 0], expected)
    assert np.array_equal(nearest(labels.T, (7, size))[0], expected)


@pytest.mark.parametrize("size", [(96, 120), (98, 374), (333, 500), (20, 33)])
def test_labels_are_repeated_as_opencv_repeats_them_where_it_is(size):
    cv2 = pytest.importorskip("cv2")
    labels = np.arange(32 * 32, dtype=np.int32).reshape(32, 32)
    expected = cv2.resize(labels, size[::-1], interpolation=cv2.INTER_NEAREST)
    assert np.array_equal(nearest(labels, size), expected)


def test_bilinear_resizing_is_pillows():
    """A white column among black ones, 4 to 2 pixels, by hand.

    Pillow's triangle has a support of 2 source pixels: of pixel 0 at weights 0.375 0.375 0.1875
    (times 1/0.9375) for columns 0, 1 and 2.
    """
    pixels = np.zeros((2, 4, 3), np.uint8)
    pixels[:, 2] = 255
    picture = fslab.Picture(pixels)
    found = ((prepare(picture, (2, 2), "bilinear")[0, 0, 0] + 1) / 2 * 255).round()
    assert found.tolist() == [round(255 * 0.125 / 0.875), round(255 * 0.375 / 0.875)]
    other = noise_picture(70, 50)
    plain = Image.fromarray(other.pixels).resize((48, 64), Image.Resampling.BILINEAR)
    plain = 2 * torch.from_numpy(np.asarray(plain, np.float32) / 255).permute(2, 0, 1) - 1
    assert torch.allclose(prepare(other, (64, 48), "bilinear")[0], plain, atol=1e-6)
    assert not torch.allclose(prepare(other, (64, 48)), plain[None], atol=0.01)


def test_an_old_recipe_is_still_read():
    old = {"name": "old", "caption": {"words": "closed", "max_new_tokens": 12, "beams": 2}}
    recipe = fslab.Recipe.from_dict(old | {"extract": {"squash": True}})
    assert recipe.caption == Captioning(max_new_tokens=12, beams=2)
    assert recipe.extract.resize == "lanczos"


@pytest.mark.reference
def test_the_recipe_gives_what_a_script_of_the_released_code_gives(tmp_path):
    """No knob turned: candidates and label maps, of pictures square and not, are the same."""
    lab = Lab("mini", store=tmp_path)
    layers = pick_layers(lab.backbone.default_layers, lab.backbone.layers())
    script = Script(WEIGHTS, tuple(layer.path for layer in layers), VOC)
    folder = Path("data/minivoc/JPEGImages")
    pictures = [fslab.read(folder / f"val_{number:04}.png") for number in (1, 8, 10, 3)]
    for picture in map(cut, range(4), pictures):
        found = lab.segment(picture, "freeseg-diff")
        caption = script.caption(picture)
        assert caption == found.caption.text
        assert set(script.candidates(caption)) == set(found.caption.candidates)
        assert np.array_equal(script.segment(picture), found.labels.labels)
        assert found.labels.labels.any()


def test_features_of_one_filter_are_not_given_for_the_other(tmp_path):
    """A picture that is not square, asked for twice from one store."""
    lab, picture = Lab("mini", store=tmp_path), noise_picture(96, 128)
    bilinear = lab.extract(picture, squash=True, resize="bilinear")
    lanczos = lab.extract(picture, squash=True, resize="lanczos")
    fresh = Lab("mini", store=tmp_path / "other").extract(picture, squash=True)
    for path, found in lanczos.items():
        assert np.array_equal(found, fresh[path])
        assert not np.array_equal(found, bilinear[path])
