"""Every explorer without a browser: knobs are moved, and figures hold what fslab computes."""

from __future__ import annotations

import base64
import inspect
import json
import re
import threading
from datetime import datetime
from io import BytesIO

import numpy as np
import pytest
from conftest import noise_picture
from ipywidgets import Widget
from PIL import Image
from plotly.callbacks import InputDeviceState, Points

import fslab
from fslab.backbones import pick_layers
from fslab.cluster import join, project
from fslab.datasets import VOC, read_mask, voc
from fslab.evaluate import evaluate
from fslab.lab.facts import facts
from fslab.match import views
from fslab.mini import scenes
from fslab.plots import overlay, pca_colours
from fslab.plots.maps import cosine_to
from fslab.records import CellClustering, FslabError, clustering, refinement
from fslab.score import score_image, summarise
from fslab.widgets import (
    browse_results,
    explore_clusters,
    explore_features,
    explore_matching,
    explore_refinement,
    segment_yours,
)
from fslab.widgets.controls import Knob
from fslab.widgets.panel import fitted
from fslab.widgets.worker import Worker

ROOT = fslab.__path__[0] + "/.."
QUERIES = "up_blocks.1.attentions.0.transformer_blocks.0.attn2.to_q"


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    return fslab.Lab("mini", store=tmp_path_factory.mktemp("widgets"))


@pytest.fixture(scope="module")
def data():
    return voc(f"{ROOT}/data/minivoc", "val").limit(4)


def waited(explorer):
    explorer.wait()
    assert not explorer.busy
    return explorer


def pixels_of(trace):
    """What an image trace shows, u8 [h, w, 3 or 4]."""
    return np.asarray(Image.open(BytesIO(base64.b64decode(trace.source.split(",", 1)[1]))))


def press(trace, row, column, event="_dispatch_on_click"):
    """Send what the browser sends for a click on a pixel."""
    points = Points([[row, column]], [column], [row], trace.name, 0)
    getattr(trace, event)(points, InputDeviceState())


def uploaded(name, content):
    return ({"name": name, "type": "image/png", "size": len(content), "content": content,
             "last_modified": datetime(2026, 1, 1)},)  # fmt: skip


def png(picture):
    encoded = BytesIO()
    Image.fromarray(picture.pixels).save(encoded, "PNG")
    return encoded.getvalue()


# --- features


def check_features(explorer, lab, picture):
    """The whole figure against what fslab computes for the explorer's state."""
    layer, panels = explorer.layer, explorer._panels
    value = lab.extract(picture, [layer], explorer.timestep)[layer]
    assert (pixels_of(panels[1].traces[0]) == pca_colours(value)).all()
    points = (*explorer.pins, explorer.point)
    each = np.stack([cosine_to(value, point, picture.size) for point in points])
    expected = each.mean(0) if explorer.joined == "mean" else each.max(0)
    assert np.allclose(panels[2].traces[3].z, expected, atol=1e-6)
    for panel in panels[:3]:
        assert list(zip(panel.traces[2].y, panel.traces[2].x, strict=True)) == list(points)
    assert f"t = {explorer.timestep}" in panels[1].layout.annotations[1].text


def test_features_follow_every_knob(lab, data):
    explorer = waited(explore_features(lab, data, timestep=50))
    picture = data.samples[0].picture()
    assert explorer.timestep == 50
    check_features(explorer, lab, picture)
    moves = {"timestep": 51, "layer": QUERIES, "point": (10, 20), "pins": ((5, 5), (90, 80))}
    for name, value in {**moves, "joined": "highest"}.items():
        setattr(explorer, name, value)
        waited(explorer)
        assert explorer.message == ""
        check_features(explorer, lab, picture)


