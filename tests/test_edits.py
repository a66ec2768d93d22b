"""Edits of a network: what a plain hook gives, under keys of their own, and gone afterwards."""

import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest
import torch
from conftest import noise_picture, write_dataset
from torch import nn
from transformers_tiny import save

import fslab
from fslab import FslabError
from fslab.backbones import open_backbone
from fslab.datasets import load
from fslab.edits import named
from fslab.errors import FslabWarning
from fslab.evaluate import evaluate
from fslab.evaluate.job import plan
from fslab.evaluate.shared import SharedLab
from fslab.lab import Lab
from fslab.tap import tap
from fslab.widgets import explore_features

BLOCK = "down_blocks.1.attentions.0.transformer_blocks.0"
LATER = "mid_block"
WORDS = ["dog", "cat"]
EDITS = {f"{BLOCK}.attn1": fslab.zero, "*.attn2.to_k": fslab.scale(3.0)}


def hooks(net):
    return sum(len(module._forward_hooks) for module in net.modules())


def read(lab, picture, layer=LATER, **settings):
    return lab.extract(picture, [layer], 50, **settings)[layer]


@pytest.fixture
def other():
    return noise_picture(64, 64, seed=7)


@pytest.mark.parametrize(
    ("path", "edit", "plain"),
    [
        (f"{BLOCK}.attn1", fslab.zero, torch.zeros_like),
        (f"{BLOCK}.attn2", fslab.scale(0.5), lambda output: 0.5 * output),
        (f"{BLOCK}.ff", lambda output: output.flip(1), lambda output: output.flip(1)),
    ],
)
def test_an_edit_is_what_a_plain_hook_gives(tiny, picture, tmp_path, path, edit, plain):
    lab = Lab(tiny)
    before = read(lab, picture)
    with lab.edit({path: edit}):
        edited = read(lab, picture)
    by_hand = Lab(tiny, store=tmp_path)
    module = by_hand.backbone.module(path)
    hook = module.register_forward_hook(lambda module, given, output: plain(output))
    assert np.array_equal(read(by_hand, picture), edited)
    hook.remove()
    assert not np.allclose(edited, before, atol=1e-4)
    assert np.array_equal(read(lab, picture), before)
    assert hooks(lab.backbone.network()) == 0


def test_a_head_is_edited_by_itself(tiny, picture):
    lab, path = Lab(tiny), f"{BLOCK}.attn1.to_v"
    before = read(lab, picture, path)
    with lab.edit({f"{path}#3": fslab.zero}):
        edited, after = read(lab, picture, path), read(lab, picture)
    width = len(before) // 8
    head = slice(3 * width, 4 * width)
    assert not edited[head].any()
    rest = np.delete(np.arange(len(before)), head)
    assert np.array_equal(edited[rest], before[rest])
    with lab.edit({f"{path}#*": fslab.zero}):
        assert not read(lab, picture, path).any()
        without = read(lab, picture)
    assert not np.allclose(after, without, atol=1e-4)


@pytest.mark.parametrize("settings", [{}, {"draws": 2, "posterior": "sample"}, {"noise": "none"}])
def test_another_picture_is_swapped_in_at_the_same_noise(tiny, picture, other, settings):
    lab, path = Lab(tiny), f"{BLOCK}.attn1"
    own, theirs = (read(lab, each, path, **settings) for each in (picture, other))
    clean = read(lab, picture, **settings)
    with lab.edit({path: fslab.swap(other)}):
        assert np.array_equal(read(lab, picture, path, **settings), theirs)
        assert not np.allclose(read(lab, picture, **settings), clean, atol=1e-4)
    with lab.edit({path: fslab.swap(picture)}):
        assert np.array_equal(read(lab, picture, **settings), clean)
    with lab.edit({path: fslab.mean_over([picture, other])}):
        mean = read(lab, picture, path, **settings)
    assert np.allclose(mean, (own + theirs) / 2, atol=1e-6)


def test_several_pictures_at_once_are_swapped_alike(tiny, picture, other):
    path, several = f"{BLOCK}.attn1", [picture, noise_picture(64, 64, seed=3)]
    with Lab(tiny).edit({path: fslab.swap(other)}) as lab:
        together = lab.extract_many(several, [LATER], [50, 200], batch=4)
        alone = [lab.extract(each, [LATER], [50, 200]) for each in several]
    for found, expected in zip(together, alone, strict=True):
        for layer, value in expected.items():
            assert np.allclose(found[layer], value, atol=1e-5 * np.abs(value).max())


