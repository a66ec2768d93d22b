"""Run notebooks top to bottom in fresh kernels and keep their outputs.

`python notebooks/execute.py` runs all of this folder in place; name notebooks to run only those,
and give `--out DIR` to leave the originals alone. `-p picture my.jpg --out DIR` runs them with
other parameters. Every figure is kept as data and as a static picture, for whatever shows it, with
what is on it in words. `--text` runs nothing: it writes contents lists and figures' words anew.
"""

from __future__ import annotations

import argparse
import ast
import asyncio
import base64
import os
import re
import shutil
import sys
import time
from collections.abc import Sequence
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell
from PIL import Image
from scipy.spatial.distance import cdist

from fslab.plots import described

HERE = Path(__file__).resolve().parent
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
_COLOUR_CODES = re.compile(r"\x1b\[[0-9;]*m")
FIGURE = "application/vnd.plotly.v1+json"
WIDGET = "application/vnd.jupyter.widget-view+json"
KERNEL_SETTINGS = {"PLOTLY_RENDERER": "plotly_mimetype", "TQDM_DISABLE": "1"}
"""Figures as plotly's data; no progress bars, which differ from run to run."""

COLOURS, FLAT = 64, 64
"""Colours that a static picture keeps: those of its drawn scenes, and the commonest as they are.

Legends are small, and their colours would else be one with like ones. A third of the bytes."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Execute what the command line names; return how many notebooks failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("notebooks", nargs="*", type=Path, help="default: all of this folder")
    parser.add_argument("--out", type=Path, help="write here instead of in place")
    parser.add_argument("--timeout", type=int, default=600, help="seconds a cell may take")
    parser.add_argument(
        "-p", "--parameter", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"),
        help="another value for a name of the parameters' cell; files are seen from here",
    )  # fmt: skip
    parser.add_argument("--text", action="store_true", help="run nothing: contents and words only")
    options = parser.parse_args(arguments)
    if options.parameter and not options.out:
        parser.error("-p needs --out DIR: a notebook in place keeps its own parameters")
    if options.parameter and options.text:
        parser.error("-p needs a run, and --text runs nothing: give one of them")
    parameters = {name: parsed(value) for name, value in options.parameter}
    failed = 0
    for path in options.notebooks or sorted(HERE.glob("[0-9]*_*.ipynb")):
        start = time.perf_counter()
        target = (options.out or path.parent) / path.name
        timeout = None if options.text else options.timeout
        error = _attempt(path, target, timeout, parameters)
        failed += error is not None
        said = f"FAILED\n{error}" if error else f"{time.perf_counter() - start:.1f} s"
        print(f"{path.name}: {said}", file=sys.stderr if error else sys.stdout, flush=True)
    return failed


def _attempt(
    path: Path, target: Path, timeout: int | None, parameters: dict[str, Any]
) -> str | None:
    """Execute one notebook and write it; return what went wrong, with nothing written then.

    Without a timeout nothing is executed, and its text alone is brought up to date.
    """
    if not path.is_file():
        return f"there is no notebook {str(path)!r}"
    try:
        notebook = with_parameters(nbformat.read(path, as_version=4), parameters)
        if timeout is not None:
            notebook = execute(notebook, path.parent, timeout)
        add_contents(notebook)
        add_words(notebook)
    except ValueError as error:
        return str(error)
    except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
        return _COLOUR_CODES.sub("", str(error))
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = target.with_name(f".{target.name}.{os.getpid()}.part")
    nbformat.write(notebook, aside)
    aside.replace(target)
    return None


def parsed(value: str) -> Any:
    """Return a parameter from the command line: a Python literal, an existing path, or a word.

    A path is seen from the working folder, which is not the one that the notebook runs in.
    """
    if Path(value).exists():
        return str(Path(value).resolve())
    try:
        return ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return value


def with_parameters(notebook: NotebookNode, parameters: dict[str, Any]) -> NotebookNode:
    """Put a cell of other values behind the notebook's own; ValueError at a name it has not."""
    if not parameters:
        return notebook
    tagged = [
        place
        for place, cell in enumerate(notebook.cells)
        if "parameters" in cell.metadata.get("tags", [])
    ]
    source = notebook.cells[tagged[0]].source if tagged else ""
    known = [
        name.id
        for node in ast.parse(source).body
        if isinstance(node, ast.Assign)
        for target in node.targets
        for name in ast.walk(target)
        if isinstance(name, ast.Name)
    ]
    if unknown := [name for name in parameters if name not in known]:
        has = f"it has {', '.join(known)}" if known else "it has none"
        raise ValueError(f"the notebook has no parameter {unknown[0]!r}; {has}")
    lines = [f"{name} = {value!r}" for name, value in parameters.items()]
    cell = new_code_cell("\n".join(lines), metadata={"tags": ["injected-parameters"]})
    notebook.cells.insert(tagged[0] + 1, cell)
    return notebook


