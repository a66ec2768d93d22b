"""Any torch module as a backbone: its layers, its maps, its key, and what is refused."""

import pickle

import numpy as np
import pytest
import torch
from conftest import noise_picture
from torch import nn
from torch.nn.functional import interpolate, scaled_dot_product_attention

import fslab
from fslab.backbones import from_module
from fslab.lab import Lab
from fslab.records import FslabError

WIDTH, HEADS, PATCH = 24, 3, 8


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.num_heads = HEADS
        self.qkv, self.proj = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x):
        rows, tokens, _ = x.shape
        parts = self.qkv(x).reshape(rows, tokens, 3, HEADS, -1).permute(2, 0, 3, 1, 4)
        found = scaled_dot_product_attention(*parts)
        return self.proj(found.transpose(1, 2).reshape(rows, tokens, WIDTH))


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.attn = nn.LayerNorm(WIDTH), Attention()
        self.mlp = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.GELU())

    def forward(self, x):
        x = x + self.attn(self.norm(x))
        return x + self.mlp(x)


class Vit(nn.Module):
    """A class token and a register before the patches; positions fitted to any size, or not."""

    def __init__(self, fixed=False, slope=1.0):
        super().__init__()
        self.fixed, self.slope = fixed, slope
        self.patches = nn.Conv2d(3, WIDTH, PATCH, PATCH)
        self.before = nn.Parameter(torch.randn(1, 2, WIDTH))
        self.positions = nn.Parameter(torch.randn(1, WIDTH, 4, 4))
        self.blocks = nn.ModuleList([Block(), Block()])
        self.head = nn.Linear(WIDTH, 5)

    def forward(self, x):
        cells = self.patches(x) * self.slope
        places = self.positions
        if not self.fixed:
            places = interpolate(places, cells.shape[2:], mode="bilinear")
        cells = (cells + places).flatten(2).transpose(1, 2)
        x = torch.cat([self.before.expand(len(x), -1, -1), cells], 1)
        for block in self.blocks:
            x = block(x)
        return self.head(x[:, 0])


class Cnn(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU())
        self.stage = nn.Conv2d(8, 16, 3, 2, 1)
        self.head = nn.Linear(16, 5)

    def forward(self, x):
        return self.head(self.stage(self.stem(x)).mean((2, 3)))


def prepare(pixels):
    return torch.from_numpy(pixels).permute(2, 0, 1) / 127.5 - 1


def made(kind, seed=0, **named):
    torch.manual_seed(seed)
    return kind(**named)


def vit(seed=0, **named):
    net = made(Vit, seed)
    return from_module(net, prepare, resolution=32, multiple=PATCH, extra_tokens=2, **named), net


def taken(net, picture, path):
    """What a module outputs, tapped by hand."""
    found = {}
    with torch.no_grad():
        hook = net.get_submodule(path).register_forward_hook(lambda *each: found.update(x=each[2]))
        net.eval()(prepare(picture.pixels)[None])
        hook.remove()
    return found["x"][0]


def test_tokens_become_a_map_without_those_of_no_place():
    backbone, net = vit(name="mine")
    lab, picture = Lab("mini", backbone), noise_picture(32, 48)
    listed = {layer.path: layer for layer in lab.layers()}
    assert (listed["blocks.0"].channels, listed["blocks.0"].stride) == (WIDTH, PATCH)
    assert (listed["patches"].channels, listed["blocks.1.attn.probs"].heads) == (WIDTH, HEADS)
    assert "head" not in listed
    assert backbone.default_layers == ("blocks.1",)
    found = lab.extract(picture, ["patches", "blocks.0", "blocks.1.attn.probs#1"])
    tokens = taken(net, picture, "blocks.0")
    assert len(tokens) == 2 + 4 * 6
    assert np.array_equal(found["blocks.0"], tokens[2:].T.reshape(WIDTH, 4, 6).numpy())
    assert np.array_equal(found["patches"], taken(net, picture, "patches").numpy())
    probs = found["blocks.1.attn.probs#1"].reshape(24, 24)
    assert (probs >= 0).all()
    assert (probs.sum(0) < 1).all()  # the rest looks at the two tokens before


def test_a_cnn_has_its_maps_and_pictures_pass_together():
    net = made(Cnn)
    net.stem(torch.rand(8, 3, 32, 32))  # of running statistics, which are none of zeros and ones
    lab = Lab("mini", from_module(net, prepare, resolution=32, multiple=4))
    pictures = [noise_picture(32, 32, seed=seed) for seed in range(3)]
    alone = [lab.extract(each, ["stem", "stage"]) for each in pictures]
    assert np.array_equal(alone[1]["stage"], taken(net, pictures[1], "stage").numpy())
    assert alone[0]["stem"].shape == (8, 16, 16)
    for one, plain in zip(lab.extract_many(pictures, "stage", batch=3), alone, strict=True):
        assert np.allclose(one["stage"], plain["stage"], atol=1e-5)