def kinds(lab, picture):
    """Everything that a lab files of a picture and that its network has a hand in, as arrays."""
    recipe = lab.recipe("fslab").change({"extract.attention": "candidates"})
    result = lab.segment(picture, recipe, candidates=WORDS)
    scores = lab.score_segments(picture, result.segments, WORDS).probabilities
    pair = [noise_picture(64, 64, seed=seed) for seed in (3, 4)]
    several = lab.extract_many(pair, [LATER], 50, batch=2)
    words = lab.attention(picture, WORDS, layers=["*.attn2.to_q"], timesteps=50)
    queries = lab.extract(picture, [f"{BLOCK}.attn2.to_q"], 50, words=WORDS)
    many = next(iter(lab.segment_many([picture], recipe, candidates=WORDS, batch=2, processes=0)))
    base = plan(lab, recipe, fslab.VOC, ["voc21"]).base
    return {
        "maps": read(lab, picture),
        "maps of a batch": several[0][LATER],
        "words": np.stack(list(words.values())),
        "words as features": queries[f"{BLOCK}.attn2.words"],
        "segments": result.segments.labels,
        "scores of segments": scores,
        "named": result.named.labels,
        "labels": result.labels.labels,
        "labels of a batch": many.labels.labels,
        "results": np.frombuffer(base.encode(), np.uint8),
    }


def differing(found, expected):
    """Kinds that are not the same, to the last bit where a pass had one picture."""
    peak = np.abs(expected["maps of a batch"]).max()
    near = {"maps of a batch": 1e-5 * peak}
    return [
        name
        for name, value in expected.items()
        if not np.allclose(found[name], value, rtol=0, atol=near.get(name, 0))
    ]


@pytest.mark.parametrize("kind", [Lab, SharedLab])
def test_edited_and_clean_values_never_stand_for_each_other(tiny, picture, tmp_path, kind):
    """Of every kind that is kept, in either order, by one lab and by the next with its store."""
    clean = kinds(Lab(tiny, store=tmp_path / "clean"), picture)
    with Lab(tiny, store=tmp_path / "edited").edit(EDITS) as lab:
        edited = kinds(lab, picture)
    for name in ("maps", "maps of a batch", "words", "words as features", "results", "segments"):
        assert name in differing(edited, clean), f"{name} are not changed by the edit"
    for order in ("clean first", "edited first"):
        lab = kind(tiny, store=tmp_path / order)
        for _ in range(2):
            if order == "clean first":
                assert not differing(kinds(lab, picture), clean)
            with lab.edit(EDITS):
                assert not differing(kinds(lab, picture), edited)
            assert not differing(kinds(lab, picture), clean)
            lab = kind(tiny, store=lab.store)
        assert not lab.clean_backbone.components.loaded or kind is SharedLab


def test_edited_values_are_kept_and_named_by_what_the_edit_is(tiny, picture, other):
    def half(output):
        return output / 2

    def all_edits():
        yield {BLOCK: fslab.zero}
        yield {BLOCK: fslab.scale(0.5)}
        yield {BLOCK: fslab.scale(0.25)}
        yield {BLOCK: fslab.swap(other)}
        yield {BLOCK: fslab.swap(picture)}
        yield {BLOCK: fslab.mean_over([picture, other])}
        yield {BLOCK: half}
        yield {f"{BLOCK}.attn1": fslab.zero}
        yield {f"{BLOCK}.attn1.to_q#1": fslab.zero}

    def prints():
        found = []
        for edits in all_edits():
            with Lab(tiny).edit(edits) as lab:
                found.append(lab.backbone.fingerprint)
        return found

    first = prints()
    assert len({*first, Lab(tiny).backbone.fingerprint}) == len(first) + 1
    assert prints() == first
    with Lab(tiny).edit({BLOCK: half}) as lab:
        cold = read(lab, picture)
    with Lab(tiny).edit({BLOCK: half}) as lab:
        assert np.array_equal(read(lab, picture), cold)
        assert not lab.backbone.components.loaded, "warm features loaded weights"


class Nameless:
    """Something that no digest can name."""

    def __init__(self):
        self.lock = threading.Lock()

    def __call__(self, output):
        return output * 2


