"""Keys: all that changes a value is in its name, and nothing else is."""

import ast
import json
import re
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from types import SimpleNamespace

import golden
import numpy as np
import pytest
from conftest import noise_picture

import fslab.keys as keys
from fslab.backbones import Diffusion, word_attentions
from fslab.backbones.base import Backbone
from fslab.backbones.single import SingleFile
from fslab.datasets import VOC
from fslab.evaluate import plan
from fslab.extract import complete
from fslab.lab import Lab
from fslab.match import Bank, score_segments
from fslab.parts import identity, versioned
from fslab.records import (
    Extraction,
    Features,
    LabelMap,
    Matching,
    Reading,
    Recipe,
    Segments,
    Vocabulary,
)
from fslab.store import Store

PICTURE, OTHER_PICTURE = noise_picture(16, 16), noise_picture(16, 16, seed=1)
HALVES = Segments(np.repeat([[0, 1]], 16, 0).repeat(8, 1).astype(np.int32))
QUARTERS = Segments(HALVES.labels * 2 + HALVES.labels.T)
MAPS = {"up": np.zeros((2, 4, 4), np.float32)}


@versioned(1)
def made(): ...


@versioned(2)
def made_otherwise(): ...


@versioned(1)
class Sort(SimpleNamespace):
    """What keys ask a backbone for."""


def backbone(**other):
    given = {"fingerprint": "w", "device": "cpu", "timestep": 50, "resolution": 64}
    return Sort(**given | other)


@versioned(1)
class Kind(SimpleNamespace):
    """A backbone of another kind."""


def labels(**beliefs):
    maps = {int(name[1:]): value for name, value in beliefs.items()}
    return LabelMap(HALVES.labels.astype(np.uint8), VOC.names, beliefs=maps)


