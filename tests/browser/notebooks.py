"""What is opened in the browser: the project's own notebooks, and one for a reader's picture."""

from __future__ import annotations

import shutil
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_notebook

ROOT = Path(__file__).parents[2]

_FIRST = """import fslab
from fslab.datasets import voc
from fslab.evaluate import evaluate
from fslab.widgets import *

lab = fslab.Lab("mini")
dataset = voc("../data/minivoc", "val").limit(6)"""

NAME = "<img src=x onerror=window.ran=1>"
"""What a file may be called, and must not do."""
CLASS = "<i>cow</i>"

OPENED = {
    "features": "explore_features(lab, dataset, timestep=50)",
    "correspondence": "explore_correspondence(lab, dataset, timestep=200)",
    "clusters": "explore_clusters(lab, dataset)",
    "matching": "explore_matching(lab, dataset)",
    "refinement": "explore_refinement(lab, dataset)",
    "results": "browse_results(evaluate(lab, dataset, 'fslab', progress=False), dataset)",
    "yours": "segment_yours(lab)",
    "names": f"explore_matching(lab, ['{NAME}.png'], candidates=('dog', '{CLASS}'))",
}
"""One cell an explorer, as a reader would write it."""


def lay_out(root: Path) -> Path:
    """Copy the notebooks, without outputs, beside the data; return their folder."""
    folder = root / "notebooks"
    shutil.copytree(ROOT / "notebooks", folder, ignore=shutil.ignore_patterns("__pycache__"))
    (root / "data").symlink_to(ROOT / "data")
    for path in folder.glob("*.ipynb"):
        notebook = nbformat.read(path, as_version=4)
        for cell in notebook.cells:
            if cell.cell_type == "code":
                cell.outputs, cell.execution_count = [], None
        nbformat.write(notebook, path)
    shutil.copy(ROOT / "data/minivoc/JPEGImages/val_0000.png", folder / f"{NAME}.png")
    for name in OPENED:
        write(folder, name)
    return folder


def write(folder: Path, name: str) -> str:
    """Write an explorer's notebook into a folder and return the file's name."""
    cells = [new_code_cell(_FIRST), new_code_cell(f"explorer = {OPENED[name]}\nexplorer")]
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    notebook = new_notebook(cells=cells, metadata={"kernelspec": kernel})
    nbformat.write(notebook, folder / f"{name}.ipynb")
    return f"{name}.ipynb"
