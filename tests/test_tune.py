"""Which layer, timestep and K: criteria by hand, halving by plain lists, searches whole."""

import json
import tomllib
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import transformers_tiny
import true_models
from conftest import noise_picture, write_dataset
from sklearn.metrics import silhouette_score
from test_real_size_recipe import SMALL, WIDTHS

import fslab
from fslab import FslabError, Picture, Segments, read_recipe
from fslab.datasets import load, write_mask
from fslab.datasets.read import write_picture
from fslab.evaluate import evaluate
from fslab.lab import METHODS, Lab
from fslab.lab.recipes import CLUSTERINGS
from fslab.records import Features, KMeans, recipe_text
from fslab.score import summarise
from fslab.tune import (
    CRITERIA,
    Cell,
    block_patterns,
    contours,
    divergence,
    find_criteria,
    halve,
    silhouette,
    stability,
)
from fslab.tune.search import standing

PICTURES = [noise_picture(64, 64, 1), noise_picture(64, 96, 2), noise_picture(72, 64, 3)]
FEW = {"layers": ["mid_block", "up_blocks.0"], "timesteps": [50, 300], "ks": [2, 3]}


def halves(width=64, at=32):
    return Segments((np.arange(width)[None].repeat(64, 0) >= at).astype(np.int32))


def brighter_right(picture, segments):
    """A criterion of one's own: how much of the picture the last segment has."""
    return (segments.labels == segments.count - 1).mean()


# --- criteria


def test_contours_are_found_where_the_picture_has_them():
    pixels = np.zeros((64, 64, 3), np.uint8)
    pixels[:, 32:, 1] = 200
    picture = Picture(pixels)
    right, wrong = contours(picture, halves()), contours(picture, halves(at=10))
    assert right > 3
    assert wrong < 0
    assert contours(picture, Segments(np.zeros((64, 64), np.int32))) == 0
    assert contours(Picture(np.zeros((64, 64, 3), np.uint8)), halves()) == 0


def test_stability_is_one_for_the_same_and_nothing_for_one_segment():
    one = Segments(np.zeros((64, 64), np.int32))
    renumbered = Segments(1 - halves().labels)
    assert stability(halves(), (halves(), renumbered)) == pytest.approx(1)
    across = Segments(np.ascontiguousarray(halves().labels.T))
    assert abs(stability(halves(), (across,))) < 0.01
    assert stability(one, (one, one)) == 0


def test_silhouette_is_that_of_the_cells():
    values = np.random.default_rng(0).random((5, 8, 8)).astype(np.float32)
    features, how = Features({"a": values}, (64, 64)), KMeans(normalise="l2")
    cells = values.reshape(5, -1).T
    cells = cells / np.linalg.norm(cells, axis=1, keepdims=True)
    labels = np.arange(8)[None].repeat(8, 0).ravel() >= 4
    found = silhouette(features, halves(), how)
    assert found == pytest.approx(silhouette_score(cells, labels), abs=1e-5)
    assert silhouette(features, Segments(np.zeros((64, 64), np.int32)), how) == 0


def test_divergence_is_the_mean_of_both_ways():
    rng = np.random.default_rng(0)
    first, second = (rng.dirichlet(np.ones(4), 4).T.reshape(4, 2, 2) for _ in range(2))
    p, q = (each.reshape(4, 4).T for each in (first, second))
    by_hand = ((p * np.log(p / q)).sum(1) + (q * np.log(q / p)).sum(1)).mean() / 2
    maps = [Features({"x.probs": each.astype(np.float32)}, (8, 8)) for each in (first, second)]
    assert divergence((maps[0], maps[1])) == pytest.approx(by_hand, rel=1e-4)
    assert divergence((maps[0], maps[0])) == pytest.approx(0, abs=1e-9)


def test_what_is_no_criterion_is_refused():
    for wrong, words in (
        ("contour", "did you mean 'contours'|contours"),
        (3, "is no criterion"),
        (lambda picture, truth: 0, "parameter 'truth'"),
        (lambda: 0, "asks for nothing"),
        (["contours", "contours"], "each once"),
        ([], "name one at least"),
    ):
        with pytest.raises(FslabError, match=words):
            find_criteria(wrong)
    (nan,) = find_criteria([lambda segments: float("nan")])
    (text,) = find_criteria([lambda segments: "much"])
    with pytest.raises(FslabError, match="must be finite"):
        nan.value(segments=halves())
    with pytest.raises(FslabError, match="must return a number"):
        text.value(segments=halves())
    assert find_criteria("divergence")[0].tells_timesteps_only
    assert not any(CRITERIA[name].tells_timesteps_only for name in ("contours", "stability"))