def test_features_compare_two_timesteps(lab, data):
    explorer = waited(explore_features(lab, data, timestep=50, layer=QUERIES))
    assert not any(trace.visible for panel in explorer._panels[3:] for trace in panel.traces)
    waited(explorer.change(compare=True, other_layer=QUERIES, other_timestep=300))
    value = lab.extract(data.samples[0].picture(), [QUERIES], 300)[QUERIES]
    cosines = cosine_to(value, explorer.point, data.samples[0].picture().size)
    assert np.allclose(explorer._panels[5].traces[3].z, cosines, atol=1e-6)
    assert all(trace.visible for panel in explorer._panels for trace in panel.traces)
    tops = [panel.axes[1].domain for panel in (explorer._panels[0], explorer._panels[3])]
    assert tops[0][0] > tops[1][1]  # the second row lies below the first


def test_a_click_in_any_panel_moves_the_point(lab, data):
    explorer = waited(explore_features(lab, data))
    for panel, (row, column) in zip(explorer._panels[:3], ((3, 7), (44, 80), (91, 0)), strict=True):
        press(panel.traces[0], row, column)
        waited(explorer)
        assert explorer.point == (row, column)
        values = np.asarray(explorer._panels[2].traces[3].z)
        cell = tuple(at * n // 96 for at, n in zip((row, column), values.shape, strict=True))
        assert values[cell] == pytest.approx(1, abs=1e-5)


def test_layers_are_listed_and_narrowed(lab, data):
    explorer = waited(explore_features(lab, data))
    listed = dict(explorer._layers.list.options)
    assert set(listed.values()) == {layer.path for layer in lab.layers()}
    (words,) = (words for words, path in listed.items() if path == QUERIES)
    for part in (QUERIES, "96 ch", "stride 8", "12 x 12 cells"):
        assert part in words
    chosen = explorer.layer
    explorer._layers.filter.value = "up_blocks.1.attentions.0"
    kept = [path for _, path in explorer._layers.list.options]
    assert explorer.layer == chosen
    assert {path for path in kept if path != chosen} == {
        path for path in listed.values() if "up_blocks.1.attentions.0" in path
    }


def test_a_timestep_is_set_by_its_slider_and_by_its_number(lab, data):
    explorer = waited(explore_features(lab, data, timestep=50))
    (number,) = (
        each.children[1]
        for line in explorer.children
        for each in getattr(line, "children", ())
        if getattr(each, "children", ())[:1] == (explorer._timestep,)
    )
    assert number.value == 50
    number.value = 70
    assert waited(explorer)._shown.shown[0].timestep == explorer.timestep == 70


def test_controls_are_called_as_what_they_set(lab, data):
    opened = [
        explore_features(lab, data), explore_clusters(lab, data), explore_matching(lab, data),
        explore_refinement(lab, data), segment_yours(lab),
    ]  # fmt: skip
    for explorer in opened:
        for name, control in vars(explorer).items():
            knob = inspect.getattr_static(type(explorer), name.removeprefix("_"), None)
            if isinstance(knob, Knob) and isinstance(control, Widget):
                assert control.description.partition(":")[0] == name.removeprefix("_")
        explorer.close()


def test_layers_are_narrowed_by_the_patterns_that_extract_takes(lab, data):
    picker = explore_features(lab, data)._layers
    for pattern in ("up_blocks.?", "*attn2.to_q#[01]", "last:down_blocks.*.attn1"):
        picker.filter.value = pattern
        kept = {path for _, path in picker.list.options}
        asked = {layer.path for layer in pick_layers([pattern], lab.layers())}
        assert kept - {picker.list.value} == asked - {picker.list.value}
    picker.filter.value = "*nothing"
    assert [path for _, path in picker.list.options] == [picker.list.value]


def test_points_keep_their_place_in_a_picture_of_another_size(lab):
    explorer = explore_features(lab, [noise_picture(96, 96), noise_picture(64, 128)])
    waited(explorer.change(point=(90, 20), pins=((0, 95),)))
    explorer.picture = "noise-64x128"
    waited(explorer)
    assert (explorer.point, explorer.pins) == ((60, 27), ((0, 127),))
    assert any("12 x 24 cells" in words for words, _ in explorer._layers.list.options)
    explorer.picture = "noise-96x96"
    assert (explorer.point, explorer.pins) == ((90, 20), ((0, 95),))
    waited(explorer.change(point=(63, 120), picture="noise-64x128"))
    assert (explorer.message, explorer.point) == ("", (63, 120))
    assert list(explorer._panels[0].axes[0].range) == [-0.5, 127.5]
    with pytest.raises(FslabError, match="row is 64; it must lie between 0 and 63"):
        explorer.point = (64, 0)


def test_state_refuses_what_a_knob_cannot_take(lab, data):
    explorer = waited(explore_features(lab, data))
    for name, value, words in (
        ("timestep", 1000, "timestep is 1000; it must lie between 0 and 999"),
        ("layer", "nope", "layer is 'nope'; it must be one of"),
        ("picture", "nobody", "picture is 'nobody'"),
    ):
        before = getattr(explorer, name)
        with pytest.raises(FslabError, match=words):
            setattr(explorer, name, value)
        assert getattr(explorer, name) == before
    with pytest.raises(FslabError, match="FeatureExplorer has no state 'step'"):
        explorer.change(step=3)
    with pytest.raises(FslabError, match="there are no pictures"):
        explore_features(lab, [])


def test_a_backbone_without_time_has_no_timesteps(lab, data):
    explorer = waited(explore_features(fslab.Lab("mini", "rgb", store=lab.store), data))
    assert explorer._timestep.disabled
    assert explorer.message == ""
    assert "timestep" not in explorer.code


# --- pictures of one's own


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("notes.png", b"no picture at all", "'notes.png' is not a picture of a known kind"),
        ("empty.jpg", b"", "'empty.jpg' is empty"),
        ("../../cut.png", png(noise_picture(64, 64))[:200], "'cut.png' is damaged or cut short"),
    ],
)
def test_a_bad_upload_is_said_and_changes_nothing(lab, data, name, content, words):
    explorer = waited(explore_features(lab, data))
    before = explorer.picture, explorer._pictures.list.options
    explorer._pictures.upload.value = uploaded(name, content)
    assert words in explorer.message
    assert "\n" not in explorer.message
    assert (explorer.picture, explorer._pictures.list.options) == before
    explorer.timestep = 70
    assert waited(explorer).message == ""


