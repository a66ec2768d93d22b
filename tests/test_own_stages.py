"""A function of one's own in a stage's place: kept apart, checked, and sent to other processes."""

import linecache
import pickle
import sys
from dataclasses import dataclass, field, make_dataclass
from unittest.mock import patch

import cloudpickle
import numpy as np
import pytest
from conftest import write_dataset

import fslab
from fslab import datasets, keys
from fslab.evaluate import evaluate, plan
from fslab.lab import Lab
from fslab.records import (
    Caption,
    CellClustering,
    Features,
    FslabError,
    KMeans,
    LabelMap,
    Picture,
    Recipe,
    Segments,
    clustering,
)

PLAIN = Recipe("plain", cluster=KMeans(k=3, restarts=1))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return datasets.voc(write_dataset(tmp_path_factory.mktemp("set"), 2))


@pytest.fixture
def lab():
    return Lab("mini", "rgb")


def columns(features, parts=8):
    h, w = features.size
    return np.arange(w)[None].repeat(h, 0) * parts // w


def test_results_of_an_own_stage_are_never_those_of_another(lab, data, tmp_path):
    """A lab that overrode a stage took a plain lab's rows from the folder, and gave its figure."""
    figures = {}
    for name, stages in {"usual": {}, "own": {"cluster": columns}, "again": {}}.items():
        report = evaluate(lab, data, PLAIN, "oracle", out=tmp_path, progress=False, **stages)
        figures[name] = report.score.miou
        alone = evaluate(lab, data, PLAIN, "oracle", progress=False, **stages)
        assert report.score == alone.score
    assert figures["usual"] == figures["again"] != figures["own"]
    picture = data.samples[0].picture()
    own = lab.segments(picture, PLAIN, cluster=columns)
    assert (own.labels == columns(lab.extract(picture))).all()
    recipe = lab.recipe(PLAIN, cluster=columns)
    assert recipe.name == f"plain, cluster = {__name__}:columns"
    assert Recipe.from_dict(recipe.to_dict()) == recipe
    with pytest.raises(FslabError, match="its code is another"):
        Recipe.from_dict({"cluster": {"own": f"{__name__}:columns", "identity": "older"}})


def test_what_a_function_reads_counts_when_it_is_run(lab, picture):
    parts = 2

    def split(features):
        return columns(features, parts)

    recipe = lab.recipe(PLAIN, cluster=split)
    assert lab.segments(picture, recipe).count == 2
    parts = 5
    assert lab.segments(picture, recipe).count == 5
    assert lab.cluster(lab.extract(picture), method=split).count == 5


def test_a_lab_that_overrides_a_stage_is_refused_with_what_to_do(data, picture):
    class Mine(Lab):
        def _cluster(self, features, settings, candidates):
            return Segments(columns(features).astype(np.int32))

    message = r"Mine overrides Lab\._cluster.*lab\.segment\(picture, recipe, cluster=function\)"
    for act in (lambda lab: lab.segments(picture), lambda lab: evaluate(lab, data, PLAIN)):
        with pytest.raises(FslabError, match=message):
            act(Mine("mini", "rgb"))


def own_features(picture, words):
    return Features({"green": picture.pixels[None, ::4, ::4, 1].astype(np.float32)}, picture.size)


def own_caption(picture, vocabulary):
    return Caption("a dog by a zebra", ("dog", "zebra"), ("dog", "zebra"))


def own_match(picture, segments, candidates, vocabulary):
    places = [vocabulary.names.index(name) for name in candidates]
    return LabelMap(np.array(places)[segments.labels % len(places)], vocabulary.names)


def own_refinement(picture, labels):
    return labels.labels[:, ::-1].copy()


OWN = {
    "extract": own_features, "caption": own_caption, "cluster": columns, "match": own_match,
    "refine": own_refinement,
}  # fmt: skip


