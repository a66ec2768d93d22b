"""Classes are named however their compounds are written: apart, together, with a hyphen, plural."""

import pytest

from fslab.captions import named_classes
from fslab.datasets import COCO_OBJECT, VOC
from fslab.records import FslabError, Vocabulary

PLURAL_ALREADY = ("skis", "scissors")
IRREGULAR = {"bus": "buses", "mouse": "mice", "person": "people", "sheep": "sheep"}


def plural(word):
    if word in PLURAL_ALREADY:
        return word
    if word in IRREGULAR:
        return IRREGULAR[word]
    if word.endswith(("s", "ch", "sh", "x")):
        return f"{word}es"
    return f"{word[:-2]}ves" if word == "knife" else f"{word}s"


def ways(words):
    for last in (words[-1], plural(words[-1])):
        written = [*words[:-1], last]
        yield from (sign.join(written) for sign in (" ", "-", "", "_", " - "))
        yield " ".join(written).upper()


@pytest.mark.parametrize("vocabulary", [VOC, COCO_OBJECT], ids=["voc", "coco"])
def test_every_class_is_named_in_each_way_of_writing_it(vocabulary):
    missed = [
        (name, way)
        for name in vocabulary.classes
        for way in ways(vocabulary.texts(name)[0].split())
        if name not in named_classes(f"a photo of {way} on a street", vocabulary)
        or vocabulary.find(way) != name
    ]
    assert missed == []


@pytest.mark.parametrize(
    ("written", "name", "vocabulary"),
    [
        ("air plane", "aeroplane", VOC), ("motor bikes", "motorbike", VOC),
        ("tooth brush", "toothbrush", COCO_OBJECT), ("lap tops", "laptop", COCO_OBJECT),
        ("cellphone", "cell phone", COCO_OBJECT), ("T-V", "tvmonitor", VOC),
        ("skate-board", "skateboard", COCO_OBJECT), ("sportsballs", "sports ball", COCO_OBJECT),
    ],
)  # fmt: skip
def test_one_word_may_be_written_as_two(written, name, vocabulary):
    assert named_classes(f"there is a {written} here", vocabulary) == (name,)
    assert vocabulary.find(written) == name


def test_names_in_any_script_and_with_signs_are_found_in_captions():
    names = ("\u0915\u0941\u0924\u094d\u0924\u093e", "caf\u00e9", "\U0001f415", "c++", "tv/monitor")
    vocabulary = Vocabulary(("background", *names))
    said = "a \u0915\u0941\u0924\u094d\u0924\u093e, a cafe\u0301, \U0001f415; c++ on a tv / monitor"
    assert named_classes(said, vocabulary) == names
    assert named_classes("a \u0915\u0924\u0924 and c", vocabulary) == ()


def test_what_may_be_two_classes_is_refused():
    vocabulary = Vocabulary(
        ("background", "glass case", "glassescase x"), {"glassescase x": "glassescases"}
    )
    with pytest.raises(FslabError, match="may be 'glass case' or 'glassescase x'"):
        vocabulary.find("glasses cases")


def test_a_longer_name_still_wins_and_strangers_name_nothing():
    assert named_classes("two hotdogs and a hot-dog", COCO_OBJECT) == ("hot dog",)
    assert named_classes("a hot day, a dog", COCO_OBJECT) == ("dog",)
    assert named_classes("dogged carpets of boating busy people", VOC) == ("person",)
