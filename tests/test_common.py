"""One set of components for many pictures: by hand, on pictures of any size, scored, shown."""

from __future__ import annotations

import time

import numpy as np
import plotly.graph_objects as go
import pytest
from conftest import noise_picture
from test_widgets import pixels_of, waited

import fslab
from fslab import plots
from fslab.cluster import common_labels, fit_components, in_components
from fslab.cluster.common import some_cells
from fslab.datasets import read_mask, voc, write_mask
from fslab.evaluate import score_cosegments
from fslab.evaluate.common import ALONE, BY_NUMBER, EACH, TOGETHER
from fslab.plots import component_colours, component_maps, pca_colours
from fslab.records import Components, Features, FslabError, LabelMap, Segments
from fslab.score import CommonOverlaps, common_overlaps, score_image, summarise
from fslab.widgets import explore_features
from fslab.widgets.features import ALL, ONE, _spread

ROOT = fslab.__path__[0] + "/.."
LAYER = "up_blocks.1"


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    return fslab.Lab("mini", store=tmp_path_factory.mktemp("common"))


@pytest.fixture(scope="module")
def data():
    return voc(f"{ROOT}/data/minivoc", "search").limit(4)


def parts(size, order, channels=6):
    """Features in which each cell is one of three parts, in the order given."""
    rng = np.random.default_rng(0)
    kinds = 5 * rng.standard_normal((3, channels)).astype(np.float32)
    labels = np.array(order).reshape(size)
    return Features({"one": kinds[labels].transpose(2, 0, 1)}, (4 * size[0], 4 * size[1])), labels


def cells_of(*several):
    return np.concatenate([each["one"].reshape(len(each["one"]), -1).T for each in several])


def test_a_part_has_one_colour_and_one_label_in_pictures_of_different_sizes():
    first, ours = parts((2, 6), [0, 0, 1, 1, 2, 2] * 2)
    second, theirs = parts((3, 3), [2, 2, 2, 1, 1, 1, 0, 0, 0])
    for how, count in (("pca", 3), ("kmeans", 3), ("nmf", 3)):
        fitted = fit_components(cells_of(first, second), how, count)
        shown = [component_colours(in_components(x, fitted), fitted) for x in (first, second)]
        colours = [{tuple(map(int, at)) for at in shown[0][ours == n]} for n in range(3)]
        assert all(len(each) == 1 for each in colours)
        assert len(set.union(*colours)) == 3
        for n in range(3):
            assert {tuple(map(int, at)) for at in shown[1][theirs == n]} == colours[n]
    labels = [common_labels(x, fit_components(cells_of(first, second), "kmeans", 3)).labels
              for x in (first, second)]  # fmt: skip
    assert [each.shape for each in labels] == [(8, 24), (12, 12)]
    middle = [each[2::4, 2::4] for each in labels]
    for n in range(3):
        assert len({*middle[0][ours == n], *middle[1][theirs == n]}) == 1
    assert {*np.unique(middle[0])} == {1, 2, 3}


def test_pca_of_one_picture_is_that_of_feature_colours(lab, data):
    picture = data.samples[0].picture()
    value = lab.extract(picture, [LAYER], 50)[LAYER]
    fitted = lab.components([picture], layers=LAYER, timesteps=50)
    drawn = component_colours(lab.in_components(picture, fitted), fitted).astype(int)
    assert np.abs(drawn - pca_colours(value)).max() <= 1
    assert fitted.cells == value[0].size


def test_kmeans_of_one_picture_is_that_of_lab_cluster(lab, data):
    picture = data.samples[1].picture()
    features = lab.extract(picture, [LAYER], 50)
    alone = lab.cluster(features, k=5, normalise="l2").labels
    (labels,) = lab.cosegment([picture], 5, layers=LAYER, timesteps=50, normalise="l2")
    pairs = {*zip(alone.ravel().tolist(), labels.labels.ravel().tolist(), strict=True)}
    assert len(pairs) == 5  # the same up to numbers
    sizes = np.bincount(labels.labels.ravel())[1:]
    assert len(sizes) == 5


