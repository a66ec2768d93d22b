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

    All is there at the end, or nothing. A folder that is there stays the one it is: it may be the
    working folder, a link, or a place whose parent cannot be written. Raises FslabError where it
    holds something, where it cannot be written, and where this installation has no notebooks.
    """
    source = home()
    if source is None:
        raise FslabError(
            "this installation of fslab has no notebooks; install it from its wheel, or clone it"
        )
    check_is_new(folder)
    beside = folder if folder.is_dir() else folder.parent
    try:
        beside.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".", dir=beside) as aside:
            made = Path(aside, "all")
            for part in (NOTEBOOKS, SCENES):
                shutil.copytree(source / part, made / part, ignore=_LEFT)
            if beside is folder:
                for part in made.iterdir():
                    part.replace(folder / part.name)
            else:
                made.replace(folder)
    except OSError as error:
        raise FslabError(f"{folder} cannot be written ({error.strerror or error})") from error
    return len(list((folder / NOTEBOOKS).glob("[0-9]*_*.ipynb")))
