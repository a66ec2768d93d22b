"""Names in any script on drawings: right, or said."""

import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import ImageFont

from fslab.plots import lettering, overlay
from fslab.plots.lettering import font_for, missing
from fslab.records import LabelMap, Picture

PICTURE = Picture(np.full((200, 300, 3), 90, np.uint8))
LABELS = np.zeros((200, 300), np.uint8)
LABELS[40:160, 50:250] = 1


def drawn(name):
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        pixels = overlay(PICTURE, LabelMap(LABELS, ("background", name)))
    return pixels, [str(each.message) for each in said]


@pytest.mark.parametrize("name", ["dog", "Käse", "chien d'œuvre", "señal", "tv monitor"])
def test_names_in_latin_letters_are_drawn_and_nothing_is_said(name):
    pixels, said = drawn(name)
    assert said == []
    assert not np.array_equal(pixels, drawn("1")[0])


@pytest.mark.parametrize("name", ["犬", "собака", "कुत्ता", "كلب", "כלב", "개", "สุนัข", "🐕"])
def test_a_name_is_drawn_right_or_its_missing_letters_are_said(name):
    font, lacking = font_for(name, 24)
    pixels, said = drawn(name)
    if lacking:
        (sentence,) = said
        assert repr(lacking) in sentence
        assert lettering.FONT in sentence
        assert np.array_equal(pixels, drawn("1")[0])
    else:
        assert said == []
        assert not missing(name, font)
        assert not np.array_equal(pixels, drawn("1")[0])


def test_where_no_font_has_the_letters_each_is_named_once(monkeypatch):
    monkeypatch.setattr(lettering, "_SYSTEM", ())
    assert font_for("犬と犬 dog", 24)[1] == "犬と"
    assert drawn("犬と犬 dog")[1][0].startswith("no font here has the letters '犬と'; names")


def test_a_font_of_one_s_own_is_taken(monkeypatch, tmp_path):
    kept = tmp_path / "own.ttf"
    font = ImageFont.load_default(24)
    kept.write_bytes(font.font_bytes)
    monkeypatch.setattr(lettering, "_SYSTEM", ())
    monkeypatch.setenv(lettering.FONT, str(kept))
    tried, plain = [], lettering._font
    monkeypatch.setattr(
        lettering, "_font", lambda name, size: tried.append(name) or plain(name, size)
    )
    font_for("犬", 24)
    assert str(kept) in tried
    monkeypatch.setenv(lettering.FONT, str(Path(__file__)))  # which is no font
    assert font_for("犬", 24)[1] == "犬"