def test_an_upload_is_looked_at(lab, data):
    explorer, own = waited(explore_features(lab, data)), noise_picture(64, 96)
    explorer._pictures.upload.value = uploaded("mine.png", png(own))
    waited(explorer)
    assert explorer.picture == "mine"
    check_features(explorer, lab, own)


# --- the worker


def test_overtaken_work_never_runs_or_shows():
    worker, gate, begun, ran, shown = Worker(), threading.Event(), threading.Event(), [], []

    def job(name, wait=False):
        def run(newest):
            ran.append(name)
            if wait:
                begun.set()
                gate.wait(30)
            if newest():
                shown.append(name)

        return run

    worker.submit(job("first", wait=True))
    assert begun.wait(30)
    for name in ("second", "third", "last"):
        worker.submit(job(name))
    gate.set()
    worker.wait(30)
    assert ran == ["first", "last"]
    assert shown == ["last"]


def test_a_slow_view_that_is_overtaken_is_not_drawn(lab, data, monkeypatch):
    explorer = waited(explore_features(lab, data))
    gate, begun, compute, drawn = threading.Event(), threading.Event(), explorer._compute, []

    def slow(view):
        if view.layers[0][1] == 100:
            begun.set()
            gate.wait(30)
        return compute(view)

    monkeypatch.setattr(explorer, "_compute", slow)
    draw = explorer._draw
    monkeypatch.setattr(
        explorer, "_draw", lambda result: (drawn.append(result.shown[0].timestep), draw(result))
    )
    explorer.timestep = 100
    assert begun.wait(30)
    assert explorer.busy
    assert "computing" in explorer._status.value
    for timestep in (200, 300, 400):
        explorer.timestep = timestep
    gate.set()
    waited(explorer)
    assert drawn == [400]
    assert explorer.recipe.extract.timesteps == (400,)