def test_every_criterion_has_its_row_in_the_book():
    text = (Path(__file__).parents[1] / "docs/howto/tune.md").read_text()
    rows = [line.split("|")[1].strip() for line in text.splitlines() if line[:1] == "|"]
    built_in = [name for name, part in CRITERIA.items() if "fslab.tune" in f"{part.run}"]
    assert {f"`{name}`" for name in built_in} == {row for row in rows if row[:1] == "`"} - {
        "`--criterion`"
    }


# --- halving


class Told:
    """A judge to whom each cell is worth its K, and one cell of no picture."""

    names, by_masks = ("worth",), False

    def __init__(self, refused=()):
        self.asked, self.refused = [], refused

    def measure(self, seen, cells):
        self.asked.append([cell.k for cell in cells])
        return [FslabError("no") if cell.k in self.refused else {"worth": cell.k} for cell in cells]

    def figures(self, found):
        return {"worth": float(np.mean([each["worth"] for each in found]))}


class One:
    def __init__(self, name, bad=False):
        self.name, self.bad = name, bad

    def picture(self):
        if self.bad:
            raise FslabError(f"{self.name} is damaged")
        return PICTURES[0]


def test_half_of_the_choices_go_on_with_twice_the_pictures():
    judge, told = Told(), []
    cells = [Cell("a", None, k) for k in range(1, 9)]
    sources = [One(f"{n}", bad=n == 1) for n in range(20)]
    search = halve(cells, sources, judge, 2, lambda name, cells: told.append((name, cells)))
    assert [(each.cells, each.pictures) for each in search.rounds] == [(8, 2), (4, 4), (2, 8)]
    assert search.tried[0].cell.k == 8
    assert [each.cell.k for each in search.tried[:4]] == [8, 7, 6, 5]
    assert len(search.tried) == 8
    assert judge.asked[2] == [8, 7, 6, 5]
    assert search.left_out == {"1": "1 is damaged"}
    assert told[-1][1] == 2
    few = halve(cells, sources[2:5], Told(), 2, lambda *_: None)
    assert [(each.cells, each.pictures) for each in few.rounds] == [(8, 2), (4, 3)]


def test_a_refused_choice_is_out_and_a_refused_picture_left_out():
    cells = [Cell("a", None, k) for k in (1, 2, 3)]
    found = halve(cells, [One("a"), One("b")], Told(refused=[3]), 2, lambda *_: None)
    assert found.tried[0].cell.k == 2
    assert found.tried[-1].refused == "a: no"
    with pytest.raises(FslabError, match=r"none of the first 2 pictures .* no"):
        halve(cells, [One(f"{n}") for n in range(9)], Told([1, 2, 3]), 2, lambda *_: None)
    with pytest.raises(FslabError, match="no pictures to tune on"):
        halve(cells, [], Told(), 2, lambda *_: None)


def test_criteria_of_other_scales_count_alike():
    figures = [{"a": 0.1, "b": 900}, {"a": 0.2, "b": 100}, {"a": 0.3, "b": 500}]
    assert standing(figures) == pytest.approx([0.5, 0.25, 0.75])
    assert standing([{"a": 5.0}, {"a": 7.0}]) == [5.0, 7.0]


# --- searches


def test_a_search_over_pictures_of_several_sizes(tiny, tmp_path):
    lab = Lab(tiny, store=tmp_path / "store")
    out = tmp_path / "out"
    found = lab.tune(PICTURES, criteria=[*CRITERIA], first=1, out=out, progress=False, **FEW)
    assert [(each.cells, each.pictures) for each in found.rounds] == [(8, 1), (4, 2), (2, 3)]
    assert found.recipe.extract.layers == (found.best.layer,)
    assert found.recipe.extract.timesteps == (found.best.timestep,)
    assert found.recipe.cluster.k == found.best.k
    assert found.recipe.refine == METHODS["fslab"].refine
    assert read_recipe(out / "recipe.toml") == found.recipe
    rows = found.table()
    assert len(rows) == 8
    assert rows[0]["pictures"] == 3
    data = json.loads((out / "tune.json").read_text())
    each = data["tried"][0]["found"]
    assert rows[0]["contours"] == pytest.approx(
        np.mean([one["contours"] for one in each.values()]), abs=1e-4
    )
    page = (out / "tune.html").read_text()
    assert page.count("plotly-graph-div") >= 4
    assert str(found.best) in page
    assert (out / "tune.csv").read_text().count("\n") == 9
    values, layers, steps = found.map("stability")
    assert (values.shape, steps) == ((2, 2), ["50", "300"])
    assert layers == FEW["layers"]
    firsts = [row["stability_first"] for row in rows if row["layer"] == "mid_block"]
    assert values[0].max() == pytest.approx(max(firsts), abs=1e-4)
    assert "Tuning(" in repr(found)
    assert "<table" in found._repr_html_()
    with pytest.raises(FslabError, match="was not asked"):
        found.map("mbo")


