"""Diffusion transformers: the same bits as their pipelines' own way, square and oblong."""

import json
import shutil

import numpy as np
import pytest
import torch
import transformers_tiny
from conftest import noise_picture
from diffusers import (
    FlowMatchEulerDiscreteScheduler,
    FluxKontextPipeline,
    FluxPipeline,
    StableDiffusion3Pipeline,
)
from diffusers.image_processor import VaeImageProcessor
from PIL import Image
from transformers import T5EncoderModel

from fslab.backbones import concept_maps, open_backbone, pick_layers
from fslab.backbones.attention import word_columns
from fslab.lab import Lab
from fslab.lab.opening import check_opened, check_type
from fslab.records import Extraction, FslabError
from fslab.weights import files_needed, missing_parts

PROMPT, TIMESTEP, SEED = "a photo of a dog and a cat", 260, 3
SIZES = [(64, 64), (64, 96)]


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    """Folders of tiny transformers by kind, each saved at its first use."""
    made = {}

    def folder(kind):
        if kind not in made:
            made[kind] = transformers_tiny.save(tmp_path_factory.mktemp(kind), kind)
        return made[kind]

    return folder


def noised(pipe, picture):
    """A picture's latent with a timestep's noise, by the pipeline's own parts."""
    pixels = VaeImageProcessor(vae_scale_factor=4).preprocess(Image.fromarray(picture.pixels))
    vae = pipe.vae
    latent = vae.encode(pixels.contiguous()).latent_dist.mean
    latent = (latent - vae.config.shift_factor) * vae.config.scaling_factor
    noise = torch.randn(latent.shape, generator=torch.Generator().manual_seed(SEED))
    flow = FlowMatchEulerDiscreteScheduler.from_config(pipe.scheduler.config, shift=1.0)
    return flow.scale_noise(latent, torch.tensor([float(TIMESTEP)]), noise)


def plain_sd3(folder, picture):
    pipe = StableDiffusion3Pipeline.from_pretrained(folder)
    states, _, pooled, _ = pipe.encode_prompt(PROMPT, None, None, do_classifier_free_guidance=False)
    pipe.transformer(
        hidden_states=noised(pipe, picture), timestep=torch.tensor([float(TIMESTEP)]),
        encoder_hidden_states=states, pooled_projections=pooled, return_dict=False,
    )  # fmt: skip


