"""`fslab fetch` through the hub's real client, against a replica of the hub on this machine."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from pathlib import Path

import pytest
import torch
from conftest import noise_picture, write_dataset
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from diffusers.image_processor import VaeImageProcessor
from PIL import Image
from replica_hub import Hub, Repository
from replica_hub.client import Client, environment
from replica_hub.repositories import LAYOUTS, files_of, repositories, write_harm
from safetensors.torch import load_file
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from fslab.backbones import open_backbone, pick_layers
from fslab.records import Extraction

PRESETS = tuple(LAYOUTS)
BLIP, CLIP = "Salesforce/blip-image-captioning-base", "openai/clip-vit-base-patch32"
UNET = "unet/diffusion_pytorch_model.safetensors"
HALF = "unet/diffusion_pytorch_model.fp16.safetensors"
STOPPED_AT = 400_000
BEGUN = """
import os, sys
child = os.fork()
if not child:
    from fslab.cli import main
    sys.argv = ["fslab", "fetch", {preset!r}]
    try:
        main()
    finally:
        os._exit(0)
print(child)
"""
"""The command in a process that comes from the client's, so that libraries are imported once."""
SMALL = ("--set", "extract.resolution=128")


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    hub = Hub()
    hub.repositories = repositories(tmp_path_factory.mktemp("repositories"))
    yield hub
    hub.close()


@pytest.fixture
def hub(served):
    """The replica, without faults, and with the repositories that it began with."""
    before = dict(served.repositories)
    served.behave()
    yield served
    served.behave()
    served.repositories = before


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def online(served, home):
    client = Client(environment(served.url, home))
    yield client
    client.close()


@pytest.fixture
def newcomer(online, tmp_path, home):
    """The client with an empty cache."""
    online.cache(tmp_path)
    yield online
    online.cache(home / "hf")
    online.python(f"import os; os.environ['FSLAB_WEIGHTS'] = {str(home / 'own')!r}")


def stopped(hub, online, home, preset):
    """Begin to fetch a preset from an empty cache and kill the process within the UNet."""
    unet = HALF if preset == "sdxl" else UNET
    hub.behave()
    hub.held = {unet: STOPPED_AT}
    fetching = int(online.python(BEGUN.format(preset=preset)).out)
    assert hub.waiting.wait(60)
    deadline = time.monotonic() + 30
    while not any(part.stat().st_size for part in (home / "hf").rglob("blobs/*.incomplete")):
        assert time.monotonic() < deadline, "nothing of the file has been written"
        time.sleep(0.01)
    os.kill(fetching, signal.SIGKILL)
    assert online.python(f"import os; os.waitpid({fetching}, 0)").code == 0
    hub.behave()
    return unet


@pytest.fixture(scope="module")
def fetched(served, online, home):
    """Where each preset's models lie, fetched by a run that was killed and by one that went on."""
    found = {}
    for preset in PRESETS:
        unet = stopped(served, online, home, preset)
        answer = online.run("fetch", preset)
        assert answer.code == 0, answer.err
        where = dict(re.findall(r"\((.*)\): .*(?:here already|found whole), in (.*)", answer.out))
        folders = [where[kind] for kind in ("diffusion model", "captioner", "CLIP")]
        ranges = served.bytes_sent_of(unet)
        found[preset] = [Path(folder) for folder in folders], ranges, answer.out
    return found


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_comes_whole_after_a_kill_and_goes_on_where_it_stopped(fetched, preset):
    (diffusion, blip, clip), ranges, said = fetched[preset]
    (asked,) = [each for each in ranges if each is not None]
    start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1])
    assert 0 < start <= STOPPED_AT
    named = f"{LAYOUTS[preset].name} (diffusion model): "
    first = next(line for line in said.splitlines() if line.startswith(named))
    assert "licence" in first
    assert "GB of them here" in first or "MB of them here" in first
    weights = {path.relative_to(diffusion).as_posix() for path in diffusion.rglob("*.safetensors")}
    parts = ["text_encoder", "text_encoder_2"][: 1 + LAYOUTS[preset].two_encoders]
    variant = ".fp16" if preset == "sdxl" else ""
    stems = [f"{part}/model" for part in parts]
    stems += [f"{part}/diffusion_pytorch_model" for part in ("unet", "vae")]
    assert weights == {f"{stem}{variant}.safetensors" for stem in stems}
    assert not list(diffusion.parents[1].rglob("*.incomplete"))
    assert json.loads((blip / "SOURCE.json").read_text())["id"] == BLIP
    assert clip.is_relative_to(diffusion.parents[2])


