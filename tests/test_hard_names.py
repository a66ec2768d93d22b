"""Names and captions with HTML in them are text, on every page and in the explorers.

A real browser opens the pages, offline: nothing they hold may run, nothing may be asked for from
outside, and they must be there to be read.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import ipywidgets as widgets
import numpy as np
import pytest
from browser.jupyter import FLAGS, chromium
from conftest import noise_picture, write_dataset
from plotly.basedatatypes import BaseFigure

from fslab import datasets
from fslab.datasets.read import write_picture
from fslab.evaluate import ablate, evaluate, write_page
from fslab.evaluate.ablation_page import ablation_page
from fslab.html import table
from fslab.lab import METHODS, Lab
from fslab.plots import GalleryRow, gallery
from fslab.records import Clustering, LabelMap, Recipe, Segments, Vocabulary
from fslab.widgets import (
    explore_clusters,
    explore_features,
    explore_matching,
    explore_refinement,
    segment_yours,
)
from fslab.widgets.texts import code_block, download_link, hint

NAME = "<img src=x onerror=window.ran=1>"
"""What a file may be called: no slash."""

TEXT = f"</title></script><script>window.ran=1</script></style>{NAME}&amp;"
"""What a class, a caption or a title may say."""

NOT_TEXT = os.fsdecode(b"\xff\xe9")
PLAIN = Recipe(f"plain{TEXT}", cluster=Clustering.of(k=2, restarts=1)).change(
    {"caption.words": "all"}
)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    root = write_dataset(tmp_path_factory.mktemp("set"), 3)
    names = [NAME, NAME + NOT_TEXT, "noise_2"]
    for place in ("JPEGImages", "SegmentationClass"):
        for number in (0, 1):
            (root / place / f"noise_{number}.png").rename(root / place / f"{names[number]}.png")
    listed = "\n".join(names).encode("utf-8", "surrogateescape")
    (root / "ImageSets" / "Segmentation" / "val.txt").write_bytes(listed)
    found = datasets.voc(root)
    classes = (found.vocabulary.names[0], TEXT, *found.vocabulary.names[2:])
    return replace(found, name=f"set{TEXT}", vocabulary=Vocabulary(classes))


def evaluation_page(dataset, tiny, folder: Path) -> Path:
    lab = Lab(tiny, "rgb")
    report = evaluate(lab, dataset, PLAIN, progress=False)
    report = replace(report, refused={NAME: f"{NAME!r} is no picture {TEXT}"})
    rows = tuple(replace(row, caption=TEXT, candidates=(TEXT,)) for row in report.rows)
    return write_page(replace(report, rows=rows), lab, dataset, folder, 2)


def ablations_page(dataset, tiny, folder: Path) -> Path:
    file = folder / "rows.toml"
    file.write_text(
        f"title = '{TEXT}'\nmetrics = ['hungarian']\n"
        "[base]\ncluster = 'kmeans'\nbackbone = 'rgb'\n"
        f"[[row]]\nname = '{TEXT}'\n[[row]]\nname = 'other{NAME}'\nset = {{ 'cluster.k' = 3 }}\n"
    )
    found = ablate(file, dataset, preset=tiny, progress=False)
    rows = (replace(found.rows[0], refused={NAME: TEXT}), *found.rows[1:])
    path = folder / "ablation.html"
    path.write_bytes(ablation_page(replace(found, rows=rows)).encode())
    return path


def demo_page(dataset, tiny, folder: Path) -> Path:
    labels = np.zeros((32, 32), np.uint8)
    labels[8:24, 8:24] = 1
    names = ("background", TEXT)
    row = GalleryRow(
        replace(noise_picture(32, 32), name=NAME + NOT_TEXT), Segments(labels.astype(np.int32)),
        LabelMap(labels, names, {TEXT: 0.5}), labels, TEXT, {TEXT: TEXT},
    )  # fmt: skip
    path = folder / "demo.html"
    path.write_bytes(gallery([row], TEXT, TEXT, [{"method": TEXT, TEXT: 1.5}]).encode())
    return path


@contextlib.contextmanager
def offline(path: Path) -> Iterator[tuple[object, list[str], list[str]]]:
    """Open a page without a network: the page, what it asked for, and what went wrong."""
    sync = pytest.importorskip("playwright.sync_api")
    asked: list[str] = []
    wrong: list[str] = []
    with sync.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium(), args=list(FLAGS))
        page = browser.new_context(offline=True).new_page()
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda line: line.type == "error" and wrong.append(line.text))
        try:
            page.goto(path.as_uri(), timeout=90_000)
            page.wait_for_load_state("load")
            yield page, asked, wrong
        finally:
            browser.close()


def check_nothing_ran(page) -> None:
    assert page.evaluate("window.ran") is None
    assert page.locator("img[src=x]").count() == 0
    assert page.locator("img[onerror]").count() == 0


@pytest.mark.skipif(chromium() is None, reason="there is no Chromium on the path")
@pytest.mark.parametrize("make", [evaluation_page, ablations_page, demo_page])
def test_pages_show_names_as_text_and_load_nothing(dataset, tiny, tmp_path, make):
    path = make(dataset, tiny, tmp_path)
    with offline(path) as (page, asked, wrong):
        for plot in page.locator(".js-plotly-plot").all():
            plot.locator(".main-svg").first.wait_for(timeout=90_000)
            plot.hover(force=True)
        page.wait_for_timeout(300)
        check_nothing_ran(page)
        words = page.locator("main").text_content()
        assert TEXT in words
        assert NAME in words
        if make is not ablations_page:
            assert "\\udcff\\udce9" in words
    assert wrong == []
    assert asked[0] == path.as_uri()
    assert {url.split(":")[0] for url in asked[1:]} <= {"data", "blob"}


def test_explorers_hold_names_as_text(tiny, tmp_path):
    """Whatever an explorer gives to be shown as HTML, in lines or in figures, has names escaped."""
    strange = tmp_path / f"{NAME}{NOT_TEXT}.png"
    write_picture(noise_picture(32, 32).pixels, strange)
    lab, awkward = Lab(tiny), replace(noise_picture(32, 32), name=NAME)
    # The tiny text encoder reads 16 tokens, and longer words are refused: none is asked where it looks.
    silent = METHODS["fslab"].change({"match.attention": 0.0})
    missing = segment_yours(lab)
    missing.file = f"{tmp_path}/{NAME}.gone"
    opened = [
        explore_matching(lab, [awkward, strange], silent, candidates=("dog", TEXT)),
        explore_clusters(lab, [strange, awkward]),
        explore_features(lab, [awkward, strange]),
        explore_refinement(lab, [awkward, strange]),
        missing,
    ]
    for explorer in opened:
        explorer.wait(60)
        held = list(texts_of(explorer))
        assert any("&lt;img src=x" in text for text in held), type(explorer).__name__
        assert not any("<img src=x" in text or "<script" in text for text in held)
        "".join(held).encode()  # what is no text could not be sent to the browser


def test_lines_code_tables_and_links_are_escaped():
    said = [
        hint(TEXT).value,
        code_block(TEXT),
        table([{TEXT: TEXT}]),
        download_link(b"", "image/png", NAME, TEXT),
    ]
    for html in said:
        assert "&lt;img src=x" in html
        assert not any(mark in html for mark in ("<img", "<script", "</script", "</title"))


def texts_of(widget) -> Iterator[str]:
    """Yield all that the browser takes as HTML: of HTML widgets, and of figures."""
    if isinstance(widget, widgets.HTML):
        yield widget.value
    if isinstance(widget, BaseFigure):
        yield from strings_in(widget.to_plotly_json())
    for child in getattr(widget, "children", ()):
        yield from texts_of(child)


def strings_in(given) -> Iterator[str]:
    if isinstance(given, str):
        yield given
    elif isinstance(given, dict):
        for value in given.values():
            yield from strings_in(value)
    elif isinstance(given, (list, tuple)):
        for value in given:
            yield from strings_in(value)
