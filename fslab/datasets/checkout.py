"""Where the files that come with fslab lie: in its repository, in a copy, or in the package."""

from __future__ import annotations

from pathlib import Path

NOTEBOOKS, SCENES = Path("notebooks"), Path("data") / "minivoc"

_SIGNS = (SCENES, NOTEBOOKS / "experiments")
"""What fslab's repository and copies of it hold, and no other folder does."""

_PACKAGE = Path(__file__).parents[1]


def home() -> Path | None:
    """Return the folder that holds `notebooks/` and `data/minivoc`, or None.

    It is the repository that the package lies in, else the working folder or the nearest above
    it that holds a copy, else the installed package's own.
    """
    here = Path.cwd()
    places = (_PACKAGE.parent, here, *here.parents, _PACKAGE / "shelf")
    return next((one for one in places if all((one / sign).is_dir() for sign in _SIGNS)), None)


def checkout(path: str) -> str:
    """Return where a file or folder that comes with fslab is: `checkout("data/minivoc")`.

    Where nothing holds such files, the path is as seen from `notebooks/`.
    """
    found = home()
    return str(found / path) if found else f"../{path}"