def test_a_fault_is_shown_and_raised_by_wait_and_the_widget_goes_on(lab, data, monkeypatch):
    explorer = waited(explore_features(lab, data))
    with monkeypatch.context() as broken:
        broken.setattr(explorer, "_compute", lambda view: 1 / 0)
        explorer.timestep = 9
        with pytest.raises(ZeroDivisionError):
            explorer.wait()
    assert "ZeroDivisionError" in explorer.message
    assert "still shows" in explorer._status.value
    explorer.timestep = 10
    assert waited(explorer).message == ""


def test_nothing_is_on_screen_before_the_first_view(lab, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"x")
    explorer = waited(explore_features(lab, [noise_picture(64, 64), tmp_path / "bad.png"]))
    explorer.picture = "bad"
    assert "is not a picture" in waited(explorer).message
    assert explorer.recipe.extract.layers  # the first picture's, which is still shown
    assert "nothing yet" in repr(segment_yours(lab))
    with pytest.raises(FslabError, match="nothing is on screen yet"):
        _ = segment_yours(lab).recipe


# --- clusters


def check_clusters(explorer, lab, sample):
    picture, recipe = sample.picture(), explorer.recipe
    expected = lab.segments(picture, recipe)
    assert (explorer.segments.labels == expected.labels).all()
    shares = np.bincount(expected.labels.ravel()) / expected.labels.size
    assert np.allclose(explorer._bars.traces[0].y, shares)
    extract = recipe.extract
    features = lab.extract(picture, extract.layers, extract.timesteps, resolution=96)
    points = CellClustering(normalise=explorer.normalise, position=explorer.position)
    cells = join(features, points)
    points = np.stack([explorer._plane.traces[0].x, explorer._plane.traces[0].y], 1)
    assert np.allclose(points, project(cells.reshape(len(cells), -1).T, "PCA"), atol=1e-5)
    score = score_image(sample.truth(), VOC.names, segments=expected)
    assert f"{100 * summarise('oracle', [score]).miou:.1f} %" in explorer._about.value


@pytest.mark.parametrize("method", [*clustering])
def test_clusters_by_every_method(lab, data, method):
    explorer = waited(explore_clusters(lab, data))
    if method == "merge":
        explorer.layers = ["up_blocks.1.attentions.0.transformer_blocks.0.attn1.probs"]
    explorer.method = method
    assert waited(explorer).message == ""
    assert explorer.recipe.cluster.method == method
    check_clusters(explorer, lab, data.samples[0])


def test_clusters_follow_every_knob(lab, data):
    explorer = waited(explore_clusters(lab, data, k=4))
    for name, value in {
        "k": 7, "k_is": "silhouette", "normalise": "none", "upsample": "nearest", "position": 0.5,
        "timestep": 90, "layers": (QUERIES,), "picture": data.samples[1].name,
    }.items():  # fmt: skip
        setattr(explorer, name, value)
        assert waited(explorer).message == ""
        assert getattr(explorer, name) == value
    check_clusters(explorer, lab, data.samples[1])
    for name, value in (("method", "ncut"), ("tau", 0.9), ("alpha", 4.0)):
        setattr(explorer, name, value)
    waited(explorer)
    assert (explorer.recipe.cluster.tau, explorer.recipe.cluster.alpha) == (0.9, 4.0)
    assert explorer._k.layout.display is None
    assert explorer._by_method["k"].layout.display == "none"


def strength(explorer):
    """How strongly each pixel of the clusters' layer is drawn, [H, W]."""
    return pixels_of(explorer._panel.traces[1])[..., 3]


def test_pointing_at_a_cluster_lights_it_up_everywhere(lab, data):
    explorer = waited(explore_clusters(lab, data))
    labels, cells = explorer.segments.labels, explorer._shown.cells.ravel()
    row, column = np.argwhere(labels == 2)[0]
    press(explorer._panel.traces[1], int(row), int(column), "_dispatch_on_hover")
    assert explorer.highlight == 2
    assert (strength(explorer)[labels == 2] > 200).all()
    assert (strength(explorer)[labels != 2] < 60).all()
    assert list(explorer._plane.traces[0].selectedpoints) == np.flatnonzero(cells == 2).tolist()
    faint = [",0.12)" in colour for colour in explorer._bars.traces[0].marker.color]
    assert faint == [number != 2 for number in range(6)]
    press(explorer._panel.traces[1], int(row), int(column), "_dispatch_on_unhover")
    assert explorer.highlight is None
    assert len(np.unique(strength(explorer))) == 1
    press(explorer._bars.traces[0], 0, 0, "_dispatch_on_unhover")
    bars = explorer._bars.traces[0]
    bars._dispatch_on_hover(Points([1], [1], [0.2], None, 0), InputDeviceState())
    assert explorer.highlight == 1