def test_every_stage_can_be_one_s_own_one_by_one_and_together(picture):
    lab = Lab("mini", "rgb", captioner=None, clip=None)
    result = lab.segment(picture, "fslab", **OWN)
    assert list(result.features) == ["green"]
    assert result.vocabulary.names[-1] == "zebra"
    first, *_, last = (result.labels.names[label] for label in result.labels.labels[0])
    assert (first, last) == ("zebra", "dog")
    (other,) = lab.segment_many([picture], "fslab", **OWN)
    assert (other.labels.labels == result.labels.labels).all()
    with pytest.raises(FslabError, match="opened without"):
        plan(lab, "fslab", fslab.VOC)
    assert plan(lab, result.recipe, fslab.VOC).named


WRONG = {
    "columns returned segments of 2 x 2 pixels": {"cluster": lambda features: np.eye(2, dtype=int)},
    r"did not return segments.*float64": {"cluster": lambda features: np.ones(features.size)},
    r"returned ndarray|returned float": {"extract": lambda picture: np.ones((1, 2, 2))},
    "holds NaN": {"extract": lambda p: Features({"x": np.full((1, 2, 2), np.nan)}, p.size)},
    "features of a picture of": {"extract": lambda p: Features({"x": np.ones((1, 2, 2))}, (2, 2))},
    r"must return fslab.Caption": {"caption": lambda picture: "a dog"},
    r"must return fslab.LabelMap": {"match": lambda picture, segments, candidates: None},
    r"must be the vocabulary's": {
        "match": lambda p, s, c: LabelMap(np.zeros(p.size, int), ("background", "dog"))
    },
    r"did not return a label map": {"refine": lambda picture, labels: labels.labels / 2},
    r"returned labels of \(2, 2\)": {"refine": lambda picture, labels: np.zeros((2, 2), int)},
    r"returned label 99": {"refine": lambda picture, labels: np.full(picture.size, 99)},
    "5 is not a function": {"cluster": 5},
    "cannot be imported": {"cluster": "no_such_module:f"},
    "a recipe has no setting 'clustr'": {"clustr": columns},
}  # fmt: skip


@pytest.mark.parametrize("message", WRONG)
def test_what_an_own_function_returns_is_checked_and_refused_by_name(message, picture):
    lab = Lab("mini", "rgb", captioner=None, clip=None)
    stages = {**OWN, **WRONG[message]}
    message = message.replace("columns", "<lambda>")
    with pytest.raises(FslabError, match=message):
        lab.segment(picture, "fslab", **stages)


THEIRS = """
from dataclasses import dataclass, field, make_dataclass
from fslab.records import CellClustering, clustering
def one(features): return features
@dataclass(frozen=True)
class Halves(CellClustering):
    share: float = 0.5
@clustering("halves", settings=Halves, finds_k=True)
def halves(cells, settings): return (cells[:, 0] > settings.share).astype(int)
"""


@pytest.mark.parametrize("change", [{"cluster": "their_stage:one"}, {"cluster.method": "halves"}])
def test_recipes_go_to_processes_that_have_not_the_source(monkeypatch, tmp_path, change):
    """As a notebook's functions and classes do: by value."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "their_stage.py").write_text(THEIRS)
    with patch.dict(fslab.clustering._parts):
        import their_stage

        cloudpickle.register_pickle_by_value(their_stage)
        recipe = Recipe().change(change).renewed()
        sent = cloudpickle.dumps(recipe), recipe.digest, keys.changed(recipe.cluster)
        (tmp_path / "their_stage.py").unlink()
        linecache.clearcache()
        with pytest.raises(FslabError, match=r"source.*versioned\(1\)"):
            recipe.renewed()
        cloudpickle.unregister_pickle_by_value(their_stage)
        del sys.modules["their_stage"]
    there = pickle.loads(sent[0]).renewed()
    assert (there.digest, keys.changed(there.cluster)) == sent[1:]


class Says:
    """A captioner of one's own."""

    fingerprint = "says-1"

    def caption(self, pixels):
        return "a photo of a dog"


def test_a_captioner_and_a_clip_come_as_objects(tiny, picture):
    lab = Lab(tiny, captioner=Says(), clip=Lab(tiny).matcher)
    assert lab.caption(picture, words="closed", mapping="name").candidates == ("dog",)
    assert lab.captioner_fingerprint.endswith("Says says-1")
    with pytest.raises(FslabError, match=r"clip is a Matcher without a fingerprint.*`fingerprint`"):
        lab.match(picture, Segments(np.zeros(picture.size, int)), ["dog"])
    with pytest.raises(FslabError, match="captioner is <object"):
        Lab(tiny, captioner=object())