def test_values_are_what_stages_give_by_hand(tiny):
    lab = Lab(tiny)
    picture, recipe = PICTURES[1], lab.recipe("fslab")
    found = lab.tune(
        [picture], criteria=["stability", "contours"], first=1, progress=False,
        layers=["mid_block"], timesteps=[50], ks=[2, 3],
    )  # fmt: skip
    cut = recipe.change(
        {"extract.layers": ["mid_block"], "extract.timesteps": [50], "cluster.k": 3,
         "cluster.also": []}
    )  # fmt: skip
    first = lab.segments(picture, cut)
    noise = lab.segments(picture, cut.change({"extract.seed": 1}))
    mirrored = Picture(np.ascontiguousarray(picture.pixels[:, ::-1]))
    turned = Segments(np.ascontiguousarray(lab.segments(mirrored, cut).labels[:, ::-1]))
    row = next(row for row in found.table() if row["k"] == 3)
    assert row["stability"] == pytest.approx(stability(first, (noise, turned)), abs=1e-4)
    assert row["contours"] == pytest.approx(contours(picture, first), abs=1e-4)


def test_masks_decide_by_the_evaluations_own_figure(tiny, tmp_path):
    dataset = load(write_dataset(tmp_path, 3), "val")
    lab = Lab(tiny)
    found = lab.tune(dataset, metric="mbo", first=3, progress=False, **FEW)
    for row in found.table()[:2]:
        cell = Cell(row["layer"], row["timestep"], row["k"])
        report = evaluate(lab, dataset, cell.of(lab.recipe("fslab")), "mbo", progress=False)
        assert row["mbo"] == pytest.approx(report.scores["mbo"].figure, abs=1e-4)
    assert found.table()[0]["mbo"] == max(row["mbo"] for row in found.table())
    assert "masks of these pictures" in _page(found)


def test_a_few_masks_of_a_folder_are_enough(tiny, tmp_path):
    for picture, name in zip(PICTURES, "abc", strict=True):
        write_picture(picture.pixels, tmp_path / "pictures" / f"{name}.png")
    truth = np.zeros((64, 96), np.uint8)
    truth[:, 48:] = 200
    write_mask(truth, tmp_path / "masks" / "b.png")
    found = Lab(tiny).tune(tmp_path / "pictures", masks=tmp_path / "masks", progress=False, **FEW)
    assert found.search.seen == ["b"]
    assert found.criteria == ("hungarian",)
    every = Lab(tiny).tune(tmp_path / "pictures", criteria="contours", progress=False, **FEW)
    assert sorted(every.search.seen) == ["a", "b", "c"]
    write_mask(truth, tmp_path / "other" / "d.png")
    with pytest.raises(FslabError, match="no mask of these pictures"):
        Lab(tiny).tune(tmp_path / "pictures", masks=tmp_path / "other")


def test_an_interrupted_search_goes_on_where_it_was(tiny, tmp_path):
    calls = []

    @fslab.parts.versioned(1)
    def criterion(segments):
        calls.append(segments.count)
        if len(calls) == 11:
            raise KeyboardInterrupt
        return segments.labels.mean()

    search = partial(
        Lab(tiny, store=tmp_path).tune, PICTURES, criteria=criterion, first=2, progress=False, **FEW
    )
    with pytest.raises(KeyboardInterrupt):
        search()
    before = len(calls)
    found = search()
    assert len(calls) == before + 10  # of 8 choices on 2 pictures and 4 on a third ten are there
    assert search().table() == found.table()
    assert len(calls) == before + 10


def test_a_function_of_ones_own_decides_and_a_name_is_found(tiny):
    name = f"{__name__}:brighter_right"
    lab = Lab(tiny)
    mine = lab.tune(PICTURES[:1], criteria=brighter_right, progress=False, **FEW)
    dotted = lab.tune(PICTURES[:1], criteria=[name], progress=False, **FEW)
    assert mine.best == dotted.best
    assert mine.table()[0][name] == max(row[name] for row in mine.table())


