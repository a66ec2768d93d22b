"""A figure as a file: the width that was asked for, vectors, and what is refused."""

import re
import sys

import plotly.graph_objects as go
import pytest
from browser.jupyter import chromium
from PIL import Image

from fslab import plots
from fslab.plots import saving
from fslab.records import FslabError

needs_browser = pytest.mark.skipif(chromium() is None, reason="there is no Chromium on the path")


@pytest.fixture
def figure():
    return go.Figure(go.Scatter(y=[1, 3, 2]), {"width": 700, "height": 350, "title": "Layers"})


@needs_browser
def test_a_file_has_the_width_that_was_asked_for(figure, tmp_path):
    for kind in ("svg", "pdf", "png"):
        plots.save(figure, tmp_path / f"a.{kind}", width="100mm", dpi=254)
    svg = (tmp_path / "a.svg").read_text()
    assert re.match(
        r'<svg[^>]* width="100\.000mm" height="50\.000mm"[^>]*viewBox="0 0 700 350"', svg
    )
    assert ">Layers<" in svg
    pdf = (tmp_path / "a.pdf").read_bytes()
    box = [float(each) for each in re.search(rb"/MediaBox \[([^]]*)\]", pdf)[1].split()]
    assert box[2:] == pytest.approx([100 / 25.4 * 72, 50 / 25.4 * 72], abs=1)
    assert b"/Subtype /Image" not in pdf  # nothing but vectors
    with Image.open(tmp_path / "a.png") as image:
        assert image.width == pytest.approx(1000, abs=1)
        assert image.info["dpi"] == pytest.approx((254, 254), abs=0.1)


@pytest.mark.parametrize(
    ("width", "wanted"),
    [(88, 88), (88.5, 88.5), ("3.5in", 88.9), ("8.5 cm", 85), ("column", 82.55), ("page", 174.6)],
)
def test_a_width_is_millimetres_or_says_its_unit(width, wanted):
    assert saving._millimetres(width) == pytest.approx(wanted)


@pytest.mark.parametrize("width", [0, -3, True, "wide", "10px", float("nan"), 5000, [88]])
def test_a_width_that_is_none_is_refused(figure, tmp_path, width):
    with pytest.raises(FslabError, match=r"width is .*; give millimetres"):
        plots.save(figure, tmp_path / "a.svg", width=width)
    assert not list(tmp_path.iterdir())


def test_what_is_no_figure_and_other_endings_are_refused(figure, tmp_path, monkeypatch):
    with pytest.raises(FslabError, match="figure is str; give a plotly figure"):
        plots.save("figure", tmp_path / "a.svg")
    with pytest.raises(FslabError, match=r"does not end in one of \.svg, \.pdf, \.png"):
        plots.save(figure, tmp_path / "a.jpg")
    with pytest.raises(FslabError, match="dpi is 0"):
        plots.save(figure, tmp_path / "a.png", dpi=0)
    monkeypatch.setattr(saving, "find_spec", lambda name: None)
    with pytest.raises(FslabError, match=r"pip install 'fslab\[figures\]'"):
        plots.save(figure, tmp_path / "a.png")


def test_a_missing_browser_is_one_sentence(figure, tmp_path, monkeypatch):
    kaleido = pytest.importorskip("kaleido")
    from choreographer.browsers.chromium import ChromeNotFoundError

    def none(*given, **named):
        raise ChromeNotFoundError

    monkeypatch.setattr(kaleido, "calc_fig_sync", none)
    with pytest.raises(FslabError, match="none is on the path: install one"):
        plots.save(figure, tmp_path / "a.png")
    assert "kaleido" in sys.modules