def execute(notebook: NotebookNode, folder: Path, timeout: int = 600) -> NotebookNode:
    """Run a notebook in a fresh kernel whose working folder is `folder`; return it cleaned.

    Raises nbclient's CellExecutionError at the first cell that fails.
    """
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    client = NotebookClient(
        notebook,
        timeout=timeout,
        startup_timeout=300,
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
        record_timing=False,
        coalesce_streams=True,
        extra_arguments=["--log-level=ERROR"],
    )
    client.execute(env={**os.environ, **KERNEL_SETTINGS})
    add_pictures([output.data for output in figures_of(notebook)])
    settle_explorers(notebook)
    return cleaned(notebook)


def figures_of(notebook: NotebookNode) -> list[NotebookNode]:
    """Return the outputs that are plotly figures, in order."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return [output for output in outputs if FIGURE in output.get("data", {})]


def settle_explorers(notebook: NotebookNode) -> None:
    """Leave of an explorer its picture, in words too: its widget is gone with the kernel.

    Where there is no picture it stays the widget that it is.
    """
    for output in figures_of(notebook):
        if WIDGET in output.data:
            figure = output.data.pop(FIGURE)
            if "image/png" in output.data:
                del output.data[WIDGET]
                output.metadata["image/png"] = {"alt": described(figure)}


CONTENTS = "**Contents.**"


def add_contents(notebook: NotebookNode) -> None:
    """Write the list of a notebook's sections, as links, at the end of its first cell.

    Sections are headings of the second level. A link is what Jupyter makes of a heading; the book
    turns it into its own. A notebook without sections keeps its first cell as it is.
    """
    texts = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    titles = [line[3:] for text in texts for line in text.splitlines() if line[:3] == "## "]
    if not titles:
        return
    first = notebook.cells[0]
    links = [f"[{title.replace('`', '')}](#{anchor(title)})" for title in titles]
    own = first.source.partition(CONTENTS)[0].rstrip()
    first.source = f"{own}\n\n{CONTENTS} " + " ·\n".join(links)


def anchor(title: str) -> str:
    """Return the place that Jupyter gives a heading, as a link writes it."""
    place = title.replace("`", "").replace(" ", "-")
    return place.replace("(", "%28").replace(")", "%29")


def add_words(notebook: NotebookNode) -> None:
    """Say beside each figure's picture what is on it; the book has it as the alt text."""
    for output in figures_of(notebook):
        if "image/png" in output.data:
            output.metadata["image/png"] = {"alt": described(output.data[FIGURE])}


def add_pictures(bundles: Sequence[dict]) -> None:
    """Put a static picture beside each figure, where a browser and kaleido are there to draw it.

    One browser draws all of a notebook's figures, with the plotly.js of the installed package.
    Without a browser the figures stay as they are; one that fails is said on stderr.
    """
    if not bundles or not browser() or find_spec("kaleido") is None:
        return
    try:
        pictures = asyncio.run(_drawn([bundle[FIGURE] for bundle in bundles]))
    except (RuntimeError, TimeoutError) as error:
        print(f"no static pictures, the browser failed: {error}", file=sys.stderr)
        return
    for bundle, picture in zip(bundles, pictures, strict=True):
        bundle["image/png"] = base64.b64encode(smaller(picture)).decode()


def browser() -> str | None:
    """Return the browser that kaleido will find: its own variable's, or one on the path."""
    return os.environ.get("BROWSER_PATH") or next(filter(None, map(shutil.which, BROWSERS)), None)


async def _drawn(figures: Sequence[dict]) -> list[bytes]:
    from kaleido import Kaleido

    async with Kaleido(n=1, timeout=300, mathjax=False) as drawer:
        return [await drawer.calc_fig(_plain(figure), opts=_size(figure)) for figure in figures]


def _plain(figure: dict) -> dict:
    return {"data": figure["data"], "layout": figure["layout"]}


def _size(figure: dict) -> dict:
    layout = figure["layout"]
    return {
        "format": "png", "scale": 1,
        "width": layout.get("width", 700), "height": layout.get("height", 450),
    }  # fmt: skip


def cleaned(notebook: NotebookNode) -> NotebookNode:
    """Drop what differs from run to run or from machine to machine."""
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    notebook.metadata = nbformat.from_dict(
        {"kernelspec": kernel, "language_info": {"name": "python"}}
    )
    for cell in notebook.cells:
        tags = cell.metadata.get("tags")
        cell.metadata = nbformat.from_dict({"tags": tags} if tags else {})
    return notebook


def smaller(picture: bytes) -> bytes:
    """Return a PNG with a palette of its own."""
    image = Image.open(BytesIO(picture)).convert("RGB")
    colours, places, counts = np.unique(
        np.asarray(image).reshape(-1, 3), axis=0, return_inverse=True, return_counts=True
    )
    palette = image.quantize(COLOURS, Image.Quantize.MEDIANCUT, kmeans=1).getpalette()
    few = np.array(palette).reshape(-1, 3)
    kept = np.concatenate([colours[np.argsort(-counts)[:FLAT]], few[:COLOURS]])
    nearest = cdist(colours, kept).argmin(1).astype(np.uint8)
    indices = Image.fromarray(nearest[places].reshape(image.height, image.width), "P")
    indices.putpalette(kept.astype(np.uint8).tobytes())
    small = BytesIO()
    indices.save(small, "PNG", optimize=True)
    return small.getvalue()


if __name__ == "__main__":
    sys.exit(1 if main() else 0)