def plain_states(folder, variant, prompt):
    """A prompt's text states, and SDXL's pooled text, by transformers alone."""
    outputs = []
    for part, model in (
        ("text_encoder", CLIPTextModel), ("text_encoder_2", CLIPTextModelWithProjection)
    ):  # fmt: skip
        if (folder / part).is_dir():
            tokens = CLIPTokenizer.from_pretrained(
                folder / part.replace("text_encoder", "tokenizer")
            )
            ids = tokens(
                prompt, padding="max_length", max_length=tokens.model_max_length,
                return_tensors="pt",
            ).input_ids  # fmt: skip
            encoder = model.from_pretrained(folder / part, variant=variant, dtype=torch.float32)
            outputs.append(encoder(ids, output_hidden_states=True))
    if len(outputs) == 1:
        return outputs[0][0], None
    return torch.cat([each.hidden_states[-2] for each in outputs], -1), outputs[1][0]


@torch.no_grad()
def plain_numbers(folder, variant, picture, size, paths, prompt, timestep):
    """Latent, text states and layers' outputs by diffusers and transformers alone, in fp32."""
    how = {"variant": variant, "torch_dtype": torch.float32}
    vae = AutoencoderKL.from_pretrained(folder / "vae", **how)
    unet = UNet2DConditionModel.from_pretrained(folder / "unet", **how)
    schedule = DDPMScheduler.from_pretrained(folder / "scheduler")
    pixels = VaeImageProcessor().preprocess(Image.fromarray(picture.pixels), *size)
    # Where numbers stand in memory moves their rounding (by 6e-7 of these); their values it does not.
    latent = vae.encode(pixels.contiguous()).latent_dist.mean * vae.config.scaling_factor
    noise = torch.randn(latent.shape, generator=torch.Generator().manual_seed(0))
    noisy = schedule.add_noise(latent, noise, torch.tensor([timestep]))
    states, pooled = plain_states(folder, variant, prompt)
    ids = torch.tensor([[*size, 0, 0, *size]], dtype=torch.float32)
    added = {"text_embeds": pooled, "time_ids": ids} if pooled is not None else None
    seen = {}
    for path in paths:
        unet.get_submodule(path).register_forward_hook(
            lambda module, given, out, path=path: seen.update({path: out})
        )
    unet(noisy, torch.tensor([timestep]), states, added_cond_kwargs=added)
    return latent, states, seen


@pytest.mark.parametrize("preset", PRESETS)
def test_numbers_of_what_was_fetched_are_the_libraries_own(fetched, preset):
    folder, picture = fetched[preset][0][0], noise_picture(96, 160)
    backbone = open_backbone(folder)
    settings = Extraction(
        layers=("*attn2.to_q",), timesteps=(50,), prompt="a photo of a dog", resolution=128,
        precision="fp32",
    )  # fmt: skip
    size = backbone.input_size(picture, settings)
    paths = [each.path for each in pick_layers(settings.layers, backbone.layers())]
    found = backbone.run(picture, size, {50: paths}, settings)
    variant = "fp16" if preset == "sdxl" else None
    latent, states, seen = plain_numbers(folder, variant, picture, size, paths, settings.prompt, 50)
    assert torch.equal(backbone.latent(picture, size, settings), latent)
    assert torch.equal(backbone.text_states(settings.prompt), states)
    assert paths
    for path in paths:
        assert torch.equal(found[path, 50].flatten(1).T, seen[path][0]), path


@pytest.mark.parametrize("preset", PRESETS)
def test_what_was_fetched_works(fetched, online, tmp_path, preset):
    picture = Path(__file__).parents[1] / "data/minivoc/JPEGImages/val_0000.png"
    listed = online.run("layers", preset, "--json")
    assert any("attn2" in layer["path"] for layer in json.loads(listed.out))
    done = online.run("segment", picture, "--preset", preset, "--out", tmp_path / "out", *SMALL)
    assert done.code == 0, done.err
    assert (tmp_path / "out/val_0000.png").is_file()
    data = write_dataset(tmp_path / "data", 2)
    scored = online.run("evaluate", data, "--preset", preset, "--limit", 2, "--json", *SMALL)
    assert scored.code == 0, scored.err
    assert json.loads(scored.out.splitlines()[-1])
    (line,) = [x for x in online.run("doctor").out.splitlines() if x.startswith(f"  {preset} ")]
    assert "here, all parts" in line


