"""Families that language models read prompts for: the same bits as their pipelines' own way."""

import json
import shutil

import numpy as np
import pytest
import torch
import transformers_of_words
from conftest import MINI, noise_picture
from diffusers import (
    FlowMatchEulerDiscreteScheduler,
    Flux2KleinPipeline,
    Lumina2Pipeline,
    QwenImagePipeline,
    ZImagePipeline,
)
from diffusers.image_processor import VaeImageProcessor
from PIL import Image
from test_transformers import PROMPT, SEED, TIMESTEP, cells, noised, read, watched

from fslab.backbones import open_backbone
from fslab.lab import Lab
from fslab.records import Extraction, FslabError

SIZES = {
    "qwen-image": [(64, 64), (64, 96)], "z-image": [(64, 64), (64, 128)],
    "flux2": [(64, 64), (96, 64)], "lumina2": [(64, 64), (64, 80)],
}  # fmt: skip
EACH = [(kind, size) for kind, sizes in SIZES.items() for size in sizes]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Folders of the tiny models by kind."""
    found = {}
    for kind, build in transformers_of_words.KINDS.items():
        found[kind] = tmp_path_factory.mktemp(kind)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(5)
            pipe = build()
            for name, value in pipe.transformer.named_parameters():
                if "pad_token" in name:
                    torch.nn.init.normal_(value)
            pipe.save_pretrained(found[kind])
    return found


def plain_qwen_image(folder, picture):
    pipe = QwenImagePipeline.from_pretrained(folder)
    states, mask = pipe.encode_prompt(PROMPT)
    pixels = VaeImageProcessor(vae_scale_factor=4).preprocess(Image.fromarray(picture.pixels))
    config = pipe.vae.config
    mean = torch.tensor(config.latents_mean).view(1, config.z_dim, 1, 1, 1)
    std = 1.0 / torch.tensor(config.latents_std).view(1, config.z_dim, 1, 1, 1)
    latent = ((pipe.vae.encode(pixels.unsqueeze(2)).latent_dist.mode() - mean) * std)[:, :, 0]
    noise = torch.randn(latent.shape, generator=torch.Generator().manual_seed(SEED))
    flow = FlowMatchEulerDiscreteScheduler.from_config(pipe.scheduler.config, shift=1.0)
    latent = flow.scale_noise(latent, torch.tensor([float(TIMESTEP)]), noise)
    _, channels, h, w = latent.shape
    pipe.transformer(
        hidden_states=pipe._pack_latents(latent, 1, channels, h, w), encoder_hidden_states=states,
        timestep=torch.tensor([float(TIMESTEP)]) / 1000, encoder_hidden_states_mask=mask,
        img_shapes=[[(1, h // 2, w // 2)]], guidance=None, return_dict=False,
    )  # fmt: skip


def plain_z_image(folder, picture):
    pipe = ZImagePipeline.from_pretrained(folder)
    states, _ = pipe.encode_prompt(PROMPT, do_classifier_free_guidance=False)
    latent = noised(pipe, picture).unsqueeze(2)
    time = (1000 - torch.tensor([float(TIMESTEP)])) / 1000
    pipe.transformer(list(latent.unbind(dim=0)), time, states, return_dict=False)


def plain_flux2(folder, picture):
    pipe = Flux2KleinPipeline.from_pretrained(folder)
    states, text_ids = pipe.encode_prompt(PROMPT)
    pixels = VaeImageProcessor(vae_scale_factor=4).preprocess(Image.fromarray(picture.pixels))
    latent = pipe._encode_vae_image(pixels, generator=None)
    noise = torch.randn(latent.shape, generator=torch.Generator().manual_seed(SEED))
    flow = FlowMatchEulerDiscreteScheduler.from_config(pipe.scheduler.config, shift=1.0)
    latent = flow.scale_noise(latent, torch.tensor([float(TIMESTEP)]), noise)
    pipe.transformer(
        hidden_states=pipe._pack_latents(latent), encoder_hidden_states=states, txt_ids=text_ids,
        timestep=torch.tensor([float(TIMESTEP)]) / 1000, guidance=None,
        img_ids=pipe._prepare_latent_ids(latent), return_dict=False,
    )  # fmt: skip


def plain_lumina2(folder, picture):
    pipe = Lumina2Pipeline.from_pretrained(folder)
    states, mask, _, _ = pipe.encode_prompt(PROMPT, do_classifier_free_guidance=False)
    time = 1 - torch.tensor([float(TIMESTEP)]) / pipe.scheduler.config.num_train_timesteps
    pipe.transformer(
        hidden_states=noised(pipe, picture), timestep=time, encoder_hidden_states=states,
        encoder_attention_mask=mask, return_dict=False,
    )  # fmt: skip


PLAIN = {
    "qwen-image": plain_qwen_image, "z-image": plain_z_image, "flux2": plain_flux2,
    "lumina2": plain_lumina2,
}  # fmt: skip


def own(tokens, count, order):
    """The picture's tokens among others, [tokens, C]."""
    return tokens[:count] if order == "first" else tokens[len(tokens) - count :]


