"""Records at a notebook cell's end, and what a person asks of them."""

import base64
import io
import re

import numpy as np
import pytest
import torch
from conftest import noise_picture, write_dataset
from PIL import Image

import fslab
from fslab.datasets import load
from fslab.evaluate import evaluate
from fslab.lab import Lab
from fslab.records import Features, LabelMap, Picture, Segments, voc_palette

NAMES = ("background", "<b>dog</b>", "cat")


@pytest.fixture
def features():
    maps = {f"up_blocks.{n}.norm": np.full((3, 4, 6), n, np.float32) for n in range(6)}
    return Features(maps, (32, 48), "scene")


def label_map():
    labels = np.zeros((32, 48), np.uint8)
    labels[:, 36:] = 1
    return LabelMap(labels, NAMES, {NAMES[1]: 0.8})


def test_one_line_says_what_a_record_is(features):
    assert repr(Picture(np.zeros((32, 48, 3), np.uint8), "scene")) == "Picture('scene', 32 x 48)"
    assert repr(features).startswith("Features('scene', 32 x 48: up_blocks.0.norm 3 x 4 x 6, ")
    assert repr(features).endswith(", and 2 more)")
    halves = Segments(np.repeat([[0, 1]], 32, 0).repeat(24, 1))
    assert repr(halves) == "Segments(2 in 32 x 48)"
    assert repr(Segments(halves.labels, (halves,))) == "Segments(2 in 32 x 48 and 1 others)"
    assert repr(label_map()) == "LabelMap(32 x 48: background 75%, <b>dog</b> 25%)"


def test_tables_have_every_layer_segment_and_class(features):
    assert features._repr_html_().count("<tr>") == 1 + len(features)
    halves = Segments(np.repeat([[0, 1]], 32, 0).repeat(24, 1))
    assert halves._repr_html_().count("50.0%") == 2
    table = label_map()._repr_html_()
    assert "&lt;b&gt;dog&lt;/b&gt;" in table
    assert "<b>" not in table
    assert "0.80" in table
    assert "75.0%" in table


def test_features_are_drawn_small_and_few():
    rng = np.random.default_rng(0)
    halves = rng.normal(size=(5, 12, 300)).astype(np.float32)
    halves[:, :, 150:] += 9
    maps = {"halves": halves, "flat": np.ones((4, 3, 3), np.float32)}
    maps |= {"word": np.linspace(0, 1, 6, dtype=np.float32).reshape(1, 2, 3)}
    maps |= {"broken": np.full((2, 2, 2), np.nan, np.float32)}
    maps |= {f"<b>{n}": rng.normal(size=(3, 90, 90)).astype(np.float32) for n in range(40)}
    whole = Features(maps, (32, 48), "scene")._repr_html_()
    pictures = re.findall(r'alt="([^"]*)" src="data:image/png;base64,([^"]+)"', whole)
    drawn = {
        name: np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))) for name, data in pictures
    }
    assert list(drawn) == ["halves", "flat", "word", *(f"&lt;b&gt;{n}" for n in range(4))]
    left, right = np.split(drawn["halves"].astype(int), [22], 1)
    assert abs(left.mean((0, 1)) - right[:, 1:].mean((0, 1)))[0] > 100
    assert np.ptp(drawn["flat"]) == 0
    assert (drawn["word"][..., :1] == drawn["word"]).all()
    assert np.ptp(drawn["word"]) == 255
    assert drawn["&lt;b&gt;0"].shape == (45, 45, 3)
    assert whole.count("<tr>") == 1 + 30
    assert "and 14 more" in whole
    assert len(whole) < 100_000


def shown(record):
    """The pixels of a record's drawing, and how many drawings it has."""
    found = re.findall(r'src="data:image/png;base64,([^"]+)"', record._repr_html_())
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(found[0])))), len(found)


