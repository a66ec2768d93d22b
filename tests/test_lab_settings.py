"""Settings are spelled, refused and left out in one way, whichever function takes them."""

import subprocess
import sys

import numpy as np
import pytest
from conftest import noise_picture, write_dataset

import fslab
from fslab import evaluate
from fslab.batches import Batch
from fslab.datasets import VOC, load
from fslab.lab import Lab
from fslab.records import Features, FslabError, FslabWarning, LabelMap, MaskCrfs, Refinement

FEATURES = Features({"mid": np.random.default_rng(0).normal(size=(5, 4, 4))}, (16, 16))


@pytest.fixture
def lab(tiny):
    return Lab(tiny)


def refusal(ask):
    with pytest.raises(FslabError) as error:
        ask()
    return str(error.value)


@pytest.mark.parametrize("name", ["n", "tau", "method", "candidates", "name", "self"])
def test_a_function_and_the_lab_refuse_the_same_settings_alike(lab, name):
    said = refusal(lambda: fslab.kmeans(FEATURES, **{name: 1}))
    assert said.startswith(f"clustering by 'kmeans' has no setting '{name}'; it has grid, ")
    if name == "tau":
        assert said.endswith("tau is a setting of ncut")
    if name not in ("method", "candidates", "self"):  # which are arguments of lab.cluster
        assert said == refusal(lambda: lab.cluster(FEATURES, **{name: 1}))


@pytest.mark.parametrize("method", ["kmeans", "agglomerative", "spectral", "ncut", "merge"])
def test_every_clustering_by_name_has_its_functions_settings(lab, method):
    function = getattr(fslab, method)
    said = refusal(lambda: function(FEATURES, sharpness=1))
    assert said == refusal(lambda: lab.cluster(FEATURES, method=method, sharpness=1))


def test_settings_beside_a_whole_record_are_refused(lab):
    picture, record = noise_picture(32, 32), fslab.Captioning(words="all")
    assert "beams cannot be set beside it" in refusal(
        lambda: lab.caption(picture, method=record, beams=2)
    )
    assert lab.caption(picture, method=record).candidates == VOC.classes


def test_one_refinement_is_the_default_everywhere(lab):
    picture = noise_picture(32, 32)
    labels = np.zeros((32, 32), int)
    labels[:, 10:], labels[20:] = 7, 2
    named = LabelMap(labels, VOC.names)
    found = lab.refine(picture, named)
    assert np.array_equal(fslab.crf(picture, named).labels, found.labels)
    assert Refinement.of() == fslab.Recipe().refine == MaskCrfs()
    joint = fslab.crf(picture, named, method="crf-joint")
    assert not np.array_equal(joint.labels, found.labels)
    assert "'crf' has no setting 'sxy'" in refusal(lambda: fslab.crf(picture, named, sxy=3))


def test_timesteps_are_spelled_so_everywhere(lab):
    picture, layer = noise_picture(32, 32), "mid_block"
    for ask in (
        lambda: lab.extract(picture, layer, timestep=50),
        lambda: lab.extract_many([picture], layer, timestep=50),
        lambda: lab.attention(picture, ["dog"], timestep=50),
    ):
        assert refusal(ask) == "timestep is called timesteps since 0.2; write timesteps=50"
    one = lab.extract(picture, layer, timesteps=50)[layer]
    (many,) = lab.extract_many([picture], layer, timesteps=[50])
    assert np.array_equal(one, many[layer])
    recipe = lab.recipe("fslab").change({"extract.timesteps": [50], "extract.layers": [layer]})
    assert recipe.extract.timesteps == (50,)
    looked = [lab.attention(picture, ["dog"], timesteps=t)["dog"] for t in (50, 400, [50, 400])]
    assert np.allclose((looked[0] + looked[1]) / 2, looked[2], atol=1e-6)


def test_what_is_done_otherwise_than_asked_is_one_kind_of_warning(tmp_path):
    data = load(write_dataset(tmp_path / "set", 2), "val")
    (tmp_path / "set" / "JPEGImages" / "noise_1.png").write_bytes(b"")
    given = (Lab("mini", "rgb"), data, "freeseg-diff", "oracle")
    with pytest.warns(FslabWarning, match="is not all as it should be"):
        evaluate.evaluate(*given, out=tmp_path / "out", progress=False)
    lines = tmp_path / "out" / "results.jsonl"
    lines.write_bytes(b"{}\n" + lines.read_bytes())
    with pytest.warns(FslabWarning, match="line 1 is damaged"):
        evaluate.evaluate(*given, out=tmp_path / "out", progress=False)

    def short(items):
        if len(items) > 1:
            raise MemoryError
        return items

    with pytest.warns(FslabWarning, match="memory ran out"):
        Batch(2).passes(range(2), short, str)


def test_the_command_line_says_a_warning_without_a_line_of_source(tmp_path):
    data = write_dataset(tmp_path / "set", 2)
    (data / "JPEGImages" / "noise_1.png").write_bytes(b"")
    words = ["evaluate", data, "--backbone", "rgb", "--cluster", "kmeans", "--metric", "mbo"]
    done = subprocess.run(
        [sys.executable, "-m", "fslab", *map(str, words)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    said = [line for line in done.stderr.splitlines() if "is not all as it should be" in line]
    assert len(said) == 1
    assert said[0].startswith("fslab: set val is not")
    assert "Warning" not in done.stderr
    assert "warnings.warn" not in done.stderr