def test_nmf_is_of_what_is_above_and_below_zero_and_adds_up():
    rng = np.random.default_rng(1)
    amounts = rng.uniform(0, 1, (200, 2)).astype(np.float32)
    kinds = np.array([[2, 0, -1], [0, 3, 0]], np.float32)
    cells = amounts @ kinds
    fitted = fit_components(cells, "nmf", 2)
    assert fitted.vectors.shape == (2, 6)
    assert fitted.vectors.min() >= 0
    assert fitted.share > 0.99
    features = Features({"one": cells.T.reshape(3, 20, 10)}, (20, 10))
    values = in_components(features, fitted).reshape(2, -1)
    rebuilt = values.T @ (fitted.vectors[:, :3] - fitted.vectors[:, 3:])
    assert np.allclose(rebuilt, cells, atol=0.05)


def test_cells_are_few_and_the_same_whatever_else_there_is(lab, data):
    joined = np.arange(60, dtype=np.float32).reshape(2, 5, 6)
    digest = noise_picture(8, 8).digest
    once = some_cells(joined, 7, 0, digest)
    assert once.shape == (7, 2)
    assert np.array_equal(once, some_cells(joined, 7, 0, digest))
    assert not np.array_equal(once, some_cells(joined, 7, 1, digest))
    assert np.array_equal(some_cells(joined, 30, 0, digest), joined.reshape(2, -1).T)
    some = lab.components(data, layers=LAYER, timesteps=50, most_cells=40)
    assert (some.cells, some.pictures) == (40, 4)
    again = lab.components(list(data), layers=LAYER, timesteps=50, most_cells=40)
    assert np.array_equal(some.vectors, again.vectors)


def test_a_folder_a_list_and_a_data_set_are_the_same(lab, tmp_path):
    pictures = [noise_picture(32, 48, seed=1), noise_picture(48, 32, seed=2)]
    for place, picture in enumerate(pictures):
        from PIL import Image

        Image.fromarray(picture.pixels).save(tmp_path / f"{place}.png")
    rgb = fslab.Lab("mini", "rgb", store=lab.store)
    found = [
        rgb.components(given, "kmeans", 3)
        for given in (tmp_path, str(tmp_path), fslab.datasets.folder(tmp_path), pictures)
    ]
    assert all(np.array_equal(found[0].vectors, each.vectors) for each in found)
    maps = list(rgb.cosegment(tmp_path, 3))
    assert [each.size for each in maps] == [(32, 48), (48, 32)]
    assert all(each.names == ("none", "cluster 1", "cluster 2", "cluster 3") for each in maps)


def test_what_cannot_be_fitted_is_refused(lab, data, tmp_path):
    cells = np.random.default_rng(0).standard_normal((9, 4)).astype(np.float32)
    for wrong, words in (
        ({"how": "ica"}, "take 'pca', 'nmf' or 'kmeans'"),
        ({"count": 5}, "9 cells of 4 channels have 4 components of 'pca' at most"),
        ({"how": "kmeans", "count": 10}, "have 9 components of 'kmeans' at most"),
        ({"count": 0}, "count is 0; it must be a whole number"),
    ):
        with pytest.raises(FslabError, match=words):
            fit_components(cells, **wrong)
    with pytest.raises(FslabError, match="cells holds NaN"):
        fit_components(np.full((4, 4), np.nan, np.float32))
    with pytest.raises(FslabError, match="pictures are one"):
        lab.components(data.samples[0].picture())
    with pytest.raises(FslabError, match="there are no pictures"):
        lab.components([])
    with pytest.raises(FslabError, match="holds no pictures"):
        lab.components(tmp_path)
    with pytest.raises(FslabError, match="most_cells is 1"):
        lab.components(data, most_cells=1)
    with pytest.raises(FslabError, match="cosegmented by 'kmeans' or 'nmf'"):
        lab.cosegment(data, 3, "pca")
    with pytest.raises(FslabError, match="compare no pictures of different sizes"):
        lab.components(
            [noise_picture(96, 96), noise_picture(96, 128)],
            layers="up_blocks.1.attentions.0*attn1.probs",
        )
    fitted = fit_components(cells)
    with pytest.raises(FslabError, match="3 channels where other pictures have 4"):
        in_components(Features({"x": np.ones((3, 2, 2), np.float32)}, (8, 8)), fitted)
    with pytest.raises(FslabError, match="principal components are no parts"):
        common_labels(Features({"x": np.ones((4, 2, 2), np.float32)}, (8, 8)), fitted)
    with pytest.raises(FslabError, match=r"they must be f32 \[3, h, w\]"):
        component_colours(np.zeros((2, 4, 4), np.float32), fitted)
    with pytest.raises(FslabError, match="1 maps for 2 pictures"):
        component_maps([noise_picture(8, 8)] * 2, [np.zeros((3, 2, 2), np.float32)], fitted)
    ends = np.zeros(3, np.float32)
    with pytest.raises(FslabError, match=r"they must be f32 \[N, 4\]"):
        Components("pca", np.zeros((3, 5), np.float32), np.zeros(4, np.float32), ends, ends, 1.0)


