"""The committed set mini-VOC: `python -m fslab.mini.minivoc data/minivoc` writes it again."""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path

from fslab.mini.scenes import write

SPLITS: dict[str, tuple[int, int, bool]] = {
    "val": (200, 11, False),
    "val-hard": (100, 12, True),
    "search": (200, 13, False),
}
"""Split -> number of scenes, seed, only held-out designs. No seed is one of training's."""


def write_minivoc(folder: Path) -> None:
    """Write all splits into one VOC-layout folder, and CHECKSUMS.sha256 over its files."""
    for split, (count, seed, hard) in SPLITS.items():
        write(folder, count, seed, hard, split)
    checksums = folder / "CHECKSUMS.sha256"
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path != checksums)
    lines = [f"{digest(path)}  {path.relative_to(folder).as_posix()}\n" for path in files]
    checksums.write_text("".join(lines))


def digest(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    write_minivoc(parser.parse_args().folder)
