"""Rows of words and figures as a table that a notebook shows as one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real

from fslab.records import FslabError


@dataclass(frozen=True)
class Table:
    """A table: `markdown` is its text, which notebooks and code hosts show as a table."""

    markdown: str

    def _repr_markdown_(self) -> str:
        return self.markdown

    def __repr__(self) -> str:
        return self.markdown.rstrip("\n")


def table(rows: Sequence[Mapping[str, object]], digits: int = 3) -> Table:
    """Return rows as a table: columns by the keys of the first, one line a row.

    digits: how many figures of a float stand behind its point; a missing value, None or NaN, is
    left empty. Columns of numbers stand to the right. Raises FslabError where there are no rows,
    or where one has other keys than the first.
    """
    if not rows or not rows[0]:
        raise FslabError(
            "a table needs a row at least, and a row a column; there is nothing to show"
        )
    keys = list(rows[0])
    for place, row in enumerate(rows):
        if list(row) != keys:
            raise FslabError(
                f"row {place} of the table has the columns {', '.join(map(str, row)) or 'none'}, "
                f"the first has {', '.join(map(str, keys))}; give all rows the same"
            )
    right = [all(row[key] is None or isinstance(row[key], Real) for row in rows) for key in keys]
    lines = [[_plain(str(key)) for key in keys], ["---:" if each else ":---" for each in right]]
    lines += [[_cell(row[key], digits) for key in keys] for row in rows]
    return Table("\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n")


def _cell(value: object, digits: int) -> str:
    if value is None or value != value:
        return ""
    if isinstance(value, Real) and not isinstance(value, Integral):
        return f"{float(value):.{digits}f}"
    return _plain(str(value))


def _plain(words: str) -> str:
    """Return words that a table's line can hold: one line, no bars, no emphasis by accident."""
    for sign in "\\|*_`<$":
        words = words.replace(sign, f"\\{sign}")
    return " ".join(words.split())
