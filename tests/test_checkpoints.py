"""Stable Diffusion in one file: the same bits as its folder, by shipped configurations alone."""

import shutil
import socket

import pytest
import torch
from checkpoints import save_checkpoint
from conftest import noise_picture

from fslab.backbones import StableDiffusion, checkpoint, open_backbone
from fslab.records import Extraction

LAYERS = ("down_blocks.1", "mid_block.attentions.0", "up_blocks.1.attentions.0")
KINDS = ("sd1", "sd2", "sdxl")


@pytest.fixture
def small(diffusion_folders, tmp_path, monkeypatch):
    """Make a tiny model of a kind as a file, with configurations of its size as if shipped."""

    def make(kind, **more):
        folder, shipped = diffusion_folders[kind], tmp_path / "shipped" / kind
        shutil.copytree(folder, shipped, ignore=shutil.ignore_patterns("*.safetensors"))
        monkeypatch.setattr(checkpoint, "CONFIGURATIONS", tmp_path / "shipped")
        place = tmp_path / kind
        shutil.copytree(folder / "tokenizer", place / "tokenizer")
        return save_checkpoint(folder, place / "model.safetensors", kind, **more)

    return make


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.mark.parametrize("kind", KINDS)
def test_features_and_texts_equal_those_of_the_folder(diffusion_folders, small, no_network, kind):
    picture, backbone = noise_picture(64, 96), open_backbone(small(kind))
    folder = StableDiffusion(diffusion_folders[kind])
    if kind == "sd2":  # the true pad of Stable Diffusion 2.x, which the tiny folder has not
        folder._tokenizer("tokenizer").pad_token = "!"
        backbone._tokenizer("tokenizer").pad_token = "!"
    settings = Extraction(prompt="a photo of dog")
    assert backbone.name == "model"
    assert backbone.layers() == folder.layers()
    assert torch.equal(backbone.text_states("a dog"), folder.text_states("a dog"))
    for each in (folder, backbone):  # where a tensor lies in its file changes how products round
        for part in ("unet", "vae"):
            for parameter in each._part(part, torch.float32).parameters():
                parameter.data = parameter.data.clone()
    found = backbone.run(picture, (64, 96), {50: LAYERS}, settings)
    plain = folder.run(picture, (64, 96), {50: LAYERS}, settings)
    for key, value in plain.items():
        assert torch.equal(found[key], value), key
