"""The memory beside the store, labs that are closed, and labs that travel."""

import pickle
import subprocess
import sys
from dataclasses import dataclass

import numpy as np
import pytest

import fslab
from fslab.lab import Lab
from fslab.lab.processes import lab_here
from fslab.recent import Recent, size_of
from fslab.records import Features, Segments


def test_what_was_not_used_for_longest_goes_first():
    recent, kilobyte = Recent(limit=3000), np.zeros(1000, np.uint8)
    for name in "abc":
        recent.keep(name, kilobyte.copy())
    recent.find("a")
    recent.keep("d", kilobyte.copy())
    assert [name for name in "abcd" if recent.find(name) is not None] == ["a", "c", "d"]
    recent.keep("large", np.zeros(9000, np.uint8))
    assert len(recent) == 1
    assert recent.find("large").size == 9000
    recent.keep("large", kilobyte)
    recent.keep("e", kilobyte)
    assert len(recent) == 2
    recent.forget()
    assert len(recent) == 0
    assert recent.find("e") is None


def test_a_value_is_made_once_while_it_is_held():
    recent, made = Recent(), []
    for _ in range(2):
        assert recent.get("a", lambda: made.append(1) or "value") == "value"
    assert made == [1]


def test_a_records_size_is_that_of_its_arrays():
    maps = np.zeros((4, 16, 16), np.float32)
    segments = Segments(np.zeros((50, 50), np.int32), (Segments(np.zeros((50, 50), np.int32)),))

    @dataclass
    class Held:
        features: Features
        parts: list

    held = Held(Features({"up": maps}, (16, 16)), [segments, "text"])
    assert 0 <= size_of(held) - maps.nbytes - 2 * 10_000 < 4000
    assert size_of("x" * 1000) >= 1000


def test_texts_are_encoded_anew_only_once_they_are_forgotten(tiny, monkeypatch):
    from fslab.match import matcher as module

    monkeypatch.setattr(module, "_TEXTS", 2 * 8 * 4)  # two vectors of the tiny CLIP
    matcher, encoded = Lab(tiny).matcher, []
    plain = matcher._encode_texts
    monkeypatch.setattr(
        matcher, "_encode_texts", lambda texts: (encoded.extend(texts), plain(texts))[1]
    )
    found = [matcher.encode_texts(texts) for texts in (["a", "b"], ["b", "c", "b"], ["c", "a"])]
    assert encoded == ["a", "b", "c", "a"]
    assert np.array_equal(found[0][1], found[1][0])
    assert np.array_equal(found[1][0], found[1][2])
    assert np.allclose(found[0][0], found[2][1], atol=1e-6)


def loaded(lab):
    return {"clean_backbone", "text_model", "captioner", "matcher"} & set(vars(lab))


def test_a_lab_that_is_closed_holds_no_model_and_can_be_used_again(tiny, picture):
    with Lab(tiny) as lab:
        before = lab.segment(picture, "freeseg-diff")
        assert loaded(lab) == {"clean_backbone", "text_model", "captioner", "matcher"}
        assert len(lab.recent)
    assert loaded(lab) == set()
    assert len(lab.recent) == 0
    lab.store = fslab.Store("memory://closed")
    after = lab.segment(picture, "freeseg-diff")
    assert np.array_equal(before.labels.labels, after.labels.labels)
    for layer, value in before.features.items():
        assert np.array_equal(value, after.features[layer])


def test_models_are_freed_when_a_lab_is_closed(tiny, picture):
    import weakref

    lab = Lab(tiny)
    lab.segment(picture, "freeseg-diff")
    network = lab.backbone.module("mid_block", "fp32")
    parts = [weakref.ref(each) for each in (network, lab.matcher.model, lab.captioner.model)]
    del network
    assert all(each() is not None for each in parts)
    lab.close()
    assert [each() for each in parts] == [None] * len(parts)


ELSEWHERE = """
import pickle, sys
lab, picture, recipe = pickle.load(sys.stdin.buffer)
assert not {"clean_backbone", "captioner", "matcher"} & set(vars(lab))
lab.store = type(lab.store)(sys.argv[1])
result = lab.segment(picture, recipe)
sys.stdout.buffer.write(pickle.dumps((dict(result.features), result.labels.labels)))
"""


def test_a_used_lab_gives_the_same_bits_in_another_process(tiny, picture, tmp_path):
    lab = Lab(tiny, precision="fp32")
    result = lab.segment(picture, "freeseg-diff")
    given = pickle.dumps((lab, picture, result.recipe))
    assert len(given) < 100_000
    done = subprocess.run(
        [sys.executable, "-c", ELSEWHERE, str(tmp_path / "new")],
        input=given, capture_output=True, check=True, cwd=tmp_path,
    )  # fmt: skip
    features, labels = pickle.loads(done.stdout)
    assert np.array_equal(labels, result.labels.labels)
    assert set(features) == set(result.features)
    for layer, value in features.items():
        assert np.array_equal(value, result.features[layer])


def test_a_process_opens_one_lab_at_a_time(tiny):
    one = lab_here(Lab(tiny).specification)
    assert lab_here(Lab(tiny).specification) is one
    assert lab_here(Lab("mini").specification) is not one


@pytest.mark.parametrize("kind", ["Lab", "SharedLab"])
def test_a_pickled_lab_is_of_its_kind(tiny, kind):
    from fslab.evaluate.shared import SharedLab

    made = {"Lab": Lab, "SharedLab": SharedLab}[kind]
    again = pickle.loads(pickle.dumps(made(tiny, "rgb")))
    assert type(again) is made
    assert again.backbone.name == "rgb"
    assert again.store.location == made(tiny, "rgb").store.location
