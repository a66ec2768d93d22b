"""Heat maps, the map of layers and the similarities of layers hold what they were given."""

from __future__ import annotations

import base64
from io import BytesIO

import numpy as np
import pytest
from conftest import noise_picture
from PIL import Image

from fslab import plots
from fslab.backbones import Layer
from fslab.plots.layers import block_of
from fslab.records import Features, FslabError

VALUES = np.array([[0.25, 0.469, np.nan], [0.1, 0.4704, 0.3]])


def heat(**more):
    return plots.heat_map(VALUES, ["down", "up"], ["0", "50", "900"], "t", "mIoU", **more)


def test_a_heat_map_shows_the_numbers_and_leaves_out_what_was_not_measured():
    cells, numbers = heat().data
    np.testing.assert_array_equal(np.array(cells.z, float), VALUES)
    assert [list(row) for row in cells.text] == [
        ["0.250", "0.469", ""],
        ["0.100", "0.470", "0.300"],
    ]
    assert list(numbers.text) == [*cells.text[0], *cells.text[1]]
    assert list(numbers.textfont.color)[:4] == ["white", "black", "white", "white"]
    assert (list(cells.y), list(cells.x)) == (["down", "up"], ["0", "50", "900"])
    assert cells.colorbar.title.text == "mIoU"


def test_numbers_keep_three_digits():
    values = np.array([[46.91, 9.876, -12.34, 512.4]])
    figure = plots.heat_map(values, ["a"], list("wxyz"), "t", "percent")
    assert list(figure.data[0].text[0]) == ["46.9", "9.88", "-12.3", "512"]


def test_many_columns_leave_the_numbers_to_the_pointer():
    wide = plots.heat_map(np.eye(2, 15), ["a", "b"], [str(n) for n in range(15)], "t", "share")
    assert [trace.type for trace in wide.data] == ["heatmap"]


def test_the_highest_cell_is_framed_unless_not_asked_for():
    frames = heat().layout.shapes
    assert {(round(f.x0 + f.x1) / 2, round(f.y0 + f.y1) / 2) for f in frames} == {(1, 1)}
    assert not heat(mark_best=False).layout.shapes


def test_a_heat_map_says_what_its_axes_are_with_the_first_row_on_top():
    figure = heat(axes=("block", "timestep"))
    assert figure.layout.yaxis.title.text == "block"
    assert figure.layout.xaxis.title.text == "timestep"
    assert figure.layout.yaxis.autorange == "reversed"
    assert figure.layout.font.size >= 12
    assert "timestep %{x}" in figure.data[0].hovertemplate


def test_a_heat_map_refuses_names_that_do_not_fit_and_empty_tables():
    with pytest.raises(FslabError, match=r"values are \[2, 3\], but there are 1 names of rows"):
        plots.heat_map(VALUES, ["one"], ["0", "50", "900"], "t", "mIoU")
    with pytest.raises(FslabError, match="no finite number"):
        plots.heat_map(np.full((1, 2), np.nan), ["a"], ["b", "c"], "t", "mIoU")


LAYERS = (
    Layer("conv_in", 8, 4),
    Layer("down_blocks.0.resnets.0", 8, 4),
    Layer("down_blocks.0", 8, 8),
    Layer("mid_block.attentions.0", 16, 8),
    Layer("mid_block", 16, 8),
)
SPENT = {"conv_in": 0.1, "down_blocks.0.resnets.0": 0.3, "down_blocks.0": 0.4, "mid_block": 1.0}


def test_the_layer_map_lays_blocks_end_to_end():
    bars, marks = plots.layer_map(LAYERS, SPENT, ["down_blocks.0.resnets.0"]).data
    assert list(bars.y) == ["conv_in", "down_blocks.0", "mid_block"]
    np.testing.assert_allclose(bars.base, [0, 0.1, 0.4])
    np.testing.assert_allclose(np.add(bars.base, bars.x), [0.1, 0.4, 1.0])
    assert list(bars.text) == [
        "10.0%, 8 ch, stride 4", "30.0%, 8 ch, stride 4 and 8", "60.0%, 16 ch, stride 8",
    ]  # fmt: skip
    assert (list(marks.x), list(marks.y)) == ([0.3], ["down_blocks.0"])
    assert "down_blocks.0.resnets.0<br>8 ch, stride 4" in marks.customdata


def test_the_layer_map_refuses_layers_of_unknown_cost():
    with pytest.raises(FslabError, match=r"no cost is known of mid_block\.attentions\.0"):
        plots.layer_map(LAYERS, SPENT, ["mid_block.attentions.0"])
    with pytest.raises(FslabError, match="no cost is known of any layer"):
        plots.layer_map(LAYERS, {})


def test_blocks_are_the_first_part_of_a_path_and_its_number():
    assert block_of("up_blocks.1.attentions.0.proj_in") == "up_blocks.1"
    assert block_of("mid_block.resnets.1") == "mid_block"
    assert block_of("conv_in") == "conv_in"


@pytest.fixture
def features():
    rng = np.random.default_rng(3)
    maps = {
        "down_blocks.0": rng.normal(size=(6, 6, 8)),
        "up_blocks.1": rng.normal(size=(4, 12, 16)),
    }
    return Features({k: v.astype(np.float32) for k, v in maps.items()}, (48, 64), "noise")


def test_similarities_are_lightest_at_the_point_and_darkest_at_the_lowest(features):
    figure = plots.similarities(features, (20, 40), noise_picture(48, 64))
    images = [trace for trace in figure.data if trace.type == "image"]
    assert len(images) == 3
    for image, value in zip(images[1:], features.values(), strict=True):
        pixels = np.asarray(Image.open(BytesIO(base64.b64decode(image.source.split(",", 1)[1]))))
        cells = value.reshape(len(value), -1)
        row, column = 20 * value.shape[1] // 48, 40 * value.shape[2] // 64
        chosen = value[:, row, column]
        cosines = chosen @ cells / np.linalg.norm(chosen) / np.linalg.norm(cells, axis=0)
        light = pixels.astype(int).sum(-1)
        assert (pixels[row, column] == (253, 231, 37)).all()  # the light end of Viridis
        assert np.unravel_index(cosines.argmin(), light.shape) == np.unravel_index(
            light.argmin(), light.shape
        )
        assert f"from {cosines.min():.2f}" in str(figure.layout.annotations)


def test_similarities_mark_the_point_in_each_panels_own_cells(features):
    figure = plots.similarities(features, (20, 40), noise_picture(48, 64))
    marks = [
        trace for trace in figure.data if trace.type == "scatter" and trace.marker.symbol == "cross"
    ]
    places = [(mark.y[0], mark.x[0]) for mark in marks]
    np.testing.assert_allclose(places, [(20, 40), (2.0625, 4.5625), (4.625, 9.625)])
    with pytest.raises(FslabError, match="rows are 0 to 47"):
        plots.similarities(features, (48, 0), noise_picture(48, 64))
    with pytest.raises(FslabError, match="both belong to one picture"):
        plots.similarities(features, (0, 0), noise_picture(48, 48))
