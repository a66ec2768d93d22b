"""The code that an explorer shows, pasted where nothing is yet, makes what is on screen."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import plotly.graph_objects as go
import pytest
from conftest import noise_picture
from test_widgets import pixels_of, waited

import fslab
from fslab.datasets import VOC, voc
from fslab.evaluate import evaluate
from fslab.widgets import (
    browse_results,
    explore_clusters,
    explore_correspondence,
    explore_features,
    explore_matching,
    explore_refinement,
    segment_yours,
)
from fslab.widgets.code import Script
from fslab.widgets.python import code

ROOT = fslab.__path__[0] + "/.."
LAYER = "up_blocks.1"


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    return fslab.Lab("mini", store=tmp_path_factory.mktemp("pasted"))


@pytest.fixture(scope="module")
def data():
    return voc(f"{ROOT}/data/minivoc", "val").limit(3)


@pytest.fixture
def shown(monkeypatch):
    """The figures that are shown."""
    figures = []
    monkeypatch.setattr(go.Figure, "show", lambda figure: figures.append(figure))
    return figures


def pasted(explorer, **known):
    """What names stand for after the code ran, which is formatted as Ruff has it."""
    written = waited(explorer).code
    assert explorer.message == ""
    command = [sys.executable, "-m", "ruff", "format", "--isolated", "-"]
    done = subprocess.run(command, input=f"{written}\n", capture_output=True, text=True, check=True)
    assert done.stdout == f"{written}\n"
    names = dict(known)
    exec(written, names)
    return names


def test_features_with_pins_and_a_second_layer(lab, data, shown):
    state = {"timestep": 77, "point": (5, 6), "pins": ((40, 50), (90, 80)), "joined": "highest"}
    explorer = explore_features(lab, data, picture="val_0001", compare=True, layer=LAYER, **state)
    explorer.change(other_layer="mid_block", other_timestep=300)
    names = pasted(explorer)
    assert 'fslab.checkout("data/minivoc/JPEGImages/val_0001.png")' in explorer.code
    for name, view in zip(("features", "second"), explorer._shown.shown, strict=True):
        assert np.array_equal(names[name][view.layer], view.features)
    panels = explorer._panels
    for place, figure in enumerate(shown):
        row = panels[3 * (place // 2) :]
        if place % 2:
            (heat,) = (each for each in figure.data if each.type == "heatmap")
            assert np.allclose(heat.z, row[2].traces[3].z)
            assert list(figure.data[-1].y) == list(row[2].traces[2].y) == [40, 90, 5]
        else:
            drawn = [each for each in figure.data if each.type == "image"]
            assert (pixels_of(drawn[1]) == pixels_of(row[1].traces[0])).all()
    assert len(shown) == 4


def test_features_in_the_colours_of_all_pictures(lab, data, shown):
    explorer = explore_features(lab, data, layer=LAYER, timestep=50, colours="all pictures")
    pasted(explorer)
    drawn = [each for each in shown[0].data if each.type == "image"]
    assert (pixels_of(drawn[1]) == pixels_of(explorer._panels[1].traces[0])).all()


def test_a_picture_that_has_no_file_is_said_and_named(tmp_path, shown):
    rgb, own = fslab.Lab("mini", "rgb", store=tmp_path), noise_picture(40, 56)
    explorer = waited(explore_features(rgb, own.pixels, point=(3, 4)))
    assert "# picture: 'picture', 40 x 56 pixels, was given without a path" in explorer.code
    assert 'backbone="rgb"' in explorer.code
    names = pasted(explorer, picture=own)
    assert np.array_equal(names["features"]["colour"], explorer._shown.shown[0].features)


def test_correspondences_in_several_pictures_and_lines(lab, data, shown):
    state = {"timestep": 77, "layer": LAYER, "pins": ((5, 6),), "temperature": 0.04, "lines": 4}
    explorer = explore_correspondence(lab, [*data.samples, noise_picture(48, 64)], **state)
    names = pasted(explorer, other_3=noise_picture(48, 64))
    for number, found in enumerate(explorer.found, 1):
        assert np.array_equal(names[f"found_{number}"].likeness, found.likeness)
        assert np.array_equal(names[f"found_{number}"].matches, found.matches)
    assert len(names["near"]) == len(explorer._board.figure.layout.shapes) == 4
    assert len(shown) == 4


@pytest.mark.parametrize("method", ["kmeans", "merge"])
def test_clusters_and_their_plane(lab, data, shown, capsys, method):
    state = {"k": 5, "position": 0.5, "normalise": "none"} if method == "kmeans" else {}
    layers = "*.attn1.probs" if method == "merge" else LAYER
    explorer = explore_clusters(lab, data, layers=layers, method=method, timestep=90, **state)
    names = pasted(explorer)
    assert (names["segments"].labels == explorer.segments.labels).all()
    plane = explorer._plane.traces[0]
    assert np.allclose(names["points"], np.stack([plane.x, plane.y], 1))
    assert (names["labels"] == explorer._shown.cells).all()
    assert float(capsys.readouterr().out) == explorer._shown.oracle


def test_matching_with_typed_classes(lab, data, shown):
    state = {"candidates": ("dog", "zebra"), "region": "box", "background": ("sky",)}
    explorer = explore_matching(lab, data, "fslab", **state)
    names = pasted(explorer)
    assert explorer.code.count("match.") < 12  # what differs from the method, and no more
    assert np.array_equal(names["match"].probabilities, explorer.match.probabilities)
    assert (names["result"].named.labels == explorer._shown.found.named.labels).all()
    assert len(shown) == 3


def test_refinement_and_what_it_is_worth(lab, data, shown, capsys):
    explorer = explore_refinement(lab, data, iterations=4, bilateral_srgb=9.0)
    names = pasted(explorer)
    assert (names["result"].labels.labels == explorer.labels.labels).all()
    assert (names["changed"] == explorer._shown.changed).all()
    result = explorer._shown
    worth = [float(line) for line in capsys.readouterr().out.split()]
    assert worth == [result.miou_before, result.miou_after]


def test_yours_with_classes_typed_and_without(lab, data, shown):
    explorer = segment_yours(lab)
    explorer.change(classes=("zebra", "dog"), file=data.samples[0].path)
    names = pasted(explorer)
    assert 'classes = ["zebra", "dog"]' in explorer.code
    assert (names["result"].labels.labels == explorer.result.labels.labels).all()
    explorer.classes = ()
    explorer.segment()
    names = pasted(explorer)
    assert 'result = lab.segment(picture, "fslab")' in explorer.code
    assert (names["result"].labels.labels == explorer.result.labels.labels).all()


def test_results_with_the_truth_and_from_a_folder_alone(lab, data, shown, tmp_path):
    report = evaluate(lab, data.limit(1), "fslab", out=tmp_path, progress=False)
    browser = browse_results(report, data.limit(1), lab)
    names = pasted(browser)
    assert (names["truth"] == browser._shown.subject.truth).all()
    assert (names["result"].labels.labels == browser._shown.found.labels.labels).all()
    alone = waited(browse_results(tmp_path))
    again = eval(alone.code.partition("\n\n")[2], {"browse_results": browse_results})
    assert waited(again).picture == alone.picture


def test_other_classes_than_voc_s_are_written_once():
    named = fslab.Vocabulary(("background", "hound"), {"hound": "dog"}, {"hound": ("puppy",)})
    script = Script(None)
    assert script.vocabulary(VOC) == []
    assert script.vocabulary(named) == script.vocabulary(named) == ["vocabulary"]
    names = {"fslab": fslab}
    exec(str(script), names)
    assert names["vocabulary"] == named


@pytest.mark.parametrize("text", ["plain", "it's", 'say "so"', "both ' and \"", "\n", "naïve 🐎"])
def test_texts_are_quoted_so_that_they_come_back(text):
    assert eval(str(code(text))) == text
    assert str(code(text))[0] == ("'" if '"' in text else '"')


def test_the_code_runs_in_a_process_of_its_own(lab, data):
    explorer = waited(explore_features(lab, data, timestep=50, layer=LAYER, point=(80, 50)))
    check = (
        "import plotly.graph_objects as go\n"
        "drawn = []\n"
        "go.Figure.show = lambda figure: drawn.append(figure)\n"
        f"{explorer.code}\n"
        "heat = [each for each in drawn[1].data if each.type == 'heatmap'][0]\n"
        "print(float(heat.z.sum()))\n"
    )
    command = [sys.executable, "-c", check]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd="/")
    assert float(done.stdout) == pytest.approx(float(explorer.similarity.sum()), abs=1e-3)