def test_what_nothing_can_name_is_not_kept(tiny, picture):
    lab = Lab(tiny)
    before = read(lab, picture)
    lab.segments(picture, "freeseg-diff")  # whose latent is a sample, which is kept in any case
    entries = lab.store.usage().entries
    said = pytest.warns(FslabWarning, match="nothing that is computed inside is kept")
    with said, lab.edit({BLOCK: Nameless()}):
        found = read(lab, picture)
        lab.segments(picture, "freeseg-diff")
        lab.attention(picture, WORDS, timesteps=50)
    assert lab.store.usage().entries == entries
    assert not np.allclose(found, before, atol=1e-4)
    with Lab(tiny).edit({BLOCK: fslab.scale(2.0)}) as named:
        assert np.array_equal(read(named, picture), found)


def test_edits_within_each_other_are_done_in_turn(tiny, picture):
    lab = Lab(tiny)
    with lab.edit({BLOCK: fslab.scale(2.0)}):
        twice = read(lab, picture, BLOCK)
        with lab.edit({BLOCK: lambda output: output + 1}):
            assert np.allclose(read(lab, picture, BLOCK), twice + 1, atol=1e-5)
        assert np.array_equal(read(lab, picture, BLOCK), twice)
    with lab.edit({}):
        assert np.array_equal(2 * read(lab, picture, BLOCK), twice)


def test_edits_that_end_in_another_order_leave_the_lab_clean(tiny, picture):
    lab = Lab(tiny)
    clean, first, second = read(lab, picture), lab.edit({BLOCK: fslab.zero}), None
    first.__enter__()
    second = lab.edit({"mid_block": fslab.scale(3)})
    second.__enter__()
    both = read(lab, picture)
    first.__exit__(None, None, None)
    assert np.array_equal(read(lab, picture), both)
    second.__exit__(None, None, None)
    assert np.array_equal(read(lab, picture), clean)
    assert not np.array_equal(both, clean)
    assert "edited" not in lab.backbone.name


def test_hooks_go_when_a_pass_fails(tiny, picture):
    def broken(output):
        raise RuntimeError("broken edit")

    lab = Lab(tiny)
    before = read(lab, picture, BLOCK)
    with pytest.raises(RuntimeError, match="broken edit"), lab.edit({BLOCK: broken}):
        read(lab, picture)
    assert hooks(lab.backbone.network()) == 0
    assert np.array_equal(read(lab, picture, BLOCK), before)


def test_other_threads_see_the_lab_as_it_is(tiny, picture, tmp_path):
    lab = Lab(tiny, store=tmp_path)
    clean = read(Lab(tiny), picture)
    begun, done = threading.Event(), threading.Event()

    def waiting(output):
        begun.set()
        done.wait(0.2)
        return torch.zeros_like(output)

    with ThreadPoolExecutor(1) as pool, lab.edit({BLOCK: waiting}):
        elsewhere = pool.submit(lambda: begun.wait(60) and read(lab, picture))
        edited = read(lab, picture)
        found = elsewhere.result()
        done.set()
    assert np.array_equal(found, clean)
    assert not np.allclose(edited, clean, atol=1e-4)


def test_what_is_begun_in_an_edit_goes_on_in_it(tiny, picture, other):
    lab, recipe = Lab(tiny), "freeseg-diff"
    with lab.edit({BLOCK: fslab.zero}):
        expected = [lab.segment(each, recipe, candidates=WORDS) for each in (picture, other)]
        begun = lab.segment_many([picture, other], recipe, candidates=WORDS)
    found = list(begun)
    for one, another in zip(found, expected, strict=True):
        for layer, value in another.features.items():
            assert np.array_equal(one.features[layer], value)
    assert lab.backbone is lab.clean_backbone


def test_latents_and_texts_are_those_of_the_lab(tiny, picture):
    lab = Lab(tiny)
    read(lab, picture)
    backbone = lab.backbone
    with lab.edit({BLOCK: fslab.zero}):
        assert lab.backbone is not backbone
        assert lab.backbone.vae_fingerprint == backbone.vae_fingerprint
        assert lab.backbone.words_fingerprint == backbone.words_fingerprint
        assert lab.text_model is backbone
        assert lab.layers() == backbone.layers()


def test_evaluations_know_their_edits_and_clusters_are_refused(tiny, tmp_path):
    dataset, lab = load(write_dataset(tmp_path / "data", 2), "val"), Lab(tiny)
    ask = partial(
        evaluate, lab, dataset, "freeseg-diff", "mbo", out=tmp_path / "out", progress=False
    )
    clean = ask()
    with lab.edit({f"{BLOCK}.attn1": fslab.zero, LATER: fslab.zero}):
        edited = ask()
        assert ask().rows[0].key == edited.rows[0].key
        with pytest.raises(FslabError, match="a cluster would show the network as it is"):
            ask(client=object())
        with pytest.raises(FslabError, match="an explorer would show the network as it is"):
            explore_features(lab, noise_picture(32, 32))
    assert not {row.key for row in clean.rows} & {row.key for row in edited.rows}
    assert edited.backbone.endswith(", 2 modules edited")
    assert ask().scores == clean.scores


