"""Self-attention probabilities as layers: the libraries' own numbers, listed, early, kept."""

import numpy as np
import pytest
import torch
from conftest import noise_picture
from diffusers.models.attention_processor import AttnProcessor
from transformers import CLIPVisionModel, Dinov2Model, ViTModel

from fslab.backbones import Diffusion, open_backbone, pick_layers, written_for_unet
from fslab.lab import Lab
from fslab.records import Extraction, FslabError
from fslab.tap import attention_probabilities

BLOCK = "down_blocks.1.attentions.0.transformer_blocks.0"
PATH = f"{BLOCK}.attn1.probs"


def own_scores(backbone, path, picture, size, settings):
    """What diffusers' plain processor computes inside the layer, mean over heads: [cells, keys]."""
    module, seen = backbone.module(path), []
    plain = module.get_attention_scores

    def spy(query, key, mask=None):
        seen.append(plain(query, key, mask))
        return seen[-1]

    module.get_attention_scores = spy
    module.set_processor(AttnProcessor())
    backbone.run(picture, size, dict.fromkeys(settings.timesteps, (path,)), settings)
    return seen[0].mean(0)


@pytest.mark.parametrize("kind", ["sd1", "sd2", "sdxl"])
@pytest.mark.parametrize("block", [BLOCK, "mid_block.attentions.0.transformer_blocks.0"])
@pytest.mark.parametrize("size", [(64, 64), (64, 96)])
def test_probabilities_are_diffusers_own(diffusion_folders, kind, block, size):
    backbone, picture = Diffusion(diffusion_folders[kind]), noise_picture(*size)
    path, settings = f"{block}.attn1", Extraction(timesteps=(50,), seed=2)
    found = backbone.run(picture, size, {50: (f"{path}.probs",)}, settings)[f"{path}.probs", 50]
    stride = backbone.layers_by_path()[f"{path}.probs"].stride
    h, w = size[0] // stride, size[1] // stride
    expected = own_scores(backbone, path, picture, size, settings)
    assert found.dtype == torch.float32
    assert found.shape == (h * w, h, w)
    assert torch.allclose(found.flatten(1).T, expected, atol=1e-7)
    assert torch.allclose(found.sum(0), torch.ones(h, w), atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "model"), [("dinov2", Dinov2Model), ("vit", ViTModel), ("clip", CLIPVisionModel)]
)
def test_probabilities_of_vision_transformers_are_transformers_own(vision_folders, kind, model):
    folder, picture = vision_folders[kind], noise_picture(32, 48)
    backbone = open_backbone(folder)
    path = pick_layers(["last:*.probs"], backbone.layers())[0].path
    found = backbone.run(picture, (32, 48), {0: (path,)}, Extraction())[path, 0]
    net = model.from_pretrained(folder, attn_implementation="eager").eval()
    more = {} if kind == "dinov2" else {"interpolate_pos_encoding": True}
    with torch.no_grad():
        plain = net(backbone.prepare(picture, (32, 48)), output_attentions=True, **more)
    expected = plain.attentions[-1][0].mean(0)[1:, 1:]
    assert found.shape == (24, 4, 6)
    assert torch.allclose(found.flatten(1).T, expected, atol=1e-6)
    assert found.sum(0).max() < 1  # the class token has its share


def test_probabilities_are_listed_beside_their_projections(diffusion_folders):
    backbone = Diffusion(diffusion_folders["sd1"])
    listed = backbone.layers_by_path()
    found = {path for path in listed if path.endswith(".probs")}
    assert found == {path.removesuffix("to_k") + "probs" for path in listed if "attn1.to_k" in path}
    for path in found:
        assert listed[path].channels == (backbone.resolution // listed[path].stride) ** 2
    assert not backbone.components.loaded, "listing loaded weights"


def test_only_a_pattern_that_says_so_picks_probabilities(diffusion_folders):
    layers = Diffusion(diffusion_folders["sd1"]).layers()
    assert not [x for x in pick_layers(["*"], layers) if x.path.endswith(".probs")]
    picked = pick_layers(["*.attn1.probs", "down_blocks.0"], layers)
    assert {x.path.rpartition(".")[2] for x in picked} == {"probs", "0"}


def test_last_picks_the_last_that_fits(diffusion_folders):
    layers = Diffusion(diffusion_folders["sdxl"]).layers()
    (last,) = pick_layers(["last:down_blocks.*.attn1"], layers)
    assert last.path == "down_blocks.2.attentions.0.transformer_blocks.1.attn1"
    with pytest.raises(FslabError, match=r"the nearest are .*down_blocks"):
        pick_layers(["last:down_block.*.attn1"], layers)


def test_the_pass_ends_at_the_projections(diffusion_folders, picture):
    backbone = Diffusion(diffusion_folders["sd1"])
    unet, fired = backbone.components.load("unet", torch.float32), []
    for path, module in unet.named_modules():
        module.register_forward_hook(lambda *_, path=path: fired.append(path))
    backbone.run(picture, (64, 64), {50: (PATH,)}, Extraction())
    assert fired[-1] == f"{BLOCK}.attn1.to_v"


def test_probabilities_come_back_from_the_store(tiny, wide_picture):
    cold = Lab(tiny).extract(wide_picture, layers=["*.attn1.probs"], timesteps=50)
    lab = Lab(tiny)
    warm = lab.extract(wide_picture, layers=["*.attn1.probs"], timesteps=50)
    assert len(cold) > 2
    for path, value in cold.items():
        assert np.array_equal(value, warm[path])
    assert not lab.backbone.components.loaded, "warm features loaded weights"


def test_a_batch_is_its_pictures_one_by_one():
    generator = torch.Generator().manual_seed(0)
    query, key = (torch.randn(3, 2, 5, 4, generator=generator) for _ in range(2))
    together = attention_probabilities(query, key)
    for index in range(3):
        alone = attention_probabilities(query[[index]], key[[index]])
        assert torch.allclose(together[index], alone[0], atol=1e-7)


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        ((), False),
        (("layernorm",), False),
        (("*.probs",), False),
        (("up_blocks.1.attentions.*.attn2.to_q",), True),
        (("last:down_blocks.*.attn1",), True),
        (("*attn2.to_q", "mid_block"), True),
        (("down_blocks.1", "layernorm"), False),
    ],
)
def test_layers_of_a_unet_are_known_by_its_words(patterns, expected):
    assert written_for_unet(patterns) is expected
