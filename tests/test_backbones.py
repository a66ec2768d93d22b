"""Backbones: the same bits as the plain libraries, layers listed as they are, clear refusals."""

import json
import shutil

import numpy as np
import pytest
import torch
from conftest import noise_picture
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from PIL import Image
from transformers import (
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    CLIPVisionModel,
    Dinov2Model,
    ViTModel,
)

from fslab.backbones import Diffusion, open_backbone, pick_layers, word_attention
from fslab.backbones.latents import prepare
from fslab.backbones.weights import locate
from fslab.records import Extraction, FslabError
from fslab.tap import tap

LAYERS = (
    "down_blocks.0",
    "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_q",
    "up_blocks.1.attentions.0",
)


def plain_states(folder, prompt, kind):
    """A prompt's text states by the libraries alone."""
    states, pooled = [], None
    pairs = [("text_encoder", "tokenizer", CLIPTextModel)]
    if kind == "sdxl":
        pairs.append(("text_encoder_2", "tokenizer_2", CLIPTextModelWithProjection))
    for part, name, model in pairs:
        tokens = CLIPTokenizer.from_pretrained(folder / name)
        ids = tokens(
            prompt, padding="max_length", max_length=16, truncation=True, return_tensors="pt"
        )
        out = model.from_pretrained(folder / part)(ids.input_ids, output_hidden_states=True)
        states.append(out.hidden_states[-2] if kind == "sdxl" else out[0])
        pooled = out[0]
    return torch.cat(states, -1), pooled


@torch.no_grad()
def plain_features(folder, picture, timestep, seed, prompt="", kind="sd1"):
    """The recipe in plain diffusers with ordinary hooks, and nothing of ours."""
    unet = UNet2DConditionModel.from_pretrained(folder / "unet")
    vae = AutoencoderKL.from_pretrained(folder / "vae")
    schedule = DDPMScheduler.from_pretrained(folder / "scheduler")
    x = torch.from_numpy(picture.pixels.astype(np.float32) / 255.0).permute(2, 0, 1)[None] * 2 - 1
    latent = vae.encode(x).latent_dist.mean * vae.config.scaling_factor
    noise = torch.randn(latent.shape, generator=torch.Generator().manual_seed(seed))
    noisy = schedule.add_noise(latent, noise, torch.tensor([timestep]))
    states, pooled = plain_states(folder, prompt, kind)
    more = {}
    if kind == "sdxl":
        ids = torch.tensor([[*picture.size, 0, 0, *picture.size]], dtype=torch.float32)
        more = {"added_cond_kwargs": {"text_embeds": pooled, "time_ids": ids}}
    seen = {}

    def keep(path, out):
        seen[path] = out[0] if isinstance(out, tuple) else out

    for path in LAYERS:
        unet.get_submodule(path).register_forward_hook(lambda m, i, out, path=path: keep(path, out))
    unet(noisy, torch.tensor([timestep]), states, **more)
    query = LAYERS[1]
    h, w = seen[LAYERS[2]].shape[-2:]
    maps = {path: seen[path][0].numpy() for path in (LAYERS[0], LAYERS[2])}
    maps[query] = seen[query][0].T.reshape(-1, h, w).numpy()
    return maps


@pytest.mark.parametrize("kind", ["sd1", "sd2", "sdxl"])
@pytest.mark.parametrize("size", [(64, 64), (64, 96), (96, 64)])
def test_features_equal_plain_diffusers_bit_for_bit(diffusion_folders, kind, size):
    folder, picture = diffusion_folders[kind], noise_picture(*size)
    backbone = Diffusion(folder)
    settings = Extraction(layers=LAYERS, timesteps=(50, 500), seed=3, prompt="a photo of dog")
    assert backbone.input_size(picture, settings) == size
    found = backbone.run(picture, size, {50: LAYERS, 500: LAYERS}, settings)
    for timestep in (50, 500):
        plain = plain_features(folder, picture, timestep, 3, "a photo of dog", kind)
        for path in LAYERS:
            assert found[path, timestep].dtype == torch.float32
            assert np.array_equal(found[path, timestep].numpy(), plain[path]), (path, timestep)


