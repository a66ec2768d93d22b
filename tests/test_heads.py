"""Single heads by name: what a plain computation on the module gives, wherever a layer is named."""

import json
from functools import partial

import numpy as np
import pytest
import torch
from conftest import noise_picture
from torch import nn
from transformers_tiny import save

from fslab.backbones import Diffusion, open_backbone, pick_layers, word_keys, word_maps
from fslab.backbones.listing import Shapes
from fslab.evaluate import read_experiment
from fslab.heads import count_heads
from fslab.lab import Lab
from fslab.records import Extraction, FslabError
from fslab.tap import tap
from fslab.widgets import explore_features

BLOCK = "down_blocks.1.attentions.0.transformer_blocks.0"
AT = {"timesteps": (50,), "seed": 2}
SIZE = 64, 96


class Spy:
    """What an attention's own modules gave in a pass: projections as tokens, by their names."""

    def __init__(self, module, names):
        self.kept = {}
        self._hooks = [
            module.get_submodule(name).register_forward_hook(partial(self._keep, name))
            for name in names
        ]

    def _keep(self, name, module, given, output):
        self.kept.setdefault(name, output.detach())

    def heads(self, name, heads):
        """Return the tokens of each head, [heads, tokens, D]."""
        return self.kept[name][0].unflatten(-1, (heads, -1)).transpose(0, 1)

    def end(self):
        for hook in self._hooks:
            hook.remove()


def as_map(tokens, h, w):
    return tokens.T.reshape(-1, h, w)


