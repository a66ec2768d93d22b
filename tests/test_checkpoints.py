"""Stable Diffusion in one file: the same bits as its folder, by shipped configurations alone."""

import json
import shutil
import socket

import pytest
import torch
from checkpoints import save_checkpoint, save_hollow
from conftest import noise_picture
from models import save_encoder
from safetensors.torch import load_file, save_file

from fslab.backbones import Diffusion, checkpoint, open_backbone
from fslab.backbones.checkpoint import Checkpoint
from fslab.lab import Lab
from fslab.records import Extraction, FslabError

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
    folder = Diffusion(diffusion_folders[kind])
    if kind == "sd2":  # the true pad of Stable Diffusion 2.x, which the tiny folder has not
        folder.components.tokenizer("text_encoder").pad_token = "!"
        backbone.components.tokenizer("text_encoder").pad_token = "!"
    settings = Extraction(prompt="a photo of dog")
    assert backbone.name == "model"
    assert backbone.layers() == folder.layers()
    assert torch.equal(backbone.text_states("a dog"), folder.text_states("a dog"))
    for each in (folder, backbone):  # where a tensor lies in its file changes how products round
        for part in ("unet", "vae"):
            for parameter in each.components.load(part, torch.float32).parameters():
                parameter.data = parameter.data.clone()
    found = backbone.run(picture, (64, 96), {50: LAYERS}, settings)
    plain = folder.run(picture, (64, 96), {50: LAYERS}, settings)
    for key, value in plain.items():
        assert torch.equal(found[key], value), key


