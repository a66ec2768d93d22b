"""Parts that are added from outside the package: each in segment, evaluate, ablate and an explorer."""

import importlib
import json
import linecache
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from importlib import import_module
from unittest.mock import patch

import numpy as np
import pytest
import torch
import transformers_tiny
from conftest import MINI, noise_picture, write_dataset
from diffusers import FlowMatchEulerDiscreteScheduler
from scipy.ndimage import median_filter
from sklearn.cluster import MeanShift as SklearnMeanShift

import fslab
from fslab import datasets
from fslab.backbones import Backbone, Layer, open_backbone
from fslab.backbones.families import Family, family
from fslab.datasets import write_mask
from fslab.evaluate import ablate, evaluate
from fslab.lab import Lab
from fslab.records import CellClustering, Extraction, FslabError, Refinement, Slider
from fslab.score import Terms, metric, summarise
from fslab.weights import missing_parts
from fslab.weights.parts import parts_of
from fslab.widgets import explore_clusters, explore_refinement


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return datasets.voc(write_dataset(tmp_path_factory.mktemp("set"), 2))


@pytest.fixture(autouse=True)
def no_trace():
    """What a test adds is gone after it."""
    with ExitStack() as stack:
        for registry in (fslab.clustering, fslab.refinement, metric, family):
            stack.enter_context(patch.dict(registry._parts))
        yield


def experiment(folder, name, base, change):
    """Write an ablation of two rows, the second with a change."""
    text = f'title = "{name}"\nmetrics = ["{name}"]\nbase = {base}\n'
    path = folder / "outside.toml"
    path.write_text(text + f'[[row]]\nname = "as it is"\n[[row]]\nname = "other"\n{change}\n')
    return path


# --- a clustering


def test_a_clustering(tiny, data, tmp_path):
    @dataclass(frozen=True)
    class MeanShift(CellClustering):
        """Mean shift. bandwidth: how far a mean looks."""

        bandwidth: float = 0.3

    @fslab.clustering(
        "meanshift", settings=MeanShift, finds_k=True,
        knobs=(Slider("bandwidth", "bandwidth", 0.1, 1.0, 0.05),),
    )  # fmt: skip
    def meanshift(cells, settings):
        return SklearnMeanShift(bandwidth=settings.bandwidth).fit_predict(cells)

    lab, picture = Lab(tiny, "rgb"), data.samples[0].picture()
    recipe = lab.recipe("fslab").change({"cluster.method": "meanshift", "cluster.bandwidth": 0.4})
    found = lab.segment(picture, recipe, candidates=["dog"]).segments
    features = lab.extract(picture)
    cells = np.concatenate(list(features.values())).reshape(5, -1).T
    assert found.count == SklearnMeanShift(bandwidth=0.4).fit_predict(cells).max() + 1
    assert lab.cluster(features, method="meanshift", bandwidth=0.4).count == found.count
    oracle = evaluate(lab, data, recipe, "oracle", progress=False).score
    change = 'set = { "cluster.method" = "meanshift", "cluster.bandwidth" = 0.4 }'
    file = experiment(tmp_path, "oracle", '{ cluster = "kmeans", backbone = "rgb" }', change)
    assert ablate(file, data, progress=False).rows[1].scores["oracle"] == oracle
    explorer = explore_clusters(lab, picture, recipe)
    explorer.bandwidth = 0.5
    explorer.wait()
    assert explorer.recipe.cluster == MeanShift(normalise="none", bandwidth=0.5)


# --- a metric


def test_a_metric(data, tmp_path):
    @metric(
        "accuracy", needs="segments", part="oracle", background="a class",
        note="share of pixels whose segment has their class most often",
    )  # fmt: skip
    def accuracy(per_image, part):
        tables = [image.tally(part).confusion().counts for image in per_image]
        right = np.array([[np.trace(table)] for table in tables], float)
        return Terms(("pixels",), right, np.array([[table.sum()] for table in tables], float))

    lab = Lab("mini", "rgb")
    report = evaluate(lab, data, "diffcut", "accuracy", progress=False)
    by_hand = []
    for sample in data:
        labels, truth = lab.segments(sample.picture(), "diffcut").labels, sample.truth()
        counted = truth != 255
        for one in range(labels.max() + 1):
            classes = np.bincount(truth[counted & (labels == one)], minlength=3)
            by_hand.append((classes.max(), classes.sum()))
    right, pixels = np.sum(by_hand, 0)
    assert report.score.miou == report.scores["accuracy"].miou == pytest.approx(right / pixels)
    assert report.to_dict()["scores"]["accuracy"]["protocol"].startswith("share of pixels")
    assert summarise("accuracy", [row.score for row in report.rows]).miou == report.score.miou
    file = experiment(
        tmp_path, "accuracy", '{ cluster = "kmeans", backbone = "rgb" }',
        'set = { "cluster.k" = 2 }',
    )  # fmt: skip
    rows = ablate(file, data, out=tmp_path / "out", progress=False).rows
    assert rows[0].scores["accuracy"].miou > rows[1].scores["accuracy"].miou > 0.5
    assert "share of pixels" in (tmp_path / "out" / "figure.html").read_text()


