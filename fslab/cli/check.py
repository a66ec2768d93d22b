"""A whole data set on one page, before a long run."""

from __future__ import annotations

import warnings

from fslab import datasets
from fslab.datasets import MissingFiles
from fslab.datasets.check import as_page, check


def check_set(root: str, split: str, format: str) -> int:
    """Print what a dataset holds; return 0, or 1 where something is odd.

    Files that are not there are oddities here. Raises FslabError where nothing can be opened.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # the page says all of it
        try:
            data = datasets.load(root, split, format)
        except MissingFiles:
            data = datasets.load(root, split, format, skip_missing=True)
        checked = check(data)
    print(as_page(checked))
    return 1 if checked.oddities else 0
