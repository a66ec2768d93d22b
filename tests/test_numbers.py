"""Silent wrong numbers: latents, noise and passes equal diffusers' own, or the folder is refused."""

import json
import shutil
from types import SimpleNamespace

import diffusers
import numpy as np
import pytest
import torch
from conftest import noise_picture
from diffusers import (
    AutoencoderKL,
    DDPMScheduler,
    UNet2DConditionModel,
)
from diffusers.image_processor import VaeImageProcessor
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from fslab.backbones import Diffusion
from fslab.backbones.schedule import SCHEDULERS, read_schedule
from fslab.extract import extract
from fslab.records import Extraction, FslabError
from fslab.store import Store
from fslab.tap import tap

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning:diffusers", "ignore::DeprecationWarning:numpy"
)

LAYERS = ("down_blocks.1", "up_blocks.1.attentions.0")
FIRST = ("down_blocks.0",)
MEAN, STD = [0.5, -1.0, 0.25, 2.0], [4.0, 5.5, 4.5, 2.5]


def change(path, **entries):
    """Set entries of a JSON file; ... takes one out."""
    config = json.loads(path.read_text()) if path.exists() else {}
    config |= entries
    kept = {key: value for key, value in config.items() if value is not ...}
    path.write_text(json.dumps(kept))


@pytest.fixture
def copy(diffusion_folders, tmp_path):
    """Copy a tiny Stable Diffusion, with settings of its parts changed."""

    def make(kind="sd1", name="copy", **parts):
        folder = shutil.copytree(diffusion_folders[kind], tmp_path / name)
        for part, entries in parts.items():
            file = "scheduler_config.json" if part == "scheduler" else "config.json"
            place = folder / part / file if part != "index" else folder / "model_index.json"
            change(place, **entries)
        return folder

    return make


def plain_latent(pipeline, folder, picture, monkeypatch):
    """A picture's latent by an image-to-image pipeline's own code, the posterior's mean."""
    module = __import__(pipeline.__module__, fromlist=["retrieve_latents"])
    monkeypatch.setattr(module, "retrieve_latents", lambda given, **_: given.latent_dist.mean)
    vae = AutoencoderKL.from_pretrained(folder / "vae")
    pixels = VaeImageProcessor(vae_scale_factor=4).preprocess(Image.fromarray(picture.pixels))
    pixels = pixels.contiguous()  # the processor's layout in memory changes how convolutions round
    scheduler = SimpleNamespace(
        add_noise=lambda latent, *_: latent, scale_noise=lambda latent, *_: latent
    )
    part = SimpleNamespace(vae=vae, scheduler=scheduler)
    with torch.no_grad():
        return pipeline.prepare_latents(
            part, pixels, None, 1, 1, torch.float32, torch.device("cpu"), None
        )


@pytest.mark.parametrize(
    ("pipeline", "kind", "vae"),
    [
        ("StableDiffusionImg2ImgPipeline", "sd1", {}),
        ("StableDiffusionImg2ImgPipeline", "sd1", {"scaling_factor": ...}),
        ("StableDiffusionXLImg2ImgPipeline", "sdxl", {}),
        ("StableDiffusionXLImg2ImgPipeline", "sdxl", {"latents_mean": MEAN, "latents_std": STD}),
        ("StableDiffusion3Img2ImgPipeline", "sdxl", {"shift_factor": 0.7}),
        ("StableDiffusion3Img2ImgPipeline", "sd1", {"shift_factor": -0.2, "scaling_factor": 1.5}),
    ],
)
def test_latents_equal_those_of_diffusers_own_pipelines(
    copy, picture, monkeypatch, pipeline, kind, vae
):
    folder = copy(kind, vae=vae)
    found = Diffusion(folder).latent(picture, (64, 64), Extraction())
    plain = plain_latent(getattr(diffusers, pipeline), folder, picture, monkeypatch)
    assert torch.equal(found, plain)


def test_a_vae_without_its_quantising_layers_is_read(copy, picture):
    folder = copy(vae={"use_quant_conv": False, "use_post_quant_conv": False})
    path = folder / "vae" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(path)
    kept = {name: value for name, value in tensors.items() if "quant_conv" not in name}
    save_file(kept, path, metadata={"format": "pt"})
    vae = AutoencoderKL.from_pretrained(folder / "vae")
    x = torch.from_numpy(picture.pixels.astype(np.float32) / 255.0).permute(2, 0, 1)[None] * 2 - 1
    with torch.no_grad():
        plain = vae.encode(x).latent_dist.mean * vae.config.scaling_factor
    assert torch.equal(Diffusion(folder).latent(picture, (64, 64), Extraction()), plain)


