"""Draw docs/widgets.png, the README's picture of an explorer, in the real browser.

`PYTHONPATH=tests python tests/browser/picture.py`
"""

from __future__ import annotations

import tempfile
from io import BytesIO
from pathlib import Path

import nbformat
from browser import notebooks
from browser.jupyter import browse, run_all, serve
from PIL import Image

SHOWN = (
    "explore_features(lab, dataset, timestep=50, picture='val_0003', point=(80, 50),\n"
    "    layer='up_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q')"
)
COLOURS = 200


def main() -> None:
    with tempfile.TemporaryDirectory() as place:
        home = Path(place)
        path = notebooks.lay_out(home / "work") / "features.ipynb"
        notebook = nbformat.read(path, as_version=4)
        notebook.cells[-1].source = SHOWN
        nbformat.write(notebook, path)
        with serve(home / "work", home, home / "store") as server, browse(home) as page:
            run_all(page, server, "notebooks/features.ipynb")
            box = page.locator(".jp-OutputArea-output .widget-vbox").first
            box.locator(".js-plotly-plot .imagelayer image").first.wait_for()
            page.wait_for_timeout(1500)
            shot = Image.open(BytesIO(box.screenshot())).convert("RGB")
    target = notebooks.ROOT / "docs" / "widgets.png"
    shot.quantize(COLOURS, dither=Image.Dither.NONE).save(target, optimize=True)
    print(f"{target}: {shot.size[0]} x {shot.size[1]}, {target.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
