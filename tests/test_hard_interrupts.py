"""Ctrl-C in the middle of a pass or of a cell: no hook stays, and what follows is as ever."""

import contextlib
import os
import signal
import threading
import time
from pathlib import Path

import nbformat
import numpy as np
import pytest
from conftest import noise_picture
from faults import survived
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from torch import nn

from fslab.backbones import Diffusion, open_backbone, pick_layers, word_attention
from fslab.lab import Lab
from fslab.records import Extraction

NOTEBOOK = Path(__file__).parents[1] / "notebooks" / "00_quickstart.ipynb"
SIZE = (64, 64)
AT = Extraction(timesteps=(50,), draws=2)
QUERY = "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_q"
PROBABILITIES = "mid_block.attentions.0.transformer_blocks.0.attn1.probs"


def layer(path):
    """Read one layer of a Stable Diffusion."""
    return lambda backbone: backbone.run(noise_picture(*SIZE), SIZE, {50: (path,)}, AT)[path, 50]


def words(backbone):
    """Read where words look."""
    settings = Extraction(timesteps=(50,), layers=("*attn2.to_q",), prompt="a dog on grass")
    return word_attention(backbone, noise_picture(*SIZE), SIZE, ["dog"], settings)


def vision(kind):
    """Read the last self-attention's probabilities of a vision transformer."""

    def read(backbone):
        path = pick_layers(["last:*.probs"], backbone.layers())[0].path
        return backbone.run(noise_picture(32, 48), (32, 48), {0: (path,)}, Extraction())[path, 0]

    return read


WAYS = {
    "features": ("sd1", layer("up_blocks.0")),
    "cross-attention queries": ("sd2", layer(QUERY)),
    "cross-attention to words": ("sd1", words),
    "self-attention probabilities": ("sd1", layer(PROBABILITIES)),
    "probabilities of DINOv2": ("dinov2", vision("dinov2")),
    "probabilities of CLIP": ("clip", vision("clip")),
}


@contextlib.contextmanager
def counted(stop_at=None):
    """Count the modules that fire, and be interrupted when so many have.

    Not by torch's hooks of all modules, with which fslab refuses to work.
    """
    calls, plain = [], nn.Module.__call__

    def count(module, *given, **named):
        made = plain(module, *given, **named)
        calls.append(module)
        if len(calls) == stop_at:
            raise KeyboardInterrupt
        return made

    nn.Module.__call__ = count
    try:
        yield calls
    finally:
        nn.Module.__call__ = plain


def hooks(net):
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks")
    return sum(len(getattr(module, kind)) for module in net.modules() for kind in kinds)


def processors(net):
    return {
        name: id(part.processor) for name, part in net.named_modules() if hasattr(part, "processor")
    }


def networks(backbone):
    """Return the loaded networks of any backbone."""
    loaded = backbone.components.loaded if isinstance(backbone, Diffusion) else backbone._nets
    return list(loaded.values())


@pytest.mark.parametrize("way", WAYS)
def test_an_interrupted_read_leaves_the_model_as_it_was(diffusion_folders, vision_folders, way):
    kind, read = WAYS[way]
    made = {**vision_folders, **diffusion_folders}[kind]
    opened = Diffusion if kind in diffusion_folders else open_backbone
    expected, backbone = read(opened(made)), opened(made)
    read(backbone)  # what is listed, loaded and encoded once is: the rest is the pass that is read
    with counted() as calls:
        read(backbone)
    for part in (0.1, 0.4, 0.7, 1.0):
        with counted(max(1, int(part * len(calls)))) as fired, pytest.raises(KeyboardInterrupt):
            read(backbone)
        assert fired
        before = [processors(net) for net in networks(backbone)]
        assert sum(map(hooks, networks(backbone))) == 0
        assert read(backbone).equal(expected)
        assert [processors(net) for net in networks(backbone)][: len(before)] == before
        survived("interrupt: Ctrl-C inside a forward pass")