@pytest.mark.parametrize("kind", KINDS)
def test_the_true_sizes_fit_by_the_header_alone(kind, tmp_path):
    """Files of the true shapes, of which nothing but the header exists."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    shipped = {
        path.parent.name: json.loads(path.read_text())
        for path in (checkpoint.CONFIGURATIONS / kind).glob("*/config.json")
    }
    classes = {"text_encoder": CLIPTextModel, "text_encoder_2": CLIPTextModelWithProjection}
    with torch.device("meta"):
        nets = {
            "unet": UNet2DConditionModel.from_config(shipped["unet"]),
            "vae": AutoencoderKL.from_config(shipped["vae"]),
            **{
                part: classes[part](CLIPTextConfig.from_dict(config))
                for part, config in shipped.items()
                if part in classes
            },
        }
    counts = {name: sum(each.numel() for each in net.parameters()) for name, net in nets.items()}
    assert counts["unet"] == {"sd1": 859520964, "sd2": 865910724, "sdxl": 2567463684}[kind]
    assert counts["vae"] == 83653863
    weights = {name: net.state_dict() for name, net in nets.items()}
    path = save_hollow(weights, shipped, tmp_path / "model.safetensors", kind)
    backbone = open_backbone(path)
    assert backbone.components.checkpoint.kind == kind
    assert backbone.resolution == {"sd1": 512, "sd2": 768, "sdxl": 1024}[kind]
    for part in ("unet", "vae"):
        shapes = {name: value.shape for name, value in weights[part].items()}
        backbone.components.checkpoint.check_fits(part, shapes)


def test_a_lab_and_the_command_line_open_a_file(small, clip, blip, run, tmp_path):
    from PIL import Image

    path = small("sd1")
    shutil.copytree(clip, path.parent / "clip")
    shutil.copytree(blip, path.parent / "blip")
    picture, out = noise_picture(64, 64), tmp_path / "out"
    lab = Lab(path, device="cpu")
    assert lab.backbone.name == "model"
    assert lab.segment(picture).labels.size == (64, 64)
    Image.fromarray(picture.pixels).save(tmp_path / "a.png")
    code, _, said = run("segment", tmp_path / "a.png", "--preset", path, "--out", out)
    assert code == 0, said
    assert (out / "a.json").is_file()
    assert Lab(*lab.specification).backbone.fingerprint == lab.backbone.fingerprint
    as_backbone = Lab("mini", backbone=path, device="cpu")
    assert as_backbone.backbone.fingerprint == lab.backbone.fingerprint


def test_another_file_has_another_name(small):
    path = small("sd1")
    first = open_backbone(path).fingerprint
    tensors = load_file(path)
    tensors["model.diffusion_model.out.2.bias"] += 1
    save_file(tensors, path)
    assert open_backbone(path).fingerprint != first


@pytest.mark.parametrize("dtype", [torch.float16, torch.float8_e4m3fn])
def test_smaller_floats_are_read_as_the_numbers_that_they_are(small, picture, dtype):
    path, settings = small("sd1"), Extraction(timesteps=(50,))
    coarse = {name: value.to(dtype) for name, value in load_file(path).items()}
    save_file(coarse, path)
    found = open_backbone(path).run(picture, (64, 64), {50: LAYERS}, settings)
    save_file({name: value.float() for name, value in coarse.items()}, path)
    plain = open_backbone(path).run(picture, (64, 64), {50: LAYERS}, settings)
    for key, value in plain.items():
        assert torch.allclose(found[key], value, atol=1e-5), key


def test_zero_noise_at_the_end_is_read_from_its_mark(small):
    plain, marked = open_backbone(small("sd1")), None
    tensors = load_file(plain.folder)
    save_file({**tensors, "ztsnr": torch.ones(1), "v_pred": torch.ones(1)}, plain.folder)
    marked = open_backbone(plain.folder)
    assert plain._schedule.alphas[-1] > 0
    assert marked._schedule.alphas[-1] == 0


def test_averaged_weights_and_schedules_beside_are_let_pass(small):
    more = {
        "model_ema.decay": torch.ones(()), "alphas_cumprod": torch.ones(10),
        "cond_stage_model.transformer.text_model.embeddings.position_ids": torch.arange(16)[None],
        "first_stage_model.loss.logvar": torch.ones(()), "global_step": torch.tensor(3),
    }  # fmt: skip
    backbone = open_backbone(small("sd1", **more))
    assert backbone.layers()
    backbone.latent(noise_picture(64, 64), (64, 64), Extraction())


def test_a_file_takes_a_tiny_autoencoder_in_its_vaes_place(small, tmp_path, diffusion_folders):
    path, encoder = small("sd1"), save_encoder(tmp_path / "taesd")
    found, plain = open_backbone(path, encoder=encoder), open_backbone(path)
    assert found.fingerprint != plain.fingerprint
    picture, size = noise_picture(64, 64), (64, 64)
    folder = open_backbone(diffusion_folders["sd1"], encoder=encoder)
    latent = found.latent(picture, size, Extraction())
    assert torch.equal(latent, folder.latent(picture, size, Extraction()))
    assert not torch.equal(latent, plain.latent(picture, size, Extraction()))


def _rename(old, new):
    return lambda tensors: {name.replace(old, new): value for name, value in tensors.items()}


def _without(*prefixes):
    return lambda tensors: {k: v for k, v in tensors.items() if not k.startswith(prefixes)}


def _only(prefix):
    return lambda tensors: {k.removeprefix(prefix): v for k, v in tensors.items() if prefix in k}


def _with(**more):
    return lambda tensors: {**tensors, **{k.replace("__", "."): v for k, v in more.items()}}


ONE = torch.ones(4, 4)
CHANNELS = "model.diffusion_model.input_blocks.0.0.weight"
REFUSED = {
    "inpainting": (lambda t: {**t, CHANNELS: torch.ones(32, 9, 3, 3)}, "takes 9 channels"),
    "editing": (lambda t: {**t, CHANNELS: torch.ones(32, 8, 3, 3)}, "takes 8 channels"),
    "playground": (_with(edm_mean=torch.ones(4)), "noise is EDM's"),
    "refiner": (
        _rename("cond_stage_model.transformer.", "conditioner.embedders.0.model."),
        "an SDXL refiner",
    ),
    "no text": (_without("cond_stage_model"), "holds no text encoder"),
    "no vae": (_without("first_stage_model"), "holds no first_stage_model.*"),
    "a vae alone": (_only("first_stage_model."), "holds no Stable Diffusion"),
    "kohya's adapter": (
        lambda _: {"lora_unet_down_blocks_0_to_q.lora_down.weight": ONE}, "and no model; merge it",
    ),
    "an adapter inside": (
        _with(lora_unet__lora_down__weight=ONE), "holds an adapter (lora_unet.lora_down.weight)",
    ),
    "another tensor": (_with(style_tokens=ONE), "not part of the model (style_tokens)"),
    "a control net": (_rename("model.diffusion_model.", "control_model."), "is a ControlNet"),
    "sd3": (lambda _: {"model.diffusion_model.joint_blocks.0.x": ONE}, "is Stable Diffusion 3"),
    "flux": (lambda _: {"double_blocks.0.img_attn.proj.weight": ONE}, "is Flux"),
    "quantised": (_with(model__diffusion_model__q=ONE.to(torch.int8)), "quantised weights"),
    "no map": (lambda t: {**t, CHANNELS: torch.ones(4)}, "takes [4] in place of channels"),
    "a layer beyond": (_with(model__diffusion_model__more__weight=ONE), "does not fit"),
    "a layer less": (_without("model.diffusion_model.out.0."), "does not fit"),
    "another width": (
        lambda t: {**t, "model.diffusion_model.out.2.bias": torch.ones(7)}, "does not fit",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_other_files_are_refused_by_their_header(small, what, monkeypatch):
    change, said = REFUSED[what]
    path = small("sd1")
    save_file({name: v.contiguous() for name, v in change(load_file(path)).items()}, path)
    monkeypatch.setattr(Checkpoint, "load", None)
    with pytest.raises(FslabError) as refused:
        open_backbone(path).layers()
    assert said in str(refused.value)
    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_text_encoder_s_tensors_are_complete(small):
    path = small("sd1")
    tensors = load_file(path)
    del tensors["cond_stage_model.transformer.text_model.final_layer_norm.weight"]
    save_file(tensors, path)
    with pytest.raises(FslabError, match=r"lacks .*final_layer_norm\.weight"):
        open_backbone(path).text_states("a dog")


def test_a_unet_alone_says_where_it_belongs(diffusion_folders, tmp_path):
    source = next((diffusion_folders["sd1"] / "unet").glob("*.safetensors"))
    path = shutil.copy(source, tmp_path / "cleandift_unet.safetensors")
    with pytest.raises(FslabError, match=r"a UNet alone.* unet/diffusion_pytorch_model\.saf"):
        Lab(path).layers()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("v1-5-pruned.ckpt", "pickled weights"), ("model.pt", "pickled weights"),
        ("model.bin", "pickled weights"), ("sd15-Q8_0.gguf", "quantised weights (GGUF)"),
        ("notes.txt", "neither a folder of weights nor"), ("cut.safetensors", "whole safetensors"),
    ],
)  # fmt: skip
def test_files_of_other_kinds_are_refused(tmp_path, run, name, said):
    path = tmp_path / name
    path.write_bytes(b"\x80\x04N.")
    with pytest.raises(FslabError) as refused:
        Lab(path).backbone.layers()
    assert said in str(refused.value)
    code, _, printed = run("layers", path)
    assert code == 2
    assert said in printed
    with pytest.raises(FslabError):
        open_backbone(path)


def test_a_file_that_is_not_there_is_named(tmp_path):
    for source in (tmp_path / "gone.safetensors", "models/gone.safetensors"):
        with pytest.raises(FslabError, match=r"there is no file .*gone\.safetensors"):
            Lab(source)
        with pytest.raises(FslabError, match=r"there is no file .*gone\.safetensors"):
            open_backbone(source)


def test_without_a_tokenizer_it_says_what_to_fetch(small, tmp_path, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "empty"))
    monkeypatch.setenv("FSLAB_WEIGHTS", str(tmp_path / "none"))
    path = small("sd1")
    shutil.rmtree(path.parent / "tokenizer")
    with pytest.raises(FslabError, match=r"holds no tokenizer, and there is no CLIP.*fslab fetch"):
        open_backbone(path).text_states("")


def test_a_tokenizer_of_other_words_is_refused(small):
    mini = Lab("mini").preset.clip
    path = small("sd1")
    shutil.rmtree(path.parent / "tokenizer")
    shutil.copytree(mini, path.parent / "clip")
    with pytest.raises(FslabError, match="they belong to two models"):
        open_backbone(path).text_states("")
