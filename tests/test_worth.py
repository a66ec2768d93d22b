"""What parts and heads are worth: the figures of evaluations by hand, and shares by plain numpy."""

import numpy as np
import pytest
from conftest import write_dataset

import fslab
from fslab import FslabError
from fslab.datasets import load
from fslab.evaluate import evaluate, head_reports, layer_worth, map_shares, word_shares
from fslab.lab import Lab
from fslab.plots import head_map
from fslab.score import paired_bootstrap

BLOCK = "down_blocks.1.attentions.0.transformer_blocks.0"


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return load(write_dataset(tmp_path_factory.mktemp("data"), 3), "val")


def test_worth_is_the_change_between_two_evaluations(tiny, dataset):
    lab = Lab(tiny)
    recipe = lab.recipe("freeseg-diff").change({"extract.layers": [BLOCK]})
    parts = [f"{BLOCK}.attn1", f"{BLOCK}.ff"]
    worth = layer_worth(lab, dataset, parts, method=recipe, metrics=["mbo", "oracle"])
    clean = evaluate(lab, dataset, recipe, "mbo", progress=False)
    with lab.edit({parts[1]: fslab.zero}):
        edited = evaluate(lab, dataset, recipe, "mbo", progress=False)
    sides = [[row.counted for row in report.rows] for report in (clean, edited)]
    assert worth.change(parts[1], "mbo") == paired_bootstrap("mbo", *sides)
    assert worth.change(parts[1], "oracle") == paired_bootstrap("oracle", *sides)
    first, second = worth.table()
    assert (first["edited"], second["pictures"]) == (parts[0], 3)
    assert second["mbo"] == edited.scores["mbo"].miou
    assert second["mbo_change"] == pytest.approx(second["mbo"] - clean.scores["mbo"].miou)
    assert second["mbo_low"] <= second["mbo_change"] <= second["mbo_high"]
    shown = worth._repr_html_()
    assert f"{100 * second['oracle']:.1f}" in shown
    assert "oracle, change" in shown
    with pytest.raises(FslabError, match="give a list of module paths"):
        layer_worth(lab, dataset, BLOCK)


def test_heads_are_scored_like_layers_of_their_own(tiny, dataset):
    lab, path = Lab(tiny), f"{BLOCK}.attn1.to_q"
    recipe = lab.recipe("freeseg-diff")
    found = head_reports(lab, dataset, [path], recipe, limit=2)
    assert list(found) == [path, *(f"{path}#{head}" for head in range(8))]
    alone = recipe.change({"extract.layers": [f"{path}#5"]})
    expected = evaluate(Lab(tiny), dataset, alone, "mbo", limit=2, progress=False)
    assert found[f"{path}#5"].score == expected.score
    with pytest.raises(FslabError, match="has no heads"):
        head_reports(lab, dataset, [BLOCK], recipe)


def test_shares_are_covariances_with_the_mean():
    maps = np.random.default_rng(0).random((4, 2, 5, 6)).astype(np.float32)
    shares = map_shares(maps)
    mean = maps.mean(0)
    for word in range(2):
        by_hand = [np.cov(maps[head, word].ravel(), mean[word].ravel())[0, 1] for head in range(4)]
        assert np.allclose(shares[:, word], np.array(by_hand) / sum(by_hand), rtol=1e-4)
    assert np.allclose(shares.sum(0), 1)
    assert np.isnan(map_shares(np.ones((2, 1, 3, 3), np.float32))).all()


def test_word_shares_are_of_the_words_of_each_picture(tiny, dataset):
    lab, path = Lab(tiny), f"{BLOCK}.attn2.to_text"
    found = word_shares(lab, dataset, [path], 50)
    assert list(found) == [f"{path}#{head}" for head in range(8)]
    total = np.sum(list(found.values()), 0)
    assert np.allclose(total, 1)
    sample = next(iter(dataset))
    labels = [n for n in np.unique(sample.truth()) if 0 < n < 21]
    words = [dataset.vocabulary.texts(dataset.vocabulary.names[n])[0] for n in labels]
    maps = [
        list(lab.attention(sample.picture(), words, layers=[head], timesteps=50).values())
        for head in found
    ]
    assert [each[0] for each in found.values()] == pytest.approx(
        map_shares(np.array(maps)).mean(1), abs=1e-4
    )


def test_a_map_of_heads_has_a_row_for_each_layer():
    figures = {"up_blocks.0.attn1.to_q#0": 0.2, "up_blocks.0.attn1.to_q#1": 0.4, "mid.to_q#0": 0.3}
    cells = head_map(figures, "heads", "mBO").data[0]
    assert list(cells.y) == ["up.0.attn1.to_q", "mid.to_q"]
    assert list(cells.x) == ["0", "1"]
    assert np.array_equal(np.array(cells.z, float), [[0.2, 0.4], [0.3, np.nan]], equal_nan=True)
    with pytest.raises(FslabError, match="give them by the paths of heads"):
        head_map({"mid.to_q": 0.3}, "heads", "mBO")
    with pytest.raises(FslabError, match="figures are of nothing"):
        head_map({}, "heads", "mBO")
