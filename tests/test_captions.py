import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import fslab
from fslab.captions import (
    candidates,
    closest_classes,
    load_captioner,
    named_classes,
    nouns,
    tagging,
)
from fslab.records import Captioning, FslabError, Vocabulary

VOCABULARY = Vocabulary(
    ("background", "boat", "bus", "diningtable", "dog", "person", "pottedplant", "tvmonitor"),
    spoken={
        "diningtable": "dining table",
        "pottedplant": "potted plant",
        "tvmonitor": "tv monitor",
    },
    synonyms={"person": ("man", "people"), "tvmonitor": ("screen", "tv"), "boat": ("ship",)},
)

CAPTIONS = {
    "a photo of a potted plant and two dogs on grass": ("photo", "plant", "dog", "grass"),
    "A Tv Monitor on a desk": ("tv", "monitor", "desk"),
    "two tv monitors, three potted plants": ("tv", "monitor", "plant"),
    "a man riding a wave on a surfboard": ("man", "wave", "surfboard"),
    "children playing with buses and knives": ("child", "bus", "knife"),
    "a group of people riding horses": ("group", "person", "horse"),
    "a bus parked on the side of the road": ("bus", "road"),
    "three sheep grazing in a green field": ("sheep", "field"),
    "a bottle, a person and a motorbike in front of a house.": (
        *("bottle", "person", "motorbike", "house"),
    ),
    "a dining table with plates and glasses": ("dining", "table", "plate", "glass"),
    "a dog next to a dog": ("dog",),
    "a teddy bear on a bed": ("teddy", "bear", "bed"),
    "a person's dog": ("person", "dog"),
    "": (),
    "42 .": (),
}


def closed_vectors(texts):
    """Hand-set embeddings: the noun's own axis, shifted and scaled, which correlation ignores."""
    axes = {"dog": 0, "puppy": 0, "boat": 1, "photo": 2, "grass": 3}
    rows = np.full((len(texts), 6), 0.1, np.float32)
    for row, text in zip(rows, texts, strict=True):
        word = text.removeprefix("A photo of ")
        row[axes.get(word, 5)] += {"puppy": 0.5, "photo": 0.9}.get(word, 1.0)
        if word == "puppy":
            row[4] += 0.1
    return 3 * rows + 7


@pytest.mark.parametrize(("text", "expected"), CAPTIONS.items())
def test_nouns_are_lower_case_singular_and_in_order(text, expected):
    assert nouns(text) == expected


def test_textblob_needs_no_corpus():
    code = (
        "import nltk, nltk.data\n"
        "nltk.data.path.clear()\n"
        "nltk.download = None\n"
        "from fslab.captions import nouns\n"
        "print(*nouns('a photo of two dogs on grass'))\n"
    )
    root = str(Path(fslab.__file__).parents[1])
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root
    )
    assert found.stdout.split() == ["photo", "dog", "grass"]


def test_an_unknown_tagger_is_refused():
    with pytest.raises(FslabError, match="tagger is 'nltk'"):
        nouns("a dog", tagger="nltk")


def test_spacy_says_how_to_get_it_where_its_model_is_not(monkeypatch):
    monkeypatch.setitem(sys.modules, "spacy", None)
    tagging._spacy_model.cache_clear()
    with pytest.raises(FslabError, match="pip install spacy") as caught:
        nouns("a dog", tagger="spacy")
    assert "spacy download en_core_web_sm" in str(caught.value)
    assert "textblob" in str(caught.value)


def test_spacy_agrees_where_its_model_is():
    spacy = pytest.importorskip("spacy")
    if not spacy.util.is_package("en_core_web_sm"):
        pytest.skip("en_core_web_sm is not installed")
    tagging._spacy_model.cache_clear()
    found = nouns("A photo of two dogs on the side of a road", tagger="spacy")
    assert found == ("photo", "dog", "road")


def test_closest_classes_drops_nouns_farther_than_the_mean():
    found = closest_classes(("photo", "puppy", "boat", "dog"), VOCABULARY, closed_vectors)
    assert found == ("dog", "boat")


def test_closest_classes_agrees_with_scipy():
    from scipy.spatial.distance import cdist

    generator = np.random.default_rng(3)
    table = {}

    def embed(texts):
        for text in texts:
            table.setdefault(text, generator.normal(size=5).astype(np.float32))
        return np.stack([table[text] for text in texts])

    words = tuple("abcdefgh")
    found = closest_classes(words, VOCABULARY, embed)
    said = ["boat", "bus", "dining table", "dog", "person", "potted plant", "tv monitor"]
    distances = cdist(embed(words), embed([f"A photo of {name}" for name in said]), "correlation")
    least = distances.min(1)
    expected = [
        VOCABULARY.classes[distances[row].argmin()] for row in np.flatnonzero(least <= least.mean())
    ]
    assert found == tuple(dict.fromkeys(expected))


def test_a_single_noun_stays_however_far_and_none_gives_none():
    assert len(closest_classes(("photo",), VOCABULARY, closed_vectors)) == 1
    assert closest_classes((), VOCABULARY, closed_vectors) == ()


def test_equal_distances_all_stay():
    assert closest_classes(("dog", "boat"), VOCABULARY, closed_vectors) == ("dog", "boat")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("two tv monitors and potted plants", ("tvmonitor", "pottedplant")),
        ("people near a ship", ("person", "boat")),
        ("a busy street", ()),
        ("A Bus!", ("bus",)),
        ("a tvmonitor on dining tables, a screen", ("tvmonitor", "diningtable")),
        (("dog", "potted plant", "grass", "dogs"), ("dog", "pottedplant")),
        ("", ()),
    ],
)
def test_named_classes(text, expected):
    assert named_classes(text, VOCABULARY) == expected