def test_a_vision_transformer_has_blocks_and_no_timesteps(vision_folders):
    lab = Lab("mini", vision_folders["dinov2"], captioner=None, clip=None)
    assert block_patterns(lab.backbone, lab.layers()) == ("encoder.layer.0", "encoder.layer.1")
    found = lab.tune(PICTURES[:2], ks=[2, 3], progress=False)
    assert {row["layer"] for row in found.table()} == {"encoder.layer.0", "encoder.layer.1"}
    assert {row["timestep"] for row in found.table()} == {None}
    assert found.recipe.extract.timesteps == METHODS["fslab"].extract.timesteps
    assert lab.segments(PICTURES[0], found.recipe).count <= 3
    assert "no timestep" in _page(found)
    for asked, words in (
        ({"timesteps": [50]}, "has no timesteps; leave them out"),
        ({"criteria": ["divergence", "contours"]}, "has no timesteps, so no criterion"),
    ):
        with pytest.raises(FslabError, match=words):
            lab.tune(PICTURES, progress=False, **asked)


def test_colours_leave_k_to_choose_and_then_nothing():
    lab = Lab("mini", "rgb", captioner=None, clip=None)
    found = lab.tune(PICTURES[:1], ks=[2, 3], criteria="contours", progress=False)
    assert found.best.layer == ""
    with pytest.raises(FslabError, match="rgb with fslab leaves one choice, the usual layers, K"):
        lab.tune(PICTURES, ks=[4])


def test_a_method_that_finds_k_is_tuned_in_layers_and_timesteps(tiny):
    lab = Lab(tiny)
    found = lab.tune(
        PICTURES[:1], "diffcut", layers=["mid_block", "up_blocks.0"], timesteps=[50], progress=False
    )
    assert {row["k"] for row in found.table()} == {None}
    assert found.recipe.cluster == METHODS["diffcut"].cluster
    with pytest.raises(FslabError, match="finds K for each picture by 'ncut'"):
        lab.tune(PICTURES[:1], "diffcut", ks=[4])


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"layers": "mid_block"}, "give a list of paths"),
        ({"layers": ["nowhere"]}, "nowhere"),
        ({"layers": ["mid_block", "mid_block"]}, "name each once"),
        ({"timesteps": [1000]}, "0 to 999"),
        ({"ks": [0]}, "k is 0|clustering.k"),
        ({"first": 0}, "first is 0"),
        ({"limit": 0}, "limit is 0"),
        ({"criteria": "divergence"}, "tells timesteps apart, and layers and K not"),
        ({"criteria": "contours", "metric": "mbo"}, "criteria are for pictures without masks"),
        ({"metric": "mbo"}, "has no masks to tune by"),
        ({"pictures": "nowhere"}, "is not a folder"),
        ({"pictures": []}, "no pictures to tune on"),
        ({"method": "fslabb"}, "no method"),
    ],
)
def test_what_cannot_be_searched_is_refused(tiny, asked, words):
    asked = {"pictures": PICTURES, **FEW, **asked}
    with pytest.raises(FslabError, match=words):
        Lab(tiny).tune(asked.pop("pictures"), progress=False, **asked)


def test_a_metric_of_names_is_refused(tiny, tmp_path):
    dataset = load(write_dataset(tmp_path, 2), "val")
    with pytest.raises(FslabError, match="counts names, and segments have none"):
        Lab(tiny).tune(dataset, metric="voc21", **FEW)
    with pytest.raises(FslabError, match="leave them out"):
        Lab(tiny).tune(dataset, masks=tmp_path, **FEW)


def test_four_blocks_as_stable_diffusion_has_them(tmp_path):
    text = {**SMALL["text"], "hidden_size": 32, "num_attention_heads": 2}
    unet = {**SMALL["unet"], **WIDTHS["sd1"]}
    folder = true_models.save_diffusion(tmp_path, "sd1", unet=unet, vae=SMALL["vae"], text=text)
    lab = Lab(folder, captioner=None, clip=None)
    assert len(block_patterns(lab.backbone, lab.layers())) == 9
    found = lab.tune(PICTURES[:1], criteria=[*CRITERIA], timesteps=[50], ks=[2], progress=False)
    assert len(found.table()) == 9
    assert not any(row["refused"] for row in found.table())