def test_selected_points_are_seen_in_the_picture(lab, data):
    explorer = waited(explore_clusters(lab, data))
    plane = explorer._plane.traces[0]
    plane._dispatch_on_selection(Points([0, 13], [0, 0], [0, 0], None, 0), None)
    assert explorer.selected == (0, 13)
    chosen = np.zeros((12, 12), bool)
    chosen.ravel()[[0, 13]] = True
    assert ((strength(explorer) > 200) == chosen.repeat(8, 0).repeat(8, 1)).all()
    plane._dispatch_on_deselect(Points([], [], [], None, 0))
    assert explorer.selected == ()
    with pytest.raises(FslabError, match="there are 0 to 143"):
        explorer.selected = [144]


def test_an_unknown_layer_is_said_and_the_figure_says_what_it_shows(lab, data):
    explorer = waited(explore_clusters(lab, data))
    explorer.layers = ["up_blocks.7"]
    waited(explorer)
    assert "no layer is called 'up_blocks.7'" in explorer.message
    assert "still shows mini-VOC val val_0000: 6 clusters by kmeans" in explorer._status.value
    explorer.layers = [QUERIES]
    assert waited(explorer).message == ""


def test_umap_is_offered(monkeypatch):
    cells = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32)
    plane = project(cells, "PCA")
    assert plane.shape == (40, 2)
    left = np.linalg.svd(cells - cells.mean(0), compute_uv=False)[:2]
    assert np.allclose(np.sqrt((plane**2).sum(0)), left, rtol=1e-4)
    asked = {}

    class Stand:
        def __init__(self, **settings):
            asked.update(settings)

        def fit_transform(self, given):
            return given[:, :2]

    monkeypatch.setitem(__import__("sys").modules, "umap", type("m", (), {"UMAP": Stand}))
    assert (project(cells, "UMAP") == cells[:, :2]).all()
    assert asked["random_state"] == 0


# --- matching


def check_matching(explorer, lab, picture):
    shown, recipe = explorer._on_screen(), explorer.recipe
    vocabulary = VOC.extended(explorer.candidates)
    found = lab.segment(picture, recipe, vocabulary, explorer.candidates)
    assert (shown.found.named.labels == found.named.labels).all()
    drawn = pixels_of(explorer._named.traces[0]).astype(int)
    assert np.abs(drawn - overlay(picture, found.named)).mean() < 4  # JPEG
    columns = [explorer.match.texts.index(text) for text in explorer._matrix.axes[0].ticktext]
    values = explorer.match.probabilities[:, columns]
    assert np.allclose(explorer._matrix.traces[0].z, values)
    number = explorer.segment
    seen = fitted(views(picture, found.segments, recipe.match)[number], picture.size)
    assert (pixels_of(explorer._seen.traces[0]) == seen).all()
    line = explorer.match.probabilities[number]
    assert np.allclose(explorer._best.traces[0].x, np.sort(line)[::-1][:5])


def test_matching_follows_every_knob(lab, data):
    explorer, picture = waited(explore_matching(lab, data)), data.samples[1].picture()
    explorer.picture = data.samples[1].name
    waited(explorer)
    assert explorer.candidates == lab.caption(picture, mapping="name").candidates
    for name, value in {
        "candidates": ("dog", "zebra", "car"), "region": "box", "template": "a photo of a {}",
        "tokens": True, "compete": "vocabulary", "assignment": "argmax", "background": ("sky", "wall"), "segment": 2,
    }.items():  # fmt: skip
        setattr(explorer, name, value)
        assert waited(explorer).message == ""
        assert getattr(explorer, name) == value
        check_matching(explorer, lab, picture)
    assert "zebra" in explorer.match.texts
    explorer.candidates = ("dog",)
    assert "zebra" not in waited(explorer).match.texts
    explorer.caption_candidates()
    assert waited(explorer).candidates == lab.caption(picture, mapping="name").candidates


