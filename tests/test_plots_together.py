"""Colours that may be compared: fitted once over timesteps, turned alike over layers."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import noise_picture

from fslab import plots
from fslab.plots.draw import colours_and_share
from fslab.plots.together import colours_together
from fslab.records import Features, FslabError

RANDOM = np.random.default_rng(0)


def turned(maps):
    """The same cells in other channels, as another layer might have them."""
    square, _ = np.linalg.qr(RANDOM.standard_normal((len(maps), len(maps))))
    return np.einsum("dc,chw->dhw", square, maps).astype(np.float32)


def smooth(channels, side=12):
    rows, columns = np.mgrid[:side, :side] / side
    waves = [np.sin(3 * rows + n) * np.cos(2 * n * columns) for n in range(channels)]
    return np.stack(waves).astype(np.float32)


def test_alone_a_map_has_the_colours_it_has_by_itself():
    maps = smooth(6)
    colours, share = colours_together({"up": maps})["up"]
    own, own_share = colours_and_share(maps)
    assert np.abs(colours.astype(int) - own).max() <= 1
    assert share == pytest.approx(own_share)


def test_equal_cells_of_two_timesteps_have_equal_colours():
    maps = smooth(6)
    later = maps.copy()
    later[:, :6] = maps[:, :6][:, ::-1]
    found = colours_together({"up@0": maps, "up@500": later})
    first, second = (found[key][0] for key in ("up@0", "up@500"))
    assert np.array_equal(first[6:], second[6:])
    assert np.array_equal(first[:6], second[:6][::-1])


def test_a_layer_that_is_the_first_one_turned_has_its_colours():
    maps = smooth(6)
    other = turned(maps)
    found = colours_together({"down": maps, "up": other})
    assert np.abs(found["down"][0].astype(int) - found["up"][0]).max() <= 2
    apart = np.abs(found["down"][0].astype(int) - colours_and_share(other)[0]).max()
    assert apart == 0 or apart > 2  # by itself signs and order may differ


def test_layers_of_other_grids_and_channels_are_drawn_together():
    found = colours_together({"down": smooth(6, 12), "up": smooth(9, 6), "mid": smooth(2, 3)})
    assert [value.shape for value, _ in found.values()] == [(12, 12, 3), (6, 6, 3), (3, 3, 3)]
    assert all(0 <= share <= 1.0001 for _, share in found.values())


def test_a_figure_has_the_picture_first_and_panels_across():
    picture = noise_picture(24, 24)
    features = Features({"up@0": smooth(5, 4), "up@9": smooth(5, 4)}, picture.size, "x")
    figure = plots.feature_colours(features, picture=picture, together=True, across=2)
    titles = [note.text for note in figure.layout.annotations]
    assert titles[0] == "picture"
    assert len(titles) == 3
    assert figure.layout.yaxis3.domain[1] < figure.layout.yaxis.domain[0]
    with pytest.raises(FslabError, match="both belong to one picture"):
        plots.feature_colours(features, picture=noise_picture(24, 32))
