"""Write docs/licences.md again: what the package ships, and what it is installed with.

The second list is what the installed packages' own metadata say, for PyTorch and those
of its three lists of requirements that this platform installs.
"""

import re
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SHIPPED = """# Licences

Written by `python .ci/licences.py`, in an environment that `make` installed.

## What the package ships

| files | licence |
|---|---|
| code, notebooks, documents | Apache-2.0 (`LICENSE`) |
| `fslab/mini/weights/`: the bundled models, trained from nothing on drawn scenes | Apache-2.0 |
| `data/minivoc/`: drawn scenes | Apache-2.0, and for the sprites in a scene their sheet's |
| `fslab/mini/sprites/`: emoji, rasterised | sheet by sheet, in `fslab/mini/sprites/LICENSES.md` |

No fonts are shipped, and no code of others: every dependency is installed from its own package.

## What it is installed with

| package | version | licence, as its metadata say |
|---|---|---|
"""


def main() -> None:
    """Write the page."""
    names = {"torch"}
    for file in ("requirements.txt", "requirements-build.txt", "requirements-reference.txt"):
        names |= set(re.findall(r"^([\w.-]+)==", (ROOT / file).read_text(), re.MULTILINE))
    rows = [row for name in sorted(names, key=str.lower) if (row := _row(name))]
    (ROOT / "docs" / "licences.md").write_text(SHIPPED + "\n".join(rows) + "\n")


def _row(name: str) -> str:
    try:
        facts = metadata(name)
    except PackageNotFoundError:
        return ""
    version = facts["Version"].partition("+")[0]
    return f"| {name} | {version} | {_licence(facts)} |"


def _licence(facts) -> str:
    classifiers = facts.get_all("Classifier") or []
    named = [each.split(" :: ")[-1] for each in classifiers if each.startswith("License ::")]
    line = (facts["License"] or "").strip().partition("\n")[0]
    text = facts["License-Expression"] or ", ".join(named) or line or "not said"
    return " ".join(text.replace("|", "/").split())[:80]


if __name__ == "__main__":
    main()