@pytest.fixture(scope="module")
def expected(tiny, tmp_path_factory):
    return Lab(tiny, store=tmp_path_factory.mktemp("store")).segment(noise_picture(*SIZE), "fslab")


@pytest.mark.parametrize("stage", ["caption", "extract", "cluster", "match", "refine"])
def test_a_method_interrupted_at_any_stage_gives_the_same_when_run_again(
    tiny, picture, expected, tmp_path, stage
):
    lab = Lab(tiny, store=tmp_path / "store")

    def stops(begun):
        if begun == stage:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        lab.segment(picture, "fslab", on_stage=stops)
    found = lab.segment(picture, "fslab")
    assert np.array_equal(found.labels.labels, expected.labels.labels)
    assert all(
        np.array_equal(found.features[name], expected.features[name]) for name in expected.features
    )
    survived("interrupt: Ctrl-C between stages")


ASK = """
import os
from pathlib import Path
from time import sleep
from torch import nn
calls, plain = [], nn.Module.__call__
def tell(module, *given, **named):
    made = plain(module, *given, **named)
    if type(module).__name__ != "BasicTransformerBlock" or next(module.parameters()).is_meta:
        return made
    calls.append(module)
    if len(calls) == 2:
        Path(os.environ["FSLAB_TEST_SIGN"]).write_text(str(os.getpid()))
        sleep(60)
    return made
nn.Module.__call__ = tell
"""
LOOK = """
nn.Module.__call__ = plain
parts = [*lab.backbone.components.loaded.values()]
print(len(parts), sum(len(m._forward_hooks) for net in parts for m in net.modules()))
"""


def interrupt_when_told(sign):
    """Send what the interrupt button sends, once the kernel is in the middle of a pass."""
    patience = time.monotonic() + 120
    while time.monotonic() < patience:
        with contextlib.suppress(OSError, ValueError):
            os.kill(int(sign.read_text()), signal.SIGINT)
            return
        time.sleep(0.02)


@pytest.fixture
def kernel(tmp_path, monkeypatch):
    """A notebook in a kernel of its own, and the file by which it says that it computes."""
    sign = tmp_path / "sign"
    monkeypatch.setenv("FSLAB_TEST_SIGN", str(sign))
    monkeypatch.setenv("PLOTLY_RENDERER", "plotly_mimetype")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    client = NotebookClient(
        notebook, timeout=300, startup_timeout=120, kernel_name="python3",
        resources={"metadata": {"path": str(NOTEBOOK.parent)}},
    )  # fmt: skip
    with client.setup_kernel():
        yield client, sign


def ran(client, source):
    """Run code that is no cell of the notebook; return what it printed."""
    cell = nbformat.v4.new_code_cell(source)
    client.nb.cells.append(cell)
    client.execute_cell(cell, len(client.nb.cells) - 1)
    client.nb.cells.pop()
    return "".join(output.get("text", "") for output in cell.outputs)


def test_a_notebook_interrupted_in_a_pass_runs_again(kernel):
    client, sign = kernel
    cells = [
        (place, cell) for place, cell in enumerate(client.nb.cells) if cell.cell_type == "code"
    ]
    (stop,) = [n for n, (_, cell) in enumerate(cells) if "lab.extract(" in cell.source]
    for place, cell in cells[:stop]:
        client.execute_cell(cell, place)
    ran(client, ASK)
    threading.Thread(target=interrupt_when_told, args=(sign,)).start()
    with pytest.raises(CellExecutionError, match="KeyboardInterrupt"):
        client.execute_cell(cells[stop][1], cells[stop][0])
    loaded, left = map(int, ran(client, LOOK).split())
    assert loaded >= 1
    assert left == 0
    for place, cell in cells:
        client.execute_cell(cell, place)
    assert not [out for _, cell in cells for out in cell.outputs if out.output_type == "error"]
    survived("interrupt: notebook cell in the middle of a pass")
