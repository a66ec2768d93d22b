"""PixArt and Sana: what is read is what diffusers' own pipelines compute, bit for bit."""

import json
import shutil
import sys
from inspect import signature

import numpy as np
import pytest
import torch
from conftest import noise_picture
from diffusers import (
    DDPMScheduler,
    PixArtAlphaPipeline,
    PixArtSigmaPipeline,
    SanaPipeline,
)
from diffusers.pipelines.pixart_alpha import pipeline_pixart_alpha, pipeline_pixart_sigma
from diffusers.pipelines.sana import pipeline_sana
from transformers import GemmaTokenizer, T5TokenizerFast
from transformers_tiny import save

from fslab.lab import Lab
from fslab.mini.measure import WEIGHTS
from fslab.records import FslabError
from fslab.tap import ATTENTION
from fslab.widgets import explore_features

PIPELINES = {
    "pixart-alpha": (PixArtAlphaPipeline, pipeline_pixart_alpha),
    "pixart-sigma": (PixArtSigmaPipeline, pipeline_pixart_sigma),
    "sana": (SanaPipeline, pipeline_sana),
}
BLOCK = "transformer_blocks.1"
PROMPT = " A photo of a Dog"
TIMESTEP = 200


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return {kind: save(tmp_path_factory.mktemp(kind), kind) for kind in PIPELINES}


def rewrite(folder, source, part, **settings):
    """Copy a model's folder with other settings of a part."""
    shutil.copytree(source, folder)
    path = (
        folder / "model_index.json" if part == "." else next((folder / part).glob("*config.json"))
    )
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))
    return folder


class Ended(Exception):
    """Raised when the network has been called once."""


class Looked:
    """An attention processor that keeps the mean over heads of what it looks at."""

    def __init__(self, kept, name):
        self.kept, self.name = kept, name

    def __call__(self, attention, hidden_states, encoder_hidden_states=None, attention_mask=None):
        states = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        mask = attention.prepare_attention_mask(attention_mask, states.shape[1], len(states))
        parts = attention.to_q(hidden_states), attention.to_k(states), attention.to_v(states)
        query, key, value = map(attention.head_to_batch_dim, parts)
        shares = attention.get_attention_scores(query, key, mask)
        self.kept[self.name] = shares.mean(0)
        return attention.to_out[0](attention.batch_to_head_dim(shares @ value))


def plain(folder, kind, picture, prompt, modules, looked=()):
    """Run diffusers' pipeline on a noised picture until its network was called; return what
    modules output (PATH), took (PATH.input) and, of `looked`, their attention."""
    cls, module = PIPELINES[kind]
    pipe = cls.from_pretrained(folder)
    pixels = torch.from_numpy(picture.pixels.copy()).permute(2, 0, 1)[None].float() / 255 * 2 - 1
    noise = torch.randn(
        1, 4, *(side // pipe.vae_scale_factor for side in picture.size),
        generator=torch.Generator().manual_seed(0),
    )  # fmt: skip
    with torch.no_grad():
        found = pipe.vae.encode(pixels)
    step = torch.tensor([TIMESTEP])
    if kind == "sana":
        noisy = 0.2 * noise + 0.8 * (found.latent * pipe.vae.config.scaling_factor)
    else:
        scheduler = DDPMScheduler.from_config(pipe.scheduler.config)
        scale = pipe.vae.config
        latent = (found.latent_dist.mean - scale.shift_factor) * scale.scaling_factor
        noisy = scheduler.add_noise(latent, noise, step)
    kept = {}
    for name in looked:
        pipe.transformer.get_submodule(name).processor = Looked(kept, name)
    for name in modules:
        one = pipe.transformer.get_submodule(name.removesuffix(".input"))
        if name.endswith(".input"):
            one.register_forward_pre_hook(lambda _, taken, name=name: kept.update({name: taken[0]}))
        else:
            one.register_forward_hook(lambda _, taken, out, name=name: kept.update({name: out}))

    def end(*unused):
        raise Ended

    pipe.transformer.register_forward_hook(end)
    how = {"guidance_scale": 1.0, "use_resolution_binning": False, "clean_caption": False}
    height, width = picture.size
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "retrieve_timesteps", lambda *unused, **named: (step, 1))
        with pytest.raises(Ended):
            pipe(prompt, height=height, width=width, latents=noisy, **how)
    return kept


