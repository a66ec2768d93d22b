"""A table has a line a row, and cells that break none."""

from __future__ import annotations

import numpy as np
import pytest

from fslab import plots
from fslab.records import FslabError


def test_rows_become_lines_of_one_table():
    rows = [
        {"layer": "up_blocks.1", "IoU": 0.51239, "pictures": 3, "note": "a|b"},
        {"layer": "x", "IoU": float("nan"), "pictures": None, "note": "two\nlines"},
    ]
    made = plots.table(rows, digits=2)
    assert made.markdown.splitlines() == [
        "| layer | IoU | pictures | note |",
        "| :--- | ---: | ---: | :--- |",
        "| up\\_blocks.1 | 0.51 | 3 | a\\|b |",
        "| x |  |  | two lines |",
    ]
    assert made._repr_markdown_() == made.markdown
    assert repr(made) == made.markdown.strip()


def test_numpy_s_numbers_are_numbers():
    assert "| 0.250 |" in plots.table([{"a": np.float64(0.25)}]).markdown
    assert "| 7 |" in plots.table([{"a": np.int64(7)}]).markdown


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([], "nothing to show"),
        ([{}], "nothing to show"),
        ([{"a": 1}, {"b": 1}], "row 1 of the table has the columns b, the first has a"),
    ],
)
def test_what_is_no_table_is_refused(rows, said):
    with pytest.raises(FslabError, match=said):
        plots.table(rows)