def test_vision_transformers_are_edited(vision_folders, picture, other, tiny, tmp_path):
    lab = Lab(tiny, backbone=vision_folders["dinov2"])
    last = lab.layers()[-1].path
    block = next(x.path for x in lab.layers() if x.path.endswith("attention"))
    clean = lab.extract(picture)[last]
    with lab.edit({block: fslab.zero}):
        edited = lab.extract(picture)[last]
    net = lab.backbone._net(torch.float32)
    by_hand = Lab(tiny, backbone=vision_folders["dinov2"], store=tmp_path)
    module = by_hand.backbone._net(torch.float32).get_submodule(block)
    module.register_forward_hook(
        lambda module, given, output: (
            (torch.zeros_like(output[0]), *output[1:])
            if isinstance(output, tuple)
            else torch.zeros_like(output)
        )
    )
    assert np.array_equal(by_hand.extract(picture)[last], edited)
    assert not np.allclose(edited, clean, atol=1e-4)
    with lab.edit({block: fslab.swap(other)}):
        assert np.array_equal(
            lab.extract(picture, [block])[block], lab.extract(other, [block])[block]
        )
    assert np.array_equal(lab.extract(picture)[last], clean)
    assert hooks(net) == 0


@pytest.mark.parametrize("kind", ["sd3", "flux"])
def test_joint_attention_and_concepts_are_edited(kind, tmp_path, tiny, picture, other):
    lab = Lab(tiny, backbone=save(tmp_path, kind))
    block = next(x.path for x in lab.layers() if x.path.endswith("blocks.0") and x.entry)
    last = lab.layers()[-1].path

    def kinds_here():
        concepts = lab.attention(picture, WORDS, reading="concepts", timesteps=50, resolution=64)
        found = lab.extract(picture, [block, last], 50, resolution=64)
        return found[block], concepts["dog"], found[last]

    clean = kinds_here()
    with lab.edit({block: fslab.swap(other)}):
        edited = kinds_here()
        theirs = lab.extract(other, [block], 50, resolution=64)[block]
    assert np.array_equal(edited[0], theirs), "the picture's tokens are what is swapped"
    assert all(not np.allclose(a, b, atol=1e-5) for a, b in zip(clean, edited, strict=True))
    assert all(np.array_equal(a, b) for a, b in zip(clean, kinds_here(), strict=True))
    assert open_backbone(tmp_path).fingerprint == lab.backbone.fingerprint


@pytest.mark.parametrize(
    ("edits", "said"),
    [
        ({"nowhere": fslab.zero}, "no layer is called 'nowhere'"),
        ({"up_blocks": fslab.zero}, r"'up_blocks' is a list of modules.*up_blocks.0 or up_blocks"),
        ({f"{BLOCK}.attn1.probs": fslab.zero}, "is no module's output"),
        ({f"{BLOCK}.attn1.to_q.input": fslab.zero}, "is no module's output"),
        ({f"{BLOCK}.attn1#0": fslab.zero}, "has no heads"),
        ({f"{BLOCK}.attn1.to_q#8": fslab.zero}, "there is no #8"),
        ({BLOCK: 0.5}, r"is 0\.5; give fslab\.zero, fslab\.scale"),
        ({3: fslab.zero}, "an edit is of 3; give a module's path"),
        ([BLOCK], "give a dict by module path"),
        ({BLOCK: lambda output: output[:, :1]}, r"returned \[1, 1, \d+\]; it must return a tensor \[1, "),
        ({BLOCK: lambda output: None}, "returned NoneType; it must return a tensor"),
        ({BLOCK: lambda output: output / 0}, "returned numbers that are not finite"),
    ],
)  # fmt: skip
def test_what_is_no_edit_is_refused(tiny, picture, edits, said):
    lab = Lab(tiny)
    with pytest.raises(FslabError, match=said), lab.edit(edits):
        read(lab, picture)
    assert lab.backbone is lab.clean_backbone


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: fslab.scale("half"), "factor is 'half'; give a finite number"),
        (lambda: fslab.scale(float("nan")), "factor is nan"),
        (lambda: fslab.swap("dog.png"), "picture is "),
        (lambda: fslab.mean_over([]), "give a list of one picture at least"),
        (lambda: fslab.mean_over(["dog.png"]), "a picture of mean_over is "),
    ],
)
def test_edits_say_what_they_take(make, said):
    with pytest.raises(FslabError, match=said):
        make()


