"""The book: all there is has its page, every public name its entry; the check of links can fail."""

import importlib
import inspect
import json
import re
import runpy
import shutil
import sys
from pathlib import Path

import plotly
import pytest
import yaml
from browser.jupyter import FLAGS, chromium

import fslab
from fslab.cli.main import app

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def book():
    sys.path.insert(0, str(ROOT / "book"))
    try:
        return {
            name: runpy.run_path(str(ROOT / f"book/{name}.py"))
            for name in ("names", "formulas", "pages", "check")
        }
    finally:
        sys.path.remove(str(ROOT / "book"))


def in_contents(entry):
    if isinstance(entry, str):
        return [entry]
    parts = entry.values() if isinstance(entry, dict) else entry
    return [page for part in parts for page in in_contents(part)]


def rooms(book):
    return book["pages"]["reference_pages"]()


def test_the_contents_have_every_page_once(book):
    page_of = book["pages"]["page_of"]
    sources = [*ROOT.glob("docs/**/*.md"), *ROOT.glob("notebooks/**/[0-9]*.ipynb")]
    wanted = [page_of(path.relative_to(ROOT).as_posix()) for path in sources]
    wanted += [*book["pages"]["ELSEWHERE"].values(), "api/index.md"]
    wanted += {f"api/{page}.md" for page in rooms(book).values()}
    listed = in_contents(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"])
    assert sorted(listed) == sorted(wanted)


def test_every_room_is_in_the_reference(book):
    found = {path.name.removesuffix(".py") for path in (ROOT / "fslab").iterdir()}
    assert {*rooms(book)} == found - {"__init__", "__main__", "__pycache__", "py.typed"}
    assert rooms(book)["cluster"] == "cluster"
    assert rooms(book)["files"] == "others"


def test_the_names_read_from_the_files_are_those_of_python(book):
    homes, public_names = book["names"]["homes"](), book["names"]["public_names"]
    assert {*homes} == {*fslab.__all__}
    for room in rooms(book):
        module = importlib.import_module(f"fslab.{room}")
        names = public_names(room)
        assert {*getattr(module, "__all__", ())} <= {*names}
        for name in names:
            home, _, last = f"fslab.{room}.{name}".rpartition(".")
            assert hasattr(importlib.import_module(home), last)


def test_every_public_function_and_class_says_what_it_is(book):
    for room in rooms(book):
        module = importlib.import_module(f"fslab.{room}")
        for name in getattr(module, "__all__", ()):
            value = getattr(module, name)
            described = not (inspect.isfunction(value) or inspect.isclass(value)) or value.__doc__
            assert described, f"fslab.{room}.{name}"


def test_a_link_for_the_repository_becomes_one_for_the_book(book):
    relinked = book["pages"]["relinked"]
    text = "[a](../../notebooks/00_quickstart.ipynb) [b](../protocols.md#ties) [c](https://x.org)"
    made = relinked(text, "docs/howto/paper.md", "howto/paper.md")
    assert made == "[a](../notebooks/00_quickstart.md) [b](../protocols.md#ties) [c](https://x.org)"
    assert relinked("[e](../fslab/match/vote.py#x)", "docs/a.md", "a.md") == "[e](api/match.md#x)"
    assert relinked("[d](../docs/protocols.md)", "data/README.md", "data.md") == "[d](protocols.md)"


def test_links_lead_to_files_of_the_repository_too():
    pages = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("data/*.md")]
    for page in [*pages, ROOT / "fslab/mini/README.md"]:
        for link in re.findall(r"\]\(([^)\s#:]+)[)#]", page.read_text(encoding="utf-8")):
            assert (page.parent / link).exists(), f"{page.relative_to(ROOT)}: {link}"


def test_every_command_is_on_its_page():
    page = (ROOT / "docs/commands.md").read_text()
    told = set(re.findall(r"^\| `fslab (\w+)", page, re.M))
    assert told == {
        command.name or command.callback.__name__ for command in app.registered_commands
    }


def test_a_chapter_has_every_cell_and_figure_of_its_notebook(book):
    prose = book["pages"]["prose"]
    for path in ROOT.glob("notebooks/**/[0-9]*.ipynb"):
        pictures = {}
        text = book["pages"]["chapter"](path, pictures)
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            source = "".join(cell["source"])
            assert (prose(source) if cell["cell_type"] == "markdown" else source).rstrip() in text
        kept = path.read_text(encoding="utf-8")
        figures, drawings = (
            kept.count(f'"{kind}"') for kind in (book["pages"]["FIGURE"], "image/svg+xml")
        )
        assert text.count('<div class="figure">') == figures
        assert len(pictures) == figures + drawings
        assert figures or path.parent.name == "solutions"
        starts = {name: content[:4] for name, content in pictures.items()}
        assert all(
            start == {"png": b"\x89PNG", "svg": b"<svg"}[name[-3:]]
            for name, start in starts.items()
        )


def test_every_figure_of_a_chapter_has_its_words(book):
    for path in ROOT.glob("notebooks/[0-9]*.ipynb"):
        text = book["pages"]["chapter"](path, {})
        words = re.findall(r'<img [^>]*alt="([^"]*)"', text)
        assert len(words) == text.count("<img ") > 0
        assert all(len(each) > 12 for each in words)


