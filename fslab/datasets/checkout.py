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


def where_to_look(path: Path) -> str:
    """Say what to do about a path that does not exist; of mini-VOC, where it is or comes from."""
    for asked in (path, *path.parents):
        if asked.parts[-2:] == SCENES.parts and not asked.exists():
            found = home()
            here = f"it is {str(found / SCENES)!r} here, and " if found else ""
            return f"{here}`python -m fslab.mini.minivoc {asked}` writes the same files"
    return "check the path"