def test_without_the_hub_all_of_it_works_again(fetched, home, tmp_path):
    """The server is another's closed port, and the client is told that it is offline."""
    picture = Path(__file__).parents[1] / "data/minivoc/JPEGImages/val_0001.png"
    client = Client(environment("http://127.0.0.1:9", home, HF_HUB_OFFLINE="1"))
    for preset in ("sd15", "sdxl"):
        again = client.run("fetch", preset)
        assert (again.code, again.out.count("here already")) == (0, 3), again.err
    done = client.run("segment", picture, "--preset", "sd15", "--out", tmp_path, *SMALL)
    assert done.code == 0, done.err
    refused = client.run("fetch", "sd15", "--precision", "fp16")
    assert refused.code == 2
    assert "HF_HUB_OFFLINE" in refused.err
    client.close()


def test_diffusers_finds_what_was_fetched(fetched, online):
    code = f"""
from diffusers import DiffusionPipeline
pipe = DiffusionPipeline.from_pretrained({LAYOUTS["sd15"].name!r}, safety_checker=None,
    feature_extractor=None, requires_safety_checker=False, local_files_only=True)
assert pipe.unet.config.cross_attention_dim == 32
"""
    answer = online.python(code)
    assert answer.code == 0, answer.err


@pytest.mark.parametrize("variant", [None, "fp16"])
@pytest.mark.parametrize("preset", PRESETS)
def test_the_cache_that_diffusers_leaves_is_opened(hub, newcomer, preset, variant):
    code = f"""
import huggingface_hub.constants as c, fslab
from diffusers import DiffusionPipeline
from fslab.backbones import open_backbone
name = {LAYOUTS[preset].name!r}
DiffusionPipeline.download(name, cache_dir=c.HF_HUB_CACHE, variant={variant!r})
backbone = open_backbone(name)
print(backbone.name, len(backbone.layers()), fslab.Lab(name, captioner=None, clip=None))
"""
    answer = newcomer.python(code)
    assert answer.code == 0, answer.err
    assert answer.out.startswith(LAYOUTS[preset].name)


def test_a_snapshot_by_patterns_is_opened(hub, newcomer):
    code = f"""
import huggingface_hub.constants as c
from huggingface_hub import snapshot_download
from fslab.backbones import open_backbone
name = {LAYOUTS["sd15"].name!r}
patterns = ["model_index.json", "*/*.json", "*/*.txt", "*/*.fp16.safetensors"]
snapshot_download(name, allow_patterns=patterns, cache_dir=c.HF_HUB_CACHE)
assert open_backbone(name).layers()
"""
    answer = newcomer.python(code)
    assert answer.code == 0, answer.err


def refused(answer):
    """Return the one sentence of a refusal."""
    assert answer.code == 2, (answer.out, answer.err)
    said = [line for line in answer.err.splitlines() if line.startswith("fslab: ")]
    assert len(said) == 1
    assert "Traceback" not in answer.err
    return said[0]


def test_a_gate_is_named_and_a_token_opens_it(hub, newcomer, tmp_path):
    hub.gated = {LAYOUTS["sd14"].name: "hf_right"}
    said = refused(newcomer.run("fetch", "sd14"))
    assert "gate" in said
    assert "hf auth login" in said
    newcomer.python("import os; os.environ['HF_TOKEN'] = 'hf_wrong'")
    assert "gate" in refused(newcomer.run("fetch", "sd14"))
    newcomer.python("import os; os.environ['HF_TOKEN'] = 'hf_right'")
    done = newcomer.run("fetch", "sd14")
    newcomer.python("import os; del os.environ['HF_TOKEN']")
    assert done.code == 0, done.err
    assert set(hub.tokens) == {None}  # the storage is another host, which the token is not for


def test_a_model_that_is_not_there_is_named(hub, newcomer):
    assert "no model nobody/nothing" in refused(newcomer.run("fetch", "nobody/nothing"))
    said = refused(newcomer.run("fetch", f"{CLIP}@refs/pr/99"))
    assert "no revision refs/pr/99" in said
    for word, part in ((BLIP, "unet/config.json"), ("sd15", "")):
        hub.repositories.pop(LAYOUTS["sd15"].name, None)
        if part == "":
            assert LAYOUTS["sd15"].name in refused(newcomer.run("fetch", word))


