"""A bank of regions of a folder's pictures."""

from __future__ import annotations

from itertools import islice

from fslab.lab import Lab
from fslab.lab.stream import sources_of
from fslab.records import FslabError, Recipe

ENDING = ".safetensors"
"""How the file is called at its end."""


def bank_of_folder(lab: Lab, pictures: str, recipe: Recipe, out: str, limit: int | None) -> str:
    """Make or go on with a bank, and return what to say of it.

    Raises FslabError as `Lab.bank` does, and for a file that is not called as such files are.
    """
    if not out.endswith(ENDING):
        raise FslabError(f"--out is {out!r}; a bank is a file that ends in {ENDING}")
    if limit is not None and limit < 1:
        raise FslabError(f"--limit is {limit}; it must be 1 or more")
    bank = lab.bank(islice(sources_of(pictures), limit), recipe, out=out)
    regions, count = len(bank.keys), len(bank.pictures)
    return (
        f"{regions} regions of {count} pictures: {out}\n"
        f"names are helped by it with --set match.bank={out}"
    )
