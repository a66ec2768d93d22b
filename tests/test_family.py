"""Models that people have, by the settings of their files: opened right, or refused by name.

Each is a tiny Stable Diffusion with a real model's keys. What decides is in the configurations, so
sizes are small; the keys and values that matter are those of the published files, from memory of
them and from diffusers' own defaults, since no hub could be asked.
"""

import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from test_numbers import MEAN, STD, change

from fslab.backbones import Diffusion, open_backbone
from fslab.lab import Lab
from fslab.records import Extraction, FslabError

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

FIRST = ("down_blocks.0",)
PNDM = {
    "_class_name": "PNDMScheduler", "_diffusers_version": "0.6.0", "skip_prk_steps": True,
    "set_alpha_to_one": False, "steps_offset": 1, "trained_betas": None, "clip_sample": False,
}  # fmt: skip
EULER = {
    "_class_name": "EulerDiscreteScheduler", "interpolation_type": "linear",
    "sample_max_value": 1.0, "set_alpha_to_one": False, "skip_prk_steps": True,
    "timestep_spacing": "leading", "use_karras_sigmas": False, "clip_sample": False,
}  # fmt: skip
SAFETY = {
    "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"],
    "feature_extractor": ["transformers", "CLIPImageProcessor"],
}
SD2 = {"num_class_embeds": None, "only_cross_attention": False, "dual_cross_attention": False}
EMPTY = {"force_zeros_for_empty_prompt": True, "add_watermarker": None}
VP = {"prediction_type": "v_prediction"}
EDM = {
    "_class_name": "EDMDPMSolverMultistepScheduler", "sigma_min": 0.002, "sigma_max": 80.0,
    "sigma_data": 0.5, "sigma_schedule": "karras", "rho": 7.0,
}  # fmt: skip

OPENED = {
    "SD 1.4": ("sd1", {"scheduler": PNDM, "index": SAFETY}),
    "SD 1.5": ("sd1", {"scheduler": PNDM, "index": {**SAFETY, "requires_safety_checker": True}}),
    "SD 2.0": ("sd1", {"unet": {**SD2, "upcast_attention": None}, "scheduler": {**PNDM, **VP}}),
    "SD 2.1 base": ("sd1", {"unet": SD2, "scheduler": PNDM}),
    "SD 2.1": (
        "sd1",
        {"unet": {**SD2, "upcast_attention": True}, "scheduler": {**PNDM, **VP, "clip_sample": False}},
    ),
    "SD-Turbo": ("sd1", {"scheduler": {**EULER, "timestep_spacing": "trailing"}}),
    "CleanDIFT": ("sd1", {"unet": {**SD2, "upcast_attention": True}, "scheduler": {**PNDM, **VP}}),
    "SDXL base": ("sdxl", {"index": EMPTY, "scheduler": EULER, "vae": {"force_upcast": True}}),
    "SDXL Turbo": (
        "sdxl",
        {
            "index": EMPTY,
            "scheduler": {**EULER, "_class_name": "EulerAncestralDiscreteScheduler"},
        },
    ),
    "SDXL Lightning": ("sdxl", {"scheduler": {**EULER, "timestep_spacing": "trailing"}}),
    "SSD-1B": ("sdxl", {"scheduler": EULER, "unet": {"mid_block_type": "UNetMidBlock2DCrossAttn"}}),
    "Segmind Vega": ("sdxl", {"scheduler": EULER, "unet": {"_name_or_path": "somewhere"}}),
    "NoobAI, v-prediction": (
        "sdxl",
        {"scheduler": {**EULER, **VP, "rescale_betas_zero_snr": True}, "index": EMPTY},
    ),
    "a fine-tune with averaged weights": (
        "sd1",
        {"unet": {"decay": 0.9999, "inv_gamma": 1.0, "optimization_step": 9, "use_ema_warmup": True}},
    ),
    "UniPC": ("sd1", {"scheduler": {"_class_name": "UniPCMultistepScheduler", "solver_type": "bh2"}}),
}  # fmt: skip