def classes_named(truth, labels, names):
    """Count the classes of a truth that are named anywhere, and all of them."""
    shown = np.setdiff1d(truth, (0, 255))
    return np.isin(shown, labels).sum(), len(shown)


def test_a_metric_that_counts_what_is_not_counted_yet(tiny, data, tmp_path, run):
    @metric(
        "recall", needs="guess", count=classes_named, figure="share of classes",
        background="no class", note="share of the truth's classes that are named anywhere",
    )  # fmt: skip
    def recall(per_image, part):
        hits, sizes = np.array([image.counts(part) for image in per_image]).T
        return Terms((), np.empty((len(hits), 0)), np.empty((len(hits), 0)), (hits, sizes))

    lab = Lab(tiny, "rgb")
    recipe = lab.recipe("fslab", match=only_the_first).change({"caption.words": "all"})
    report = evaluate(lab, data, recipe, "recall", out=tmp_path / "out", progress=False)
    assert report.score.figure == report.scores["recall"].figure == 0.5
    assert "voc21" in report.scores
    with pytest.raises(fslab.FslabError, match="no mean IoU but a share of classes"):
        _ = report.score.miou
    again = evaluate(lab, data, recipe, "recall", out=tmp_path / "out", progress=False)
    assert (again.score, len(again.rows)) == (report.score, 2)
    assert (tmp_path / "out" / "results.jsonl").read_text().count('"own": {"recall": [') == 2
    for sample in data:
        write_mask(np.full(sample.truth().shape, 2, np.uint8), tmp_path / f"{sample.name}.png")
    truths = data.samples[0].truth_path.parent
    _, out, _ = run("score", tmp_path, truths, "--metric", "recall", "--json")
    assert json.loads(out.splitlines()[-1])["figure"] == 0.5
    words = (
        "--preset",
        tiny,
        "--backbone",
        "rgb",
        "--set",
        "match=test_from_outside:only_the_first",
    )
    code, out, _ = run("evaluate", truths.parent, *words, "--metric", "recall")
    assert code == 0
    assert "recall 50.0 over 2 pictures" in out
    assert "share of the truth's classes that are named anywhere" in out


def only_the_first(picture, segments, candidates, vocabulary):
    return fslab.LabelMap(np.ones_like(segments.labels), vocabulary.names)


# --- a refinement


def by_number(picture, segments, candidates, vocabulary):
    return fslab.LabelMap(segments.labels % 3, vocabulary.names)


def test_a_refinement(tiny, data, tmp_path):
    @dataclass(frozen=True)
    class Median(Refinement):
        """A median filter. size: of its window, in pixels."""

        size: int = 5

    @fslab.refinement("median", settings=Median, knobs=(Slider("size", "window", 1, 15, 2),))
    def median(picture, labels, settings):
        return median_filter(labels.labels, settings.size)

    lab, picture = Lab(tiny, "rgb"), data.samples[0].picture()
    change = {"refine.method": "median", "refine.size": 9, "match": by_number}
    recipe = lab.recipe("fslab").change({**change, "caption.words": "all"})
    result = lab.segment(picture, recipe)
    assert (result.labels.labels == median_filter(result.named.labels, 9)).all()
    assert not (result.labels.labels == result.named.labels).all()
    voc21 = evaluate(lab, data, recipe, progress=False).score
    base = '{ method = "fslab", backbone = "rgb", set = { "caption.words" = "all" } }'
    change = (
        '"refine.method" = "median", "refine.size" = 9, "match" = "test_from_outside:by_number"'
    )
    file = experiment(tmp_path, "voc21", base, f"set = {{ {change} }}")
    assert ablate(file, data, preset=str(tiny), progress=False).rows[1].scores["voc21"] == voc21
    explorer = explore_refinement(lab, picture, recipe, size=3)
    explorer.wait()
    assert (explorer.labels.labels == median_filter(result.named.labels, 3)).all()