@pytest.mark.parametrize("size", [(64, 64), (64, 96)])
@pytest.mark.parametrize("kind", PIPELINES)
def test_layers_are_what_the_pipeline_computes(folders, tmp_path, kind, size):
    lab, picture = Lab(folders[kind], store=tmp_path), noise_picture(*size)
    layers = [each.path for each in lab.backbone.layers() if not each.path.endswith(ATTENTION)]
    assert {BLOCK, f"{BLOCK}.attn1.to_q.input", f"{BLOCK}.attn2.to_q.input"} < set(layers)
    true = plain(folders[kind], kind, picture, PROMPT, layers)
    for path, value in lab.extract(picture, layers, TIMESTEP, prompt=PROMPT, resolution=64).items():
        own = true[path][0] if true[path].ndim == 4 else true[path][0].T.reshape(value.shape)
        assert np.array_equal(value, own.numpy()), path


@pytest.mark.parametrize("kind", PIPELINES)
def test_attention_is_what_the_processors_compute(folders, tmp_path, kind):
    own, text = f"{BLOCK}.attn1", f"{BLOCK}.attn2"
    looked = [text] if kind == "sana" else [own, text]
    lab, picture = Lab(folders[kind], store=tmp_path), noise_picture(64, 96)
    wanted = [text + ".to_text"] + [own + ".probs"] * (own in looked)
    maps = lab.extract(picture, layers=wanted, timesteps=TIMESTEP, prompt=PROMPT, resolution=64)
    true = plain(folders[kind], kind, picture, PROMPT, [], looked)
    for path in wanted:
        shares = true[path.rpartition(".")[0]]
        assert np.allclose(maps[path].reshape(len(maps[path]), -1), shares.T.numpy(), atol=1e-6)
        assert np.allclose(maps[path].sum(0), 1, atol=1e-5)


@pytest.mark.parametrize("kind", PIPELINES)
def test_tokens_stand_where_the_prompt_says_them(folders, kind):
    spans = Lab(folders[kind]).backbone.token_spans(PROMPT)
    words = GemmaTokenizer if kind == "sana" else T5TokenizerFast
    tokens, given = words.from_pretrained(folders[kind] / "tokenizer"), PROMPT.strip().lower()
    ids = tokens(given).input_ids
    if kind == "sana":
        before = signature(SanaPipeline.__call__).parameters["complex_human_instruction"].default
        before = "\n".join(before)
        ids = tokens(before + given).input_ids
        ids = [ids[0], *ids[len(tokens(before).input_ids) - 1 :]]
    said = [
        (tokens.decode([one]).strip(), PROMPT[a:b])
        for one, (a, b) in zip(ids, spans, strict=False)
        if b
    ]
    assert all(token == there.strip().lower() for token, there in said)
    assert "".join(token for token, _ in said) == "aphotoofadog"


@pytest.mark.parametrize("kind", PIPELINES)
def test_words_have_maps(folders, tmp_path, kind):
    lab, picture = Lab(folders[kind], store=tmp_path), noise_picture(64, 96)
    maps = lab.attention(picture, ["dog", "cat"], "a dog and a cat", resolution=64)
    assert {each.shape for each in maps.values()} == {(8, 12)}
    assert not np.allclose(maps["dog"], maps["cat"])


def test_alpha_opens_as_its_files_name_it(folders, tmp_path):
    own = {"double_self_attention": False, "num_vector_embeds": None,
           "only_cross_attention": False, "use_linear_projection": False}  # fmt: skip
    picture = noise_picture(64, 64)
    maps = []
    for place, name in enumerate(("PixArtTransformer2DModel", "Transformer2DModel")):
        folder = rewrite(
            tmp_path / name, folders["pixart-alpha"], "transformer", _class_name=name, **own
        )
        lab = Lab(folder, store=tmp_path / f"store{place}")
        maps.append(lab.extract(picture, layers=[BLOCK], timesteps=50, resolution=64).maps[BLOCK])
    assert np.array_equal(*maps)