def test_draws_are_averaged_and_the_first_is_the_single_one(diffusion_folders, picture):
    backbone = Diffusion(diffusion_folders["sd1"])
    wanted, path = {100: LAYERS[:1]}, LAYERS[0]
    one = backbone.run(picture, (64, 64), wanted, Extraction(draws=1))[path, 100]
    three = backbone.run(picture, (64, 64), wanted, Extraction(draws=3))[path, 100]
    generator = torch.Generator().manual_seed(0)
    latent, noises = backbone._start(picture, (64, 64), Extraction(draws=3))
    again = [torch.randn(latent.shape, generator=generator) for _ in range(3)]
    assert all(torch.equal(left, right) for left, right in zip(noises, again, strict=True))
    assert not torch.equal(one, three)


def test_the_posterior_can_be_sampled(diffusion_folders, picture):
    backbone = Diffusion(diffusion_folders["sd1"])
    mean = backbone.latent(picture, (64, 64), Extraction())
    sample = backbone.latent(picture, (64, 64), Extraction(posterior="sample"))
    again = backbone.latent(picture, (64, 64), Extraction(posterior="sample"))
    assert torch.equal(sample, again)
    assert not torch.equal(sample, mean)


def test_the_pass_ends_after_the_last_wanted_layer(diffusion_folders, picture):
    backbone = Diffusion(diffusion_folders["sd1"])
    unet = backbone.components.load("unet", torch.float32)
    fired = []
    for name, module in unet.named_modules():
        module.register_forward_hook(lambda *_, name=name: fired.append(name))
    backbone.run(picture, (64, 64), {0: ("down_blocks.1",)}, Extraction())
    assert "down_blocks.1" in fired
    assert not [
        name for name in fired if name.startswith(("down_blocks.2", "mid", "up", "conv_out"))
    ]


def test_layers_are_listed_as_they_come_out(diffusion_folders):
    for folder in diffusion_folders.values():
        backbone, picture = Diffusion(folder), noise_picture(64, 96)
        listed = backbone.layers()
        assert not backbone.components.loaded, "listing loaded weights"
        paths = [layer.path for layer in listed]
        assert not [path for path in paths if path.endswith(("attn2.to_k", "attn2.to_v"))]
        found = backbone.run(picture, (64, 96), {0: paths}, Extraction())
        for layer in listed:
            h, w = 64 // layer.stride, 96 // layer.stride
            shape = (h * w if layer.path.endswith(".probs") else layer.channels, h, w)
            assert tuple(found[layer.path, 0].shape) == shape, layer


def test_the_papers_rule_gives_cross_attention_queries_at_the_coarsest_stride(diffusion_folders):
    backbone = Diffusion(diffusion_folders["sd1"])
    chosen = pick_layers(backbone.default_layers, backbone.layers())
    assert {layer.stride for layer in chosen} == {16}
    assert all(layer.path.endswith("attn2.to_q") for layer in chosen)
    assert {layer.path.split(".")[0] for layer in chosen} == {"down_blocks", "up_blocks"}


def test_a_picture_keeps_its_aspect_unless_squashed(diffusion_folders):
    backbone = Diffusion(diffusion_folders["sd1"])
    tall = noise_picture(300, 100)
    assert backbone.multiple == 16
    assert backbone.input_size(tall, Extraction()) == (192, 64)
    assert backbone.input_size(tall, Extraction(squash=True)) == (64, 64)
    assert backbone.input_size(tall, Extraction(resolution=33)) == (96, 32)
    assert backbone.input_size(noise_picture(1, 5000), Extraction()) == (64, 256)


def test_random_weights_are_seeded_and_differ_from_the_trained(diffusion_folders, picture):
    folder, wanted = diffusion_folders["sd1"], {0: ("down_blocks.1",)}
    run = [
        Diffusion(folder, random=seed).run(picture, (64, 64), wanted, Extraction())
        for seed in (0, 0, 1, None)
    ]
    maps = [found["down_blocks.1", 0] for found in run]
    assert torch.equal(maps[0], maps[1])
    assert not torch.equal(maps[0], maps[2])
    assert not torch.equal(maps[0], maps[3])
    assert Diffusion(folder, random=0).fingerprint != Diffusion(folder).fingerprint


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_is_near_full(diffusion_folders, picture, precision):
    backbone = Diffusion(diffusion_folders["sd1"])
    wanted = {0: ("down_blocks.1",)}
    full = backbone.run(picture, (64, 64), wanted, Extraction())["down_blocks.1", 0]
    half = backbone.run(picture, (64, 64), wanted, Extraction(precision=precision))[
        "down_blocks.1", 0
    ]
    assert half.dtype == torch.float32
    assert not torch.equal(full, half)
    assert (full - half).norm() / full.norm() < 0.05