def test_the_longest_name_wins():
    vocabulary = Vocabulary(("background", "dog", "hot dog"))
    assert named_classes("hot dogs", vocabulary) == ("hot dog",)
    assert named_classes("a hot dog and a dog", vocabulary) == ("hot dog", "dog")


def test_candidates_closed_by_embedding():
    caption, vocabulary = candidates(
        "a photo of a dog and a boat", VOCABULARY, Captioning(), closed_vectors
    )
    assert caption.nouns == ("photo", "dog", "boat")
    assert caption.candidates == ("dog", "boat")
    assert vocabulary is VOCABULARY


def test_candidates_closed_by_name_needs_no_embedding():
    caption, vocabulary = candidates(
        "a photo of a tv monitor on grass", VOCABULARY, Captioning(mapping="name")
    )
    assert caption.candidates == ("tvmonitor",)
    assert vocabulary is VOCABULARY
    with pytest.raises(FslabError, match="embed"):
        candidates("a dog", VOCABULARY, Captioning())


def test_candidates_open_adds_the_nouns_that_are_no_class():
    caption, vocabulary = candidates(
        "a photo of a tv monitor and two men on grass", VOCABULARY, Captioning(words="open")
    )
    assert caption.nouns == ("photo", "tv", "monitor", "man", "grass")
    assert caption.candidates == ("photo", "tvmonitor", "person", "grass")
    assert vocabulary.names == (*VOCABULARY.names, "photo", "grass")


def test_candidates_open_never_adds_the_background():
    caption, vocabulary = candidates("a dog on a background", VOCABULARY, Captioning(words="open"))
    assert caption.candidates == ("dog",)
    assert vocabulary.names == VOCABULARY.names


def test_candidates_all_reads_no_text():
    caption, vocabulary = candidates("a dog", VOCABULARY, Captioning(words="all"))
    assert (caption.text, caption.nouns) == ("", ())
    assert caption.candidates == VOCABULARY.classes
    assert vocabulary is VOCABULARY


def test_the_caption_is_the_plain_greedy_one(blip):
    captioner = load_captioner(blip)
    pixels = np.random.default_rng(0).integers(0, 256, (20, 31, 3), dtype=np.uint8)
    text = captioner.caption(pixels, max_new_tokens=5)
    assert text == captioner.caption(pixels, max_new_tokens=5)
    assert "[" not in text
    given = captioner.image_processor(images=Image.fromarray(pixels), return_tensors="pt")
    tokens = captioner.model.generate(**given, max_new_tokens=5, do_sample=False)[0]
    assert text == captioner.tokenizer.decode(tokens[1:], skip_special_tokens=True).strip()
    assert isinstance(captioner.caption(pixels, max_new_tokens=4, beams=2), str)


@pytest.mark.parametrize("size", [(1, 1), (3, 3), (1, 40)])
def test_odd_pictures_are_captioned(blip, size):
    captioner = load_captioner(blip, dtype=torch.float16)
    assert isinstance(captioner.caption(np.zeros((*size, 3), np.uint8), 3), str)


def test_weights_that_are_not_there_are_refused_in_one_sentence(blip, tmp_path):
    with pytest.raises(FslabError, match="nowhere is not a folder"):
        load_captioner(tmp_path / "nowhere")
    with pytest.raises(FslabError, match=re.escape(str(tmp_path))) as caught:
        load_captioner(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "missing", ["model.safetensors", "tokenizer.json", "processor_config.json"]
)
def test_a_missing_part_is_refused(blip, tmp_path, missing):
    paths = [path for path in blip.iterdir() if path.name != missing]
    paths = [path for path in paths if "processor" not in missing or "processor" not in path.name]
    for path in paths:
        (tmp_path / path.name).write_bytes(path.read_bytes())
    with pytest.raises(FslabError, match=re.escape(str(tmp_path))):
        load_captioner(tmp_path)


def test_truncated_weights_are_refused(blip, tmp_path):
    for path in blip.iterdir():
        data = path.read_bytes()
        cut = data[: len(data) // 2] if path.suffix == ".safetensors" else data
        (tmp_path / path.name).write_bytes(cut)
    with pytest.raises(FslabError, match=re.escape(str(tmp_path))):
        load_captioner(tmp_path)


def test_weights_that_lack_a_layer_are_refused(blip, tmp_path):
    from safetensors.torch import load_file, save_file

    for path in blip.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    weights = load_file(blip / "model.safetensors")
    weights.pop("vision_model.post_layernorm.weight")
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(FslabError, match=r"weights lack vision_model\.post_layernorm\.weight"):
        load_captioner(tmp_path)


@pytest.mark.parametrize("file", ["config.json", "tokenizer.json", "preprocessor_config.json"])
def test_a_damaged_file_is_refused(blip, tmp_path, file):
    for path in blip.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / file).write_text("{broken")
    with pytest.raises(FslabError, match=re.escape(str(tmp_path))) as caught:
        load_captioner(tmp_path)
    assert "\n" not in str(caught.value)


def test_another_model_is_refused(blip, tmp_path):
    for path in blip.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    config = (tmp_path / "config.json").read_text()
    (tmp_path / "config.json").write_text(config.replace('"blip"', '"clip"'))
    with pytest.raises(FslabError, match="'clip' model; in BLIP's place fslab reads blip, blip-2"):
        load_captioner(tmp_path)