def test_links_to_headings_are_those_of_the_book(book):
    prose = book["pages"]["prose"]
    assert prose("[a](#1.-By-hand%28s%29)") == "[a](#1-by-hands)"
    assert prose("[a](b.ipynb#How-sure-is-it?)") == "[a](b.ipynb#how-sure-is-it)"
    assert prose("[a](https://x.org/b#C.d)") == "[a](https://x.org/b#C.d)"


def test_formulas_are_drawn_and_code_keeps_its_dollars(book):
    drawn = book["formulas"]["with_formulas"]
    assert drawn("a `$x$` and ```\n$y$\n``` stay") == "a `$x$` and ```\n$y$\n``` stay"
    assert (
        drawn("$x_i^2$")
        == "<math><mrow><msubsup><mi>x</mi><mi>i</mi><mn>2</mn></msubsup></mrow></math>"
    )
    block = drawn(r"$$\frac{a}{b} \text{of two} \sum_{k} \lVert c \rVert$$")
    assert block.startswith('<math display="block"><mrow><mfrac><mrow><mi>a</mi></mrow>')
    assert "of\u00a0two" in block
    assert "<munder><mo>∑</mo>" in block
    assert drawn("a price of 5 $ and 6 $ stays") == "a price of 5 $ and 6 $ stays"


@pytest.mark.parametrize(
    ("tex", "said"),
    [(r"\nosuch x", "nosuch is not known"), (r"\frac{a}{b", "ends without"), ("x_", "too early")],
)
def test_a_formula_that_is_wrong_is_said(book, tex, said):
    with pytest.raises(ValueError, match=said):
        book["formulas"]["mathml"](tex)


def test_every_formula_of_the_notebooks_is_known(book):
    for path in ROOT.glob("notebooks/[0-9]*.ipynb"):
        text = book["pages"]["chapter"](path, {})
        assert "<math" in text, path.name
        assert not re.search(
            r"\\\\(frac|sqrt|sum|mathrm)", re.sub(r"(?s)```.*?```|<script.*?</script>", "", text)
        )


def test_the_check_follows_links_and_refuses_what_is_loaded_from_elsewhere(book, tmp_path):
    (tmp_path / "api").mkdir()
    for room, page in rooms(book).items():
        names = book["names"]["public_names"](room)
        places = "".join(f'<p id="fslab.{room}.{name}">' for name in names if name != "pamr")
        with (tmp_path / "api" / f"{page}.html").open("a") as written:
            written.write(places)
    for number in range(40):
        (tmp_path / f"{number}.html").write_text('<a href="0.html#here">')
    (tmp_path / "0.html").write_text(
        '<p id="here"><a href="1.html"><a href="lost.html"><a href="#gone">'
        '<script src="https://cdn.org/x.js"></script><a href="https://x.org">'
    )
    found = list(book["check"]["faults"](tmp_path))
    assert [fault.partition(": ")[2] or fault.partition(" ")[2] for fault in found] == [
        "lost.html leads nowhere",
        "#gone: there is no such place on that page",
        "loads https://cdn.org/x.js",
        "has no entry of fslab.refine.pamr",
    ]


def figure_page(book, folder, scheme):
    """A page of one figure, 700 px wide, as the book has it."""
    assets = folder / "assets"
    assets.mkdir()
    shutil.copy(ROOT / "book/figures.js", assets)
    shutil.copy(Path(plotly.__file__).parent / "package_data/plotly.min.js", assets)
    layout = {
        "width": 700, "height": 300, "paper_bgcolor": "white", "font": {"color": "#222"},
        "title": {"text": "a < b"},
    }  # fmt: skip
    figure = {"data": [{"y": [1, 3, 2]}], "layout": layout}
    holder = book["pages"]["live_figure"](figure, "x.png")
    page = folder / "page.html"
    page.write_text(
        f'<!doctype html><body data-md-color-scheme="{scheme}" style="margin:0">{holder}'
        '<script src="assets/figures.js"></script>'
    )
    return page


@pytest.mark.skipif(chromium() is None, reason="there is no Chromium on the path")
def test_a_figure_comes_alive_offline_in_the_page_s_colours_and_width(book, tmp_path):
    sync = pytest.importorskip("playwright.sync_api")
    asked, wrong = [], []
    page = figure_page(book, tmp_path, "slate")
    with sync.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium(), args=list(FLAGS))
        tab = browser.new_context(offline=True, viewport={"width": 350, "height": 600}).new_page()
        tab.on("request", lambda request: asked.append(request.url))
        tab.on("pageerror", lambda error: wrong.append(str(error)))
        tab.goto(page.as_uri(), timeout=90_000)
        tab.locator(".figure.alive .main-svg").first.wait_for(timeout=90_000)
        live = tab.locator(".live")
        assert live.bounding_box()["width"] == pytest.approx(350)
        assert tab.locator(".figure").bounding_box()["height"] == pytest.approx(150)
        title = tab.locator(".gtitle")
        assert title.text_content() == "a < b"
        dark = title.evaluate("text => getComputedStyle(text).fill")
        tab.evaluate("document.body.dataset.mdColorScheme = 'default'")
        tab.wait_for_function(
            f"getComputedStyle(document.querySelector('.gtitle')).fill != '{dark}'", timeout=90_000
        )
        assert (dark, title.evaluate("text => getComputedStyle(text).fill")) == (
            "rgb(216, 219, 230)", "rgb(34, 34, 34)",
        )  # fmt: skip
        browser.close()
    assert wrong == []
    assert {url.split(":")[0] for url in asked} <= {"file", "data", "blob"}