def test_a_network_of_one_size_has_pictures_squashed_into_it():
    net, how = made(Vit, fixed=True), {"resolution": 32, "multiple": PATCH, "extra_tokens": 2}
    with pytest.raises(
        FslabError, match=r"does not take pictures f32 \[1, 3, 40, 40\].*fixed=True"
    ):
        from_module(net, prepare, **how).layers()
    backbone = from_module(net, prepare, fixed=True, **how)
    lab = Lab("mini", backbone)
    found = lab.extract(noise_picture(64, 48), ["blocks.1", "blocks.1.attn.probs"])
    assert found["blocks.1"].shape == (WIDTH, 4, 4)
    assert found["blocks.1.attn.probs"].shape == (16, 4, 4)
    assert found.size == (64, 48)
    with pytest.raises(FslabError, match="takes 32 x 32 pixels alone"):
        lab.extract(noise_picture(64, 48), resolution=64)


def test_a_lab_does_with_it_what_it_does_with_others():
    backbone, _ = vit()
    lab, picture = Lab("mini", backbone), noise_picture(32, 32)
    plain = lab.extract(picture)
    result = lab.segment(picture, "fslab", candidates=["dog"])
    assert result.recipe.extract.layers == ("blocks.1",)
    with lab.edit({"blocks.0.attn": fslab.zero}):
        edited = lab.extract(picture)
    assert not np.array_equal(edited["blocks.1"], plain["blocks.1"])
    assert np.array_equal(lab.extract(picture)["blocks.1"], plain["blocks.1"])
    again = pickle.loads(pickle.dumps(lab))
    assert again.backbone.fingerprint == backbone.fingerprint
    assert np.array_equal(again.extract(picture)["blocks.1"], plain["blocks.1"])
    half = lab.extract(picture, precision="bf16")["blocks.1"]
    assert 0 < np.abs(half - plain["blocks.1"]).max() < 0.2


def brighter(pixels):
    return torch.from_numpy(pixels).permute(2, 0, 1) / 127.5


def test_its_key_is_its_weights_its_code_and_how_pictures_are_prepared():
    (first, net), how = vit(), {"resolution": 32, "multiple": PATCH, "extra_tokens": 2}
    assert vit()[0].fingerprint == first.fingerprint
    sloped = made(Vit, slope=2.0)
    others = [
        vit(seed=1)[0], from_module(net, brighter, **how), from_module(sloped, prepare, **how),
        from_module(made(Cnn), prepare, resolution=32, multiple=4),
    ]  # fmt: skip
    assert len({first.fingerprint, *(each.fingerprint for each in others)}) == 5


def test_it_is_the_network_as_it_was_when_it_was_given():
    backbone, net = vit()
    picture = noise_picture(32, 32)
    plain = Lab("mini", backbone, store="memory://a").extract(picture)["blocks.1"]
    named = backbone.fingerprint
    nn.init.zeros_(net.patches.weight)
    assert net.training
    assert backbone.fingerprint == named
    again = Lab("mini", backbone, store="memory://b").extract(picture)["blocks.1"]
    assert np.array_equal(again, plain)


@pytest.mark.parametrize("tokens", [0, 1, 3])
def test_another_number_of_tokens_is_refused_with_the_right_one(tokens):
    backbone = from_module(made(Vit), prepare, resolution=32, multiple=PATCH, extra_tokens=tokens)
    with pytest.raises(FslabError, match=r"outputs 18 tokens for 16 cells .*say extra_tokens=2"):
        backbone.layers()


def cropped(pixels):
    return prepare(pixels)[:, 1:]


def whole_numbers(pixels):
    return torch.from_numpy(pixels)


def nothing(pixels):
    return None


@pytest.mark.parametrize(
    ("function", "message"),
    [(cropped, r"prepare gave \[3, 31, 32\] of pixels \[32, 32, 3\]; it must give \[3, 32, 32\]"),
     (whole_numbers, r"prepare gave \[32, 32, 3\]; it must give a tensor f32"),
     (nothing, "prepare gave NoneType; it must give a tensor f32")],
)  # fmt: skip
def test_what_prepare_gives_is_checked(function, message):
    backbone = from_module(made(Vit), function, resolution=32, multiple=PATCH, extra_tokens=2)
    with pytest.raises(FslabError, match=message):
        backbone.layers()


@pytest.mark.parametrize(
    ("given", "message"),
    [({"net": "resnet"}, "net is str; give a torch.nn.Module"),
     ({"net": nn.ReLU()}, "ReLU has no parameters"), ({"prepare": 3}, "prepare is int"),
     ({"multiple": 0}, "multiple is 0; it must be a whole number from 1"),
     ({"resolution": "32"}, "resolution is '32'"), ({"extra_tokens": -1}, "extra_tokens is -1"),
     ({"resolution": 30}, "resolution is 30, which is no multiple of 8")],
)  # fmt: skip
def test_what_is_no_network_is_refused(given, message):
    usual = {"net": made(Vit), "prepare": prepare, "resolution": 32, "multiple": 8}
    with pytest.raises(FslabError, match=message):
        from_module(**{**usual, **given})


def test_a_network_without_maps_is_refused():
    net = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 4))
    with pytest.raises(FslabError, match="no module of Sequential outputs a map"):
        from_module(net, prepare, resolution=32, multiple=8).layers()


def test_settings_that_nothing_tells_from_others_are_refused():
    net = made(Cnn)
    net.extra = iter([1])
    with pytest.raises(FslabError, match=r"cannot be copied|by which nothing tells"):
        _ = from_module(net, prepare, resolution=32, multiple=4).fingerprint
