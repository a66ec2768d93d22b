"""Which names of the package are public, read from its files: nothing is imported."""

from __future__ import annotations

import ast
from itertools import pairwise
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1] / "fslab"


def all_rooms() -> list[str]:
    """Return the rooms of the package: its folders and files."""
    found = {path.parent for path in PACKAGE.glob("*/__init__.py")} | {*PACKAGE.glob("*.py")}
    return sorted(path.stem for path in found if not path.stem.startswith("__"))


def public_names(room: str) -> list[str]:
    """Return a room's public names, dotted from the room.

    Those that it exports, and those that `fslab` itself exports from a module inside it. A room
    that exports nothing by name has all that its file defines without an underscore.
    """
    exported = _exported(_file_of(room))
    if exported is None:
        exported = _defined(_file_of(room))
    inside = [path for path in homes().values() if path.startswith(f"fslab.{room}.")]
    beyond = {path.removeprefix(f"fslab.{room}.") for path in inside} - set(exported)
    return [*exported, *sorted(beyond)]


def homes() -> dict[str, str]:
    """Return where the names come from that `fslab` itself exports: name -> dotted path."""
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    return {
        alias.name: f"{node.module}.{alias.name}"
        for node in imports
        if node.module.startswith("fslab.")
        for alias in node.names
    }


def said(room: str) -> str:
    """Return the first paragraph of a room's docstring."""
    text = ast.get_docstring(ast.parse(_file_of(room).read_text(encoding="utf-8"))) or ""
    return " ".join(text.partition("\n\n")[0].split())


def _file_of(room: str) -> Path:
    folder = PACKAGE / room / "__init__.py"
    return folder if folder.is_file() else PACKAGE / f"{room}.py"


def _exported(path: Path) -> list[str] | None:
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return sorted(ast.literal_eval(node.value))
    return None


def _defined(path: Path) -> list[str]:
    """Functions, classes and documented constants, in the file's order."""
    body = ast.parse(path.read_text(encoding="utf-8")).body
    names = []
    for node, after in pairwise([*body, None]):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.append(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign) and _is_text(after):
            target = node.target if isinstance(node, ast.AnnAssign) else node.targets[0]
            names.append(ast.unparse(target))
    return [name for name in names if not name.startswith("_")]


def _is_text(node: ast.stmt | None) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