def test_settings_of_another_method_are_refused_and_stay_its_own():
    """All k-means was the new clustering from then on."""
    with pytest.raises(
        FslabError, match=r"'mine'.*KMeans.*those of 'kmeans'.*class Mine\(KMeans\)"
    ):
        clustering.add("mine", halves_of_cells, settings=KMeans)
    assert ("mine" in clustering, KMeans().method) == (False, "kmeans")


def halves_of_cells(cells, settings):
    return (np.arange(len(cells)) * 2 // len(cells)).astype(int)


def test_a_default_and_a_method_of_own_settings_count():
    """Keys leave out what has its default, so an edited default gave the results of the former."""

    def identity_by(default, factor):
        class Own(CellClustering):
            level: float = default

            def twice(self):
                return self.level * factor

        with patch.dict(clustering._parts):
            own = dataclass(frozen=True)(Own)
            clustering.add("own", halves_of_cells, settings=own, finds_k=True)
            return own().identity

    assert identity_by(1.0, 2) == identity_by(1.0, 2)
    assert len({identity_by(1.0, 2), identity_by(3.0, 2), identity_by(1.0, 3)}) == 3


def with_field(kind, default):
    """Return settings with one field of a type, a default or what makes it."""
    return make_dataclass("Odd", [("level", kind, default)], bases=(CellClustering,), frozen=True)


class Bare(CellClustering):
    level: float = 1.0


ODD = {
    "have no default for 'level'": with_field(float, field()),
    "Odd have array": with_field(np.ndarray, field(default_factory=lambda: np.ones(3))),
    "have no default for 'inner'": make_dataclass(
        "Odd", [("inner", KMeans, field())], bases=(CellClustering,), frozen=True
    ),
    "Odd have KMeans": with_field(KMeans, field(default=KMeans())),
    "a field 'method'": make_dataclass(
        "Odd", [("method", str, field(default="x"))], bases=(CellClustering,), frozen=True
    ),
    "write @dataclass": Bare,
}  # fmt: skip


@pytest.mark.parametrize("said", ODD)
def test_settings_that_cannot_be_kept_are_refused_when_they_are_registered(said):
    with pytest.raises(FslabError, match=f"'odd'.*{said}"):
        clustering.add("odd", halves_of_cells, settings=ODD[said], finds_k=True)
    assert "odd" not in clustering


@pytest.mark.parametrize("name", ["", "a:b", 5, None])
def test_a_name_that_no_recipe_could_hold_is_refused(name):
    with pytest.raises(FslabError, match="cannot name a clustering"):
        clustering.add(name, halves_of_cells, settings=with_field(float, 1.0), finds_k=True)
    with pytest.raises(FslabError, match="clustering"):
        clustering.find(name)


def test_recipes_that_were_written_otherwise_are_refused():
    own = {"own": "test_own_stages:columns"}
    for wrong, said in {
        "not a recipe": [1], r"5.*not a recipe": {"name": 5}, "k cannot be set": {"cluster": {**own, "k": 3}},
        "not the name of a clustering": {"cluster": {"method": ["kmeans"]}},
    }.items():  # fmt: skip
        with pytest.raises(FslabError, match=wrong):
            Recipe.from_dict(said)


def test_a_function_of_other_arguments_is_refused(lab, picture):
    for wrong in (lambda: 3, lambda one, other: 3):
        with pytest.raises(FslabError, match="called with Features, and"):
            lab.segments(picture, PLAIN, cluster=wrong)


def test_pixels_that_were_written_over_are_another_picture(lab, picture):
    """The digest was remembered, so the segments of the former pixels came back."""
    mine = Picture(picture.pixels.copy())
    before = lab.segments(mine, PLAIN)
    assert mine.digest == picture.digest
    mine.pixels[...] = mine.pixels[::-1].copy()
    assert mine.digest != picture.digest
    again = lab.segments(mine, PLAIN)
    assert (again.labels == Lab("mini", "rgb").segments(mine, PLAIN).labels).all()
    assert (again.labels != before.labels).any()
