"""The explorers in a real JupyterLab, opened by a real Chromium: keys, clicks, a download.

Pictures of what was seen are kept in out/browser/. FSLAB_BROWSER=required, as CI sets it, makes
a missing browser a failure; elsewhere these tests are skipped without one.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import notebooks
from browser.jupyter import browse, chromium, run_all, serve

ROOT = Path(__file__).parents[1]
KEPT = ROOT / "out" / "browser"
ATTEMPTS = 2
HEAT = 9
"""The trace of `explore_features` that holds the cosines."""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    lacking = [] if chromium() else ["Chromium is not installed (apt-get install chromium)"]
    lacking += [] if find_spec("playwright") else ["playwright is not installed"]
    if lacking and os.environ.get("FSLAB_BROWSER") == "required":
        pytest.fail(f"{'; '.join(lacking)}, and FSLAB_BROWSER=required")
    if lacking:
        pytest.skip("; ".join(lacking))
    home = tmp_path_factory.mktemp("jupyter")
    notebooks.lay_out(home / "work")
    with serve(home / "work", home, tmp_path_factory.mktemp("store")) as running:
        yield running


def playwright_error() -> type[Exception]:
    """Return what Playwright raises, time-outs among it; it is not installed everywhere."""
    from playwright.sync_api import Error

    return Error


CUT = """box => {
  const edge = box.closest('.jp-OutputArea-output').getBoundingClientRect().right + 1;
  const parts = [...box.querySelectorAll('select, input, button, .widget-html, .fslab-plot svg')];
  return parts.filter(part => part.getBoundingClientRect().right > edge)
    .map(part => part.outerHTML.slice(0, 90));
}"""
"""The parts of an explorer that reach beyond the cell's right edge."""


class Widget:
    """An explorer in the page, found by what its first line says."""

    def __init__(self, page: Any, first_line: str) -> None:
        self.page = page
        self.box = page.locator(".jp-OutputArea-output .widget-vbox", has_text=first_line).first
        self.box.scroll_into_view_if_needed()
        self.plot = self.box.locator(".js-plotly-plot").first

    def settled(self) -> None:
        """Wait until nothing computes and the figure is there."""
        self.page.wait_for_function(
            "box => !box.querySelector('[role=status]').innerText.includes('computing')",
            arg=self.box.element_handle(),
        )

    def says(self, words: str) -> None:
        self.box.locator("[role=status]", has_text=words).first.wait_for()

    def slider(self, words: str) -> Any:
        return self.box.locator(".widget-slider", has_text=words).locator(".noUi-handle")

    def data(self, trace: int, key: str) -> Any:
        """Return a part of a trace as the browser holds it, after plotly has unpacked it."""
        return self.plot.evaluate(
            """(plot, [trace, key]) => {
              const plain = x => ArrayBuffer.isView(x) ? Array.from(x)
                : Array.isArray(x) ? x.map(plain) : x;
              return plain(plot._fullData[trace][key]);
            }""",
            [trace, key],
        )

    def until(self, expression: str, argument: Any = None) -> None:
        """Wait for something to be true of `plot`, the figure as the browser holds it."""
        self.page.wait_for_function(
            f"([box, given]) => {{ const plot = box.querySelector('.js-plotly-plot');"
            f" return plot && plot._fullData && ({expression}); }}",
            arg=[self.box.element_handle(), argument],
        )

    def spot(self, axis: int, across: float, down: float) -> tuple[float, float]:
        """Return where on the page a share of a part's rectangle lies; axis counts from 1."""
        return tuple(
            self.plot.evaluate(
                """(plot, [axis, across, down]) => {
                  const end = axis === 1 ? '' : axis, box = plot.getBoundingClientRect();
                  const x = plot._fullLayout['xaxis' + end], y = plot._fullLayout['yaxis' + end];
                  return [box.left + x._offset + across * x._length,
                          box.top + y._offset + down * y._length];
                }""",
                [axis, across, down],
            )
        )

    def tool(self, words: str) -> Any:
        """Return one of the buttons above the figure."""
        return self.box.get_by_role("toolbar").get_by_role("button", name=words, exact=True)

    def drag(self, start: tuple[int, float, float], end: tuple[int, float, float]) -> None:
        """Drag from one place of a part's rectangle to another."""
        self.plot.scroll_into_view_if_needed()
        self.page.mouse.move(*self.spot(*start))
        self.page.mouse.down()
        self.page.mouse.move(*self.spot(*end), steps=6)
        self.page.mouse.up()

    def is_of_another_state(self, grey: bool) -> None:
        """Wait until the figure is grey, or until it is not."""
        state = "attached" if grey else "detached"
        self.box.locator(".fslab-stale").first.wait_for(state=state)

    def fits(self, width: int) -> None:
        """Make the page so wide; see that the figure takes its cell's width and nothing is cut."""
        self.page.set_viewport_size({"width": width, "height": 1500})
        self.until(
            "(room => plot._fullLayout.width === Math.min(Math.max(room, 320), 1400))"
            "(box.querySelector('.fslab-canvas').clientWidth)"
        )
        self.settled()
        assert self.box.evaluate(CUT) == []

    def click(self, axis: int, across: float, down: float) -> None:
        self.plot.scroll_into_view_if_needed()
        place = self.spot(axis, across, down)
        self.page.mouse.move(*place)
        self.page.wait_for_timeout(300)  # plotly clicks what it has hovered
        self.page.mouse.click(*place)