SURE, UNSURE = (np.full((16, 16), value, np.float32) for value in (0.9, 0.6))
SPOKEN = Vocabulary(VOC.names, {"dog": "hound"}, VOC.synonyms)
TOLD = Vocabulary(VOC.names, VOC.spoken, {"dog": ("hound",)})
ASKED = (VOC, ["chair"], Matching())
PLAIN = Extraction(precision="fp32")
RUN = {
    "makers": [made], "device": "cpu", "weights": ["a", "b"], "recipe": Recipe(),
    "vocabulary": VOC, "named": True, "together": False,
}  # fmt: skip
KINDS = {
    keys.layers_key: (
        {"backbone": backbone()},
        {"backbone": [backbone(fingerprint="v"), backbone(resolution=32), Kind(**vars(backbone()))]},
    ),
    keys.map_key: (
        {"backbone": backbone(), "picture": PICTURE, "size": (64, 64), "layer": ("up", 50),
         "settings": PLAIN},
        {"backbone": [backbone(fingerprint="v"), backbone(device="cuda"), backbone(device="cuda:1"),
                      Kind(**vars(backbone()))],
         "picture": [OTHER_PICTURE], "size": [(64, 96)], "layer": [("up", 51), ("down", 50)],
         "settings": [replace(PLAIN, **{name: value}) for name, value in {
             "draws": 2, "seed": 1, "prompt": "dog", "noise": "none", "posterior": "sample",
             "resize": "bilinear", "precision": "fp16"}.items()]},
    ),
    keys.latent_key: (
        {"backbone": backbone(), "weights": "v", "picture": PICTURE, "size": (64, 64),
         "settings": replace(PLAIN, posterior="sample"), "dtype": "float32"},
        {"backbone": [backbone(device="cuda"), Kind(**vars(backbone()))], "weights": ["u"],
         "picture": [OTHER_PICTURE], "size": [(64, 96)], "dtype": ["float16"],
         "settings": [PLAIN, replace(PLAIN, posterior="sample", seed=1),
                      replace(PLAIN, posterior="sample", draws=2),
                      replace(PLAIN, posterior="sample", resize="bilinear")]},
    ),
    keys.attention_key: (
        {"maker": made, "backbone": backbone(), "picture": PICTURE, "size": (64, 64),
         "words": ["dog"], "settings": PLAIN},
        {"maker": [made_otherwise], "backbone": [backbone(fingerprint="v"), backbone(device="cuda")],
         "picture": [OTHER_PICTURE], "size": [(64, 96)], "words": [["dog", "cat"], ["cat"]],
         "settings": [replace(PLAIN, **{name: value}) for name, value in {
             "layers": ("x",), "timesteps": (5,), "draws": 2, "seed": 1, "prompt": "dog",
             "noise": "none", "posterior": "sample", "precision": "fp16"}.items()]},
    ),
    keys.reading_key: (
        {"maker": made, "backbone": backbone(), "picture": PICTURE, "size": (64, 64),
         "words": ["dog"], "asked": (PLAIN, Reading())},
        {"maker": [made_otherwise], "backbone": [backbone(fingerprint="v"), backbone(device="cuda")],
         "picture": [OTHER_PICTURE], "size": [(64, 96)], "words": [["dog", "cat"], ["cat"]],
         "asked": [*((replace(PLAIN, **{name: value}), Reading()) for name, value in {
             "layers": ("x",), "timesteps": (5,), "draws": 2, "seed": 1, "prompt": "dog",
             "noise": "none", "posterior": "sample", "precision": "fp16"}.items()),
                   *((PLAIN, Reading(**{name: value})) for name, value in {
             "beside": ("sky",), "over": "words", "heads": "agreement", "layers": "likeness",
             "blur": 1.0, "scaled": True, "spread": 2}.items())]},
    ),
    keys.word_keys_key: (
        {"maker": made, "backbone": backbone(), "path": "up", "words": ["dog"], "precision": "fp32"},
        {"maker": [made_otherwise], "backbone": [backbone(fingerprint="v"), backbone(device="cuda")],
         "path": ["down"], "words": [["cat"]], "precision": ["fp16"]},
    ),
    keys.text_key: (
        {"maker": made, "device": "cpu", "weights": "w", "text": "a dog"},
        {"maker": [made_otherwise], "device": ["cuda"], "weights": ["v"], "text": ["a cat"]},
    ),
    keys.caption_key: (
        {"maker": made, "device": "cpu", "weights": "w", "picture": PICTURE, "asked": {"beams": 1}},
        {"maker": [made_otherwise], "device": ["cuda"], "weights": ["v"], "picture": [OTHER_PICTURE],
         "asked": [{"beams": 2}, {"beams": 1, "prompt": "a"}]},
    ),
    keys.segments_key: (
        {"maker": made, "device": "cpu", "features": Features(MAPS, (16, 16)), "settings": {"k": 3},
         "candidates": 0},
        {"maker": [made_otherwise, [made, made]], "device": ["cuda"],
         "features": [Features(MAPS, (16, 8)), Features({"down": MAPS["up"]}, (16, 16)),
                      Features({"up": MAPS["up"] + 1}, (16, 16)),
                      Features({"up": MAPS["up"].reshape(2, 2, 8)}, (16, 16))],
         "settings": [{}, {"k": 4}], "candidates": [2]},
    ),
    keys.match_key: (
        {"maker": made, "device": "cpu", "weights": "w", "picture": PICTURE, "segments": HALVES,
         "asked": ASKED},
        {"maker": [made_otherwise], "device": ["cuda"], "weights": ["v"], "picture": [OTHER_PICTURE],
         "segments": [QUARTERS],
         "asked": [(SPOKEN, *ASKED[1:]), (TOLD, *ASKED[1:]), (VOC, ["boat"], Matching()),
                   (VOC, ["chair", "boat"], Matching()),
                   *((VOC, ["chair"], Matching(**{name: value})) for name, value in {
                       "view": "box", "margin": 0.1, "tokens": True, "views_up_to": 1,
                       "templates": ("a {}",), "synonyms": True, "background": ("sky",),
                       "compete": "candidates", "probabilities": "sigmoid",
                       "assignment": "argmax"}.items())]},
    ),
    keys.edges_key: (
        {"maker": made, "device": "cpu", "features": Features(MAPS, (64, 64))},
        {"maker": [made_otherwise], "device": ["cuda"],
         "features": [Features({"up": MAPS["up"] + 1}, (64, 64)),
                      Features({"down": MAPS["up"]}, (64, 64))]},
    ),
    keys.refined_key: (
        {"maker": made, "device": "cpu", "picture": PICTURE, "labels": labels(_0=SURE, _1=SURE),
         "settings": {}},
        {"maker": [made_otherwise], "device": ["cuda"], "picture": [OTHER_PICTURE],
         "labels": [labels(), labels(_0=SURE, _1=UNSURE), labels(_0=SURE, _2=SURE),
                    LabelMap(QUARTERS.labels.astype(np.uint8), VOC.names)],
         "settings": [{"iterations": 3}]},
    ),
    keys.tuning_key: (
        {"maker": made, "backbone": backbone(), "picture": PICTURE, "size": (64, 64),
         "of": {"cluster": {"k": 3}}},
        {"maker": [made_otherwise], "picture": [OTHER_PICTURE], "size": [(64, 96)],
         "backbone": [backbone(fingerprint="v"), backbone(device="cuda"), Kind(**vars(backbone()))],
         "of": [{"cluster": {"k": 4}}, {"extract": {"k": 3}}, {"cluster": {"k": 3}, "truth": "t"}]},
    ),
    keys.file_key: (
        {"maker": made, "path": "a", "stamp": [1, 2, 3]},
        {"maker": [made_otherwise], "path": ["b"], "stamp": [[1, 2, 4], [1, 3, 3], [2, 2, 3]]},
    ),
    keys.result_key: (
        {"run": "r", "name": "a", "picture": PICTURE, "truth": np.zeros((16, 16), np.uint8)},
        {"run": ["s"], "name": ["b"], "picture": [OTHER_PICTURE],
         "truth": [np.ones((16, 16), np.uint8), np.zeros((8, 32), np.uint8)]},
    ),
    keys.masks_key: (
        {"run": "r", "picture": PICTURE, "candidates": ["dog"]},
        {"run": ["s"], "picture": [OTHER_PICTURE], "candidates": [None, [], ["dog", "cat"]]},
    ),
    keys.run_key: (
        RUN,
        {"makers": [[made_otherwise], [made, made]], "device": ["cuda"],
         "weights": [["a"], ["a", "c"]], "vocabulary": [SPOKEN, TOLD], "named": [False],
         "together": [True],
         "recipe": [Recipe().change({name: value}) for name, value in {
             "extract.seed": 1, "cluster.k": 5, "caption.beams": 2, "match.synonyms": True,
             "refine.iterations": 3}.items()]},
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_all_that_changes_a_value_is_in_its_key(kind):
    given, others = KINDS[kind]
    assert set(others) == set(given)
    found = [kind(**given)]
    found += [kind(**given | {name: each}) for name, some in others.items() for each in some]
    assert len(set(found)) == len(found)
    assert kind(**given) == found[0]


def test_two_kinds_share_no_key_and_the_kinds_are_all():
    found = [kind(**given) for kind, (given, _) in KINDS.items()]
    found += [keys.batched(each) for each in found]
    assert len(set(found)) == len(found)
    assert {kind.__name__ for kind in KINDS} == {
        name for name in vars(keys) if name.endswith("_key") and name != "key"
    }


def test_what_is_not_read_is_not_in_a_key():
    given = KINDS[keys.match_key][0]
    evidence = Matching(attention_layers=("x",), attention_timestep=5, attention_draws=2)
    assert keys.match_key(**given) == keys.match_key(**given | {"asked": (*ASKED[:2], evidence)})
    given = KINDS[keys.map_key][0]
    words = replace(PLAIN, attention="candidates", squash=True)
    assert keys.map_key(**given) == keys.map_key(**given | {"settings": words})
    timeless = given | {"backbone": backbone(timestep=None)}
    other = timeless | {"settings": replace(PLAIN, seed=1), "layer": ("up", 0)}
    assert keys.map_key(**timeless) == keys.map_key(**other)
    given = KINDS[keys.latent_key][0] | {"settings": PLAIN}
    assert keys.latent_key(**given) == keys.latent_key(
        **given | {"settings": replace(PLAIN, seed=1)}
    )


def test_a_setting_that_is_added_names_no_older_value_anew():
    @dataclass(frozen=True)
    class Later(Matching):
        louder: bool = False

    before = KINDS[keys.match_key][0]
    assert keys.changed(Later()) == keys.changed(Matching()) == {}
    assert keys.changed(Later(louder=True, margin=0.5)) == {"louder": True, "margin": 0.5}
    assert keys.match_key(**before) == keys.match_key(**before | {"asked": (*ASKED[:2], Later())})


def test_a_record_that_knows_its_code_is_named_by_it():
    @dataclass(frozen=True)
    class Own:
        function: object = field(compare=False)
        identity: str = ""

    assert keys.changed(Own(abs, "abs#1")) == {"by": "abs#1", "identity": "abs#1"}


def watched(record):
    """Return a record of settings that remembers which of them were read."""
    seen = set()
    names = {each.name for each in fields(record)}

    class Watched(type(record)):
        def __getattribute__(self, name):
            if name in names:
                seen.add(name)
            return object.__getattribute__(self, name)

    found = Watched(**{name: getattr(record, name) for name in names})
    seen.clear()
    return found, seen


def test_a_pass_reads_what_its_key_holds_and_nothing_else(tiny, picture):
    network = Lab(tiny).backbone
    read = set()
    for more in ({}, {"posterior": "sample", "draws": 2}, {"noise": "none"}):
        settings, seen = watched(complete(Extraction(timesteps=(5,), **more), network))
        network._encoded = None
        network.run(picture, (64, 64), {5: ["mid_block"]}, settings)
        read |= seen
    assert read == set(keys.PASS)


def test_scores_read_what_their_key_holds_and_nothing_else(tiny, picture):
    matcher = Lab(tiny).matcher
    halves = Segments(np.repeat([[0, 1]], 64, 0).repeat(32, 1).astype(np.int32))
    read = set()
    regions = {"regions": "scoped", "regions_sharpness": 0.0}
    features = Features({"up": np.eye(4, dtype=np.float32).reshape(4, 2, 2)}, picture.size)
    values = np.eye(3, matcher.width, dtype=np.float32)
    bank = Bank(np.eye(3, 4, dtype=np.float32), values, (), {})
    helped = {"bank": "a file"}
    for more in ({}, {"view": "box"}, {"tokens": True, "views_up_to": 1}, regions, helped):
        settings, seen = watched(Matching(**more))
        asked = (picture, halves, VOC, ["dog"], settings, matcher)
        score_segments(*asked, features=features, bank=bank)
        read |= seen
    assert read == set(keys.SCORE)


def test_attention_reads_what_its_key_holds(tiny, picture):
    network = Lab(tiny).backbone
    asked = Extraction(layers=("*attn2.to_q",), timesteps=(5,), prompt="a photo of a dog")
    settings, seen = watched(complete(asked, network))
    word_attentions(network, [(picture, ["dog"], settings)], (64, 64))
    assert seen <= {*keys.PASS, "layers", "timesteps"}


@pytest.fixture
def asked(monkeypatch):
    """The keys that a store was asked for."""
    found, plain = [], Store.entry
    monkeypatch.setattr(
        Store, "entry", lambda store, key: (found.append(key), plain(store, key))[1]
    )
    return found


def test_no_stage_takes_what_another_device_made(tiny, picture, asked):
    here, there = (Lab(tiny, precision="fp32") for _ in range(2))
    for name in ("backbone", "captioner", "matcher"):  # the device is only a name here
        setattr(there, name, getattr(here, name))
    there.device = "cuda:7"
    features = here.extract(picture, layers=["mid_block"], timesteps=5)
    halves = Segments(np.repeat([[0, 1]], 64, 0).repeat(32, 1).astype(np.int32))
    given = LabelMap(halves.labels.astype(np.uint8), VOC.names)
    stages = {
        "cluster": lambda lab: lab.cluster(features, k=2),
        "caption": lambda lab: lab.caption(picture, words="open"),
        "texts": lambda lab: lab._embed(["dog"], "clip"),
        "match": lambda lab: lab.match(picture, halves, ["dog"]),
        "refine": lambda lab: lab.refine(picture, given, iterations=1),
    }
    for name, run in stages.items():
        keys_of = []
        for lab in (here, there):
            asked.clear()
            run(lab)
            keys_of.append(set(asked))
        assert keys_of[0], name
        assert not keys_of[0] & keys_of[1], name
    assert plan(here, "fslab", VOC).base != plan(there, "fslab", VOC).base


def test_the_device_of_a_backbone_is_in_its_keys(tiny, picture):
    network = Lab(tiny).backbone
    settings = complete(Extraction(timesteps=(5,)), network)
    args = (picture, (64, 64), settings)
    one = (
        keys.map_key(network, picture, (64, 64), ("mid_block", 5), settings),
        keys.latent_key(network, "vae", *args, "torch.float32"),
    )
    network.device = "cuda"
    other = (
        keys.map_key(network, picture, (64, 64), ("mid_block", 5), settings),
        keys.latent_key(network, "vae", *args, "torch.float32"),
    )
    assert one[0] != other[0]
    assert one[1] != other[1]


def test_what_kmeans_does_not_read_is_not_in_the_key_of_its_segments(tiny, picture, asked):
    lab = Lab(tiny)
    features = lab.extract(picture, layers=["mid_block"], timesteps=5)
    recipe = lab.recipe("freeseg-diff")
    found = []
    for change in ({"cluster.method": "ncut", "cluster.tau": 0.9}, {"cluster.method": "ncut"}):
        again = recipe.change(change).change({"cluster.method": "kmeans"})
        asked.clear()
        lab._cluster(features, again.cluster, 3)
        lab._cluster(features, again.cluster, 5)  # a number that only k_is="candidates" reads
        found.append(set(asked))
    assert found[0] == found[1]
    assert len(found[0]) == 1


def test_other_candidates_are_other_names(tiny, picture):
    lab = Lab(tiny)
    halves = Segments(np.repeat([[0, 1]], 64, 0).repeat(32, 1).astype(np.int32))
    for name in ("chair", "boat"):
        found = lab.match(picture, halves, [name])
        assert {VOC.names[each] for each in np.unique(found.labels)} == {"background", name}


def test_other_beliefs_are_refined_anew(tiny, picture):
    lab = Lab(tiny)
    flat = np.zeros((64, 64), np.uint8)
    flat[:, 32:] = 12
    found = []
    for sure in (0.95, 0.55):
        dog = np.where(flat == 12, sure, 1 - sure).astype(np.float32)
        given = LabelMap(flat, VOC.names, beliefs={0: 1 - dog, 12: dog})
        asked = {"method": "pamr", "iterations": 2}
        found.append(lab.refine(picture, given, **asked).labels)
        assert np.array_equal(found[-1], Lab(tiny, store="memory://new").refine(
            picture, given, **asked).labels)  # fmt: skip
    sharp = LabelMap(flat, VOC.names, beliefs={0: np.zeros_like(dog), 12: np.ones_like(dog)})
    assert (lab.refine(picture, sharp, method="pamr", iterations=2).labels == 12).all()


MAKERS = {identity(maker).rpartition("@")[0]: maker for maker in golden.CASES}


def decorated():
    """Functions and classes of fslab that have a version beside them."""
    for path in Path(keys.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            for mark in getattr(node, "decorator_list", ()):
                if isinstance(mark, ast.Call) and getattr(mark.func, "id", "") == "versioned":
                    yield node.name


def test_every_version_has_a_golden_output():
    filed = json.loads(golden.FILE.read_text())
    assert set(filed) == set(MAKERS)
    names = {name.rpartition(":")[2] for name in MAKERS}
    assert {*decorated()} - {"SingleFile"} == names
    assert identity(SingleFile).rpartition("@")[2] == identity(Diffusion).rpartition("@")[2]


@pytest.mark.parametrize("name", MAKERS)
def test_what_a_version_gives_is_what_it_gave(name, tmp_path):
    then, now = json.loads(golden.FILE.read_text())[name], golden.found(MAKERS[name], tmp_path)
    assert now["by"] == then["by"], "python tests/golden.py --write"
    changed = golden.differs(now, then)
    assert not changed, f"{name} gives other {changed}: raise its version, then write golden.json"


def test_a_changed_output_and_a_changed_default_are_seen(tmp_path):
    maker = score_segments
    now = golden.found(maker, tmp_path)
    assert golden.differs(now, now) == []
    other = {**now, "defaults": {**now["defaults"], "margin": "0.1"}}
    assert golden.differs(other, now) == ["margin"]
    nested = {"kmeans": {"k": "4"}}
    for value, seen in (("5", ["kmeans.k"]), ("4", [])):
        others = {"kmeans": {"k": value, "louder": "False"}, "meanshift": {}}
        assert golden.differs({**now, "defaults": others}, {**now, "defaults": nested}) == seen
    later = {**now, "defaults": {**now["defaults"], "louder": "False"}}
    assert golden.differs(later, now) == []
    moved = [each + 0.01 for each in now["outputs"]["probabilities"]]
    rounded = [each + 1e-5 for each in now["outputs"]["probabilities"]]
    for values, seen in ((moved, ["probabilities"]), (rounded, [])):
        outputs = {**now["outputs"], "probabilities": values}
        assert golden.differs({**now, "outputs": outputs}, now) == seen


def test_every_backbone_of_fslab_has_a_version_of_its_own():
    def below(kind):
        for each in kind.__subclasses__():
            yield each
            yield from below(each)

    for kind in below(Backbone):
        if kind.__module__.startswith("fslab.") and not kind.__abstractmethods__:
            assert re.search(r"@\d+$", identity(kind)), kind


def test_a_backbone_of_ones_own_is_known_by_its_source():
    class Mine(Diffusion):
        """Another pass."""

    assert identity(Mine) != identity(Diffusion)
    assert "@" not in identity(Mine)


def test_no_key_is_made_elsewhere():
    for path in Path(keys.__file__).parent.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"""digest_of\(\s*\[\s*["']""", text) or path.name == "keys.py", path
