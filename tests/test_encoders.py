"""A tiny autoencoder in the VAE's place: the latents of diffusers' own pipelines, by its own key."""

from __future__ import annotations

import json
import shutil
from types import SimpleNamespace

import diffusers
import pytest
import torch
from models import save_encoder
from PIL import Image
from safetensors.torch import load_file, save_file

from fslab.backbones import Diffusion
from fslab.lab import Lab
from fslab.records import Extraction, FslabError

LAYER = "up_blocks.0.attentions.0.transformer_blocks.0.attn2.to_q"


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return save_encoder(tmp_path_factory.mktemp("taesd"))


def plain_latent(pipeline, encoder, picture):
    """A picture's latent by an image-to-image pipeline's own code."""
    vae = diffusers.AutoencoderTiny.from_pretrained(encoder)
    processor = diffusers.image_processor.VaeImageProcessor(vae_scale_factor=4)
    pixels = processor.preprocess(Image.fromarray(picture.pixels)).contiguous()
    scheduler = SimpleNamespace(add_noise=lambda latent, *_: latent)
    with torch.no_grad():
        return getattr(diffusers, pipeline).prepare_latents(
            SimpleNamespace(vae=vae, scheduler=scheduler), pixels, None, 1, 1, torch.float32,
            torch.device("cpu"), None,
        )  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "pipeline"),
    [("sd1", "StableDiffusionImg2ImgPipeline"), ("sdxl", "StableDiffusionXLImg2ImgPipeline")],
)
@pytest.mark.parametrize("settings", [{}, {"scaling_factor": 0.7}])
def test_latents_equal_those_of_diffusers_own_pipelines(
    diffusion_folders, tmp_path, picture, kind, pipeline, settings
):
    encoder = save_encoder(tmp_path / "taesd", **settings)
    backbone = Diffusion(diffusion_folders[kind], encoder=encoder)
    found = backbone.latent(picture, (64, 64), Extraction())
    assert torch.equal(found, plain_latent(pipeline, encoder, picture))
    sampled = backbone.latent(picture, (64, 64), Extraction(posterior="sample", seed=3))
    assert torch.equal(found, sampled)


def test_a_configuration_may_leave_the_scale_out(diffusion_folders, encoder, tmp_path, picture):
    folder = shutil.copytree(encoder, tmp_path / "bare")
    config = json.loads((folder / "config.json").read_text())
    for name in ("scaling_factor", "latent_channels", "force_upcast", "block_out_channels"):
        del config[name]
    (folder / "config.json").write_text(json.dumps(config))
    latents = [
        Diffusion(diffusion_folders["sdxl"], encoder=each).latent(picture, (64, 64), Extraction())
        for each in (encoder, folder)
    ]
    assert torch.equal(*latents)


def test_a_lab_takes_an_encoder_by_its_folder_and_needs_no_vae(
    tiny, encoder, tmp_path, picture, own_store
):
    folder = shutil.copytree(tiny, tmp_path / "no-vae")
    (folder / "vae" / "diffusion_pytorch_model.safetensors").unlink()
    lab, usual = Lab(folder, encoder=encoder), Lab(tiny)
    features = lab.extract(picture, [LAYER])[LAYER]
    assert (features != usual.extract(picture, [LAYER])[LAYER]).any()
    (net,) = (part for (name, _), part in lab.backbone.components.loaded.items() if name == "vae")
    assert not hasattr(net, "decoder")
    assert lab.backbone.name.endswith(f" with {encoder.name}")
    assert lab.backbone.fingerprint != usual.backbone.fingerprint
    again = Lab(*lab.specification)
    assert again.backbone.fingerprint == lab.backbone.fingerprint
    assert (again.extract(picture, [LAYER])[LAYER] == features).all()
    assert again.backbone.components.loaded == {}


def test_another_encoder_has_other_keys(diffusion_folders, encoder, tmp_path):
    other = save_encoder(tmp_path / "other", act_fn="silu")
    prints = {
        Diffusion(diffusion_folders["sd1"], encoder=each).fingerprint
        for each in (None, encoder, other)
    }
    assert len(prints) == 3


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"latent_channels": 16}, "have 16 channels, and those .* trained on 4"),
        ({"encoder_block_out_channels": (8,) * 4, "num_encoder_blocks": (1,) * 4,
          "decoder_block_out_channels": (8,) * 4, "num_decoder_blocks": (1,) * 4},
         "have 8 pixels a cell, and those .* trained on 4"),
        ({"in_channels": 1}, "in_channels = 1"),
    ],
)  # fmt: skip
def test_an_encoder_of_other_latents_is_refused(diffusion_folders, tmp_path, settings, said):
    folder = save_encoder(tmp_path / "other", **settings)
    with pytest.raises(FslabError, match=said):
        Diffusion(diffusion_folders["sd1"], encoder=folder)


def test_what_is_no_tiny_autoencoder_is_refused_by_its_name(diffusion_folders, encoder, tmp_path):
    folder = diffusion_folders["sd1"]
    with pytest.raises(FslabError, match="is of AutoencoderKL; an encoder is diffusers"):
        Diffusion(folder, encoder=folder / "vae")
    with pytest.raises(FslabError, match="is of no class of diffusers"):
        Diffusion(folder, encoder=folder / "text_encoder")
    with pytest.raises(FslabError, match="encoder is 'nowhere', which is not a folder"):
        Lab(folder, encoder="nowhere")
    with pytest.raises(FslabError, match="rgb reads pictures without an encoder"):
        _ = Lab(folder, "rgb", encoder=encoder).backbone
    odd = shutil.copytree(encoder, tmp_path / "odd")
    config = json.loads((odd / "config.json").read_text())
    (odd / "config.json").write_text(json.dumps({**config, "quantiser": 3}))
    with pytest.raises(FslabError, match="quantiser = 3, which fslab does not understand"):
        Diffusion(folder, encoder=odd)
    (odd / "config.json").write_text(json.dumps({**config, "encoder_block_out_channels": 8}))
    with pytest.raises(FslabError, match="the encoder_block_out_channels 8; it must be a list"):
        Diffusion(folder, encoder=odd)


@pytest.mark.parametrize("tiny_one", [True, False])
def test_a_latent_that_is_not_finite_is_laid_to_what_made_it(
    diffusion_folders, encoder, tmp_path, picture, tiny_one
):
    made_by = shutil.copytree(encoder if tiny_one else diffusion_folders["sd1"], tmp_path / "own")
    part = made_by if tiny_one else made_by / "vae"
    file = part / "diffusion_pytorch_model.safetensors"
    weights = load_file(file)
    weights["encoder.layers.0.bias" if tiny_one else "encoder.conv_in.bias"][0] = torch.inf
    save_file(weights, file, {"format": "pt"})
    folder, given = (diffusion_folders["sd1"], made_by) if tiny_one else (made_by, None)
    with pytest.raises(FslabError, match=f"a latent of {part} is not finite"):
        Lab(folder, encoder=given).extract(picture, LAYER)


def test_one_is_trained_for_mini(tmp_path, picture):
    from bench.tiny import train

    error = train(tmp_path / "tiny", minutes=0.001)
    assert 0 < error < 10
    own, other = (
        Lab("mini", store=tmp_path / name, **settings).extract(picture, timesteps=50)
        for name, settings in (("one", {}), ("two", {"encoder": tmp_path / "tiny"}))
    )
    assert own.keys() == other.keys()
    assert not all((own[layer] == other[layer]).all() for layer in own)