def opened(server: Any, home: Path, notebook: str, scenario: Callable[[Any], Widget]) -> None:
    """Run a notebook and a scenario in it; keep a picture; try once more where it fails."""
    KEPT.mkdir(parents=True, exist_ok=True)
    name = Path(notebook).stem
    for old in KEPT.glob(f"{name}*.png"):
        old.unlink()
    for attempt in range(1, ATTEMPTS + 1):
        with browse(home / f"{name}-{attempt}") as page:
            try:
                run_all(page, server, notebook)
                errors = page.locator('[data-mime-type="application/vnd.jupyter.error"]')
                assert errors.count() == 0, errors.first.inner_text()
                widget = scenario(page)
                widget.box.screenshot(path=KEPT / f"{name}.png")
                for width in (1280, 800):
                    widget.fits(width)
                    widget.box.screenshot(path=KEPT / f"{name}-{width}.png")
                assert page.wrong == []
                return
            except (AssertionError, playwright_error()):
                page.screenshot(path=KEPT / f"{name}-failed-{attempt}.png")
                if attempt == ATTEMPTS:
                    raise


def features(page: Any) -> Widget:
    widget = Widget(page, "Click any pixel in any panel")
    widget.settled()
    before = int(widget.box.locator(".widget-slider .widget-readout").first.inner_text())
    widget.slider("timestep").first.focus()
    page.keyboard.press("ArrowRight")
    widget.says(f"t = {before + 1}")
    first, at = np.array(widget.data(HEAT, "z")), widget.data(2, "x")[0]
    widget.click(1, 0.25, 0.2)
    widget.until("plot._fullData[2].x[0] !== given", at)
    widget.settled()
    row, column = widget.data(2, "y")[0], widget.data(2, "x")[0]
    values = np.array(widget.data(HEAT, "z"))
    assert values.shape == first.shape
    assert not np.allclose(values, first)
    steps = widget.data(HEAT, "dy"), widget.data(HEAT, "dx")
    assert values[int(row // steps[0]), int(column // steps[1])] == pytest.approx(1, abs=1e-4)
    zoom_and_save(page, widget)
    return widget


def zoom_and_save(page: Any, widget: Widget) -> None:
    """Zoom by dragging, which all panels follow and a move keeps; undo it; save; undo a move."""
    third = "Math.abs(plot._fullLayout.xaxis3.range[1] - plot._fullLayout.xaxis3.range[0])"
    across = widget.plot.evaluate(f"plot => {third}")
    widget.tool("zoom").click()
    widget.drag((1, 0.2, 0.2), (1, 0.6, 0.6))
    widget.until(f"{third} < 0.6 * given", across)
    step = widget.slider("timestep").first
    step.focus()
    page.keyboard.press("ArrowRight")
    widget.settled()
    widget.is_of_another_state(False)
    widget.until(f"{third} < 0.6 * given", across)
    widget.tool("whole figure").click()
    widget.until(f"{third} === given", across)
    widget.tool("zoom").click()
    with page.expect_download() as saved:
        widget.tool("save SVG").click()
    assert "<svg" in Path(saved.value.path()).read_text()[:300]
    shown = widget.box.locator("[role=status]").inner_text()
    widget.box.get_by_role("button", name="undo").click()
    widget.until("!box.querySelector('[role=status]').innerText.startsWith(given)", shown[:-9])
    widget.settled()


def correspondence(page: Any) -> Widget:
    widget = Widget(page, "Click any pixel of the picture on the left")
    widget.settled()
    widget.until("plot._fullData[5].x.length === 1")  # where the first of the others has it
    at, drawn = widget.data(2, "x")[0], widget.data(3, "source")
    widget.click(1, 0.25, 0.2)
    widget.until("plot._fullData[2].x[0] !== given", at)
    widget.until("plot._fullData[3].source !== given", drawn)
    widget.settled()
    widget.box.get_by_role("button", name="pin this point").click()
    widget.click(1, 0.7, 0.6)
    widget.until("plot._fullData[5].x.length === 2")
    colours = widget.data(2, "marker")["color"]
    assert len(set(colours)) == 2
    assert widget.data(5, "marker")["color"] == colours
    widget.slider("lines").focus()
    for _ in range(8):
        page.keyboard.press("ArrowRight")
    widget.until("plot._fullLayout.shapes.length === 8")
    widget.settled()
    others = widget.box.locator(".widget-select-multiple select")
    chosen = others.evaluate("list => [...list.selectedOptions].map(option => option.value)")
    others.select_option([])
    widget.says("0 other pictures are chosen")
    widget.is_of_another_state(True)
    others.select_option(chosen)
    widget.is_of_another_state(False)
    in_the_dark(page, widget)
    return widget


def in_the_dark(page: Any, widget: Widget) -> None:
    """Change the theme, move something, and see that letters are light on the dark page."""
    page.get_by_role("menuitem", name="Settings", exact=True).first.click()
    page.locator(".lm-Menu-item", has_text="Theme").first.hover()
    page.locator(".lm-Menu-item", has_text="JupyterLab Dark").first.click()
    page.wait_for_function("document.body.dataset.jpThemeLight === 'false'")
    widget.until(
        "[...plot.querySelectorAll('.annotation-text')].every("
        "text => Math.min(...getComputedStyle(text).fill.match(/\\d+/g).slice(0, 3)) > 150)"
    )


def clusters(page: Any) -> Widget:
    widget = Widget(page, "Point at a cluster in any panel")
    widget.settled()
    widget.until("plot._fullData[4].x.length > 0")
    count = len(widget.data(4, "x"))
    widget.slider("k").first.focus()
    page.keyboard.press("ArrowRight")
    widget.until("plot._fullData[4].x.length === given", count + 1)
    widget.settled()
    widget.plot.scroll_into_view_if_needed()
    page.mouse.move(*widget.spot(1, 0.5, 0.5))
    page.mouse.move(*widget.spot(1, 0.52, 0.52))
    lit = "[...box.querySelectorAll('select')].pop().selectedIndex"
    widget.until(f"{lit} > 0")
    page.mouse.move(*widget.spot(1, 0.5, -0.08))
    widget.until(f"{lit} === 0")
    source = widget.data(1, "source")
    left, bottom = widget.spot(2, 0.02, 0.98)
    right, top = widget.spot(2, 0.55, 0.02)
    page.mouse.move(left, bottom)
    page.mouse.down()
    for place in ((left, top), (right, top), (right, bottom), (left, bottom)):
        page.mouse.move(*place, steps=6)
    page.mouse.up()
    widget.until("plot._fullData[1].source !== given", source)
    widget.until("plot._fullData[3].selectedpoints && plot._fullData[3].selectedpoints.length")
    return widget


def matching(page: Any) -> Widget:
    widget = Widget(page, "Type a word beside the candidates")
    widget.settled()
    widget.box.get_by_placeholder("a word, then Enter").first.fill("zebra")
    page.keyboard.press("Enter")
    widget.until("plot.layout.xaxis4.ticktext.includes('zebra')")
    widget.settled()
    chosen = widget.box.locator(".widget-dropdown", has_text="segment").locator("select").last
    before = chosen.input_value()
    for across, down in ((0.1, 0.9), (0.9, 0.1), (0.5, 0.5), (0.9, 0.9)):
        widget.click(1, across, down)
        page.wait_for_timeout(700)
        if chosen.input_value() != before:
            break
    assert chosen.input_value() != before
    return widget


def results(page: Any) -> Widget:
    widget = Widget(page, "Pick a picture to see its stages")
    widget.settled()
    pictures = widget.box.locator(".widget-select select").last
    worst = pictures.locator("option").first.inner_text().split()[-1]
    widget.until("plot.layout.annotations[0].text.startsWith(given)", worst)
    widget.box.get_by_role("button", name="next").focus()
    page.keyboard.press("Space")
    second = pictures.locator("option").nth(1).inner_text().split()[-1]
    widget.until("plot.layout.annotations[0].text.startsWith(given)", second)
    return widget


@pytest.mark.parametrize(
    ("notebook", "scenario"),
    [
        ("01_unet_blocks", features),
        ("04_clustering", clusters),
        ("06_clip_matching", matching),
        ("11_voc_evaluation", results),
    ],
    ids=lambda given: given if isinstance(given, str) else "",
)
def test_explorers_in_their_notebooks(server, tmp_path, notebook, scenario):
    opened(server, tmp_path, f"notebooks/{notebook}.ipynb", scenario)


def test_a_point_is_found_in_other_pictures(server, tmp_path):
    opened(server, tmp_path, "notebooks/correspondence.ipynb", correspondence)


def test_a_picture_is_uploaded_and_its_masks_downloaded(server, tmp_path):
    import fslab
    from fslab.datasets import read_mask

    path = ROOT / "data" / "minivoc" / "JPEGImages" / "val_0003.png"

    def yours(page: Any) -> Widget:
        widget = Widget(page, "Upload a picture, or give the path")
        with page.expect_file_chooser() as chooser:
            widget.box.get_by_role("button", name="upload a picture").click()
        chooser.value.set_files(str(path))
        widget.says("val_0003: fslab")
        link = widget.box.get_by_role("link", name="masks (index PNG)")
        with page.expect_download() as saved:
            link.click()
        assert saved.value.suggested_filename == "val_0003.png"
        saved.value.save_as(tmp_path / "mask.png")
        return widget

    opened(server, tmp_path, "notebooks/yours.ipynb", yours)
    expected = fslab.Lab("mini").segment(fslab.read(path), "fslab").labels.labels
    assert (read_mask(tmp_path / "mask.png") == expected).all()


def test_names_with_html_in_them_are_shown_as_text(server, tmp_path):
    def names(page: Any) -> Widget:
        widget = Widget(page, "Type a word beside the candidates")
        widget.settled()
        widget.until("plot.layout.xaxis4.ticktext.length > 1")
        assert page.evaluate("window.ran") is None
        assert page.locator("img[src=x]").count() == 0
        assert notebooks.NAME in widget.box.inner_text()
        drawn = widget.plot.locator("text").all_text_contents()
        assert any(notebooks.NAME in text for text in drawn)
        assert any(notebooks.CLASS in text for text in drawn)
        return widget

    opened(server, tmp_path, "notebooks/names.ipynb", names)
