"""Maps of cells: where they lie, what their colours and the pointer say."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import noise_picture

from fslab import plots
from fslab.records import FslabError


def test_each_map_fills_the_picture_with_its_own_cells_and_range():
    picture = noise_picture(40, 80)
    maps = {"dog": np.arange(8.0).reshape(2, 4), "<cat>": np.full((4, 8), 3.0)}
    figure = plots.cell_maps(picture, maps, "two words", "attention")
    dog, cat = figure.select_traces({"type": "heatmap"})
    assert np.asarray(dog.z).min() == 0
    assert np.asarray(dog.z).max() == 1
    np.testing.assert_array_equal(np.asarray(dog.customdata), maps["dog"])
    assert (dog.dx, dog.dy) == (20, 20)
    assert (cat.dx, cat.dy) == (10, 10)
    assert (dog.x0 - dog.dx / 2, dog.y0 - dog.dy / 2) == (-0.5, -0.5)  # the picture's corner
    assert not np.asarray(cat.z).any()  # a flat map divides by nothing
    assert dog.colorbar.title.text == "attention"
    assert [dog.showscale, cat.showscale] == [True, False]
    said = {note.text for note in figure.layout.annotations}
    assert {"dog<br>0 to 7", "&lt;cat&gt;<br>3 to 3"} <= said


def test_refusals_are_sentences():
    picture = noise_picture(16, 16)
    with pytest.raises(FslabError, match="cell_maps has nothing to draw"):
        plots.cell_maps(picture, {}, "", "")
    with pytest.raises(FslabError, match=r"map 'dog' is \[3\]; a map must be \[h, w\]"):
        plots.cell_maps(picture, {"dog": np.zeros(3)}, "", "")
