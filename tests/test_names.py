"""English words: singulars and nouns against tables from dictionaries that fslab does not use."""

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from textblob.en import tag
from textblob.en.inflect import singularize

from fslab.captions import nouns
from fslab.datasets import COCO_OBJECT
from fslab.names import _lexicon, did_you_mean, singular
from fslab.records import FslabError, Vocabulary

TABLES = Path(__file__).parent / "english"
FRAMES = (
    *(
        "a photo of {one}",
        "{one} on a table",
        "two {many} on a table",
        "there is {one} in the room",
    ),
    *("a man with {one}", "{many}", "a red {bare} and a blue {bare}", "{bare}"),
    *("a picture of {many} next to a wall", "a {bare} sitting on top of a {bare}"),
    *("a close up of {one}", "a woman holding {one} in her hand"),
)
PLURAL_ONLY = {"skis", "scissors", "sheep", "broccoli"}
UNLIKE = {"person": "people", "mouse": "mice", "knife": "knives", "bus": "buses"}


def rows(name, part):
    lines = (TABLES / name).read_text(encoding="utf-8").splitlines()
    return [line.split("\t") for line in lines if line[0] != "#" and line.endswith(part)]


def share(hits):
    return sum(hits) / len(hits)


def by_rules_alone(word):
    """What fslab 0.1 did: TextBlob's rules, and four exceptions."""
    if word.endswith(("ss", "us", "is")):
        return word
    known = {"clothes": "clothes", "lens": "lens", "shelves": "shelf", "ties": "tie"}
    return known.get(word) or singularize(word)


@pytest.mark.parametrize(
    ("part", "before", "now"), [("tuned on", 0.84, 0.98), ("held out", 0.82, 0.95)]
)
def test_singulars_of_the_table(part, before, now):
    table = rows("plurals.tsv", part)
    assert len(table) == 231
    assert share([singular(plural) == word for plural, word, *_ in table]) >= now
    assert share([by_rules_alone(plural) == word for plural, word, *_ in table]) <= before


@pytest.mark.parametrize(
    ("plural", "word"),
    [
        *(("pies", "pie"), ("canoes", "canoe"), ("valves", "valve"), ("hoodies", "hoodie")),
        *(("people", "person"), ("leaves", "leaf"), ("police", "police"), ("tvs", "tv")),
        *(("kiwis", "kiwi"), ("sunglasses", "sunglasses"), ("lotuses", "lotus"), ("gas", "gas")),
        *(("smoothies", "smoothie"), ("bellies", "belly"), ("birdhouses", "birdhouse")),
    ],
)
def test_singulars_that_captions_have(plural, word):
    assert singular(plural) == word


def with_article(name):
    if name.split()[-1] in ("skis", "scissors"):
        return name
    return f"an {name}" if name[0] in "aeiou" else f"a {name}"


def plural_of(name):
    *first, head = name.split()
    if head not in PLURAL_ONLY:
        ending = "es" if head.endswith(("ch", "sh", "ss", "x", "s")) else "s"
        head = UNLIKE.get(head, head + ending)
    return " ".join([*first, head])


@pytest.mark.parametrize("name", COCO_OBJECT.classes)
def test_every_frame_of_a_coco_class_has_its_noun(name):
    for frame in FRAMES:
        text = frame.format(one=with_article(name), many=plural_of(name), bare=name)
        assert singular(name.split()[-1]) in map(singular, nouns(text)), text


@pytest.mark.parametrize(
    ("part", "before", "now"), [("tuned on", 0.89, 0.955), ("held out", 0.885, 0.965)]
)
def test_nouns_in_frames(part, before, now):
    found, untouched = [], []
    for word, plural, _ in rows("nouns.tsv", part):
        for frame in (*FRAMES[:7], FRAMES[8]):
            text = frame.format(one=with_article(word), many=plural, bare=word)
            wanted = plural if "{many}" in frame else word
            found.append(bool({wanted, singular(wanted)} & set(nouns(text))))
            untouched.append(any(w == wanted and kind[:2] == "NN" for w, kind in tag(text)))
    assert share(found) >= now
    assert share(untouched) <= before


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a close up of a polar bear near rocks made to look like ice", ("bear", "rock", "ice")),
        ("fine china stays on display not to be touched", ("china", "display")),
        ("a dog that bears a load", ("dog", "load")),
        ("a man riding skis down a slope", ("man", "ski", "slope")),
        ("two men play a video game", ("man", "video", "game")),
        ("a man holding a remote control", ("man", "control")),
        ("a boat next to a dock", ("boat", "dock")),
        ("an odd looking toilet is against a wall", ("toilet", "wall")),
        ("a large black and white photo", ("photo",)),
    ],
)
def test_verbs_and_adjectives_stay_what_they_are(text, expected):
    assert nouns(text) == expected


def test_no_pickle_is_read(monkeypatch):
    """LemmInflect has a pickled model for words beyond its lexicon, which is left alone."""
    _lexicon.cache_clear()
    import pickle

    def refuse(*_):
        raise AssertionError("a pickle was read")

    monkeypatch.setattr(pickle, "load", refuse)
    singular.cache_clear()
    assert [singular(word) for word in ("dogs", "zibbles", "quuxes")] == ["dog", "zibble", "quux"]