def test_a_word_is_added_by_enter(lab, data):
    explorer = explore_matching(lab, data, candidates=("dog",))
    line = explorer._tag_row.children[-1]
    line.value = " zebra "  # which it is given when Enter is pressed
    assert (explorer.candidates, line.value) == (("dog", "zebra"), "")
    line.value = "dog"
    assert explorer.candidates == ("dog", "zebra")


def test_matching_says_what_its_matrix_is_made_of(lab, data):
    recipe = lab.recipe("freeseg-diff").change({"match.views_up_to": 3})
    explorer = waited(explore_matching(lab, data, recipe=recipe))
    assert "segments by masked view" in explorer._shown.title
    explorer.tokens = True
    assert "4 segments by mask tokens" in waited(explorer)._shown.title


def test_a_click_on_a_mask_or_a_row_shows_what_clip_saw(lab, data):
    explorer = waited(explore_matching(lab, data))
    labels = explorer._shown.found.segments.labels
    row, column = np.argwhere(labels == 3)[0]
    press(explorer._named.traces[0], int(row), int(column))
    assert explorer.segment == 3
    check_matching(explorer, lab, data.samples[0].picture())
    press(explorer._matrix.traces[0], 1, 0)
    assert explorer.segment == 1
    check_matching(explorer, lab, data.samples[0].picture())


def test_matching_says_what_is_wrong_and_goes_on(lab, data):
    explorer = waited(explore_matching(lab, data))
    explorer.template = "no place for a name"
    assert "each template must hold one {}" in waited(explorer).message
    explorer.template = "{}"
    assert waited(explorer).message == ""
    explorer.candidates = ()
    assert waited(explorer).message == ""
    assert not explorer._shown.found.named.labels.any()
    with pytest.raises(FslabError, match="give a list of words"):
        explorer.candidates = "dog"


# --- refinement


def test_refinement_follows_every_knob(lab, data):
    explorer = waited(explore_refinement(lab, data))
    sample = data.samples[0]
    picture, truth = sample.picture(), sample.truth()
    before = lab.segment(picture, lab.recipe("fslab").change({"refine.method": "none"})).named
    for name, value in {
        "iterations": 3, "certainty": 0.7, "gaussian_sxy": 5.0, "gaussian_compat": 4.0,
        "bilateral_sxy": 30.0, "bilateral_srgb": 12.0, "bilateral_compat": 20.0,
        "method": "crf",
    }.items():  # fmt: skip
        setattr(explorer, name, value)
        assert waited(explorer).message == ""
        assert getattr(explorer.recipe.refine, name) == value
        after = fslab.refine.refine(picture, before, explorer.recipe.refine)
        assert (explorer.labels.labels == after.labels).all()
    changed = pixels_of(explorer._panels[2].traces[1])
    moved = (before.labels != after.labels) & (truth != 255)
    assert moved.any()
    assert ((changed[..., 3] > 0) == moved).all()
    assert (changed[moved & (after.labels == truth), :3] == (0, 114, 178)).all()
    assert (changed[moved & (before.labels == truth), :3] == (213, 94, 0)).all()
    for method in refinement:
        explorer.method = method
        assert waited(explorer).message == ""


# --- results