@pytest.mark.parametrize(
    ("kind", "model"), [("dinov2", Dinov2Model), ("vit", ViTModel), ("clip", CLIPVisionModel)]
)
@pytest.mark.parametrize("size", [(32, 32), (32, 48)])
def test_vision_features_equal_plain_transformers(vision_folders, kind, model, size):
    folder, picture = vision_folders[kind], noise_picture(*size)
    backbone = open_backbone(folder)
    statistics = json.loads((folder / "preprocessor_config.json").read_text())
    x = (picture.pixels / np.float32(255) - np.float32(statistics["image_mean"])) / np.float32(
        statistics["image_std"]
    )
    pixels = torch.from_numpy(x.transpose(2, 0, 1).astype(np.float32).copy())[None]
    net = model.from_pretrained(folder).eval()
    more = {} if kind == "dinov2" else {"interpolate_pos_encoding": True}
    with torch.no_grad(), tap(net, *backbone.default_layers) as seen:
        net(pixels, **more)
    (path,) = backbone.default_layers
    tokens = seen[path][0, 1:]
    expected = tokens.T.reshape(32, size[0] // 8, size[1] // 8)
    found = backbone.run(
        picture, backbone.input_size(picture, Extraction()), {0: (path,)}, Extraction()
    )
    assert torch.equal(found[path, 0], expected)


def test_vision_layers_are_listed_as_they_come_out(vision_folders):
    for folder in vision_folders.values():
        backbone = open_backbone(folder)
        listed = backbone.layers()
        assert not backbone._nets
        found = backbone.run(
            noise_picture(32, 48), (32, 48), {0: [x.path for x in listed]}, Extraction()
        )
        for layer in listed:
            h, w = 32 // layer.stride, 48 // layer.stride
            shape = (h * w if layer.path.endswith(".probs") else layer.channels, h, w)
            assert tuple(found[layer.path, 0].shape) == shape, layer


@pytest.mark.parametrize("name", ["rgb", "handmade"])
def test_baselines(name):
    backbone, picture = open_backbone(name), noise_picture(60, 100)
    size = backbone.input_size(picture, Extraction())
    found = backbone.run(picture, size, {0: backbone.default_layers}, Extraction())
    for layer in backbone.layers():
        value = found[layer.path, 0]
        assert tuple(value.shape) == (layer.channels, size[0] // 4, size[1] // 4)
        assert torch.isfinite(value).all()


def test_handmade_does_not_see_the_strength_of_light():
    backbone, picture = open_backbone("handmade"), noise_picture(64, 64)
    colour = picture.pixels / 255.0
    bright, dark = backbone.describe(colour), backbone.describe(colour * 0.7)
    assert np.abs(bright["chroma"] - dark["chroma"]).max() < 0.5
    assert np.corrcoef(bright["chroma"].ravel(), dark["chroma"].ravel())[0, 1] > 0.97


def test_prepare_resizes_as_diffusers_does():
    from diffusers.image_processor import VaeImageProcessor

    picture = noise_picture(70, 50)
    plain = VaeImageProcessor(vae_scale_factor=8).preprocess(
        Image.fromarray(picture.pixels), 64, 48
    )
    assert torch.equal(prepare(picture, (64, 48)), plain)


def test_an_unknown_layer_offers_the_nearest(diffusion_folders):
    layers = Diffusion(diffusion_folders["sd1"]).layers()
    with pytest.raises(FslabError, match=r"'up_block\.1'.*up_blocks\.1"):
        pick_layers(["up_block.1"], layers)


def test_a_timestep_beyond_the_schedule_is_refused(diffusion_folders, picture, tmp_path):
    folder = shutil.copytree(diffusion_folders["sd1"], tmp_path / "short")
    path = folder / "scheduler" / "scheduler_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "num_train_timesteps": 100}))
    with pytest.raises(FslabError, match="timestep is 100; short has 0 to 99"):
        Diffusion(folder).run(picture, (64, 64), {100: ("down_blocks.0",)}, Extraction())


def test_missing_weights_say_what_how_large_and_how():
    with pytest.raises(FslabError) as refusal:
        locate("nobody/no-such-model")
    command = 'hf download nobody/no-such-model --include "*.json"'
    for part in ("nobody/no-such-model is not a folder", command, "mini"):
        assert part in str(refusal.value)
    with pytest.raises(FslabError) as refusal:
        locate("runwayml/stable-diffusion-v1-5", "diffusion")
    for part in ("runwayml/stable-diffusion-v1-5 (diffusion model, 4.3 GB)", "fslab fetch sd15"):
        assert part in str(refusal.value)
    with pytest.raises(FslabError, match="not a folder of weights"):
        locate("./nowhere")


def test_pickled_weights_are_refused(diffusion_folders, picture, tmp_path):
    folder = shutil.copytree(diffusion_folders["sd1"], tmp_path / "pickled")
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(".bin"))
    with pytest.raises(FslabError, match="pickled weights only"):
        Diffusion(folder).run(picture, (64, 64), {0: ("down_blocks.0",)}, Extraction())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"block_out_channels": None}, r"unet/config\.json lacks block_out_channels"),
        ({"sample_size": None}, "lacks sample_size"),
        ({"in_channels": 9}, "takes 9 channels and its VAE gives 4"),
    ],
)
def test_configurations_of_other_networks_are_refused(diffusion_folders, tmp_path, change, message):
    folder = shutil.copytree(diffusion_folders["sd1"], tmp_path / "changed")
    path = folder / "unet" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(FslabError, match=message):
        Diffusion(folder)


