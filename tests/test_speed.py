"""What is left out for speed and memory changes no number."""

import pytest
import torch
from torch import nn

import fslab.tap
from fslab.backbones import Diffusion, pick_layers
from fslab.backbones.latents import prepare
from fslab.records import Extraction
from fslab.tap import tap


def test_a_whole_path_is_tapped_without_a_search(monkeypatch):
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    given = torch.ones(1, 3)
    with tap(net, "[02]", stop=True) as searched:
        net(given)
    monkeypatch.setattr(fslab.tap, "layer_paths", lambda *given: pytest.fail("searched"))
    with tap(net, "0", "2", stop=True) as found:
        net(given)
    assert list(found) == list(searched) == ["0", "2"]
    assert all(torch.equal(found[path], searched[path]) for path in found)


def test_the_decoder_does_not_stay_and_latents_and_maps_are_those_of_the_whole_models(
    diffusion_folders, picture
):
    from diffusers import AutoencoderKL

    folder = diffusion_folders["sd1"]
    backbone = Diffusion(folder)
    settings = Extraction(layers=backbone.default_layers, timesteps=(0,))
    size = backbone.input_size(picture, settings)
    paths = [layer.path for layer in pick_layers(settings.layers, backbone.layers())]
    assert backbone.run(picture, size, {0: paths}, settings)
    (vae,) = (part for (name, _), part in backbone.components.loaded.items() if name == "vae")
    assert not any(name.startswith("decoder") for name, _ in vae.named_parameters())
    whole = AutoencoderKL.from_pretrained(folder / "vae").eval()
    with torch.no_grad():
        mean = whole.encode(prepare(picture, size)).latent_dist.mean
    latent = backbone.latent(picture, size, settings)
    assert torch.equal(latent, mean * whole.config.scaling_factor)