def test_backbones_without_a_network_are_refused(tiny):
    with (
        pytest.raises(FslabError, match=r"rgb has no network whose modules"),
        Lab(tiny, backbone="rgb").edit({"rgb": fslab.zero}),
    ):
        pass


class Named(nn.Module):
    """Returns its tensor among others, as networks' own modules do."""

    def __init__(self, wrap):
        super().__init__()
        self.wrap = wrap

    def forward(self, x):
        return self.wrap(x + 1)


@pytest.mark.parametrize(
    ("wrap", "of"),
    [
        (lambda x: x, lambda y: y),
        (lambda x: (x, "beside"), lambda y: y[0]),
        (lambda x: [x, x], lambda y: y[0]),
        (lambda x: {"sample": x, "more": None}, lambda y: y["sample"]),
    ],
)
def test_any_network_is_edited_whatever_it_returns(wrap, of):
    net, given = nn.Sequential(Named(wrap)), torch.ones(1, 2)
    plain = net(given)
    with fslab.editing(net, {"0": fslab.scale(10)}) as inside, tap(net, "0") as seen:
        assert inside is net
        edited = net(given)
    assert type(edited) is type(plain)
    assert of(edited).tolist() == [[20, 20]]
    assert seen["0"].tolist() == [[20, 20]]
    assert of(net(given)).tolist() == [[2, 2]]
    assert hooks(net) == 0


def test_an_edit_changes_no_input_in_place():
    def spoil(output):
        output.zero_()
        return output + 5

    net, given = nn.Sequential(nn.Identity(), nn.Identity()), torch.ones(1, 2)
    with fslab.editing(net, {"0": spoil}):
        assert net(given).tolist() == [[5, 5]]
    assert given.tolist() == [[1, 1]]


def test_what_is_edited_is_a_network():
    with (
        pytest.raises(FslabError, match="net is NoneType; give"),
        fslab.editing(None, {"conv": fslab.zero}),
    ):
        pass


def test_networks_alone_know_no_pictures_and_labs_no_edits_of_others(tiny, picture, other):
    lab = Lab(tiny)
    net = lab.backbone.network()
    alone = fslab.editing(net, {BLOCK: fslab.swap(other)})
    with pytest.raises(FslabError, match=r"use swap and mean_over with lab\.edit"), alone:
        pass
    with fslab.editing(net, {BLOCK: fslab.zero}):
        with pytest.raises(FslabError, match=r"under fslab\.editing.*use lab\.edit"):
            read(lab, picture)
        with pytest.raises(FslabError, match=r"under fslab\.editing"):
            lab.extract(picture, [f"{BLOCK}.attn2.to_q"], 50, words=WORDS)
    assert read(lab, picture).any()


def test_the_name_of_an_edit_is_what_it_does(other):
    edits = [fslab.zero, fslab.scale(0.5), fslab.scale(0), fslab.swap(other)]
    names = [str(named(edit)) for edit in edits]
    assert len(set(names)) == len(names)
    assert named(fslab.scale(0.5)) == named(fslab.scale(0.5))
    assert named(fslab.mean_over([other])) == named(fslab.swap(other))
    with pytest.raises(FslabError, match="cannot be told from another"):
        named(Nameless())


class Gain:
    """An edit whose state may change."""

    def __init__(self, gain: float) -> None:
        self.gain = gain

    def __call__(self, output):
        return output * self.gain


def test_an_edit_that_changes_while_it_is_in_force_is_refused(tiny, tmp_path):
    lab, picture, edit = Lab(tiny, store=tmp_path), noise_picture(24, 32), Gain(1.0)
    with lab.edit({"mid_block": edit}):
        edit.gain = 0.25
        with pytest.raises(FslabError, match="has changed since"):
            lab.extract(picture, "up_blocks.1")


@pytest.mark.parametrize("change", [lambda x: x > 0, lambda x: x.double(), lambda x: x * 1j])
def test_an_edit_keeps_the_kind_of_numbers(tiny, change):
    lab = Lab(tiny)
    with lab.edit({"mid_block": change}), pytest.raises(FslabError, match="it must be of torch"):
        lab.extract(noise_picture(24, 32), "up_blocks.1")