def test_other_folders_are_refused(tmp_path):
    with pytest.raises(FslabError, match=r"no config\.json"):
        open_backbone(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(FslabError, match="'bert' model; fslab reads dinov2"):
        open_backbone(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(FslabError, match="cannot be read as JSON"):
        open_backbone(tmp_path)


def test_word_attention_is_the_softmax_of_the_attention_processor(diffusion_folders, picture):
    """The maps equal what diffusers' own plain attention computes inside the layer."""
    backbone = Diffusion(diffusion_folders["sd1"])
    path = "down_blocks.1.attentions.0.transformer_blocks.0.attn2"
    settings = Extraction(
        layers=(f"{path}.to_q",), timesteps=(50,), prompt="a photo of dog and cat"
    )
    found = word_attention(backbone, picture, (64, 64), ["dog", "cat"], settings)
    module, probabilities = backbone.module(path), []
    plain = module.get_attention_scores

    def spy(query, key, mask=None):
        probabilities.append(plain(query, key, mask))
        return probabilities[-1]

    module.get_attention_scores = spy
    module.set_processor(AttnProcessor())
    run = backbone.run(picture, (64, 64), {50: (path,)}, settings)
    assert run
    mean = probabilities[0].mean(0)
    spans = backbone.token_spans(settings.prompt)
    for word, value in zip(("dog", "cat"), found, strict=True):
        start = settings.prompt.index(word)
        columns = [place for place, span in enumerate(spans) if span == (start, start + 3)]
        assert len(columns) == 1
        expected = mean[:, columns].sum(1).reshape(8, 8)
        assert torch.allclose(value, expected, atol=1e-6)


def test_word_attention_refuses_other_words_and_layers(diffusion_folders, picture):
    backbone = Diffusion(diffusion_folders["sd1"])
    settings = Extraction(layers=("*attn2.to_q",), timesteps=(50,), prompt="a photo of dog")
    with pytest.raises(FslabError, match="does not hold the word 'cat'"):
        word_attention(backbone, picture, (64, 64), ["cat"], settings)
    other = Extraction(layers=("down_blocks.0",), timesteps=(50,), prompt="a photo of dog")
    with pytest.raises(FslabError, match=r"'down_blocks\.0' is not a cross-attention query"):
        word_attention(backbone, picture, (64, 64), ["dog"], other)


def test_a_part_of_a_model_is_loaded_without_a_report(clip, picture, capfd):
    """CLIP's text side is of no use to its vision tower, and nobody need hear of it."""
    backbone = open_backbone(clip)
    backbone.run(picture, (16, 16), {0: list(backbone.default_layers)}, Extraction(timesteps=(0,)))
    printed = capfd.readouterr()
    assert printed.out + printed.err == ""
