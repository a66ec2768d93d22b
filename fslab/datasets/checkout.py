"""Where the files of fslab's repository lie, in whatever folder a notebook is run."""

from __future__ import annotations

from pathlib import Path

_SIGNS = (Path("data") / "minivoc", Path("notebooks") / "experiments")
"""What the repository holds, and no other folder does."""


def checkout(path: str) -> str:
    """Return where a file or folder of fslab's repository is: `checkout("data/minivoc")`.

    The repository is the one that the package lies in, else the working folder's or the nearest
    above it. An installed package has none, and the path is then as seen from `notebooks/`.
    """
    here = Path.cwd()
    for home in (Path(__file__).parents[2], here, *here.parents):
        if all((home / sign).is_dir() for sign in _SIGNS):
            return str(home / path)
    return f"../{path}"