@pytest.mark.parametrize(
    ("kind", "part", "settings", "said"),
    [
        ("pixart-alpha", "transformer", {"_class_name": "Transformer2DModel",
         "norm_type": "ada_norm_zero"}, "norm_type 'ada_norm_zero'"),
        ("pixart-sigma", "transformer", {"in_channels": 8}, "takes 8 channels and its VAE gives 4"),
        ("pixart-sigma", "transformer", {"only_cross_attention": True}, "only_cross_attention = True"),
        ("pixart-sigma", "scheduler", {"use_flow_sigmas": True}, "use_flow_sigmas"),
        ("sana", "transformer", {"in_channels": 8}, "takes 8 channels and its VAE gives 4"),
        ("sana", "transformer", {"guidance_embeds": True}, "Sana-Sprint"),
        ("sana", "vae", {"scaling_factor": None}, "scaling_factor None; it must be a number"),
        ("sana", "scheduler", {"use_flow_sigmas": False}, "trained by flow matching"),
    ],
)  # fmt: skip
def test_other_models_are_refused(folders, tmp_path, kind, part, settings, said):
    folder = rewrite(tmp_path / "model", folders[kind], part, **settings)
    with pytest.raises(FslabError, match=said):
        Lab(folder).backbone.layers()


def test_sana_has_no_posterior_and_no_probabilities(folders, tmp_path):
    lab, picture = Lab(folders["sana"], store=tmp_path), noise_picture(64, 64)
    both = [
        lab.extract(picture, layers=[BLOCK], timesteps=50, posterior=each)[BLOCK]
        for each in ("mean", "sample")
    ]
    assert np.array_equal(*both)
    paths = [layer.path for layer in lab.backbone.layers()]
    assert f"{BLOCK}.attn2.to_text" in paths
    assert f"{BLOCK}.attn1.probs" not in paths


@pytest.mark.parametrize("kind", PIPELINES)
def test_a_prompt_of_too_many_tokens_is_refused_by_its_own_words(folders, tmp_path, kind):
    lab = Lab(folders[kind], store=tmp_path)
    with pytest.raises(FslabError, match=r"text 'a dog a dog .* shorten it"):
        lab.extract(noise_picture(64, 64), timesteps=50, resolution=64, prompt="a dog " * 200)


@pytest.mark.parametrize("kind", PIPELINES)
def test_whole_recipes_run_and_explorers_open(folders, tmp_path, kind):
    text_side = {part: WEIGHTS / name for part, name in (("captioner", "blip"), ("clip", "clip"))}
    lab, picture = Lab(folders[kind], store=tmp_path, **text_side), noise_picture(64, 64)
    for method in ("freeseg-diff", "fslab"):
        recipe = lab.recipe(method).change({"extract.resolution": 64})
        assert lab.segment(picture, recipe).segments.labels.shape == (64, 64)
    explorer = explore_features(lab, [picture])
    explorer.wait()
    assert f"{BLOCK}.attn1.to_q.input" in str(explorer)


def test_pieces_alone_ask_for_what_reads_them(folders, tmp_path, monkeypatch):
    folder = rewrite(tmp_path / "model", folders["pixart-sigma"], "tokenizer")
    (folder / "tokenizer" / "tokenizer.json").unlink()
    (folder / "tokenizer" / "spiece.model").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    lab = Lab(folder, store=tmp_path / "store")
    with pytest.raises(
        FslabError, match=r"by sentencepiece and protobuf; pip install 'fslab\[t5\]'"
    ):
        lab.extract(noise_picture(64, 64), timesteps=50, prompt="a dog")


def test_sigma_and_alpha_with_the_same_weights_have_keys_of_their_own(folders, tmp_path):
    """Their prompts differ in length, and so do maps of attention to text."""
    folder = rewrite(
        tmp_path / "alpha", folders["pixart-sigma"], ".", _class_name="PixArtAlphaPipeline"
    )
    one, other = Lab(folder).backbone, Lab(folders["pixart-sigma"]).backbone
    assert (one.family.text_tokens, other.family.text_tokens) == (120, 300)
    assert one.fingerprint != other.fingerprint