def test_what_is_no_name_is_refused(newcomer, tmp_path):
    assert "comes with fslab" in refused(newcomer.run("fetch", "mini"))
    assert "sd14, sd15" in refused(newcomer.run("fetch", "sd99"))
    assert "fp32 or fp16" in refused(newcomer.run("fetch", "sd15", "--precision", "half"))
    assert "ORG/NAME" in refused(newcomer.run("fetch", "sd15", "--clip", "clip"))
    assert "needs a folder" in refused(newcomer.run("fetch", "voc"))
    assert "without a folder" in refused(newcomer.run("fetch", "sd15", tmp_path))
    assert "belong to models" in refused(newcomer.run("fetch", "voc", tmp_path, "--clip", CLIP))


def test_a_mirror_serves_where_the_model_is_gone(hub, newcomer):
    name = LAYOUTS["sd15"].name
    hub.repositories["runwayml/stable-diffusion-v1-5"] = hub.repositories.pop(name)
    done = newcomer.run("fetch", "sd15")
    assert done.code == 0, done.err
    assert "runwayml/stable-diffusion-v1-5 (diffusion model): " in done.out
    assert newcomer.run("layers", "sd15").code == 0


def test_connections_that_are_cut_are_taken_up_again(hub, newcomer):
    hub.cuts = {UNET: [700_000]}
    done = newcomer.run("fetch", "sd15")
    assert done.code == 0, done.err
    assert hub.bytes_sent_of(UNET)[-1].startswith("bytes=")


@pytest.mark.parametrize("name", [UNET, "unet/config.json"])
def test_wrong_bytes_are_found_and_do_not_stay(hub, newcomer, tmp_path, name):
    hub.wrong = {name}
    assert "digest is wrong" in refused(newcomer.run("fetch", "sd15"))
    assert not [path for path in tmp_path.rglob("*") if path.match(f"snapshots/*/{name}")]
    assert not list(tmp_path.rglob("*.incomplete"))
    hub.wrong = set()
    assert newcomer.run("fetch", "sd15").code == 0


def test_a_disk_that_is_too_small_is_said_before_anything_comes(hub, newcomer):
    repository = hub.repositories[LAYOUTS["sd15"].name]
    (commit,) = repository.trees
    entries = dict(repository.trees[commit])
    repository.say_size(UNET, 10**16)
    said = refused(newcomer.run("fetch", "sd15"))
    repository.trees[commit] = entries
    assert "free" in said
    assert "10000000.0" in said
    assert not [path for method, path, _ in hub.asked if method == "GET" and "resolve" in path]


def test_a_cache_that_cannot_be_written_is_named(hub, online, tmp_path, home):
    (tmp_path / "hub").write_text("a file where the cache should be")
    online.cache(tmp_path)
    said = refused(online.run("fetch", "sd15"))
    online.cache(home / "hf")
    online.python(f"import os; os.environ['FSLAB_WEIGHTS'] = {str(home / 'own')!r}")
    assert str(tmp_path / "hub") in said
    assert "cannot be written" in said
    assert "HF_HOME" in said


def test_a_folder_of_weights_that_cannot_be_written_is_named(hub, newcomer, tmp_path):
    (tmp_path / "own").write_text("a file where the folder should be")
    said = refused(newcomer.run("fetch", BLIP))
    assert str(tmp_path / "own") in said
    assert "FSLAB_WEIGHTS" in said


def test_a_hub_that_is_unwell_or_away_is_named(hub, newcomer, tmp_path):
    hub.status = 500
    assert "500" in refused(newcomer.run("fetch", "sd15"))
    hub.status = 429
    assert "429" in refused(newcomer.run("fetch", "sd15"))
    client = Client(environment("http://127.0.0.1:9", tmp_path))
    said = refused(client.run("fetch", "sd15"))
    client.close()
    assert "not reached" in said


def test_nothing_is_fetched_without_being_asked(hub, newcomer):
    hub.asked.clear()
    said = refused(newcomer.run("layers", "sd15"))
    assert "fslab fetch sd15" in said
    assert not hub.asked


