"""Every family's tiny model from end to end: recipes, evaluation, ablation, explorers."""

import numpy as np
import pytest
from conftest import noise_picture, write_dataset
from families_tiny import CLASSES, save_whole
from test_widgets import pixels_of, waited

from fslab import widgets
from fslab.backbones.families import family
from fslab.datasets import voc
from fslab.evaluate import ablate, evaluate
from fslab.lab import Lab

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

SIDE = 64
METHODS = ("fslab", "freeseg-diff", "diffcut")
TABLE = """
title = "Which family?"
metrics = ["mbo", "voc21"]
[base]
method = "fslab"
[base.set]
"extract.resolution" = 64
[grid]
"cluster.k" = [2, 3]
"""
OF_RESULTS = "browse_results"
EXPLORERS = [name for name in widgets.__all__ if name.islower() and name != OF_RESULTS]
MOVES = {
    "explore_clusters": ("k", 3), "explore_matching": ("region", "box"),
    "explore_refinement": ("iterations", 2), "segment_yours": ("picture", "noise_1"),
}  # fmt: skip
"""What is moved once an explorer is open, if not its timestep."""


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Model folders by the class of their network, each saved at its first use."""
    made = {}

    def folder(network):
        if network not in made:
            made[network] = save_whole(tmp_path_factory.mktemp(network), network)
        return made[network]

    return folder


@pytest.fixture(scope="module")
def labs(folders, tmp_path_factory):
    """A lab of each, at a small resolution also where an explorer asks for none."""
    made = {}

    def lab(network):
        if network not in made:
            made[network] = Lab(folders(network), store=tmp_path_factory.mktemp("store"))
            made[network].backbone.resolution = SIDE
        return made[network]

    return lab


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return voc(write_dataset(tmp_path_factory.mktemp("set"), 2))


def test_every_family_of_fslab_is_here():
    """One that extends another is passed like that one."""
    known = [family.find(name).function for name in family]
    own = {each for each in known if each.__module__.startswith("fslab.")}
    own -= {each for each in own if {*each.__bases__} & own}
    assert own == {family.find(name).function for name in CLASSES}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("network", CLASSES)
def test_a_whole_recipe(labs, network, method):
    lab, picture = labs(network), noise_picture(64, 96)
    found = lab.segment(picture, method, candidates=["dog", "cat"])
    for value in found.features.values():
        assert np.ptp(value) > 0
    assert found.labels.size == found.segments.size == picture.size
    assert set(np.unique(found.labels.labels)) <= {0, 8, 12}
    captioned = lab.segment(picture, method)
    if method != "diffcut":  # which asks no captioner
        assert captioned.caption.text
    assert np.array_equal(captioned.segments.labels, found.segments.labels)


@pytest.mark.parametrize("network", CLASSES)
def test_an_evaluation_its_browser_and_an_ablation(labs, folders, data, tmp_path, network):
    lab = labs(network)
    recipe = lab.recipe("fslab").change({"cluster.k": 3})
    report = evaluate(lab, data, recipe, progress=False)
    assert not report.refused
    assert len(report.rows) == 2
    browser = waited(widgets.browse_results(report, data, lab))
    check_shown(browser)
    browser.order = "best"
    check_shown(waited(browser))
    table = tmp_path / "table.toml"
    table.write_text(TABLE)
    rows = ablate(table, data, preset=str(folders(network)), progress=False).rows
    assert [row.images for row in rows] == [2, 2]
    assert rows[1].scores["voc21"].miou == report.scores["voc21"].miou


@pytest.mark.parametrize("name", EXPLORERS)
@pytest.mark.parametrize("network", CLASSES)
def test_explorers_open_and_move(labs, data, network, name):
    explorer = waited(getattr(widgets, name)(labs(network), data))
    check_shown(explorer)
    before, (control, value) = explorer._shown, MOVES.get(name, ("timestep", 300))
    setattr(explorer, control, value)
    check_shown(waited(explorer))
    assert explorer._shown is not before


def check_shown(explorer):
    """There is a figure with a picture in it, and no line of an error."""
    assert explorer.message == ""
    drawn = [each for each in explorer._board.figure.data if each.type == "image" and each.source]
    assert np.ptp(pixels_of(drawn[0])[..., :3]) > 0