def test_a_picture_segments_and_labels_are_drawn():
    picture = noise_picture(32, 48)
    pixels, drawings = shown(picture)
    assert drawings == 1
    assert np.array_equal(pixels, picture.pixels)
    halves = Segments(np.repeat([[0, 1]], 32, 0).repeat(24, 1))
    pixels, _ = shown(halves)
    assert np.array_equal(pixels[0, [0, 47]], voc_palette()[[1, 2]])
    pixels, _ = shown(label_map())
    assert np.array_equal(pixels[0, [0, 47]], voc_palette()[[0, 1]])
    wide = np.full((4, 4), 300, np.uint16)
    wide[0, 0] = 65535
    pixels, _ = shown(LabelMap(wide, tuple(map(str, range(400)))))
    assert np.array_equal(pixels[0, :2], voc_palette()[[255, 300 % 255]])
    pixels, _ = shown(noise_picture(100, 1000))
    assert pixels.shape == (34, 334, 3)
    assert "<b>" not in Picture(picture.pixels, "<b>x</b>")._repr_html_()


def test_a_result_shows_its_stages(tiny, picture):
    result = Lab(tiny).segment(picture, "freeseg-diff", candidates=["dog"])
    assert re.match(r"Result\('noise-64x64' by freeseg-diff: LabelMap\(64 x 64: ", repr(result))
    assert len(repr(result)) < 200
    shown = result._repr_html_()
    assert shown.count("data:image/jpeg;base64,") == 3
    assert f"{result.segments.count} segments" in shown


def test_a_report_shows_its_figures(tmp_path):
    data = load(write_dataset(tmp_path / "voc", 2), "val")
    report = evaluate(Lab("mini", "rgb"), data, "freeseg-diff", metric="oracle", progress=False)
    assert repr(report) == (
        f"Report(freeseg-diff on 2 pictures of {data.name} val: "
        f"oracle {100 * report.score.miou:.1f} %)"
    )
    shown = report._repr_html_()
    for metric in report.scores:
        assert f">{metric}<" in shown


def halves(features):
    return np.repeat([[0, 1]], 32, 0).repeat(24, 1)


def test_a_recipe_says_what_differs_from_the_defaults():
    recipe = fslab.METHODS["fslab"].change({"cluster.k": 7, "extract.prompt": "<b>"})
    lines = repr(recipe).splitlines()
    assert lines[0] == "Recipe('fslab')"
    assert lines[1].startswith("  extract: layers=('up_blocks.1.")
    assert lines[2] == "  cluster: kmeans, normalise='l2', k=7, also=(4, 8, 12)"
    assert lines[3] == "  caption: mapping='name'"
    assert lines[5].startswith("  refine: crf-joint, gaussian_sxy=3.0")
    assert repr(fslab.Recipe()).splitlines()[1:3] == ["  extract: as usual", "  cluster: kmeans"]
    own = repr(recipe.change({"cluster": halves})).splitlines()[2]
    assert own == f"  cluster: {__name__}:halves"
    shown = recipe._repr_html_()
    assert shown.count("<tr>") == 6
    differing, default = re.findall("<td[^>]*>([^<]*)</td>", shown)[6:8]
    assert "k=7" in differing
    assert "restarts=10" in default
    assert "k=7" not in default
    assert "<b>" not in shown


@pytest.mark.parametrize("key", [0, None, ("up_blocks.0.norm",), slice(2)], ids=str)
def test_features_are_found_by_layers(features, key):
    with pytest.raises(fslab.FslabError, match="by a layer's path or a pattern, such as 'up_bl"):
        features[key]
    with pytest.raises(KeyError, match="these features hold"):
        features["down_blocks.0"]


def test_a_pattern_gives_the_layers_that_it_fits(features):
    found = features["up_blocks.[12]*"]
    assert list(found) == ["up_blocks.1.norm", "up_blocks.2.norm"]
    assert (found["up_blocks.2.norm"] == 2).all()
    assert (found.size, found.name) == ((32, 48), "scene")
    assert isinstance(features["up_blocks.1.norm"], np.ndarray)
    assert "up_blocks.1.norm" in features
    assert "up_blocks.1*" not in features
    with pytest.raises(KeyError, match=r"'mid\*'; these features hold up_blocks\.0"):
        features["mid*"]


def test_tensors_are_ones_own_to_change(features):
    found = features.torch()
    assert list(found) == list(features)
    found["up_blocks.1.norm"] += 1
    assert found["up_blocks.1.norm"].dtype == torch.float32
    assert (features["up_blocks.1.norm"] == 1).all()


def test_a_lab_takes_torchs_device():
    assert Lab("mini", "rgb", device=torch.device("cpu")).device == "cpu"


def test_the_command_says_its_version(run):
    assert run("--version") == (0, f"fslab {fslab.__version__}\n", "")