def test_one_model_comes_alone_and_others_take_a_preset_s_place(hub, newcomer):
    large = "openai/clip-vit-large-patch14"
    alone = newcomer.run("fetch", large)
    assert alone.code == 0, alone.err
    assert BLIP not in alone.out
    done = newcomer.run("fetch", "sd15", "--clip", large, "--precision", "fp16")
    assert done.code == 0, done.err
    assert f"{large} (CLIP): here already" in done.out
    folder = Path(re.search(r"diffusion model\): here, .* in (.*)", done.out)[1])
    assert (folder / HALF).exists()
    assert not (folder / UNET).exists()
    code = f"import fslab; print(fslab.Lab('sd15', clip={large!r}).layers()[0].path)"
    assert newcomer.python(code).code == 0


def test_pickles_are_converted_once_and_hold_the_same_numbers(hub, fetched):
    folder = fetched["sd14"][0][1]
    note = json.loads((folder / "SOURCE.json").read_text())
    entry = hub.repositories[BLIP].trees[note["commit"]]["pytorch_model.bin"]
    given = torch.load(entry.path, weights_only=True)
    assert note["digest"] == entry.sha256
    converted = load_file(folder / "model.safetensors")
    assert converted.keys() == given.keys()
    assert all(torch.equal(converted[name], given[name]) for name in given)
    assert not list(folder.parent.rglob("*.bin"))
    assert fetched["sd15"][2].count(f"{BLIP} (captioner): here already") == 1


def pickles_only(repository):
    """Return a repository whose safetensors are gone."""
    (tree,) = repository.trees.values()
    return Repository(
        {"main": {name: e.path for name, e in tree.items() if not name.endswith(".safetensors")}}
    )


@pytest.mark.parametrize("preset", ["sd21"])
def test_any_model_of_pickles_is_converted(hub, newcomer, tmp_path, preset):
    name = LAYOUTS[preset].name
    hub.repositories[name] = pickles_only(hub.repositories[name])
    done = newcomer.run("fetch", preset)
    assert done.code == 0, done.err
    own = tmp_path / "own" / name.replace("/", "--")
    assert len(list(own.rglob("*.safetensors"))) == 3
    assert not list(own.rglob("*.bin"))
    assert newcomer.run("layers", preset).code == 0


def spoilt(hub, tmp_path, write):
    """Put a BLIP on the hub whose pickle `write` writes."""
    folder = tmp_path / "repository"
    for name, path in files_of(
        hub.repositories[BLIP].revisions["main"]["config.json"].parent
    ).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(path.read_bytes())
    write(folder / "pytorch_model.bin")
    hub.repositories["some/blip"] = Repository({"main": files_of(folder)})


def cut(path):
    path.write_bytes(path.read_bytes()[:-900])


def other_shape(path):
    weights = torch.load(path, weights_only=True)
    name = "vision_model.embeddings.patch_embedding.weight"
    torch.save({**weights, name: weights[name][:, :2]}, path)


def without_a_layer(path):
    weights = torch.load(path, weights_only=True)
    del weights["vision_model.post_layernorm.weight"]
    torch.save(weights, path)


def with_more_than_tensors(path):
    torch.save({"weight": torch.ones(2), "epoch": 3}, path)


@pytest.mark.parametrize(
    ("write", "reason"),
    [
        (lambda path: write_harm(path, path.with_name("trace")), "holds more than tensors"),
        (cut, "damaged"),
        (other_shape, "has the shape"),
        (without_a_layer, "lack"),
        (with_more_than_tensors, "more than tensors"),
        (lambda path: path.write_bytes(b""), "damaged"),
    ],
    ids=["harm", "cut", "shape", "layer", "more", "empty"],
)
def test_a_pickle_that_is_no_model_is_refused_and_leaves_nothing(
    hub, newcomer, tmp_path, write, reason
):
    spoilt(hub, tmp_path, write)
    said = refused(newcomer.run("fetch", "sd15", "--captioner", "some/blip"))
    assert reason in said
    assert "some/blip" in said
    assert not list(tmp_path.rglob("trace"))
    assert [path for path in (tmp_path / "own").rglob("*") if path.is_file()] == []


def test_the_pickle_of_these_tests_does_harm(tmp_path):
    write_harm(tmp_path / "harm.bin", tmp_path / "trace")
    torch.load(tmp_path / "harm.bin", weights_only=False)
    assert (tmp_path / "trace").exists()


def test_a_captioner_of_another_type_is_refused_before_its_weights_come(hub, newcomer):
    whole = hub.repositories["openai/clip-vit-large-patch14"]
    hub.repositories["some/clip"] = whole
    said = refused(newcomer.run("fetch", "sd15", "--captioner", "some/clip"))
    assert "holds a 'clip' model; in BLIP's place fslab reads blip" in said