# --- a backbone


class Grey(Backbone):
    """How bright cells of 8 x 8 pixels are."""

    name, resolution, multiple = "grey", 64, 8
    fingerprint, default_layers = "grey-1", ("brightness",)

    def layers(self):
        return (Layer("brightness", 1, 8),)

    def run(self, picture, size, wanted, settings):
        h, w = (side // 8 for side in size)
        grey = picture.pixels.mean(2)[: 8 * h, : 8 * w].reshape(h, 8, w, 8).mean((1, 3))
        return {("brightness", step): torch.tensor(grey[None]).float() for step in wanted}


def test_a_backbone(tiny, data, tmp_path):
    lab, sample = Lab(tiny, Grey()), data.samples[1]
    result = lab.segment(sample.picture(), "fslab", candidates=["dog"])
    cells = sample.picture().pixels.mean(2).reshape(8, 8, 8, 8).mean((1, 3))
    assert np.allclose(result.features["brightness"], cells[None])
    recipe = fslab.Recipe(cluster=fslab.KMeans(k=6))
    oracle = evaluate(lab, data, recipe, "oracle", progress=False).score
    assert evaluate(Lab(tiny, "rgb"), data, recipe, "oracle", progress=False).score != oracle
    base = '{ cluster = "kmeans", backbone = "rgb", set = { "cluster.normalise" = "none" } }'
    file = experiment(tmp_path, "oracle", base, 'backbone = "test_from_outside:Grey"')
    rows = ablate(file, data, preset=str(tiny), progress=False).rows
    assert [row.backbone for row in rows] == ["rgb", "grey"]
    assert rows[1].scores["oracle"] == oracle
    explorer = explore_clusters(lab, sample.picture(), recipe)
    explorer.wait()
    assert explorer.layers == ("brightness",)
    expected = lab.segments(sample.picture(), recipe).labels
    assert (explorer.segments.labels == expected).all()


# --- a family of diffusion networks


NETWORK = """
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import nn

from fslab.backbones.families import Family, family


class Mine2DModel(ModelMixin, ConfigMixin):
    @register_to_config
    def __init__(self, sample_size=16, in_channels=4, width=8):
        super().__init__()
        self.patches = nn.Conv2d(in_channels, width, 2, 2)
        self.attn = nn.ModuleDict({"to_q": nn.Linear(width, width)})

    def forward(self, latent, timesteps):
        cells = self.patches(latent).flatten(2).transpose(1, 2)
        return self.attn["to_q"](cells + timesteps[:, None, None] / 1000)


@family("Mine2DModel")
class Mine(Family):
    title, patch, network_class = "Mine", 2, Mine2DModel

    def call(self, net, latent, timesteps, text, size):
        return net(latent, timesteps)
"""


@pytest.fixture
def family_package(tmp_path, monkeypatch):
    """A package with a family, as it is installed, and a model of it; nothing is imported yet."""
    name, home = f"mine_{tmp_path.name}", tmp_path / "packages"
    facts = home / f"{name}-1.0.dist-info"
    facts.mkdir(parents=True)
    (home / f"{name}.py").write_text(NETWORK)
    (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (facts / "entry_points.txt").write_text(f"[fslab.families]\nMine2DModel = {name}\n")
    monkeypatch.syspath_prepend(home)
    folder = tmp_path / "mine"
    import_module(name).Mine2DModel().save_pretrained(folder / "transformer")
    transformers_tiny.vae().save_pretrained(folder / "vae")
    FlowMatchEulerDiscreteScheduler().save_pretrained(folder / "scheduler")
    del family._parts["Mine2DModel"], sys.modules[name]
    yield name, folder
    sys.modules.pop(name, None)


@pytest.mark.parametrize("brought_by", ["entry point", "import"])
def test_a_family_with_a_network_of_its_own(family_package, data, tmp_path, brought_by):
    name, folder = family_package
    if brought_by == "import":
        (tmp_path / "packages" / f"{name}-1.0.dist-info" / "entry_points.txt").unlink()
        with pytest.raises(
            FslabError, match="of Mine2DModel, a network of a family that fslab does"
        ):
            Lab(folder).layers()
        import_module(name)
    lab, picture = Lab(folder, captioner=MINI / "blip", clip=MINI / "clip"), noise_picture(64, 96)
    assert [each.path for each in lab.layers()] == ["patches", "attn.to_q.input", "attn.to_q"]
    net, backbone = lab.backbone.network(), lab.backbone
    (row,) = backbone.rows(picture, (64, 96), Extraction(timesteps=(300,)))
    with torch.no_grad():
        plain = net(row.given, torch.tensor([300]))[0].T.reshape(-1, 8, 12)
    assert np.array_equal(lab.extract(picture, "attn.to_q", 300)["attn.to_q"], plain.numpy())
    assert lab.segment(picture, "fslab").segments.count == 6
    recipe = fslab.Recipe(cluster=fslab.KMeans(k=3))
    report = evaluate(lab, data, recipe, "oracle", progress=False)
    change = 'set = { "cluster.k" = 3, "cluster.normalise" = "none" }'
    file = experiment(tmp_path, "oracle", '{ cluster = "kmeans" }', change)
    rows = ablate(file, data, preset=str(folder), progress=False).rows
    assert rows[1].scores["oracle"] == report.score
    explorer = explore_clusters(lab, picture, recipe, timestep=500)
    explorer.wait()
    assert (explorer.message, explorer.segments.count) == ("", 3)


def test_a_family_that_reads_no_text_says_so(family_package):
    _, folder = family_package
    assert missing_parts(folder, "diffusion")[0].said == "model_index.json is missing"
    assert len(missing_parts(folder, "diffusion")) == 1
    index = folder / "model_index.json"
    index.write_text(json.dumps({"text_encoder": ["transformers", "T5EncoderModel"]}))
    assert {each.part for each in missing_parts(folder, "diffusion")} == {
        "text_encoder",
        "tokenizer",
    }
    index.write_text(json.dumps({"text_encoder": [None, None]}))
    assert not missing_parts(folder, "diffusion")
    for names, needed in ((["transformer"], False), (["transformer", "tokenizer_2"], True)):
        parts = [each.name for each in parts_of("diffusion", names)]
        assert ("text_encoder" in parts) == needed
    lab, picture = Lab(folder, captioner=MINI / "blip", clip=MINI / "clip"), noise_picture(64, 64)
    with pytest.raises(FslabError, match="mine reads no text, so it has no attention to words"):
        lab.attention(picture, ["dog"])
    with pytest.raises(FslabError, match="mine reads no text, so it has no attention to words"):
        lab.extract(picture, words=["dog"])
    with pytest.raises(FslabError, match="mine reads no text; leave out the prompt 'a dog'"):
        lab.extract(picture, prompt="a dog")
    recipe = lab.recipe("freeseg-diff").change({"caption.encoder": "diffusion"})
    with pytest.raises(FslabError, match="compares no nouns with classes; set caption"):
        lab._embed(["dog"], recipe.caption.encoder)


def test_a_network_of_its_own_counts_by_its_source(family_package, tmp_path):
    name, folder = family_package
    found, shorter = [], NETWORK.replace("/ 1000", "/ 500")  # or bytecode would stand for it
    for text in (NETWORK, NETWORK, shorter):
        (tmp_path / "packages" / f"{name}.py").write_text(text)
        importlib.invalidate_caches()
        linecache.clearcache()
        found.append(Lab(folder).backbone.fingerprint)
        del family._parts["Mine2DModel"], sys.modules[name]
    assert found[0] == found[1] != found[2]


def test_a_family_without_its_network_says_what_to_give(tmp_path):
    @family("Nowhere2DModel")
    class Nowhere(Family):
        title, patch = "Nowhere", 2

        def call(self, net, latent, timesteps, text, size):
            return net(latent)

    for part, kind in (("transformer", "Nowhere2DModel"), ("vae", "AutoencoderKL")):
        (tmp_path / part).mkdir()
        (tmp_path / part / "config.json").write_text(json.dumps({"_class_name": kind}))
    FlowMatchEulerDiscreteScheduler().save_pretrained(tmp_path / "scheduler")
    with pytest.raises(FslabError, match=r"has a class 'Nowhere2DModel'; .* as network_class"):
        open_backbone(tmp_path)