SCHEDULES = {
    "scaled_linear": {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"},
    "linear": {"beta_start": 0.0002, "beta_end": 0.018, "beta_schedule": "linear"},
    "cosine": {"beta_schedule": "squaredcos_cap_v2"},
    "the class's own": {},
    "trained": {"trained_betas": np.linspace(0.001, 0.03, 1000).tolist()},
    "zero at the end": {"rescale_betas_zero_snr": True, "beta_schedule": "scaled_linear"},
    "short": {"num_train_timesteps": 600, "beta_schedule": "scaled_linear"},
}
SIGMAS = ("Euler", "Heun", "LMS", "KDPM2")


def plain_noised(scheduler, latent, noise, timestep):
    """What the UNet would read of a noised latent, by the scheduler's own methods."""
    steps = torch.tensor([timestep])
    if not type(scheduler).__name__.startswith(SIGMAS):
        return scheduler.add_noise(latent, noise, steps)
    scheduler.set_timesteps(scheduler.config.num_train_timesteps)
    given = scheduler.timesteps[(scheduler.timesteps - timestep).abs().argmin()][None]
    noised = scheduler.add_noise(latent, noise, given)
    scheduler._step_index = None
    return scheduler.scale_model_input(noised, given[0])


@pytest.mark.parametrize("settings", SCHEDULES)
@pytest.mark.parametrize("name", ["DDPM", "DDIM", "PNDM", "LCM", "TCD", "EulerDiscrete"])
def test_noise_is_what_diffusers_adds(name, settings, tmp_path):
    kind, given = getattr(diffusers, f"{name}Scheduler"), SCHEDULES[settings]
    config = {"_class_name": f"{name}Scheduler", **given}
    if name == "PNDM" and settings == "zero at the end":
        with pytest.raises(FslabError, match=r"rescale_betas_zero_snr = True, which PNDMScheduler"):
            read_schedule(tmp_path, config)
        return
    latent, noise = torch.randn(2, 1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    schedule, plain = read_schedule(tmp_path, config), kind(**given)
    assert schedule.timesteps == given.get("num_train_timesteps", 1000)
    for timestep in (0, 50, 500, schedule.timesteps - 1):
        expected = plain_noised(plain, latent, noise, timestep)
        found = schedule.noised(latent, noise, timestep)
        if name.startswith(SIGMAS):
            assert torch.allclose(found, expected, atol=2e-3), timestep
        else:
            assert torch.equal(found, expected), timestep


@pytest.mark.parametrize("name", SCHEDULERS)
def test_every_sampler_that_is_read_has_the_betas_of_its_class(name, tmp_path):
    given = {"beta_start": 0.0009, "beta_end": 0.013, "beta_schedule": "scaled_linear"}
    plain = DDPMScheduler(**given).alphas_cumprod
    found = read_schedule(tmp_path, {"_class_name": name, **given})
    assert torch.equal(found.alphas, plain)


def whole(folder, kind, prompt, noisy, timestep, picture):
    """The layers of a whole pipeline's one step of drawing, without guidance."""
    scheduler = DDPMScheduler.from_pretrained(folder / "scheduler")
    parts = {
        "vae": AutoencoderKL.from_pretrained(folder / "vae"),
        "unet": UNet2DConditionModel.from_pretrained(folder / "unet"),
        "text_encoder": CLIPTextModel.from_pretrained(folder / "text_encoder"),
        "tokenizer": CLIPTokenizer.from_pretrained(folder / "tokenizer"),
        "scheduler": scheduler,
    }
    if kind == "sdxl":
        second = CLIPTextModelWithProjection.from_pretrained(folder / "text_encoder_2")
        parts |= {"text_encoder_2": second, "tokenizer_2": parts["tokenizer"]}
        pipe = diffusers.StableDiffusionXLPipeline(**parts, add_watermarker=False)
    else:
        parts |= {"safety_checker": None, "feature_extractor": None}
        pipe = diffusers.StableDiffusionPipeline(**parts, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    with tap(pipe.unet, *LAYERS) as seen:
        pipe(
            prompt, height=picture.size[0], width=picture.size[1], timesteps=[timestep],
            guidance_scale=1.0, latents=noisy, output_type="latent",
        )  # fmt: skip
    return seen


@pytest.mark.parametrize("prompt", ["", "a photo of dog"])
@pytest.mark.parametrize("kind", ["sd1", "sdxl"])
@pytest.mark.parametrize("noise", ["added", "none"])
def test_a_pass_equals_a_step_of_the_whole_pipeline(copy, kind, prompt, noise):
    picture = noise_picture(64, 96)
    index = {"force_zeros_for_empty_prompt": True} if kind == "sdxl" else {}
    folder = copy(kind, index=index, vae={"latents_mean": MEAN, "latents_std": STD})
    backbone = Diffusion(folder)
    settings = Extraction(noise=noise, prompt=prompt)
    found = backbone.run(picture, (64, 96), {300: LAYERS}, settings)
    latent, (drawn,) = backbone._start(picture, (64, 96), settings)
    scheduler = DDPMScheduler.from_pretrained(folder / "scheduler")
    noisy = scheduler.add_noise(latent, drawn, torch.tensor([300]))
    plain = whole(folder, kind, prompt, noisy if noise == "added" else latent, 300, picture)
    for path in LAYERS:
        assert torch.equal(found[path, 300], plain[path][0]), path


def test_features_of_a_clean_latent_know_their_timestep_and_no_seed(
    diffusion_folders, picture, own_store
):
    backbone, store = Diffusion(diffusion_folders["sd1"]), Store(own_store)

    def features(**settings):
        given = Extraction(layers=FIRST, noise="none", **settings)
        return extract(picture, given, backbone, store)["down_blocks.0"]

    clean = features(timesteps=(261,))
    assert np.array_equal(clean, features(timesteps=(261,), seed=5))
    assert not np.array_equal(clean, features(timesteps=(0,)))
    noisy = extract(picture, Extraction(layers=FIRST, timesteps=(261,)), backbone, store)
    assert not np.array_equal(clean, noisy["down_blocks.0"])
    with pytest.raises(FslabError, match="a clean latent has one pass"):
        features(draws=2)


def test_the_command_line_takes_clean_latents(run, tmp_path):
    path = tmp_path / "picture.png"
    Image.fromarray(noise_picture(64, 64).pixels).save(path)
    out = tmp_path / "out"
    code, _, said = run("segment", path, "--out", out, "--set", "extract.noise=none")
    assert code == 0, said
    assert json.loads((out / "picture.json").read_text())["recipe"]["extract"]["noise"] == "none"


def refusal(folder):
    with pytest.raises(FslabError) as refused:
        Diffusion(folder)
    said = str(refused.value)
    assert "\n" not in said
    assert str(folder) in said
    return said


BEYOND = {
    "unet": [
        ({"class_embed_type": "projection"}, "class_embed_type = 'projection'"),
        ({"class_embed_type": "timestep"}, "class_embed_type = 'timestep'"),
        ({"num_class_embeds": 1000}, "num_class_embeds = 1000"),
        ({"addition_embed_type": "image"}, "addition_embed_type = 'image'"),
        ({"addition_embed_type": "text"}, "addition_embed_type = 'text'"),
        ({"encoder_hid_dim_type": "image_proj"}, "encoder_hid_dim_type = 'image_proj'"),
        ({"encoder_hid_dim": 4096}, "encoder_hid_dim = 4096"),
        ({"time_cond_proj_dim": 256}, "a guidance scale beside the timestep"),
        ({"attention_type": "gated"}, "as GLIGEN does"),
        ({"in_channels": 9}, "takes 9 channels and its VAE gives 4"),
        ({"cross_attention_dim": 48}, "reads text states of 48 channels"),
        ({"_class_name": "UNetMotionModel"}, "is of a UNetMotionModel"),
        ({"a_new_embedding": "rotary"}, "a_new_embedding = 'rotary'"),
        ({"quantization_config": {"quant_method": "bitsandbytes"}}, "quantization_config ="),
    ],
    "vae": [
        ({"latents_mean": MEAN}, "latents_mean alone"),
        ({"latents_std": STD}, "latents_std alone"),
        ({"latents_mean": MEAN[:3], "latents_std": STD}, "a list of 4 numbers"),
        ({"latents_mean": MEAN, "latents_std": STD, "shift_factor": 0.1}, "both"),
        ({"scaling_factor": "0.18"}, "scaling_factor '0.18'; it must be a number"),
        ({"scaling_factor": None}, "scaling_factor None; it must be a number"),
        ({"in_channels": 4}, "other pictures than RGB"),
        ({"_class_name": "AutoencoderTiny"}, "is of a AutoencoderTiny"),
        ({"latent_whitening": True}, "latent_whitening = True"),
    ],
    "scheduler": [
        ({"_class_name": "EDMEulerScheduler"}, "is of a EDMEulerScheduler"),
        ({"_class_name": "EDMDPMSolverMultistepScheduler"}, "not those of DDPM training"),
        ({"_class_name": "FlowMatchEulerDiscreteScheduler"}, "not those of DDPM training"),
        ({"_class_name": "CogVideoXDDIMScheduler"}, "not those of DDPM training"),
        ({"_class_name": "DDPMWuerstchenScheduler"}, "not those of DDPM training"),
        ({"_class_name": "my_package.MyScheduler"}, "is of a my_package.MyScheduler"),
        ({"prediction_type": "flow_prediction"}, "prediction_type = 'flow_prediction'"),
        ({"use_flow_sigmas": True}, "use_flow_sigmas = True"),
        ({"timestep_type": "continuous"}, "timestep_type = 'continuous'"),
        ({"snr_shift_scale": 3.0}, "snr_shift_scale = 3.0"),
    ],
    "index": [
        ({"requires_aesthetics_score": True}, "it is an SDXL refiner"),
        ({"controlnet": ["diffusers", "ControlNetModel"]}, "the part 'controlnet'"),
        ({"adapter": ["diffusers", "T2IAdapter"]}, "the part 'adapter'"),
        ({"prompt_scale": 2.0}, "prompt_scale = 2.0"),
    ],
    "text_encoder": [
        ({"model_type": "t5"}, "holds a 't5' model"),
        ({"model_type": "roberta_series"}, "holds a 'roberta_series' model"),
        ({"quantization_config": {"quant_method": "fp8"}}, "quantised weights"),
        ({"hidden_size": "wide"}, "the hidden_size 'wide'; it must be a whole number"),
        ({"hidden_size": 0}, "the hidden_size 0; it must be a whole number"),
    ],
}  # fmt: skip


@pytest.mark.parametrize(
    ("part", "entries", "said"),
    [(part, *row) for part, rows in BEYOND.items() for row in rows],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else None,
)
def test_settings_beyond_what_is_understood_are_named(copy, part, entries, said):
    assert said in refusal(copy(**{part: entries}))


def test_settings_that_change_no_number_are_let_pass(copy):
    averaged = {"decay": 0.9999, "optimization_step": 5, "update_after_step": 0, "power": 0.75}
    plain = {"_name_or_path": "/somewhere", "class_embed_type": None, "an_old_switch": None}
    scheduler = {"clip_sample": False, "skip_prk_steps": True, "sample_max_value": 1.0}
    index = {"safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"]}
    index |= {"requires_safety_checker": True, "image_encoder": [None, None]}
    Diffusion(copy(unet={**averaged, **plain}, scheduler=scheduler, index=index))


def test_a_newer_library_s_setting_at_its_default_is_let_pass(copy, monkeypatch):
    def newer(self, sample_size=64, new_rotary=False):
        """A UNet with a setting that no list here has."""

    monkeypatch.setattr(UNet2DConditionModel, "__init__", newer)
    Diffusion(copy(unet={"new_rotary": False}))
    assert "new_rotary = True" in refusal(copy(name="on", unet={"new_rotary": True}))


def test_a_schedule_that_its_class_cannot_make_is_refused(tmp_path):
    for entries, said in (
        ({"beta_schedule": "quadratic"}, "describes no schedule"),
        ({"beta_end": "much"}, "describes no schedule"),
        ({"trained_betas": [0.1, 0.2]}, "has 2 betas for 1000 timesteps"),
        ({"beta_end": 3.0, "beta_schedule": "linear"}, "outside 0 to 1"),
    ):
        with pytest.raises(FslabError, match=said):
            read_schedule(
                tmp_path, {"_class_name": "DDIMScheduler", "num_train_timesteps": 1000, **entries}
            )
    with pytest.raises(FslabError, match="names no class and no beta_schedule"):
        read_schedule(tmp_path, {"beta_start": 0.1})


LORA = {
    "diffusers": "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q.lora_A.weight",
    "old diffusers": "down_blocks.1.attentions.0.attn1.processor.to_q_lora.down.weight",
    "kohya": "lora_unet_down_blocks_1_attentions_0_to_q.lora_down.weight",
    "loha": "lycoris_unet_down_blocks_1_to_q.hada_w1_a",
    "lokr": "unet.down_blocks.1.to_q.lokr_w1",
    "ip adapter": "image_proj.proj.weight",
}


@pytest.mark.parametrize("kind", LORA)
@pytest.mark.parametrize("place", ["", "unet", "text_encoder", "lora"])
def test_adapters_anywhere_in_the_folder_are_named(copy, kind, place):
    folder = copy()
    (folder / place).mkdir(exist_ok=True)
    save_file({LORA[kind]: torch.ones(4, 4)}, folder / place / "my-style.safetensors")
    said = refusal(folder)
    assert f"my-style.safetensors holds an adapter ({LORA[kind]})" in said


@pytest.mark.parametrize(
    "name",
    ["pytorch_lora_weights.bin", "pytorch_lora_weights.safetensors", "adapter_model.safetensors",
     "learned_embeds.bin", "learned_embeds-steps-500.safetensors", "ip-adapter_sd15.bin"],
)  # fmt: skip
def test_adapters_are_known_by_their_file_s_name_too(copy, name):
    folder = copy()
    (folder / name).write_bytes(b"")
    assert f"{name} holds an adapter" in refusal(folder)


@pytest.mark.parametrize("key", ["emb_params", "<cat-toy>", "clip_l", "toy"])
def test_learned_words_are_named(copy, key):
    folder = copy()
    save_file({key: torch.ones(2, 32)}, folder / "toy.safetensors")
    assert f"toy.safetensors holds learned words ({key})" in refusal(folder)


def test_files_beside_that_are_no_adapters_are_let_pass(copy):
    """A hub's repository holds the whole model in one file too, and SDXL's an example of a LoRA."""
    folder = copy()
    one = {f"model.diffusion_model.{number}.weight": torch.ones(1) for number in range(9)}
    save_file(one, folder / "v1-5-pruned.safetensors")
    lora = {LORA["kohya"]: torch.ones(4, 4)}
    save_file(lora, folder / "sd_xl_offset_example-lora_1.0.safetensors")
    (folder / "cut.safetensors").write_bytes(b"cut")
    Diffusion(folder)


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
@pytest.mark.parametrize("key", [LORA["diffusers"], "conditioner.scale"])
def test_tensors_without_a_layer_are_refused(copy, picture, part, key):
    folder = copy()
    path = next((folder / part).glob("*.safetensors"))
    save_file({**load_file(path), key: torch.ones(4, 4)}, path, metadata={"format": "pt"})
    with pytest.raises(FslabError, match=r"conditioner\.scale|lora_A"):
        Diffusion(folder).run(picture, (64, 64), {0: FIRST}, Extraction())


def test_a_text_encoder_with_a_layer_beyond_its_configuration_is_refused(copy, picture):
    folder = copy(text_encoder={"num_hidden_layers": 1})
    with pytest.raises(FslabError, match=r"has no layer for .*encoder\.layers\.1\."):
        Diffusion(folder).run(picture, (64, 64), {0: FIRST}, Extraction())


def test_parts_that_a_unet_does_not_read_are_named(copy):
    folder = copy("sdxl", "refiner")
    shutil.rmtree(folder / "text_encoder")
    assert "holds no text_encoder" in refusal(folder)
    assert "SDXL refiner" in refusal(folder)
    folder = copy("sd1", "none")
    shutil.rmtree(folder / "text_encoder")
    assert "holds no text_encoder" in refusal(folder)
    folder = copy("sd1", "two")
    shutil.copytree(folder / "text_encoder", folder / "text_encoder_2")
    assert "text_encoder_2, which its UNet does not read" in refusal(folder)
    refiner = copy("sdxl", "five", unet={"projection_class_embeddings_input_dim": 5 * 8 + 32})
    assert "an SDXL refiner's" in refusal(refiner)


def test_prompts_are_masked_where_the_text_encoder_asks_for_it(copy):
    folder = copy(text_encoder={"use_attention_mask": True})
    encoder = CLIPTextModel.from_pretrained(folder / "text_encoder").eval()
    tokens = CLIPTokenizer.from_pretrained(folder / "tokenizer")
    pipe = diffusers.StableDiffusionPipeline(
        vae=AutoencoderKL.from_pretrained(folder / "vae"), text_encoder=encoder, tokenizer=tokens,
        unet=UNet2DConditionModel.from_pretrained(folder / "unet"),
        scheduler=DDPMScheduler.from_pretrained(folder / "scheduler"), safety_checker=None,
        feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    with torch.no_grad():
        plain, _ = pipe.encode_prompt("a dog", "cpu", 1, do_classifier_free_guidance=False)
    found = Diffusion(folder).text_states("a dog")
    assert torch.equal(found, plain)
    without = copy(name="without")
    assert not torch.equal(Diffusion(without).text_states("a dog"), plain)


@pytest.mark.parametrize(
    "vae",
    [
        {"scaling_factor": 0},
        {"scaling_factor": float("inf")},
        {"latents_mean": MEAN, "latents_std": [0, 1, 1, 1]},
    ],
)
def test_a_scale_by_which_nothing_is_left_is_refused(copy, vae):
    with pytest.raises(FslabError, match=r"scaling_factor|latents_std"):
        Diffusion(copy(vae=vae))