def plain_flux(folder, picture):
    pipe = FluxPipeline.from_pretrained(folder)
    dev = pipe.transformer.config.guidance_embeds
    states, pooled, ids = pipe.encode_prompt(PROMPT, None, max_sequence_length=512 if dev else 256)
    latent = noised(pipe, picture)
    _, channels, h, w = latent.shape
    pipe.transformer(
        hidden_states=pipe._pack_latents(latent, 1, channels, h, w),
        timestep=torch.tensor([float(TIMESTEP)]) / 1000, guidance=torch.tensor([3.5]) if dev else None,
        pooled_projections=pooled, encoder_hidden_states=states, txt_ids=ids,
        img_ids=pipe._prepare_latent_image_ids(1, h // 2, w // 2, "cpu", latent.dtype),
        return_dict=False,
    )  # fmt: skip


PLAIN = {"sd3": plain_sd3, "sd35": plain_sd3, "flux": plain_flux, "schnell": plain_flux}


class Watch:
    """What modules are given, output and attend with, by hooks of all modules and torch's names."""

    def __init__(self, monkeypatch):
        self.outputs, self.inputs, self.attention, self._names = {}, {}, {}, {}
        self._stack = []
        fused = torch.nn.functional.scaled_dot_product_attention

        def kept(query, key, value, attn_mask=None, **how):
            out = fused(query, key, value, attn_mask=attn_mask, **how)
            self.attention.setdefault(self._stack[-1], (query, key, value, attn_mask, how, out))
            return out

        monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", kept)
        self._hooks = [
            torch.nn.modules.module.register_module_forward_pre_hook(self._enter),
            torch.nn.modules.module.register_module_forward_hook(self._leave),
        ]

    def _enter(self, module, inputs):
        self._stack.append(module)
        self.inputs[module] = inputs

    def _leave(self, module, inputs, output):
        self._stack.pop()
        self.outputs[module] = output

    def by_path(self, kind):
        """The same by module path, of the network of a class."""
        (net,) = (each for each in self.outputs if type(each).__name__ == kind)
        return {path: module for path, module in net.named_modules() if module in self.outputs}

    def end(self):
        for hook in self._hooks:
            hook.remove()


@torch.no_grad()
def watched(monkeypatch, plain, folder, picture):
    """What the network's modules are given and give in a pipeline's own way."""
    watch = Watch(monkeypatch)
    try:
        plain(folder, picture)
    finally:
        watch.end()
        monkeypatch.undo()
    return watch


def read(folder, picture, size, pattern):
    """Maps of our own by path, f32, in one pass; and their layers."""
    backbone = open_backbone(folder, resolution=min(size))
    layers = pick_layers([pattern], backbone.layers())
    settings = Extraction(timesteps=(TIMESTEP,), seed=SEED, prompt=PROMPT)
    assert backbone.input_size(picture, settings) == size
    found = backbone.run(picture, size, {TIMESTEP: [each.path for each in layers]}, settings)
    return backbone, {each.path: found[each.path, TIMESTEP] for each in layers}


def cells(value):
    """A map [C, h, w] as tokens [h * w, C]."""
    return value.flatten(1).T


@pytest.mark.parametrize("kind", PLAIN)
@pytest.mark.parametrize("size", SIZES)
def test_layers_and_inputs_equal_the_pipelines_bit_for_bit(monkeypatch, folders, kind, size):
    folder, picture = folders(kind), noise_picture(*size)
    plain = watched(monkeypatch, PLAIN[kind], folder, picture)
    backbone, maps = read(folder, picture, size, "*")
    modules = plain.by_path(backbone.components.registered.name)
    assert {path for path in maps if path.endswith("blocks.1")}
    for path, value in maps.items():
        output = plain.outputs[modules[path]]
        own = output[backbone.layers_by_path()[path].entry] if isinstance(output, tuple) else output
        if own.ndim == 4:
            assert torch.equal(value, own[0]), path
        else:
            assert torch.equal(cells(value), own[0, -value[0].numel() :]), path
            # of both streams' tokens the picture's are the last ones
            assert own.shape[1] in (
                value[0].numel(),
                value[0].numel() + backbone.family.text_tokens,
            )
    _, inputs = read(folder, picture, size, "*.input")
    assert inputs
    for path, value in inputs.items():
        (own,) = plain.inputs[modules[path.removesuffix(".input")]]
        assert torch.equal(cells(value), own[0, -value[0].numel() :]), path


@pytest.mark.parametrize("kind", PLAIN)
@pytest.mark.parametrize("size", SIZES)
def test_attention_is_the_one_that_was_used(monkeypatch, folders, kind, size):
    folder, picture = folders(kind), noise_picture(*size)
    plain = watched(monkeypatch, PLAIN[kind], folder, picture)
    backbone, maps = read(folder, picture, size, "*.probs")
    modules = plain.by_path(backbone.components.registered.name)
    to_text, from_text = (
        read(folder, picture, size, f"*.{each}")[1] for each in ("to_text", "from_text")
    )
    assert len(maps) >= len(to_text) == len(from_text) >= 3
    for path, value in maps.items():
        stem = path.removesuffix(".probs")
        query, key, v, mask, how, out = plain.attention[modules[stem]]
        scores = query @ key.transpose(2, 3) * query.shape[-1] ** -0.5
        used = scores.softmax(-1)
        assert torch.allclose(used @ v, out, atol=1e-5)  # the softmax behind what came out
        assert mask is None
        assert not how.get("is_causal")
        mean, own = used.mean(1)[0], value[0].numel()
        first = backbone.family.order.attended == "first"
        place = slice(0, own) if first else slice(len(mean) - own, len(mean))
        plain_values = plain.outputs[modules[f"{stem}.to_v"]]  # neither normalised nor rotated
        assert torch.equal(v.transpose(1, 2).flatten(2)[:, place], plain_values[:, -own:])
        assert torch.allclose(cells(value), mean[place, place], atol=1e-6), path
        if f"{stem}.to_text" in to_text:
            text = torch.ones(len(mean), dtype=torch.bool)
            text[place] = False
            words = cells(to_text[f"{stem}.to_text"])
            assert torch.allclose(words, mean[place][:, text], atol=1e-6)
            assert torch.allclose(cells(value).sum(1) + words.sum(1), torch.ones(own), atol=1e-5)
            back = from_text[f"{stem}.from_text"].flatten(1)
            assert torch.allclose(back, mean[text][:, place], atol=1e-6)


@pytest.mark.parametrize("kind", ["sd35", "flux"])
def test_a_pass_ends_after_the_last_wanted_layer(folders, kind):
    backbone, picture = open_backbone(folders(kind), resolution=64), noise_picture(64, 64)
    net, fired = backbone.components.load("transformer", torch.float32), []
    for path, module in net.named_modules():
        module.register_forward_hook(lambda *_, path=path: fired.append(path))
    for layer in ("transformer_blocks.0.attn.to_q.input", "transformer_blocks.0.attn.probs"):
        fired.clear()
        backbone.run(picture, (64, 64), {0: (layer,)}, Extraction())
        assert "transformer_blocks.0.norm1" in fired
        assert not [path for path in fired if path.startswith("transformer_blocks.0.attn.to_out")]
        assert not [path for path in fired if path.startswith("transformer_blocks.1")]


@pytest.mark.parametrize("kind", PLAIN)
def test_listing_loads_no_weights_and_says_what_comes_out(folders, kind):
    backbone, picture = open_backbone(folders(kind), resolution=64), noise_picture(64, 96)
    listed = backbone.layers()
    assert not backbone.components.loaded
    found = backbone.run(picture, (64, 96), {0: [each.path for each in listed]}, Extraction())
    for layer in listed:
        h, w = 64 // layer.stride, 96 // layer.stride
        channels = h * w if layer.path.endswith(".probs") else layer.channels
        assert tuple(found[layer.path, 0].shape) == (channels, h, w), layer


def test_the_modulated_features_at_half_the_depth_are_the_default(folders):
    assert open_backbone(folders("sd3")).default_layers == ("transformer_blocks.1.attn.to_q.input",)
    flux = open_backbone(folders("flux"), resolution=64)
    assert flux.default_layers == ("single_transformer_blocks.0.attn.to_q.input",)


def test_several_pictures_pass_together(folders):
    backbone = open_backbone(folders("flux"), resolution=64)
    pictures = [noise_picture(64, 64, seed) for seed in (1, 2)]
    settings = Extraction(draws=2)
    wanted = {50: ("transformer_blocks.1", "single_transformer_blocks.1.attn.probs")}
    alone = [backbone.run(each, (64, 64), wanted, settings) for each in pictures]
    together = backbone.run_many(pictures, (64, 64), wanted, settings, 4)
    for one, other in zip(alone, together, strict=True):
        for key, value in one.items():
            assert torch.allclose(value, other[key], atol=1e-5), key


@pytest.mark.parametrize("kind", ["sd35", "flux"])
def test_what_is_fetched_of_a_transformer_is_all_that_opens_it(folders, kind, tmp_path):
    folder = folders(kind)
    names = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    for name in files_needed([*names, "flux1-dev.safetensors", "README.md"], "backbone"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(folder / name, tmp_path / name)
    assert missing_parts(tmp_path, "backbone") == ()
    check_type(tmp_path, "diffusion")
    check_opened(tmp_path, "diffusion")
    last = "text_encoder_3" if kind == "sd35" else "text_encoder_2"
    (tmp_path / last / "model.safetensors").unlink()
    assert [fault.part for fault in missing_parts(tmp_path, "diffusion")] == [last]
    assert not missing_parts(tmp_path, "diffusion", without={last})


def test_presets_of_transformers_say_what_is_missing():
    with pytest.raises(
        FslabError, match=r"FLUX\.1-dev \(diffusion model, 33\.7 GB\).*fetch flux-dev"
    ):
        Lab("flux-dev")
    with pytest.raises(FslabError, match=r"--include .transformer/diffusion_pytorch_model-\*"):
        Lab("sd35-medium")


def changed(folder, place, **index):
    """Copy a model and change its index."""
    copy = shutil.copytree(folder, place / "changed")
    path = copy / "model_index.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **index}))
    return copy


def test_a_missing_t5_is_said_and_zeros_stand_for_one_that_is_left_out(folders, tmp_path):
    folder = changed(folders("sd3"), tmp_path)
    shutil.rmtree(folder / "text_encoder_3")
    shutil.rmtree(folder / "tokenizer_3")
    with pytest.raises(FslabError, match=r"lacks its T5.*\[null, null\].*zeros"):
        open_backbone(folder)
    index = folder / "model_index.json"
    nothing = {"text_encoder_3": [None, None], "tokenizer_3": [None, None]}
    index.write_text(json.dumps({**json.loads(index.read_text()), **nothing}))
    states = open_backbone(folder).text_states(PROMPT)
    plain = StableDiffusion3Pipeline.from_pretrained(
        folder, text_encoder_3=None, tokenizer_3=None
    ).encode_prompt(PROMPT, None, None, do_classifier_free_guidance=False)[0]
    assert torch.equal(states, plain)
    assert states.shape[1] == 16 + 256
    assert not states[:, 16:].any()


LONG = " and ".join(["a dog"] * 9)
"""Of more tokens than the tiny CLIPs have, and of fewer than a T5."""


@pytest.mark.parametrize("kind", ["sd35", "flux"])
def test_of_a_long_prompt_the_t5_reads_the_rest(folders, kind):
    kinds = {"sd35": StableDiffusion3Pipeline, "flux": FluxPipeline}
    pipe = kinds[kind].from_pretrained(folders(kind))
    given = (None, None) if kind == "sd35" else (None,)
    with torch.no_grad():
        plain = [each for each in pipe.encode_prompt(LONG, *given)[:3] if each is not None]
    backbone = open_backbone(folders(kind))
    text = backbone.text(LONG, torch.float32)
    assert torch.equal(text.states, plain[0])
    assert torch.equal(text.pooled, plain[2 if kind == "sd35" else 1])
    first = max(word_columns(backbone, LONG, "dog"))
    assert max(word_columns(backbone, LONG + " and a cat", "cat")) > first
    with pytest.raises(FslabError, match=r"tokens, and .* text encoder reads (256|512); shorten"):
        backbone.text(" and ".join(["a dog"] * 200), torch.float32)


def test_a_shard_of_a_few_tensors_is_no_file_of_learned_words(folders, tmp_path):
    folder = shutil.copytree(folders("flux"), tmp_path / "sharded")
    part = folder / "text_encoder_2"
    encoder = T5EncoderModel.from_pretrained(part)
    (part / "model.safetensors").unlink()
    encoder.save_pretrained(part, max_shard_size="4KB")
    assert len(list(part.glob("model-*-of-*.safetensors"))) > 3
    states = open_backbone(folder).text_states(PROMPT)
    assert torch.equal(states, open_backbone(folders("flux")).text_states(PROMPT))


def test_what_a_family_does_not_read_is_refused(folders, tmp_path):
    folder = changed(folders("flux"), tmp_path, image_encoder_2=["diffusers", "Own"])
    with pytest.raises(FslabError, match="the part 'image_encoder_2', which fslab does not read"):
        open_backbone(folder)
    config = folders("flux") / "transformer" / "config.json"
    shutil.rmtree(folder)
    folder = changed(folders("flux"), tmp_path)
    wide = {**json.loads(config.read_text()), "in_channels": 24}
    (folder / "transformer" / "config.json").write_text(json.dumps(wide))
    with pytest.raises(FslabError, match="takes 24 channels a token"):
        open_backbone(folder)
    path = folders("flux") / "scheduler" / "scheduler_config.json"
    shutil.copy(config, folder / "transformer")
    betas = {**json.loads(path.read_text()), "_class_name": "DDIMScheduler"}
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(betas))
    with pytest.raises(FslabError, match=r"is of DDIMScheduler; this family .* flow matching"):
        open_backbone(folder)
    (folder / "transformer" / "config.json").write_text('{"_class_name": "OwnTransformer"}')
    with pytest.raises(FslabError, match=r"is of OwnTransformer, a network of a family.*Flux"):
        open_backbone(folder)


def test_a_picture_beyond_the_positions_is_refused(folders):
    backbone = open_backbone(folders("sd3"))
    with pytest.raises(FslabError, match=r"24 x 24 of 8 pixels; give a smaller resolution"):
        backbone.run(noise_picture(64, 256), (64, 256), {0: backbone.default_layers}, Extraction())


@pytest.mark.parametrize("kind", ["sd35", "flux"])
def test_words_are_looked_for_among_all_text_tokens(folders, kind, own_store):
    lab, picture = Lab(folders(kind), store=own_store), noise_picture(64, 96)
    settings = {"timesteps": TIMESTEP, "resolution": 64}
    maps = lab.attention(picture, ["dog", "cat"], **settings)
    assert {value.shape for value in maps.values()} == {(8, 12)}
    prompt = "a photo of a dog and a cat"
    layers = lab.extract(picture, layers="*.to_text", prompt=prompt, **settings)
    spans = lab.backbone.token_spans(prompt)
    places = [
        at
        for at, (a, b) in enumerate(spans)
        if a < prompt.index("cat") + 3 and b > prompt.index("cat")
    ]
    assert len(places) >= (2 if kind == "sd35" else 1)  # of CLIP and of the T5
    mean = np.mean([value[places].sum(0) for value in layers.values()], 0)
    assert np.allclose(maps["cat"], mean, atol=1e-6)
    assert not np.allclose(maps["cat"], maps["dog"], atol=1e-7)


CONCEPTS = ["dog", "cat", "grass"]


def concepts(backbone, picture, layers, words=CONCEPTS):
    settings = Extraction(layers=(layers,), timesteps=(TIMESTEP,), seed=SEED, prompt=PROMPT)
    return concept_maps(backbone, picture, (64, 96), words, settings)


@pytest.mark.parametrize("kind", ["sd35", "flux"])
def test_concepts_attend_and_are_not_attended_to(folders, kind):
    """What the picture's tokens become, and the prompt's, is what it is without concepts."""
    backbone, picture = open_backbone(folders(kind), resolution=64), noise_picture(64, 96)
    settings = Extraction(timesteps=(TIMESTEP,), seed=SEED, prompt=PROMPT)
    block, seen = backbone.module("transformer_blocks.1"), []
    hook = block.register_forward_hook(lambda module, inputs, output: seen.append(output))
    (row,) = backbone.rows(picture, (64, 96), settings)
    text = backbone.text(PROMPT, torch.float32)
    with torch.no_grad():
        backbone.call(backbone.network(), [row], text, (64, 96), torch.float32)
    maps = concepts(backbone, picture, "*.to_text")
    hook.remove()
    (words, cells_), (wider, among) = seen
    assert torch.allclose(among, cells_, atol=1e-5)
    assert torch.allclose(wider[:, : words.shape[1]], words, atol=1e-5)
    assert wider.shape[1] > words.shape[1] + 2
    assert maps.shape == (3, 8, 12)
    assert torch.allclose(maps.sum(0), torch.ones(8, 12), atol=1e-5)
    turned = concepts(backbone, picture, "*.to_text", CONCEPTS[::-1])
    assert torch.allclose(turned.flip(0), maps, atol=1e-5)
    assert (maps - maps.mean((1, 2), keepdim=True)).abs().max() > 1e-4


def test_concepts_are_compared_by_what_attention_outputs(folders):
    """By hand in the first block of Stable Diffusion 3: projections, softmax, products."""
    backbone, picture = open_backbone(folders("sd3"), resolution=64), noise_picture(64, 96)
    attn, given = backbone.module("transformer_blocks.0.attn"), {}
    hook = attn.register_forward_pre_hook(
        lambda module, inputs, named: given.update(named), with_kwargs=True
    )
    maps = concepts(backbone, picture, "transformer_blocks.0.attn.to_text")
    hook.remove()
    columns = [word_columns(backbone, f"a photo of a {word}", word) for word in CONCEPTS]
    extra = sum(map(len, columns))

    def heads(value):
        return value.unflatten(-1, (attn.heads, -1)).transpose(1, 2)

    with torch.no_grad():
        cells_, stream = given["hidden_states"], given["encoder_hidden_states"]
        asked, prompt = stream[:, -extra:], stream[:, :-extra]
        key = torch.cat([attn.to_k(cells_), attn.add_k_proj(asked)], 1)
        value = torch.cat([attn.to_v(cells_), attn.add_v_proj(asked)], 1)
        weights = heads(attn.add_q_proj(asked)) @ heads(key).transpose(2, 3) * 8**-0.5
        out = (weights.softmax(-1) @ heads(value)).transpose(1, 2).flatten(2)[0]
        key = torch.cat([attn.to_k(cells_), attn.add_k_proj(prompt)], 1)
        value = torch.cat([attn.to_v(cells_), attn.add_v_proj(prompt)], 1)
        weights = heads(attn.to_q(cells_)) @ heads(key).transpose(2, 3) * 8**-0.5
        own = (weights.softmax(-1) @ heads(value)).transpose(1, 2).flatten(2)[0]
        parts = out.split([len(each) for each in columns])
        means = torch.stack([each.mean(0) for each in parts])
        expected = (means @ own.T).softmax(0).reshape(3, 8, 12)
    assert torch.allclose(maps, expected, atol=1e-5)


def test_a_lab_reads_concepts_and_keeps_them(folders, own_store, diffusion_folders):
    lab, picture = Lab(folders("flux"), store=own_store), noise_picture(64, 96)
    how = {"timesteps": TIMESTEP, "reading": "concepts", "resolution": 64}
    maps = lab.attention(picture, CONCEPTS, **how)
    assert np.allclose(sum(maps.values()), 1, atol=1e-5)
    again = Lab(folders("flux"), store=own_store)
    assert np.array_equal(again.attention(picture, CONCEPTS, **how)["dog"], maps["dog"])
    assert not again.backbone.components.loaded
    other = lab.attention(picture, CONCEPTS, timesteps=TIMESTEP, resolution=64)
    assert not np.allclose(other["dog"], maps["dog"])
    with pytest.raises(FslabError, match="give two at least"):
        lab.attention(picture, ["dog"], **how)
    with pytest.raises(FslabError, match="reading is 'output'"):
        lab.attention(picture, CONCEPTS, reading="output")
    unet = Lab(diffusion_folders["sd1"], store=own_store)
    with pytest.raises(FslabError, match="no attention of text and picture together"):
        unet.attention(picture, CONCEPTS, layers=("*.to_text",), reading="concepts")


def test_of_attention_no_more_is_kept_than_was_asked_for(folders):
    backbone, picture = open_backbone(folders("flux"), resolution=64), noise_picture(64, 96)
    asked = [(picture, Extraction(timesteps=(TIMESTEP,), prompt=PROMPT))]
    stem = "transformer_blocks.1.attn"
    wanted = {TIMESTEP: [f"{stem}.to_text", f"{stem}.from_text"]}
    ((_, _, seen),) = backbone.passes(asked, (64, 96), wanted)
    shapes = [tuple(seen[path].shape) for path in wanted[TIMESTEP]]
    assert shapes == [(1, 96, 512), (1, 512, 96)]


def test_explorers_open_on_a_transformer(folders, own_store):
    pytest.importorskip("anywidget")
    from test_widgets import waited

    from fslab.widgets import explore_features

    lab = Lab(folders("sd35"), store=own_store)
    explorer = waited(explore_features(lab, [noise_picture(64, 64)], timestep=TIMESTEP))
    assert explorer.message == ""
    assert explorer.layer == "transformer_blocks.1.attn.to_q.input"
    explorer.layer = "transformer_blocks.2"
    assert waited(explorer).message == ""
    assert len(explorer._panels) >= 3


def test_a_kontext_without_a_picture_to_edit_is_called_as_a_flux(folders, tmp_path):
    """So its folder opens, and features of a picture are its own."""
    parts = FluxPipeline.from_pretrained(folders("flux")).components
    folder = tmp_path / "kontext"
    FluxKontextPipeline(**parts).save_pretrained(folder)
    calls = []
    for kind in (FluxPipeline, FluxKontextPipeline):
        pipe = kind.from_pretrained(folders("flux") if kind is FluxPipeline else folder)
        pipe.set_progress_bar_config(disable=True)
        pipe.transformer.register_forward_pre_hook(
            lambda module, inputs, named: calls.append(named), with_kwargs=True
        )
        generator, area = torch.Generator().manual_seed(SEED), {"max_area": 64 * 64}
        pipe(
            prompt=PROMPT, height=64, width=64, num_inference_steps=1, generator=generator,
            output_type="latent", **(area if kind is FluxKontextPipeline else {}),
        )  # fmt: skip
    given, other = calls
    assert set(given) == set(other)
    for name, value in given.items():
        same = torch.equal(value, other[name]) if torch.is_tensor(value) else value == other[name]
        assert same, name
    assert "FluxKontextPipeline" in (folder / "model_index.json").read_text()
    picture, how = noise_picture(64, 64), {"timesteps": TIMESTEP, "resolution": 64}
    (one, again) = (Lab(each).extract(picture, **how) for each in (folders("flux"), folder))
    for path, value in one.items():
        assert np.array_equal(value, again[path])