def test_singulars_do_not_depend_on_spacy():
    """LemmInflect's own code runs spaCy where it is installed, and fails where that does."""
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from fslab.names import singular\n"
        "print(*map(singular, ('pies', 'geese', 'zibbles')), 'spacy' in sys.modules)"
    )
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "spacy.py").write_text("raise AttributeError('a spaCy for another numpy')")
        done = subprocess.run(
            [sys.executable, "-c", code, folder],
            capture_output=True,
            text=True,
            cwd=TABLES.parents[1],
        )
    assert done.stdout.split() == ["pie", "goose", "zibble", "False"], done.stderr


@pytest.mark.parametrize(
    ("one", "other"),
    [("cow", "Cow"), ("cow", " cow "), ("tv monitor", "tv-monitor"), ("hot dog", "hot  dog"),
     ("stop_sign", "stop sign"), ("caf\u00e9", "cafe\u0301"), ("background", "Background"),
     ("trafficlight", "traffic light"), ("car pet", "carpet"), ("stra\u00dfe", "STRASSE"),
     ("air\u2011plane", "airplane"), ("dog", "d\u00adog"), ("tv/monitor", "tv monitor")],
)  # fmt: skip
def test_one_name_written_in_two_ways_is_refused_and_added_once(one, other):
    with pytest.raises(FslabError, match="one name written in two ways"):
        Vocabulary(("ground", one, other))
    known = Vocabulary(("ground", "bus"))
    assert known.extended((one, other)).classes == ("bus", one)
    assert known.extended((one,)).find(other) == one


@pytest.mark.parametrize(
    ("one", "many"), [("pony", "ponies"), ("mouse", "mice"), ("wine glass", "Wine-glasses")]
)
def test_a_plural_is_no_class_of_its_own(one, many):
    known = Vocabulary(("background", "bus"))
    assert known.extended((one, many)).classes == ("bus", one)
    assert known.extended((many, one)).classes == ("bus", many)
    assert known.extended((one,)).find(many) == one
    with pytest.raises(FslabError, match="one name written in two ways"):
        Vocabulary(("background", one, many))


APART = (
    "c++",
    "c#",
    "\u00e9t\u00e9",
    "ete",
    "cloth",
    "clothes",
    "\u0131\u015f\u0131k",
    "i\u015fik",
    "\u732b",
    "\u72ac",
)


def test_the_background_is_no_class_and_other_names_stay_apart():
    known = Vocabulary(("background", "bus"))
    assert known.extended(("Background", "back ground", *APART)).classes == ("bus", *APART)
    assert Vocabulary(("background", *APART)).classes == APART


@pytest.mark.parametrize(
    ("given", "both"),
    [({"cat": ("pet",), "dog": ("Pets",)}, "'pet' or 'Pets' is said to name 'cat' and 'dog'"),
     ({"cat": ("dog",)}, "'dog' is said to name 'cat' and 'dog'")],
)  # fmt: skip
def test_a_word_said_to_name_two_classes_is_refused(given, both):
    with pytest.raises(FslabError, match=both):
        Vocabulary(("background", "cat", "dog"), synonyms=given)


@pytest.mark.parametrize("name", ["", "  ", "-", 3, None, "\udcff"])
@pytest.mark.parametrize("where", ["names", "spoken", "synonyms"])
def test_what_is_no_text_is_refused_wherever_a_vocabulary_holds_it(name, where):
    more = {
        "names": {},
        "spoken": {"spoken": {"bus": name}},
        "synonyms": {"synonyms": {"bus": (name,)}},
    }
    names = ("background", "bus", *((name,) if where == "names" else ()))
    with pytest.raises(FslabError, match=r"each must be a text|letter or a sign|not UTF-8"):
        Vocabulary(names, **more[where])


def test_texts_by_class_are_dicts_of_tuples_and_words_are_lists():
    for wrong in ({"spoken": ["x"]}, {"synonyms": {"bus": "coach"}}, {"synonyms": {"bus": None}}):
        with pytest.raises(FslabError, match=r"give a dict|give a tuple"):
            Vocabulary(("background", "bus"), **wrong)
    known = Vocabulary(name for name in ("background", "bus"))
    assert known.names == ("background", "bus")
    for wrong in ("dog", ("dog", 3)):
        with pytest.raises(FslabError, match="words"):
            known.extended(wrong)
    with pytest.raises(FslabError, match="words hold 3"):
        known.find(3)


def test_signs_that_are_not_seen_make_no_other_name():
    known = Vocabulary(("background", "\U0001f436", "dog"))
    assert known.find("\U0001f436\ufe0f") == "\U0001f436"
    assert known.find("do\u200bg") == "dog"


def test_what_is_near_is_offered_nearest_first_and_nothing_else():
    known = ("kmeans", "kmedians", "ncut")
    assert did_you_mean("kmean", known) == "; did you mean kmeans or kmedians?"
    assert did_you_mean("kmean", known, most=1) == "; did you mean kmeans?"
    assert did_you_mean("zebra", known) == ""