@pytest.mark.parametrize(("kind", "size"), EACH)
def test_layers_and_inputs_equal_the_pipelines_bit_for_bit(monkeypatch, folders, kind, size):
    folder, picture = folders[kind], noise_picture(*size)
    plain = watched(monkeypatch, PLAIN[kind], folder, picture)
    backbone, maps = read(folder, picture, size, "*")
    modules = plain.by_path(backbone.components.registered.name)
    layers, order = backbone.layers_by_path(), backbone.family.order.tokens
    assert [path for path in maps if path.endswith(("blocks.1", "layers.1"))]
    for path, value in maps.items():
        output = plain.outputs[modules[path]]
        output = output[layers[path].entry] if isinstance(output, tuple) else output
        assert torch.equal(cells(value), own(output[0], value[0].numel(), order)), path
    _, inputs = read(folder, picture, size, "*.input")
    assert len(inputs) >= 2
    for path, value in inputs.items():
        (given,) = plain.inputs[modules[path.removesuffix(".input")]]
        assert torch.equal(cells(value), own(given[0], value[0].numel(), order)), path


def values_of(plain, modules, stem, width):
    """The picture's values [tokens, D], which are neither normalised nor rotated."""
    if f"{stem}.to_v" in modules:
        given = plain.outputs[modules[f"{stem}.to_v"]][0]
        return given.repeat(1, width // given.shape[1])  # where several heads share one
    return plain.outputs[modules[f"{stem}.to_qkv_mlp_proj"]][0][:, 2 * width : 3 * width]


@pytest.mark.parametrize(("kind", "size"), EACH)
def test_attention_is_the_one_that_was_used(monkeypatch, folders, kind, size):
    folder, picture = folders[kind], noise_picture(*size)
    plain = watched(monkeypatch, PLAIN[kind], folder, picture)
    backbone, maps = read(folder, picture, size, "*.probs")
    modules = plain.by_path(backbone.components.registered.name)
    to_text, from_text = (
        read(folder, picture, size, f"*.{each}")[1] for each in ("to_text", "from_text")
    )
    assert len(maps) >= len(to_text) == len(from_text) >= 2
    for path, value in maps.items():
        stem, count = path.removesuffix(".probs"), value[0].numel()
        query, key, values, mask, how, out = plain.attention[modules[stem]]
        used = (query @ key.transpose(2, 3) * query.shape[-1] ** -0.5).softmax(-1)
        assert mask is None
        assert not how.get("is_causal")
        assert torch.allclose(used @ values, out, atol=1e-5)  # the softmax behind what came out
        mean, order = used.mean(1)[0], backbone.family.order.attended
        places = own(torch.arange(len(mean)), count, order)
        given = values_of(plain, modules, stem, query.shape[1] * query.shape[3])
        both = values.transpose(1, 2).flatten(2)[0]
        assert torch.equal(both[places], own(given, count, order))
        assert torch.allclose(cells(value), mean[places][:, places], atol=1e-6), path
        if f"{stem}.to_text" in to_text:
            text = torch.tensor([place not in set(places.tolist()) for place in range(len(mean))])
            words = cells(to_text[f"{stem}.to_text"])
            assert torch.allclose(words, mean[places][:, text], atol=1e-6)
            assert torch.allclose(cells(value).sum(1) + words.sum(1), torch.ones(count), atol=1e-5)
            back = from_text[f"{stem}.from_text"].flatten(1)
            assert torch.allclose(back, mean[text][:, places], atol=1e-6)


@pytest.mark.parametrize("kind", PLAIN)
def test_listing_loads_no_weights_and_a_pass_ends_early(folders, kind):
    backbone, picture = open_backbone(folders[kind], resolution=64), noise_picture(64, 64)
    layers = backbone.layers()
    assert not backbone.components.loaded
    assert backbone.default_layers[0].endswith((".to_q.input", ".to_qkv_mlp_proj.input"))
    found = backbone.run(picture, (64, 64), {0: [each.path for each in layers]}, Extraction())
    for layer in layers:
        if not layer.path.endswith(("to_text", "from_text")):
            assert len(found[layer.path, 0]) == layer.channels, layer
        else:
            assert 0 < found[layer.path, 0].numel() // 64 <= layer.channels, layer
    net, fired = backbone.components.load("transformer", torch.float32), []
    for path, module in net.named_modules():
        module.register_forward_hook(lambda *_, path=path: fired.append(path))
    blocks = "layers" if kind in ("z-image", "lumina2") else "transformer_blocks"
    wanted = next(each.path for each in layers if each.path.startswith(f"{blocks}.0.att"))
    backbone.run(picture, (64, 64), {0: (wanted,)}, Extraction())
    assert fired
    assert not [path for path in fired if path.startswith(f"{blocks}.1")]


@pytest.mark.parametrize("kind", PLAIN)
def test_prompts_of_several_lengths_pass_as_they_do_alone(folders, kind):
    backbone = open_backbone(folders[kind], resolution=64)
    path = backbone.default_layers[0]
    prompts = ["", "a dog", "a cat and a dog", "a cat"]
    asked = [(noise_picture(64, 64, n), Extraction(prompt=each)) for n, each in enumerate(prompts)]
    together = {
        place: seen[path] for place, _, seen in backbone.passes(asked, (64, 64), {90: [path]}, 4)
    }
    assert sorted(together) == [0, 1, 2, 3]
    for place, each in enumerate(asked):
        ((_, _, alone),) = backbone.passes([each], (64, 64), {90: [path]})
        assert torch.allclose(together[place], alone[path], atol=1e-5)


@pytest.mark.parametrize("kind", PLAIN)
def test_words_are_looked_for_at_their_own_tokens(folders, kind, own_store):
    lab, picture = Lab(folders[kind], store=own_store), noise_picture(64, 64)
    settings = {"timesteps": TIMESTEP, "resolution": 64}
    maps = lab.attention(picture, ["dog", "cat"], **settings)
    prompt = "a photo of a dog and a cat"
    layers = lab.extract(picture, layers="*.to_text", prompt=prompt, **settings)
    spans = lab.backbone.token_spans(prompt)
    for word, found in maps.items():
        (place,) = (at for at, (a, b) in enumerate(spans) if a < b and prompt[a:b].strip() == word)
        mean = np.mean([each[place] for each in layers.values()], 0)
        np.testing.assert_allclose(found, mean, atol=1e-6)
    assert not np.allclose(maps["cat"], maps["dog"], atol=1e-7)


def changed(folder, place, part, **entries):
    copy = shutil.copytree(folder, place / "changed")
    path = copy / part / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **entries}))
    return copy


