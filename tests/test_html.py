"""What records show in a notebook: plain tables and drawings, in which no text is HTML."""

import re

from fslab.html import line, side_by_side, table


def test_a_table_has_its_headings_and_a_row_for_each():
    found = table([{"layer": "up", "cells": 4}, {"layer": "mid", "cells": 16}])
    assert re.findall(r"<th [^>]*>([^<]*)</th>", found) == ["layer", "cells"]
    assert re.findall(r"<td [^>]*>([^<]*)</td>", found) == ["up", "4", "mid", "16"]
    assert found.count("<tr>") == 3
    assert table([]) == ""


def test_texts_are_shown_as_they_are():
    wild = "<b>&\"'"
    shown = "&lt;b&gt;&amp;&quot;&#x27;"
    for found in (table([{wild: wild}]), side_by_side({wild: "data:x"}), line(wild)):
        assert "<b>" not in found
        assert shown in found


def test_a_drawing_stands_over_its_words():
    found = side_by_side({"the picture": "data:one", "the labels": "data:two"})
    assert re.findall(r'alt="([^"]*)" src="([^"]*)"', found) == [
        ("the picture", "data:one"), ("the labels", "data:two"),
    ]  # fmt: skip
    assert re.findall(r"<figcaption>([^<]*)<", found) == ["the picture", "the labels"]