@pytest.mark.parametrize("kind", ["sd1", "sdxl"])
def test_heads_are_parts_of_the_projections_and_where_each_looks(diffusion_folders, kind):
    backbone, picture = Diffusion(diffusion_folders[kind]), noise_picture(*SIZE)
    place = f"{BLOCK}.attn1"
    heads, stride = (
        getattr(backbone.layers_by_path()[f"{place}.to_q"], x) for x in ("heads", "stride")
    )
    assert heads > 1
    names = "to_q", "to_k", "to_v", "probs"
    paths = [f"{place}.{name}#{head}" for name in names for head in range(heads)]
    spy = Spy(backbone.module(place), names[:3])
    found = backbone.run(picture, SIZE, {50: paths}, Extraction(**AT))
    spy.end()
    h, w = (side // stride for side in SIZE)
    for name in names[:3]:
        for head, tokens in enumerate(spy.heads(name, heads)):
            assert torch.equal(found[f"{place}.{name}#{head}", 50], as_map(tokens, h, w))
    query, key = (spy.heads(name, heads) for name in names[:2])
    for head in range(heads):
        looks = (query[head] @ key[head].T * query.shape[-1] ** -0.5).softmax(-1)
        own = found[f"{place}.probs#{head}", 50]
        assert torch.allclose(own, as_map(looks, h, w), atol=1e-6)
    several = torch.stack([found[f"{place}.probs#{head}", 50] for head in range(heads)])
    mean = backbone.run(picture, SIZE, {50: [f"{place}.probs"]}, Extraction(**AT))
    assert torch.allclose(several.mean(0), mean[f"{place}.probs", 50], atol=1e-6)
    assert not torch.allclose(several[0], several[1], atol=1e-4)


def test_a_head_s_look_at_text_is_its_own_softmax(diffusion_folders):
    backbone, picture = Diffusion(diffusion_folders["sd1"]), noise_picture(*SIZE)
    place = f"{BLOCK}.attn2"
    layer = backbone.layers_by_path()[f"{place}.to_text"]
    spy = Spy(backbone.module(place), ["to_q", "to_k"])
    settings = Extraction(**AT, prompt="a photo of a dog")
    path = f"{place}.to_text#1"
    found = backbone.run(picture, SIZE, {50: [path]}, settings)[path, 50]
    spy.end()
    query, key = (spy.heads(name, layer.heads)[1] for name in ("to_q", "to_k"))
    looks = (query @ key.T * query.shape[-1] ** -0.5).softmax(-1)
    assert torch.allclose(found, as_map(looks, *(side // layer.stride for side in SIZE)), atol=1e-6)


@pytest.mark.parametrize("kind", ["dinov2", "vit", "clip"])
def test_heads_of_vision_transformers(vision_folders, kind):
    backbone, picture = open_backbone(vision_folders[kind]), noise_picture(32, 48)
    layers = backbone.layers()
    (probs,) = pick_layers(["last:*.probs"], layers)
    place = probs.path.removesuffix(".probs")
    query = next(each for each in layers if each.path in (f"{place}.q_proj", f"{place}.query"))
    key = query.path.replace("query", "key").replace("q_proj", "k_proj")
    net = backbone._net(torch.float32)
    spy = Spy(net, [query.path, key])
    wanted = [f"{query.path}#1", f"{probs.path}#1"]
    found = backbone.run(picture, (32, 48), {0: wanted}, Extraction())
    spy.end()
    mine, theirs = (spy.heads(name, query.heads)[1] for name in (query.path, key))
    assert torch.equal(found[wanted[0], 0], as_map(mine[1:], 4, 6))
    looks = (mine @ theirs.T * mine.shape[-1] ** -0.5).softmax(-1)
    assert torch.allclose(found[wanted[1], 0], as_map(looks[1:, 1:], 4, 6), atol=1e-6)


@pytest.mark.parametrize("kind", ["sd3", "sd35", "flux", "pixart-sigma", "sana"])
def test_transformers_say_how_many_heads_they_have_as_they_call_attention(kind, tmp_path):
    backbone = open_backbone(save(tmp_path, kind))
    net, run = backbone._meta()
    called = Shapes(net, partial(run, backbone._listing_side())).attention
    assert called
    for place, (query, _) in called.items():
        assert count_heads(net, place, attention=True) == query[1]
    heads = {each.path: each.heads for each in backbone.layers()}
    for path, count in heads.items():
        last = path.rpartition(".")[2]
        assert (count > 1) == (last in ("to_q", "to_k", "to_v", "probs", "to_text", "from_text")), (
            path
        )


@pytest.mark.parametrize("kind", ["sd3", "flux"])
def test_heads_of_joint_attention_are_the_mean_s_parts(kind, tmp_path):
    backbone = open_backbone(save(tmp_path, kind))
    picture, size = noise_picture(64, 64), (64, 64)
    for ending in ("probs", "to_text", "from_text"):
        layer = next(x for x in backbone.layers() if x.path.endswith(f".{ending}"))
        paths = [layer.path, *(f"{layer.path}#{head}" for head in range(layer.heads))]
        found = backbone.run(picture, size, {50: paths}, Extraction(timesteps=(50,)))
        several = torch.stack([found[path, 50] for path in paths[1:]])
        assert torch.allclose(several.mean(0), found[paths[0], 50], atol=1e-6)
        assert not torch.allclose(several[0], several[1], atol=1e-5)


def test_heads_are_counted_and_not_listed(tiny):
    layers = Lab(tiny).layers()
    assert not [each for each in layers if "#" in each.path]
    assert {each.heads for each in layers if each.path.endswith(".attn1.to_q")} == {8}
    assert {each.heads for each in layers if each.path.endswith((".attn1", ".input"))} == {0}
    assert Lab(tiny).layers() == layers  # from the store


def test_patterns_pick_heads_in_the_network_s_order(tiny):
    layers = Lab(tiny).layers()
    one = pick_layers(["*.attn1.to_q#2"], layers)
    assert [each.path for each in one] == [
        f"{each.path}#2" for each in layers if each.path.endswith(".attn1.to_q")
    ]
    (last,) = pick_layers(["last:down_blocks.*.attn1.to_q#1"], layers)
    whole = {each.path: each for each in layers}
    assert last.path.endswith("attn1.to_q#1")
    assert last.channels == whole[last.whole].channels // 8
    every = pick_layers([f"{BLOCK}.attn1.to_q#*", f"{BLOCK}.attn1.to_q"], layers)
    assert [each.path.rpartition(".")[2] for each in every] == [
        "to_q",
        *(f"to_q#{n}" for n in range(8)),
    ]
    some = pick_layers([f"{BLOCK}.attn1.probs#[02]"], layers)
    assert [each.path[-1] for each in some] == ["0", "2"]
    assert not [each for each in pick_layers(["*#0"], layers) if each.whole.endswith("probs")]


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        (f"{BLOCK}.attn1.to_q#8", r"has 8 heads, #0 to #7; there is no #8"),
        ("*.attn1.to_q#17", r"has 8 heads, #0 to #7; there is no #17"),
        (f"{BLOCK}.attn1#0", r"attn1' has no heads; an attention's queries"),
        (f"{BLOCK}.attn1.to_q.input#0", "has no heads"),
        ("last:*.attn1.to_q#9", "there is no #9"),
        (f"{BLOCK}.attn1.to_q#two", "names the head 'two'; it is a number from 0"),
        (f"{BLOCK}.attn1.to_q#", "names the head ''"),
        (f"{BLOCK}.attn1.to_q#01", "names the head '01'"),
        ("nowhere.to_q#1", r"no layer is called 'nowhere.to_q'; the nearest are"),
    ],
)  # fmt: skip
def test_heads_that_are_not_there_are_refused(tiny, picture, pattern, said):
    with pytest.raises(FslabError, match=said):
        Lab(tiny).extract(picture, [pattern], 50)


def test_the_store_keeps_heads_under_keys_of_their_own(tiny, picture):
    path = f"{BLOCK}.attn1.to_q"
    whole = Lab(tiny).extract(picture, [path], 50)[path]
    cold = Lab(tiny).extract(picture, [f"{path}#*"], 50)
    lab = Lab(tiny)
    warm = lab.extract(picture, [f"{path}#*"], 50)
    assert not lab.backbone.components.loaded, "warm features loaded weights"
    assert np.array_equal(np.concatenate([warm[f"{path}#{n}"] for n in range(8)]), whole)
    assert all(np.array_equal(cold[each], warm[each]) for each in warm)


def test_words_are_looked_for_by_one_head(tiny, picture):
    lab, words = Lab(tiny), ["dog", "cat"]
    place = f"{BLOCK}.attn2"
    by_head = [
        lab.attention(picture, words, layers=[f"{place}.to_q#{head}"], timesteps=50)["dog"]
        for head in range(8)
    ]
    whole = lab.attention(picture, words, layers=[f"{place}.to_text"], timesteps=50)["dog"]
    assert np.allclose(np.mean(by_head, 0), whole, atol=1e-6)
    assert not np.allclose(by_head[0], by_head[1], atol=1e-5)
    same = lab.attention(picture, words, layers=[f"{place}.to_text#3"], timesteps=50)["dog"]
    assert np.array_equal(same, by_head[3])


def test_words_as_features_of_one_head(tiny, picture):
    lab, path = Lab(tiny), f"{BLOCK}.attn2.to_q"
    features = lab.extract(picture, [f"{path}#1"], 50, words=["dog", "cat"])
    keys = word_keys(lab.backbone, path, ["dog", "cat"]).numpy()
    expected = word_maps(features[f"{path}#1"], keys[[1]])
    assert np.array_equal(features[f"{BLOCK}.attn2.words#1"], expected)
    assert expected.shape[0] == 2


def test_recipes_ablations_and_the_command_line_name_heads(tiny, picture, run, tmp_path):
    lab = Lab(tiny)
    recipe = lab.recipe("freeseg-diff").change({"extract.layers": [f"{BLOCK}.attn1.to_q#0"]})
    assert list(lab._extract(picture, recipe.extract)) == [f"{BLOCK}.attn1.to_q#0"]
    file = tmp_path / "heads.toml"
    file.write_text(
        'title = "heads"\nmetrics = ["oracle"]\n[base]\nmethod = "freeseg-diff"\n[grid]\n'
        f'"extract.layers" = [["{BLOCK}.attn1.to_q#0"], ["{BLOCK}.attn1.probs#1"]]\n'
    )
    rows = read_experiment(file).variants
    assert [row.recipe.extract.layers[0][-2:] for row in rows] == ["#0", "#1"]
    _, listed, _ = run("layers", str(tiny), "--pattern", f"{BLOCK}.attn1.to_q#*", "--json")
    assert [each["path"][-2:] for each in json.loads(listed)] == [f"#{n}" for n in range(8)]


def test_explorers_take_heads(tiny, picture):
    lab, path = Lab(tiny), f"{BLOCK}.attn1.to_q"
    explorer = explore_features(lab, picture)
    explorer.wait()
    explorer.layer = f"{path}#2"
    explorer.wait()
    assert not explorer.message
    assert explorer.recipe.extract.layers == (f"{path}#2",)
    explorer._layers.filter.value = "attn1.to_q#3"
    values = [value for _, value in explorer._layers.list.options]
    assert f"{path}#3" in values
    assert explorer.layer == f"{path}#2", "the chosen head left the list"
    with pytest.raises(FslabError, match="there is no #8"):
        explorer.layer = f"{path}#8"
    explorer.close()


class Attention(nn.Module):
    """Two queries' heads over one key's head, as attention with shared keys has it."""

    def __init__(self):
        super().__init__()
        self.num_heads = 2
        self.q_proj, self.k_proj = nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x):
        return self.q_proj(x) @ self.k_proj(x).repeat(1, 1, 2).transpose(1, 2)


def test_any_network_s_heads_are_tapped_and_keys_may_have_fewer():
    net, given = nn.Sequential(Attention()), torch.randn(1, 3, 4)
    assert (count_heads(net, "0.q_proj"), count_heads(net, "0.k_proj")) == (2, 1)
    with torch.no_grad(), tap(net, "0.q_proj", "0.q_proj#1") as seen:
        net(given)
    assert torch.equal(seen["0.q_proj#1"], seen["0.q_proj"][..., 2:])
    with pytest.raises(FslabError, match="there is no #1"), tap(net, "0.k_proj#1"):
        net(given)
