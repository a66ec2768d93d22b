"""The numbered notebooks and their data set, copied to where they can be worked in."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from fslab.cli.options import check_is_new
from fslab.datasets.checkout import NOTEBOOKS, SCENES, home
from fslab.records import FslabError

_LEFT = shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints", ".*")


def copy_notebooks(folder: Path) -> int:
    """Copy `notebooks/` and `data/minivoc` into a new or empty folder; return how many notebooks.

    All is there at the end, or nothing. Raises FslabError where the folder holds something, where
    it cannot be written, and where this installation has no notebooks.
    """
    source = home()
    if source is None:
        raise FslabError(
            "this installation of fslab has no notebooks; install it from its wheel, or clone it"
        )
    check_is_new(folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".", dir=folder.parent) as aside:
            for part in (NOTEBOOKS, SCENES):
                shutil.copytree(source / part, Path(aside, "all") / part, ignore=_LEFT)
            Path(aside, "all").replace(folder)
    except OSError as error:
        raise FslabError(f"{folder} cannot be written ({error.strerror or error})") from error
    return len(list((folder / NOTEBOOKS).glob("[0-9]*_*.ipynb")))