def test_the_figure_holds_each_picture_beside_its_colours(lab, data):
    pictures = [sample.picture() for sample in data][:2]
    fitted = lab.components(pictures, "kmeans", 4, LAYER, 50)
    figure = component_maps(pictures, [lab.in_components(x, fitted) for x in pictures], fitted)
    assert isinstance(figure, go.Figure)
    assert sum(isinstance(trace, go.Image) for trace in figure.data) == 4
    assert "4 clusters of 2 pictures" in figure.layout.title.text
    # a cluster has the colour that its label has in every drawing of label maps
    labels = lab.common_labels(pictures[0], fitted)
    drawn = component_colours(lab.in_components(pictures[0], fitted), fitted)
    assert {*map(tuple, drawn.reshape(-1, 3).tolist())} >= {
        *map(tuple, np.unique(plots.label_picture(labels).reshape(-1, 3), axis=0).tolist())
    }


NAMES = ("background", "cat", "dog")


def test_labels_are_matched_once_for_all_pictures():
    truth = np.array([[1, 1, 2, 2], [0, 0, 0, 255]], np.uint8)
    ours = LabelMap(np.array([[2, 2, 3, 3], [1, 1, 1, 1]], np.uint8), ("none", "1", "2", "3"))
    swapped = LabelMap(np.array([[3, 3, 2, 2], [1, 1, 1, 1]], np.uint8), ("none", "1", "2", "3"))
    table = common_overlaps(ours, truth, NAMES, 3)
    assert table.tolist() == [[3, 0, 0], [0, 2, 0], [0, 0, 2]]
    same = CommonOverlaps(np.stack([table, table]), NAMES)
    assert same.classes.tolist() == [0, 1, 2]
    assert summarise("hungarian", same.matched_once()).miou == 1
    other = common_overlaps(swapped, truth, NAMES, 3)
    mixed = CommonOverlaps(np.stack([table, other, table]), NAMES)
    by_hand = np.mean([1, 4 / 8, 4 / 8])  # of 6 pixels 4 agree, 2 are guessed elsewhere
    assert summarise("hungarian", mixed.matched_once()).miou == pytest.approx(by_hand)
    segments = Segments((swapped.labels - 1).astype(np.int32))
    each = score_image(truth, NAMES, segments=segments, contours=False)
    assert summarise("hungarian", [each]).miou == 1  # matched in each picture nothing is seen
    with pytest.raises(FslabError, match="labels are 1 to 3; those of 2 common clusters"):
        common_overlaps(ours, truth, NAMES, 2)
    with pytest.raises(FslabError, match="2 names for tables of 3 classes"):
        CommonOverlaps(np.stack([table]), NAMES[:2])


def test_more_labels_than_classes_leave_the_rest_to_the_background():
    table = np.array([[5, 0, 0], [0, 9, 0], [0, 3, 0], [0, 0, 0]])
    assert CommonOverlaps(table[None], NAMES).classes.tolist() == [0, 1, 0, 0]