@pytest.fixture(scope="module")
def evaluation(lab, data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluation")
    return evaluate(lab, data, "fslab", out=folder, progress=False), folder


def test_results_show_the_failures_first(lab, data, evaluation):
    report, _ = evaluation
    browser = waited(browse_results(report, data, lab))

    def iou(row):
        counts = row.score.named.counts
        return row.score.named.iou[counts.sum(1) > 0].mean()

    worst_first = [row.name for row in sorted(report.rows, key=iou)]
    assert list(browser.listed) == worst_first
    assert browser.picture == worst_first[0]
    for button, place in ((browser._next, 1), (browser._previous, 0), (browser._previous, 0)):
        button.click()
        assert waited(browser).picture == worst_first[place]
    browser.order = "best"
    assert list(browser.listed) == worst_first[::-1]
    sample = next(each for each in data if each.name == browser.picture)
    found = lab.segment(sample.picture(), "fslab")
    shown = pixels_of(waited(browser)._panels[3].traces[0]).astype(int)
    assert np.abs(shown - overlay(sample.picture(), found.labels)).mean() < 4
    assert "mini-VOC val, fslab on mini" in browser._run.title


def test_results_say_what_must_be_said_of_the_picture(lab, data, evaluation, monkeypatch):
    monkeypatch.setattr(type(lab), "caveat", lambda lab, picture: f"beware of {picture.name}")
    browser = waited(browse_results(evaluation[0], data, lab))
    assert f"beware of {browser.picture}" in browser._caveat.value
    assert browser._caveat.layout.display is None


def test_results_filter_by_class(lab, data, evaluation):
    report, folder = evaluation
    browser = waited(browse_results(folder, data, lab))
    classes = [value for _, value in browser._class.options if value]
    for name in classes:
        browser.class_name = name
        label = VOC.names.index(name)
        expected = {row.name for row in report.rows if row.score.named.counts[label].any()}
        assert set(waited(browser).listed) == expected
    browser.class_name = None
    assert len(browser.listed) == len(report.rows)
    with pytest.raises(FslabError, match="class_name is 'unicorn'"):
        browser.class_name = "unicorn"


def test_results_are_not_shown_over_another_set_s_pictures(lab, evaluation, tmp_path):
    """Scenes that are drawn elsewhere have the same names."""
    _, folder = evaluation
    scenes.write(tmp_path / "others", 9, 3)
    browser = browse_results(folder, voc(tmp_path / "others", "val"), lab)
    browser.wait()
    assert "has another truth than the picture that was scored" in browser._status.value


def test_results_without_pictures_and_without_results(lab, evaluation, tmp_path):
    _, folder = evaluation
    assert "needs the data set (dataset=, --dataset)" in waited(browse_results(folder))._about.value
    with pytest.raises(FslabError, match="holds no finished evaluation"):
        browse_results(tmp_path)


# --- segment yours


def links_of(explorer):
    """What the two links save: file name -> bytes."""
    found = re.findall(
        r'href="data:[^;]+;base64,([^"]+)" download="([^"]+)"', explorer._links.value
    )
    return {name: base64.b64decode(data) for data, name in found}


def test_yours_are_segmented_and_saved(lab, data, tmp_path):
    explorer = segment_yours(lab)
    assert explorer.message == ""
    explorer.file = str(data.samples[3].path)
    waited(explorer)
    found = lab.segment(data.samples[3].picture(), "fslab")
    assert (explorer.result.labels.labels == found.labels.labels).all()
    saved = links_of(explorer)
    assert set(saved) == {"val_0003.png", "val_0003.json"}
    (tmp_path / "mask.png").write_bytes(saved["val_0003.png"])
    assert (read_mask(tmp_path / "mask.png") == found.labels.labels).all()
    assert json.loads(saved["val_0003.json"]) == json.loads(json.dumps(facts(explorer.result)))
    waited(explorer.change(classes=("zebra",), method="freeseg-diff"))
    assert explorer.message == ""
    assert explorer.result.caption.candidates == ("zebra",)
    assert explorer.recipe.name == "freeseg-diff"


def test_yours_refuse_bad_files_and_go_on(lab, data):
    explorer = segment_yours(lab)
    explorer.file = "no_such.png"
    assert "'no_such.png' does not exist" in waited(explorer).message
    explorer._upload.value = uploaded("x.png", b"junk")
    assert "'x.png' is not a picture" in explorer.message
    own = noise_picture(64, 64)
    explorer._upload.value = uploaded('"><b>x.png', png(own))
    assert waited(explorer).message == ""
    assert "<b>" not in explorer._links.value
    assert explorer.result.picture.pixels.shape == own.pixels.shape
