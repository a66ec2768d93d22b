"""The report's page: complete, escaped, and nothing loaded from outside."""

import re
from dataclasses import replace

import pytest
from browser.jupyter import chromium
from conftest import write_dataset

from fslab import datasets
from fslab.evaluate import evaluate, report_page, write_page
from fslab.lab import Lab
from fslab.records import Clustering, FslabError, Recipe, Vocabulary
from fslab.score import METRICS

PLAIN = Recipe("<i>plain</i>", cluster=Clustering.of(k=3, normalise="l2", restarts=1))
EVIL = "</script><script>alert(1)</script>"


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    root = write_dataset(tmp_path_factory.mktemp("set"), 4)
    for kind in ("JPEGImages", "SegmentationClass"):
        (root / kind / "noise_1.png").rename(root / kind / "<img src=x onerror=alert(2)>.png")
    names = "noise_0\n<img src=x onerror=alert(2)>\nnoise_2\nnoise_3\n"
    (root / "ImageSets" / "Segmentation" / "val.txt").write_text(names)
    data = datasets.voc(root)
    words = (data.vocabulary.names[0], EVIL, *data.vocabulary.names[2:])
    return replace(data, vocabulary=Vocabulary(words))


@pytest.fixture(scope="module")
def written(dataset, tmp_path_factory, tiny):
    lab, out = Lab(tiny, "rgb"), tmp_path_factory.mktemp("page")
    recipe = PLAIN.change({"caption.words": "all"})
    report = evaluate(lab, dataset, recipe, progress=False)
    report = replace(report, refused={"<b>bad</b>.png": "no <u>picture</u>"})
    return report, write_page(report, lab, dataset, out, 1)


def test_the_page_has_every_part(written):
    report, path = written
    page = path.read_text()
    for metric in set(METRICS) - {"coco-object"}:
        assert f"<td>{metric}</td>" in page
        assert f"<td>{report.scores[metric].note.replace(chr(39), '&#x27;')}</td>" in page
    assert page.count("Plotly.newPlot(") - page.split("<main>")[0].count("Plotly.newPlot(") == 3
    body = page.split("<main>")[1]
    assert body.count("<article") == 2
    assert body.count("<img") == 2 * 5
    assert "<td>cluster</td><td>k</td><td>3</td>" in body
    assert "<td>torch</td>" in body
    assert "<td>extract</td><td class=" in body
    assert "1 of 5 pictures were left out" in body


def test_texts_are_escaped(written):
    body = written[1].read_text().split("<main>")[1]
    assert "<script>alert(1)" not in body
    assert "<img src=x" not in body
    assert "<b>bad" not in body
    assert "<i>plain" not in body
    assert "no &lt;u&gt;picture&lt;/u&gt;" in body


def test_the_page_holds_plotly_once_and_names_nothing_outside(written):
    page = written[1].read_text()
    head, body = page.split("<main>")
    assert head.count("<script") == 1
    assert "default-src 'none'" in head
    sources = re.findall(r"""<[a-z]+[^>]*\s(?:src|href)=["']?([^"'\s>]*)""", body)
    assert sources
    assert all(source.startswith("data:image/") for source in sources)


def test_a_class_agnostic_run_has_a_page_too(dataset, tmp_path, tiny):
    lab = Lab(tiny, "rgb")
    report = evaluate(lab, dataset, PLAIN, "mbo", limit=2, progress=False)
    dataset.samples[0].path.touch()
    body = report_page(report, lab, dataset, 3).split("<main>")[1]
    assert body.count("<article") == 2
    assert body.count("<img") == 2 * 3
    assert "segments named by their majority class" in body
    (tmp_path / "file").write_text("")
    with pytest.raises(FslabError, match="cannot be written"):
        write_page(report, lab, dataset, tmp_path / "file", 0)


@pytest.mark.skipif(chromium() is None, reason="there is no Chromium on the path")
def test_the_page_opens_offline_in_a_browser(written):
    sync = pytest.importorskip("playwright.sync_api")
    asked, wrong = [], []
    with sync.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        context = browser.new_context(offline=True)
        tab = context.new_page()
        tab.on("request", lambda request: asked.append(request.url))
        tab.on("dialog", lambda dialog: (wrong.append(dialog.message), dialog.dismiss()))
        tab.on("pageerror", lambda error: wrong.append(str(error)))
        tab.on("console", lambda line: line.type == "error" and wrong.append(line.text))
        tab.goto(written[1].as_uri(), timeout=90_000)
        tab.wait_for_selector("#confusion .main-svg", timeout=90_000)
        assert tab.locator(".js-plotly-plot").count() == 3
        assert EVIL in tab.locator("#classes").text_content()
        pictures = tab.locator("figure img")
        assert pictures.count() == 10
        assert tab.evaluate("[...document.images].every(x => x.loading || x.complete)")
        browser.close()
    assert wrong == []
    assert {url.split(":")[0] for url in asked} <= {"file", "data", "blob"}