def test_a_data_set_is_scored_four_ways(lab, data):
    score = score_cosegments(lab, data, 4, LAYER, 50)
    names = data.vocabulary.names
    assert [row["name"] for row in score.table()] == [TOGETHER, BY_NUMBER, EACH, ALONE]
    maps = list(lab.cosegment(data, 4, layers=LAYER, timesteps=50))
    tables = [common_overlaps(x, s.truth(), names, 4) for x, s in zip(maps, data, strict=True)]
    wanted = summarise("hungarian", CommonOverlaps(np.stack(tables), names).matched_once())
    assert score.score().figure == wanted.figure
    gain = score.above(ALONE, EACH)
    assert gain.value == pytest.approx(score.score(EACH).figure - score.score(ALONE).figure)
    rows = {row["name"]: row for row in score.table()}
    assert rows[EACH]["above_alone"] == gain.value
    assert rows[TOGETHER]["above_alone"] == score.above().value
    assert rows[ALONE]["above_alone"] is None
    assert gain.low <= gain.value <= gain.high
    assert len(score.named) == 4
    assert TOGETHER in score._repr_html_()
    with pytest.raises(FslabError, match="there is no 'nothing'"):
        score.score("nothing")


def test_the_command_writes_maps_and_prints_figures(run, tmp_path, lab):
    out = tmp_path / "maps"
    minivoc = f"{ROOT}/data/minivoc"
    asked = ["--split", "search", "--limit", 3, "--k", 4, "--layer", LAYER, "--timestep", 50]
    code, said, _ = run("cosegment", minivoc, *asked, "--out", out)
    assert code == 0
    assert TOGETHER in said
    assert "once for all pictures together" in said
    data = voc(minivoc, "search").limit(3)
    maps = lab.cosegment(data, 4, layers=LAYER, timesteps=50)
    for sample, labels in zip(data, maps, strict=True):
        assert np.array_equal(read_mask(out / f"{sample.name}.png"), labels.labels)
    write_mask(np.zeros((8, 8), np.uint8), tmp_path / "plain" / "one.png")
    code, _, refused = run("cosegment", tmp_path / "plain")
    assert (code, "has no truth, so there is no score; give --out" in refused) == (2, True)


def test_the_explorer_shows_all_pictures_in_one_set_of_colours(lab, data):
    explorer = waited(explore_features(lab, data, layer=LAYER, timestep=50))
    assert explorer.colours == ONE
    before = pixels_of(explorer._panels[1].traces[0])
    waited(explorer.change(colours=ALL))
    assert explorer.message == ""
    fitted = lab.components(data, layers=LAYER, timesteps=50)
    for sample in data:
        waited(explorer.change(picture=sample.name))
        values = lab.in_components(sample.picture(), fitted)
        shown = pixels_of(explorer._panels[1].traces[0])
        assert np.array_equal(shown, component_colours(values, fitted))
        assert "main components of 4 pictures" in explorer._panels[1].layout.annotations[1].text
    assert "lab.components(pictures" in explorer.code
    found = {"lab": lab, "pictures": data, "picture": data.samples[0].picture()}
    exec(explorer.code, found)
    waited(explorer.change(colours=ONE, picture=data.samples[0].name))
    assert np.array_equal(pixels_of(explorer._panels[1].traces[0]), before)
    with pytest.raises(FslabError, match="colours is 'none'; it must be one of"):
        explorer.colours = "none"


def test_moves_in_common_colours_take_no_longer_than_a_quarter_of_a_second(lab, data):
    explorer = waited(explore_features(lab, data, layer=LAYER, timestep=50, colours=ALL))
    for sample in data:
        waited(explorer.change(picture=sample.name))
    seconds = []
    for sample in list(data) * 2:
        start = time.process_time()
        waited(explorer.change(picture=sample.name))
        seconds.append(time.process_time() - start)
    assert np.median(seconds) < 0.25


def test_one_picture_has_no_other_colours_and_many_are_spread(lab):
    explorer = waited(explore_features(lab, [noise_picture(64, 64)], layer=LAYER))
    assert explorer._colours.disabled
    assert _spread(range(5), 24) == (0, 1, 2, 3, 4)
    many = _spread(range(200), 24)
    assert (len(many), many[0], many[-1]) == (24, 0, 199)