@pytest.mark.parametrize(
    ("kind", "part", "entries", "reason"),
    [
        (
            "qwen-image",
            "transformer",
            {"zero_cond_t": True},
            "zero_cond_t = True: models that edit",
        ),
        ("qwen-image", "transformer", {"in_channels": 20}, "takes 20 channels a token"),
        ("qwen-image", "text_encoder", {"model_type": "qwen3"}, "holds a 'qwen3' model"),
        ("qwen-image", "vae", {"latents_mean": None}, "latents_mean None; it must be a list of 4"),
        ("flux2", "transformer", {"guidance_embeds": True}, "as FLUX.2 dev is"),
        ("flux2", "transformer", {"in_channels": 32}, "takes 32 channels a token"),
        ("flux2", "text_encoder", {"model_type": "mistral3"}, "holds a 'mistral3' model"),
        ("lumina2", "transformer", {"in_channels": 8}, "takes 8 channels and its VAE gives 4"),
        ("z-image", "transformer", {"siglip_feat_dim": 8}, "is shown other pictures"),
        ("z-image", "transformer", {"all_patch_size": [4]}, r"all_patch_size = \[4\]; 2 is read"),
        ("z-image", "transformer", {"in_channels": 8}, "takes 8 channels and its VAE gives 4"),
    ],
)
def test_what_a_pass_would_leave_out_is_refused(folders, tmp_path, kind, part, entries, reason):
    with pytest.raises(FslabError, match=reason):
        open_backbone(changed(folders[kind], tmp_path, part, **entries))


@pytest.mark.parametrize("kind", ["z-image", "lumina2"])
def test_a_picture_beyond_the_positions_is_refused(folders, kind):
    backbone = open_backbone(folders[kind], resolution=64)
    wide = noise_picture(64, 2048)
    with pytest.raises(FslabError, match="of 8 pixels; give a smaller resolution"):
        backbone.run(wide, wide.size, {0: backbone.default_layers}, Extraction())


@pytest.mark.parametrize("kind", PLAIN)
def test_a_whole_recipe_runs(folders, kind, own_store):
    lab = Lab(folders[kind], store=own_store, captioner=MINI / "blip", clip=MINI / "clip")
    recipe = lab.recipe("freeseg-diff").change({"extract.resolution": 64})
    found = lab.segment(noise_picture(64, 64), recipe)
    assert found.labels.labels.shape == (64, 64)
    assert found.segments.count == 4