@pytest.mark.parametrize(
    ("kind", "blocks"),
    [("sd3", ["transformer_blocks.0", "transformer_blocks.2"]),
     ("flux", ["transformer_blocks.1", "single_transformer_blocks.1"])],
)  # fmt: skip
def test_a_transformer_s_blocks_are_its_choices(tmp_path, kind, blocks):
    lab = Lab(transformers_tiny.save(tmp_path, kind), captioner=None, clip=None)
    assert set(blocks) < set(block_patterns(lab.backbone, lab.layers()))
    asked = {"layers": blocks, "timesteps": [50], "ks": [2], "criteria": [*CRITERIA]}
    small = lab.recipe("fslab").change({"extract.resolution": 64})
    found = lab.tune(PICTURES[:1], small, progress=False, **asked)
    assert not any(row["refused"] for row in found.table())
    if kind == "flux":
        with pytest.raises(FslabError, match=r"1024 cells or fewer .* smaller extract.resolution"):
            lab.tune(PICTURES[:1], progress=False, **asked)


@pytest.mark.slow
def test_one_cell_of_stable_diffusion_in_its_true_size(tmp_path):
    folder = true_models.save_diffusion(tmp_path / "sd1")
    lab = Lab(folder, captioner=None, clip=None, precision="bf16")
    found = lab.tune(
        [noise_picture(375, 500)], criteria="contours", layers=["up_blocks.1"], timesteps=[50],
        ks=[4, 6], progress=False,
    )  # fmt: skip
    assert len(found.table()) == 2


# --- recipe files and the command line


@pytest.mark.parametrize("recipe", [*METHODS.values(), *CLUSTERINGS.values()], ids=lambda r: r.name)
def test_a_recipe_file_is_read_as_it_was(tmp_path, recipe):
    path = tmp_path / "recipe.toml"
    path.write_text(recipe_text(recipe, "a comment\nof two lines"))
    assert tomllib.loads(path.read_text())["name"] == recipe.name
    assert read_recipe(path) == recipe
    assert read_recipe(path).digest == recipe.digest


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("name = ", "not valid TOML"),
        ("[cluster]\nkk = 3", "'kk'"),
        ("[clusters]\nk = 3", "no 'clusters'"),
        ("name = 3", "not a recipe"),
    ],
)
def test_a_wrong_recipe_file_is_refused_by_name(tmp_path, text, words):
    path = tmp_path / "recipe.toml"
    path.write_text(text)
    with pytest.raises(FslabError, match=words) as refused:
        read_recipe(path)
    assert "recipe.toml" in str(refused.value)
    with pytest.raises(FslabError, match="cannot be read"):
        read_recipe(tmp_path / "nowhere.toml")


def test_the_command_writes_a_recipe_that_segments(tiny, tmp_path, run):
    for picture, name in zip(PICTURES, "abc", strict=True):
        write_picture(picture.pixels, tmp_path / "pictures" / f"{name}.png")
    asked = ["--layer", "mid_block", "--timestep", 50, "--k", 2, "--k", 3, "--preset", tiny]
    code, out, error = run("tune", tmp_path / "pictures", "--out", tmp_path / "out", *asked)
    assert (code, "chosen for pictures: mid_block, t = 50" in out) == (0, True), error
    recipe = tmp_path / "out" / "recipe.toml"
    place = tmp_path / "segments"
    picture = tmp_path / "pictures" / "a.png"
    words = ["segment", picture, "--out", place, "--preset", tiny, "--classes", "dog"]
    assert run(*words, "--recipe", recipe)[0] == 0
    assert (place / "a.json").is_file()
    told = json.loads((place / "a.json").read_text())["recipe"]
    assert told["extract"]["layers"] == ["mid_block"]
    code, _, error = run("evaluate", tmp_path, "--recipe", recipe, "--cluster", "kmeans")
    assert (code, "exclude each other" in error) == (2, True)
    code, _, error = run("tune", tmp_path / "pictures", "--out", picture, *asked)
    assert (code, "is a file" in error) == (2, True)


def test_the_same_counts_make_the_same_figure(tiny, tmp_path):
    dataset = load(write_dataset(tmp_path, 2), "val")
    found = Lab(tiny).tune(dataset, metric="hungarian", first=2, progress=False, **FEW)
    counts = list(found.search.tried[0].found.values())
    assert found.table()[0]["hungarian"] == pytest.approx(
        summarise("hungarian", counts).figure, abs=1e-4
    )


def _page(found):
    from fslab.tune.page import tuning_page

    return tuning_page(found)