REFUSED = {
    "SD 2.1 unCLIP": (
        "sd1",
        {"unet": {"class_embed_type": "projection", "projection_class_embeddings_input_dim": 2048}},
        "class_embed_type = 'projection'",
    ),
    "x4 upscaler": ("sd1", {"unet": {"in_channels": 7, "num_class_embeds": 1000}}, "takes 7 channels"),
    "SD 1.5 inpainting": ("sd1", {"unet": {"in_channels": 9}}, "takes 9 channels"),
    "SD 2 depth": ("sd1", {"unet": {"in_channels": 5}}, "takes 5 channels"),
    "instruct-pix2pix": ("sd1", {"unet": {"in_channels": 8}}, "takes 8 channels"),
    "LCM Dreamshaper": (
        "sd1",
        {"unet": {"time_cond_proj_dim": 256}, "scheduler": {"_class_name": "LCMScheduler"}},
        "a guidance scale beside the timestep",
    ),
    "GLIGEN": ("sd1", {"unet": {"attention_type": "gated"}}, "as GLIGEN does"),
    "ControlNet": ("sd1", {"index": {"controlnet": ["diffusers", "ControlNetModel"]}}, "'controlnet'"),
    "Playground v2.5": (
        "sdxl",
        {"vae": {"latents_mean": MEAN, "latents_std": STD, "scaling_factor": 0.5}, "scheduler": EDM},
        "is of a EDMDPMSolverMultistepScheduler",
    ),
    "a flow-matching SDXL": (
        "sdxl",
        {"scheduler": {"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0}},
        "not those of DDPM training",
    ),
    "SVD": ("sd1", {"unet": {"_class_name": "UNetSpatioTemporalConditionModel"}}, "SpatioTemporal"),
    "Kandinsky 2.2": (
        "sd1",
        {"unet": {"encoder_hid_dim_type": "image_proj", "addition_embed_type": "image"}},
        "image",
    ),
    "DeepFloyd": ("sd1", {"text_encoder": {"model_type": "t5"}}, "holds a 't5' model"),
    "AltDiffusion": (
        "sd1", {"text_encoder": {"model_type": "altclip"}}, "holds a 'altclip' model",
    ),
    "Kolors": ("sd1", {"unet": {"encoder_hid_dim": 4096}}, "encoder_hid_dim = 4096"),
    "TAESD": ("sd1", {"vae": {"_class_name": "AutoencoderTiny"}}, "is of a AutoencoderTiny"),
    "SDXL refiner": ("sdxl", {"index": {"requires_aesthetics_score": True}}, "an SDXL refiner"),
}  # fmt: skip


@pytest.fixture
def make(diffusion_folders, tmp_path):
    def build(kind, parts):
        folder = shutil.copytree(diffusion_folders[kind], tmp_path / "model")
        for part, entries in parts.items():
            file = "scheduler_config.json" if part == "scheduler" else "config.json"
            change(
                folder / "model_index.json" if part == "index" else folder / part / file, **entries
            )
        return folder

    return build


@pytest.mark.parametrize("name", OPENED)
def test_members_are_opened_and_pass(make, picture, name):
    kind, parts = OPENED[name]
    backbone = open_backbone(make(kind, parts))
    found = backbone.run(picture, (64, 64), {50: FIRST}, Extraction(timesteps=(50,)))
    assert torch.isfinite(found["down_blocks.0", 50]).all()


@pytest.mark.parametrize("name", REFUSED)
def test_others_are_refused_by_what_they_are(make, name):
    kind, parts, said = REFUSED[name]
    with pytest.raises(FslabError) as refused:
        open_backbone(make(kind, parts))
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("part", ["prior", "decoder"])
def test_other_designs_are_named(tmp_path, part):
    (tmp_path / part).mkdir()
    change(tmp_path / part / "config.json", _class_name="WuerstchenPrior")
    with pytest.raises(FslabError, match=f"holds a {part}/ and no unet/.*knows .*SD3Transformer2D"):
        open_backbone(tmp_path)


def test_an_unknown_family_is_named_with_those_that_are_known(tmp_path):
    (tmp_path / "transformer").mkdir()
    change(tmp_path / "transformer" / "config.json", _class_name="OwnTransformer2DModel")
    with pytest.raises(FslabError, match=r"is of OwnTransformer2DModel.*FluxTransformer2DModel, "):
        open_backbone(tmp_path)


def test_a_part_alone_says_to_give_the_whole(diffusion_folders):
    for part, kind in (("unet", "UNet2DConditionModel"), ("vae", "AutoencoderKL")):
        folder = diffusion_folders["sd1"] / part
        with pytest.raises(FslabError) as refused:
            open_backbone(folder)
        assert f"holds a {kind} alone" in str(refused.value)
        assert str(folder.parent) in str(refused.value)
        with pytest.raises(FslabError):
            Lab(folder).layers()


def test_a_folder_of_files_says_to_give_one(tmp_path):
    save_file({"model.diffusion_model.x": torch.ones(1)}, tmp_path / "a.safetensors")
    with pytest.raises(
        FslabError, match=r"for a model in one file give the file: .*a\.safetensors"
    ):
        open_backbone(tmp_path)


def test_half_and_non_ema_weights_without_the_plain_file(make, picture):
    folder = make("sd1", {})
    plain = folder / "unet" / "diffusion_pytorch_model.safetensors"
    half = {name: value.half() for name, value in load_file(plain).items()}
    other = {name: torch.zeros_like(value) for name, value in half.items()}
    save_file(half, plain.with_suffix(".fp16.safetensors"), metadata={"format": "pt"})
    save_file(other, plain.with_suffix(".non_ema.safetensors"), metadata={"format": "pt"})
    plain.unlink()
    found = open_backbone(folder).run(picture, (64, 64), {50: FIRST}, Extraction())
    save_file({k: v.float() for k, v in half.items()}, plain, metadata={"format": "pt"})
    expected = open_backbone(folder).run(picture, (64, 64), {50: FIRST}, Extraction())
    # where a tensor lies in its file changes how products round
    assert torch.allclose(found["down_blocks.0", 50], expected["down_blocks.0", 50], atol=1e-5)


@pytest.mark.parametrize("limit", [..., 10**30, 512, "long", -1])
def test_a_tokenizer_without_its_limit_takes_its_text_encoder_s(make, limit):
    folder = make("sd1", {})
    plain = Diffusion(folder).text_states("a dog")
    change(folder / "tokenizer" / "tokenizer_config.json", model_max_length=limit)
    assert torch.equal(Diffusion(folder).text_states("a dog"), plain)


def test_a_tokenizer_without_its_configuration_is_refused(make):
    folder = make("sd1", {})
    (folder / "tokenizer" / "tokenizer_config.json").unlink()
    with pytest.raises(FslabError, match=r"holds no tokenizer_config\.json"):
        Diffusion(folder).text_states("a dog")


def test_quantised_weights_in_a_folder_are_refused(make, picture):
    folder = make("sd1", {})
    path = folder / "unet" / "diffusion_pytorch_model.safetensors"
    codes = {name: value.to(torch.int8) for name, value in load_file(path).items()}
    save_file(codes, path, metadata={"format": "pt"})
    with pytest.raises(FslabError, match="holds I8 numbers"):
        Diffusion(folder).run(picture, (64, 64), {50: FIRST}, Extraction())
